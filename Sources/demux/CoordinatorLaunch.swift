import ControlProtocol
import Glibc
import Platform
import Specification
import SpecificationFile

/// Becoming the coordinator: this process is replaced by `demux-dm`, which reads the specification from its standard input.
enum CoordinatorLaunch {
    private static let program = "demux-dm"

    /// Does not return unless it fails: the coordinator's output and exit status are then this command's.
    /// - Parameter base: the run directory, for the coordinator's DEMUX_RUN_DIR; nil leaves the environment as it is.
    static func become(arguments: [String], specification: GuestSpecification, base: String?) throws {
        let path = try Installed.locate(program, role: "the coordinator")
        let json = ControlCodec.encode(specification)
        // A file rather than a pipe: nobody would be left to write the rest of it.
        let input = try SharedMemory(name: "demux-specification", content: json)
        guard dup2(input.descriptor.raw, STDIN_FILENO) == STDIN_FILENO else { throw SystemError("hand over", "the specification to \(path)") }
        if let base { setenv("DEMUX_RUN_DIR", base, 1) }
        throw Installed.become(path, arguments: arguments + ["--spec-json", "-"])
    }
}

/// Programs that are installed with this one.
enum Installed {
    /// A program's path.
    /// - Parameter role: what it is to a person: "the coordinator".
    /// - Throws: CommandFailure that says what to install.
    static func locate(_ program: String, role: String) throws -> String {
        switch ProgramFinder.besideExecutable().find(program) {
        case .program(let path): return path
        case .notExecutable(let path): throw CommandFailure("could not start \(role): \(path) is not executable; install Demux again")
        case .missing(let places):
            throw CommandFailure(
                "could not start \(role): there is no \(places.joined(separator: " or ")); install it ('make install'), or build it "
                    + "('swift build --product \(program)')")
        case .relative: throw CommandFailure("could not start \(role): \(program) was not looked up")
        }
    }

    /// This process goes on as another program; returns only to say why it does not.
    static func become(_ path: String, arguments: [String]) -> SystemError {
        var argv: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) }
        argv.append(nil)
        execv(path, argv)
        let code = errno
        for pointer in argv { free(pointer) }
        return SystemError("start", path, code: code, remedy: "it must be executable by uid \(geteuid())")
    }
}

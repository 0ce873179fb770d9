import ArgumentParser
import ControlProtocol
import Glibc
import Host
import Specification

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Try a specification without a guest.",
        discussion: """
            Reads the file strictly, then starts every emulator in it against a throw-away guest, and says what each claims or \
            why it could not start. Exits with 0 when a guest could be started with it.
            """
    )

    @Argument(help: "The specification.", completion: .file(extensions: ["yaml"]))
    var file: String

    @Flag(help: "Only read the file; start nothing.")
    var readOnly = false

    func run() throws {
        try carryOut {
            let specification = try readSpecification(file)
            if readOnly {
                Output.line("\(file): well formed; \(specification.allEmulators.count) emulators" + (specification.vnc == nil ? "" : " and a VNC server"))
                return
            }
            try CoordinatorLaunch.become(arguments: ["--check"], specification: specification, base: nil)
        }
    }
}

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run a guest without Xen.",
        discussion: """
            For development and demonstrations: a guest whose accesses are made by a small program in the coordinator, served \
            by real emulator processes. It runs in the foreground until Ctrl-C or 'demux stop'.
            """
    )

    @Argument(help: "The guest's specification.", completion: .file(extensions: ["yaml"]))
    var file: String

    @Option(help: ArgumentHelp("The domain number it gets (default: the lowest that is free, from 1).", valueName: "number"))
    var domid: Int?

    @Flag(help: "Stay in the foreground; it always does.")
    var foreground = false

    @OptionGroup var location: RunDirectoryOptions

    func validate() throws {
        if let domid { guard domid >= 1, DomainID(domid) != nil else { throw ValidationError("'--domid' is 1 to 32751.") } }
    }

    func run() throws {
        try carryOut {
            let specification = try readSpecification(file)
            let base = location.base
            let domain = try domid.map { try Self.claimed($0, base: base) } ?? Self.lowestFree(base: base)
            try CoordinatorLaunch.become(arguments: ["--local", "--domid", "\(domain)"], specification: specification, base: base)
        }
    }

    /// Who has a domain number.
    private enum Holder: Equatable {
        /// A stale socket is nobody's.
        case nobody
        /// A folder without a socket: a guest that is just starting, perhaps.
        case folder
        case coordinator
        /// Another user's folder.
        case other(uid: uid_t)
    }

    /// A number that was asked for, unless a guest has it.
    private static func claimed(_ number: Int, base: String) throws -> UInt16 {
        guard let domain = DomainID(number)?.rawValue else { throw CommandFailure("there is no domain \(number)") }
        try RunDirectory.checkUsable(base, domain: domain)
        switch try holder(of: domain, base: base) {
        case .nobody, .folder: return domain
        case .coordinator:
            throw CommandFailure("domain \(domain) runs already (see 'demux status \(domain)'); choose another number, or leave --domid out")
        case .other(let uid):
            throw CommandFailure(
                "domain \(domain) is another user's (uid \(uid)): \(RunDirectory.directory(domain: domain, base: base)); choose another number, or another --run-dir")
        }
    }

    private static func lowestFree(base: String) throws -> UInt16 {
        try RunDirectory.checkUsable(base, domain: 1)
        let taken = Set(Survey.domains(base: base))
        for number in UInt16(1)..<0x7ff0 {
            guard try !taken.contains(number) || holder(of: number, base: base) == .nobody else { continue }
            // A number of more digits makes a longer path.
            try RunDirectory.checkUsable(base, domain: number)
            return number
        }
        throw CommandFailure("every domain number is taken in \(base)")
    }

    private static func holder(of domain: UInt16, base: String) throws -> Holder {
        do throws(Unreachable) {
            _ = try ControlSocket.connect(domain: domain, base: base, limit: nil)
            return .coordinator
        } catch {
            switch error {
            case .gone: return .nobody
            case .missing: return .folder
            case .closed, .noAnswer: return .coordinator
            case .notPermitted:
                var status = stat()
                return stat(RunDirectory.directory(domain: domain, base: base), &status) == 0 ? .other(uid: status.st_uid) : .coordinator
            case .other(let reason): throw CommandFailure(reason)
            }
        }
    }
}

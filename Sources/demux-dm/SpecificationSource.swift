import ControlProtocol
import Glibc
import Platform
import Specification
import Toolstack

/// Where the coordinator's specification comes from: JSON that the `demux` command made of the YAML.
enum SpecificationSource {
    /// Larger specifications than this are a mistake, in bytes.
    private static let limit = 1 << 20

    /// Reads the JSON that a parent wrote to our standard input, which is /dev/null afterwards: it may hold passwords.
    static func standardInput() throws(SystemError) -> GuestSpecification {
        let bytes = try Files.readAll(STDIN_FILENO, limit: limit, what: "the specification on standard input")
        let null = try Files.open("/dev/null")
        guard dup2(null.raw, STDIN_FILENO) == STDIN_FILENO else { throw SystemError("close", "the specification on standard input") }
        return try ControlCodec.decode(GuestSpecification.self, from: bytes)
    }

    /// Has the short-lived `demux spec` read the guest's file. What it finds wrong goes to our standard error, which is the log
    /// that libxl keeps.
    /// - Parameters:
    ///   - file: the file that was named, or nil to look it up by the guest's name.
    ///   - limit: what libxl grants the whole start.
    static func command(file: String?, guestName: String, within limit: StartLimit) throws(SystemError) -> GuestSpecification {
        let program = try locateCommand()
        let (readEnd, writeEnd) = try Files.pipe()
        let output = OwnedDescriptor(adopting: readEnd)
        var input = Optional(OwnedDescriptor(adopting: writeEnd))
        let child = try ChildProcess(
            program: program, arguments: ["spec"] + (file.map { [$0] } ?? []) + ["--name=" + guestName],
            inherited: [ChildProcess.Inherited(ours: writeEnd, theirs: STDOUT_FILENO)])
        input = nil
        _ = consume input
        let bytes = try Files.readAll(output.raw, limit: Self.limit, what: "the specification from \(program)")
        let exit = child.wait(limit: limit.left())
        guard exit == .status(0) else {
            child.signal(SIGKILL)
            throw SystemError(
                "read the specification of", "guest '\(guestName)'",
                reason: exit == nil ? "'\(program) spec' has not ended in the time that libxl grants a start" : "see the lines above",
                remedy: "try it without a guest: demux check \(file ?? "FILE")")
        }
        return try ControlCodec.decode(GuestSpecification.self, from: bytes)
    }

    /// `demux` stands beside this program, or in PREFIX/bin when this one is in PREFIX/libexec/demux.
    private static func locateCommand() throws(SystemError) -> String {
        let folder = Files.programFolder()
        for candidate in [folder + "/demux", folder + "/../../bin/demux"] where Files.isExecutable(candidate) { return candidate }
        throw SystemError(
            "find", "the 'demux' command", reason: "it is neither beside demux-dm (\(folder)) nor in ../../bin",
            remedy: "install it with 'make install'")
    }
}

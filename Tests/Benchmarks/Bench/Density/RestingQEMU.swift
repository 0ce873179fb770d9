import Glibc
import Platform
import TestTools

/// QEMU's own process at rest, for comparison: the same kind of machine, its vCPU stopped.
final class RestingQEMU {
    let process: ChildProcess
    /// The UNIX socket of its VNC server; nil without a screen.
    let viewers: String?
    private let folder: TemporaryFolder
    /// Nanoseconds from its start to its monitor's greeting.
    let startTime: UInt64

    init(screen: Bool) throws {
        folder = try TemporaryFolder()
        let monitor = folder.path + "/qmp"
        viewers = screen ? folder.path + "/vnc" : nil
        let begin = EventLoop.now()
        process = try ChildProcess(
            program: QEMUContestant.program,
            arguments: [
                "-machine", "pc", "-accel", "tcg", "-m", "64", "-nodefaults", "-no-user-config", "-S", "-display", "none",
                "-qmp", "unix:\(monitor),server=on,wait=off", "-vga", screen ? "std" : "none",
            ] + (viewers.map { ["-vnc", "unix:\($0)"] } ?? []))
        let socket = try retry("QEMU's monitor") { try? UnixSocket.connectStream(monitor).release() }
        defer { close(socket) }
        var greeting = [UInt8](repeating: 0, count: 512)
        guard read(socket, &greeting, greeting.count) > 0 else { throw BenchError("QEMU did not greet") }
        startTime = EventLoop.now() &- begin
    }

    func end() {
        process.signal(SIGTERM)
        _ = process.wait(limit: .seconds(10))
    }
}

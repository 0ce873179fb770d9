import Glibc
import Platform
import TestTools

/// QEMU's own VNC server: a whole QEMU on its software CPU, whose guest draws (Tests/Benchmarks/ScreenGuest). The vCPU's thread does not count.
final class QEMUContestant: ScreenContestant {
    static let program = "/usr/bin/qemu-system-x86_64"
    let name = "QEMU"
    let path: String
    private let folder: TemporaryFolder
    private let process: ChildProcess
    private let serial: OwnedDescriptor

    init(firmware: String, width: Int) throws {
        folder = try TemporaryFolder()
        path = folder.path + "/vnc"
        let line = folder.path + "/serial"
        process = try ChildProcess(
            program: Self.program,
            arguments: [
                "-name", "bench,debug-threads=on", "-machine", "pc", "-accel", "tcg", "-m", "64", "-nodefaults", "-no-user-config", "-bios", firmware,
                "-vga", "std", "-display", "none", "-vnc", "unix:\(path)", "-serial", "unix:\(line),server=on,wait=off",
            ])
        serial = OwnedDescriptor(adopting: try retry("QEMU's start") { try? Self.connect(line) })
        try tell(width == 1024 ? "A" : "B")
        // Its VNC server has taken the new size over when a viewer is told of it.
        _ = try retry("QEMU's mode") { try BenchViewer(path: path, encoding: 0).width == width ? true : nil }
    }

    private static func connect(_ path: String) throws -> CInt {
        let socket = try UnixSocket.connectStream(path)
        let copy = fcntl(socket.raw, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw SystemError("duplicate", "a socket") }
        return copy
    }

    /// Gives the guest a command and waits until it is done.
    func tell(_ command: Character) throws {
        var byte = command.asciiValue ?? 0
        guard send(serial.raw, &byte, 1, CInt(MSG_NOSIGNAL)) == 1 else { throw SystemError("write to", "QEMU's guest") }
        var entry = pollfd(fd: serial.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, 60_000) == 1, recv(serial.raw, &byte, 1, 0) == 1, byte == UInt8(ascii: "k") else {
            throw BenchError("QEMU's guest did not answer '\(command)'")
        }
    }

    var usage: Usage { Usage(of: process.pid, leavingOut: "CPU ") }

    func paint(_ painting: Painting) throws { try tell(Character(UnicodeScalar(painting.rawValue))) }

    func end() {
        process.signal(SIGTERM)
        if process.wait(limit: .seconds(10)) == nil { process.signal(SIGKILL) }
    }
}

import CLinux
import EmulatorProtocol
import Glibc
import Host
import Platform
import RFB

/// demux-vnc: shows a guest's scan-out to VNC viewers and sends what they type back. Started by the coordinator, as an emulator of the mode
/// `exporter` (Protocols/emulator-protocol.md): it has no handle of the host's, reads the surface only, and never sees the guest's memory.
@main
struct Main {
    static func main() {
        // A viewer that hangs up is an error of a write, not the end of everybody's.
        signal(SIGPIPE, SIG_IGN)
        // Each thread would otherwise have a heap of its own.
        demux_limit_heaps(1)
        do {
            guard let socket = try inheritedSocket() else {
                StandardError.line("demux-vnc: it is started by the coordinator: `demux run` with a `vnc:` in the specification, or `demux attach`")
                exit(2)
            }
            let exporter: Exporter
            do {
                exporter = try Exporter(socket: OwnedDescriptor(adopting: socket))
            } catch {
                StandardError.line("demux-vnc: \(error)")
                exit(1)
            }
            exit(try exporter.run())
        } catch {
            StandardError.line("demux-vnc: \(error)")
            exit(1)
        }
    }

    /// The socket that the coordinator left for this process; nil when it was started by hand.
    private static func inheritedSocket() throws(SystemError) -> CInt? {
        guard let text = getenv("DEMUX_SOCKET").map({ String(cString: $0) }) else { return nil }
        var status = stat()
        guard let number = CInt(text), number > 2, fstat(number, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else {
            throw SystemError(
                "use", "DEMUX_SOCKET=\(text.prefix(40))", reason: "it is not the number of an open socket",
                remedy: "let the coordinator start this program, or `demux attach`")
        }
        _ = demux_set_cloexec(number, 1)
        _ = unsetenv("DEMUX_SOCKET")
        return number
    }
}

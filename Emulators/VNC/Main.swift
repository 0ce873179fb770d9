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
        StandardDescriptors.fill()
        // A viewer that hangs up is an error of a write, not the end of everybody's.
        signal(SIGPIPE, SIG_IGN)
        // Each thread would otherwise have a heap of its own.
        demux_limit_heaps(1)
        do {
            guard let socket = try InheritedSocket.take() else {
                StandardError.line("demux-vnc: it is started by the coordinator: `demux run` with a `vnc:` in the specification, or `demux attach`")
                exit(2)
            }
            let exporter: Exporter
            do {
                exporter = try Exporter(socket: socket)
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
}

import Glibc
import Platform

/// How an emulator finds its coordinator: the number of a socket that it inherited stands in `DEMUX_SOCKET` (emulator protocol, section 2).
public enum InheritedSocket {
    /// Takes the socket that the coordinator left for this process, so that no child of it gets it; nil when it was started by hand.
    /// - Throws: SystemError when what stands there is not the number of an open socket.
    public static func take() throws(SystemError) -> OwnedDescriptor? {
        guard let text = getenv("DEMUX_SOCKET").map({ String(cString: $0) }) else { return nil }
        var status = stat()
        guard let number = CInt(text), number > 2, fstat(number, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else {
            throw SystemError(
                "use", "DEMUX_SOCKET=\(text.prefix(40))", reason: "it is not the number of an open socket",
                remedy: "let the coordinator start this program, or `demux attach`")
        }
        let socket = OwnedDescriptor(adopting: number)
        socket.setCloseOnExec()
        _ = unsetenv("DEMUX_SOCKET")
        return socket
    }
}

import CLinux
import Glibc

/// Bytes of a stream socket, without waiting, whatever its flags say.
public enum SocketBytes {
    /// Receives what is there already.
    /// - Returns: how many bytes; 0 at the end; -1 with `errno` when there are none yet (EAGAIN), or the socket failed.
    public static func receive(_ socket: CInt, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        recv(socket, buffer.baseAddress, buffer.count, CInt(MSG_DONTWAIT))
    }
}

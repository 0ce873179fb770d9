import Glibc
import Platform

/// Bytes on their way into a non-blocking socket.
struct OutgoingBytes {
    enum Progress { case sent, blocked, failed }

    private var bytes: ArraySlice<UInt8> = []

    var count: Int { bytes.count }
    var isEmpty: Bool { bytes.isEmpty }

    mutating func append(_ more: [UInt8]) { if bytes.isEmpty { bytes = more[...] } else { bytes += more } }

    /// Sends what the socket takes.
    mutating func send(to raw: CInt) -> Progress {
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.send(raw, $0.baseAddress, $0.count, CInt(MSG_DONTWAIT | MSG_NOSIGNAL)) }
            if count > 0 {
                bytes = bytes.dropFirst(count)
            } else if errno == EAGAIN {
                return .blocked
            } else if errno != EINTR {
                return .failed
            }
        }
        bytes = []
        return .sent
    }
}

/// What a read of a non-blocking socket gave.
enum IncomingBytes {
    case bytes([UInt8])
    case nothingYet
    /// The other side has closed, or the connection failed.
    case ended

    init(from raw: CInt, atMost limit: Int) {
        var count = 0
        var code: CInt = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, initialized in
            count = SocketBytes.receive(raw, into: UnsafeMutableRawBufferPointer(buffer))
            code = errno
            initialized = max(0, count)
        }
        self = count > 0 ? .bytes(bytes) : count < 0 && (code == EAGAIN || code == EINTR) ? .nothingYet : .ended
    }
}

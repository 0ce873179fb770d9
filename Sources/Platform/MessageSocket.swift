import CLinux
import Glibc

/// A connected SOCK_SEQPACKET UNIX socket: one message a packet, descriptors beside it.
public struct MessageSocket: ~Copyable, Sendable {
    /// The largest message either side may send, in bytes.
    public static let largestMessage = 65_536

    public let descriptor: OwnedDescriptor

    public init(adopting descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    /// What `receive` found.
    public enum Received {
        case message([UInt8], DescriptorBag)
        /// Nothing is waiting (a non-blocking socket).
        case nothing
        /// The other side has closed its end.
        case closed
    }

    /// Two connected ends; both close-on-exec.
    public static func pair() throws(SystemError) -> (CInt, CInt) {
        var ends: [CInt] = [-1, -1]
        guard socketpair(AF_UNIX, CInt(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw SystemError("create", "a socket pair")
        }
        return (ends[0], ends[1])
    }

    /// Connects to a listening socket.
    /// - Parameter wait: whether to wait for room in its queue; otherwise that is an error, and the socket is non-blocking.
    public init(connectingTo path: String, wait: Bool = true) throws(SystemError) {
        let socket = try UnixSocket.make(.messages)
        if !wait { try socket.setNonBlocking(true) }
        guard demux_connect_unix(socket.raw, path) == 0 else { throw UnixSocket.failure("connect to", path, code: errno) }
        descriptor = socket
    }

    /// Sends one message whole, waiting for room unless the socket is non-blocking.
    /// - Throws: SystemError with EPIPE or ECONNRESET when the other side is gone, EAGAIN when it does not read.
    public borrowing func send(_ bytes: [UInt8], descriptors: [CInt] = []) throws(SystemError) {
        let sent = demux_send(descriptor.raw, bytes, bytes.count, descriptors, CInt(clamping: descriptors.count), 0)
        guard sent == bytes.count else { throw SystemError("send", "a message of \(bytes.count) bytes") }
    }

    /// Receives one message. A message longer than `largestMessage`, or with too many descriptors, is an error.
    public borrowing func receive(wait: Bool = true) throws(SystemError) -> Received {
        var descriptors = [CInt](repeating: -1, count: Int(DEMUX_MAX_DESCRIPTORS))
        var count: CInt = 0
        var truncated: CInt = 0
        var length = 0
        let raw = descriptor.raw
        let bytes = [UInt8](unsafeUninitializedCapacity: Self.largestMessage) { buffer, initialized in
            length = demux_receive(raw, buffer.baseAddress, buffer.count, &descriptors, &count, &truncated, wait ? 0 : CInt(MSG_DONTWAIT))
            initialized = max(0, length)
        }
        if length < 0 {
            if errno == EAGAIN || errno == EWOULDBLOCK { return .nothing }
            if errno == ECONNRESET { return .closed }
            throw SystemError("receive", "a message")
        }
        let bag = DescriptorBag(adopting: Array(descriptors.prefix(Int(count))))
        if truncated != 0 {
            throw SystemError("receive", "a message", reason: "it is longer than \(Self.largestMessage) bytes or carries too many descriptors")
        }
        return length == 0 ? .closed : .message(bytes, bag)
    }
}

/// Making and binding UNIX sockets.
public enum UnixSocket {
    public enum Style: Sendable { case messages, stream }

    /// Bytes of a socket's path: struct sockaddr_un has one more, for the NUL.
    public static let longestPath = 107

    /// Says why a socket's path could not be used, each cause with what to do about it.
    public static func failure(_ operation: String, _ path: String, code: CInt) -> SystemError {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        switch code {
        case ENAMETOOLONG where path.utf8.count > longestPath:
            return SystemError(
                operation, path, reason: "the path has \(path.utf8.count) bytes, and a socket's has at most \(longestPath)",
                remedy: "choose a folder with a shorter path")
        case ENOENT: return SystemError(operation, path, code: code, remedy: "the folder \(folder) must exist, and for a connection the socket")
        case ENOTDIR: return SystemError(operation, path, code: code, remedy: "something on the way to it is a file and no folder")
        case EACCES: return SystemError(operation, path, code: code, remedy: "uid \(geteuid()) must be allowed to enter \(folder), and to write there")
        default: return SystemError(operation, path, code: code)
        }
    }

    /// An unconnected socket, close-on-exec.
    public static func make(_ style: Style) throws(SystemError) -> OwnedDescriptor {
        let type = style == .messages ? SOCK_SEQPACKET : SOCK_STREAM
        let raw = socket(AF_UNIX, CInt(type.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { throw SystemError("create", "a UNIX socket") }
        return OwnedDescriptor(adopting: raw)
    }

    /// Listens at a path, replacing a socket that a dead process left there. The socket file gets `mode` before
    /// anyone can connect.
    public static func listen(_ style: Style, path: String, mode: mode_t = 0o600) throws(SystemError) -> OwnedDescriptor {
        let socket = try make(style)
        _ = unlink(path)
        // Linux gives the file the mode of the socket's own inode (less the umask), so it is never open to more than `mode`. Changing
        // the umask instead would change it for every thread.
        guard fchmod(socket.raw, mode) == 0 else { throw SystemError("set the mode of", path) }
        let bound = demux_bind_unix(socket.raw, path)
        let code = errno
        guard bound == 0 else { throw failure("listen at", path, code: code) }
        guard Glibc.listen(socket.raw, 64) == 0 else { throw SystemError("listen at", path) }
        return socket
    }

    /// Accepts one connection; nil when none is waiting.
    public static func accept(_ listener: CInt) throws(SystemError) -> OwnedDescriptor? {
        let raw = demux_accept(listener)
        if raw >= 0 { return OwnedDescriptor(adopting: raw) }
        if errno == EAGAIN || errno == EINTR || errno == ECONNABORTED { return nil }
        throw SystemError("accept", "a connection")
    }

    /// Connects a stream socket.
    public static func connectStream(_ path: String) throws(SystemError) -> OwnedDescriptor {
        let socket = try make(.stream)
        guard demux_connect_unix(socket.raw, path) == 0 else { throw failure("connect to", path, code: errno) }
        return socket
    }

    /// Who is at the other end: process, user and group.
    public static func peer(of raw: CInt) throws(SystemError) -> (pid: pid_t, uid: uid_t, gid: gid_t) {
        var peer = demux_peer()
        guard demux_peer_credentials(raw, &peer) == 0 else { throw SystemError("ask who is at", "the other end of a socket") }
        return (peer.pid, peer.uid, peer.gid)
    }
}

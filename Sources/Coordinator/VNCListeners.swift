import EmulatorProtocol
import Glibc
import Platform
import Specification

/// The sockets at which viewers come in. They are the coordinator's, so that an exporter that died finds the same port again;
/// whoever connects in between waits in the queue.
final class VNCListeners {
    /// As many go beside one message, with the counters and the state.
    static let most = 12

    private final class Socket {
        let descriptor: OwnedDescriptor
        let address: Listener
        /// What tells our file at the path from one that somebody else put there.
        let file: (device: UInt, inode: UInt)?
        init(_ descriptor: consuming OwnedDescriptor, _ address: Listener, file: (device: UInt, inode: UInt)? = nil) {
            self.descriptor = descriptor
            self.address = address
            self.file = file
        }
    }

    private var sockets: [Socket] = []
    private let ownPath: String?
    private let tcp: [TCPListener.Bound]

    /// Opens them all, or none.
    /// - Parameter ownPath: the coordinator's own UNIX socket, for `demux web`.
    /// - Throws: SystemError that names the address.
    init(_ addresses: [VNCAddress], ownPath: String?) throws(SystemError) {
        self.ownPath = ownPath
        var opened: [Socket] = []
        var bound: [TCPListener.Bound] = []
        do {
            for address in addresses {
                switch address {
                case .tcp(let host, let first, let last): bound += try TCPListener.listen(host: host, ports: min(first, last)...max(first, last))
                case .unix(let path): opened.append(try Self.listen(path))
                }
            }
            if let ownPath { opened.append(try Self.listen(ownPath)) }
        } catch {
            for socket in opened { Self.removeFile(of: socket) }
            throw error
        }
        tcp = bound
        sockets = opened
        guard tcp.count + sockets.count <= Self.most else {
            throw SystemError(
                "listen at", "\(tcp.count + sockets.count) addresses", reason: "there can be \(Self.most)", remedy: "name fewer under 'listen'")
        }
    }

    /// Takes over a predecessor's.
    init(adopting kept: [KeptVNC.Socket], ownPath: String?, _ recorder: Recorder) throws(SystemError) {
        self.ownPath = ownPath
        var bound: [TCPListener.Bound] = []
        var opened: [Socket] = []
        for (index, known) in kept.enumerated() {
            let descriptor = try recorder.take(KeptName.listener(index))
            if let path = known.path {
                var file: (device: UInt, inode: UInt)?
                if let device = known.device, let inode = known.inode { file = (UInt(device), UInt(inode)) }
                opened.append(Socket(descriptor, Listener(path: path), file: file))
            } else {
                bound.append(TCPListener.Bound(descriptor, host: known.host ?? "", port: known.port ?? 0))
            }
        }
        tcp = bound
        sockets = opened
    }

    /// Gives the keeper all of them, in the order of `listeners`.
    func keep(_ recorder: Recorder) {
        for (index, socket) in tcp.enumerated() { recorder.keep(socket.descriptor.raw, as: KeptName.listener(index)) }
        for (index, socket) in sockets.enumerated() { recorder.keep(socket.descriptor.raw, as: KeptName.listener(tcp.count + index)) }
    }

    /// What a successor has to know of them, in the same order.
    var kept: [KeptVNC.Socket] {
        tcp.map { KeptVNC.Socket(host: $0.host, port: $0.port) }
            + sockets.map { KeptVNC.Socket(path: $0.address.path, device: $0.file.map { UInt64($0.device) }, inode: $0.file.map { UInt64($0.inode) }) }
    }

    deinit { for socket in sockets { Self.removeFile(of: socket) } }

    /// What `attach` says of them.
    var listeners: [Listener] { tcp.map { Listener(host: $0.host, port: $0.port) } + sockets.map(\.address) }

    /// The same without the coordinator's own: what people are told.
    var publicListeners: [Listener] { listeners.filter { $0.path == nil || $0.path != ownPath } }

    /// A descriptor for each, in the order of `listeners`.
    func addDescriptors(to bag: DescriptorBag) throws(SystemError) {
        for socket in tcp { bag.add(try socket.descriptor.duplicate()) }
        for socket in sockets { bag.add(try socket.descriptor.duplicate()) }
    }

    /// - Throws: SystemError when somebody listens there, or what is there is no socket.
    private static func listen(_ path: String) throws(SystemError) -> Socket {
        var status = stat()
        if lstat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFSOCK else {
                throw SystemError("listen at", path, reason: "there is something that is no socket", remedy: "remove it, or name another path")
            }
            if (try? UnixSocket.connectStream(path)) != nil {
                throw SystemError("listen at", path, reason: "another process listens there", remedy: "end it, or name another path")
            }
            // A process that died has left it: `UnixSocket.listen` replaces it.
        }
        let descriptor = try UnixSocket.listen(.stream, path: path)
        try descriptor.setNonBlocking(true)
        let isThere = lstat(path, &status) == 0
        return Socket(descriptor, Listener(path: path), file: isThere ? (UInt(status.st_dev), UInt(status.st_ino)) : nil)
    }

    private static func removeFile(of socket: Socket) {
        guard let path = socket.address.path, let file = socket.file else { return }
        var status = stat()
        guard lstat(path, &status) == 0, UInt(status.st_dev) == file.device, UInt(status.st_ino) == file.inode else { return }
        _ = unlink(path)
    }
}

extension Listener {
    /// As people write it: "127.0.0.1:5900", "[::1]:5900", "unix:/path".
    var text: String {
        if let path { return "unix:\(path)" }
        let host = host ?? ""
        return (host.contains(":") ? "[\(host)]" : host) + ":\(port ?? 0)"
    }
}

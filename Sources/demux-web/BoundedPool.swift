import CLinux
import FlyingFox
import FlyingSocks
import Glibc
import Synchronization

/// FlyingFox's waiting, with bounds: so many connections may wait for their browser at a time, each for so long.
///
/// Every open connection that is not being answered waits for something to read, so the bound on those that wait is one on
/// connections. Those whose WebSocket is open may wait for ever.
final class BoundedPool: AsyncSocketPool {
    private struct State {
        var waiting: Set<CInt> = []
        /// Peers whose connection has become a WebSocket.
        var upgraded: Set<String> = []
    }

    let base: any AsyncSocketPool
    private let state = Mutex(State())
    private let largest: Int
    private let idle: Duration

    init(base: any AsyncSocketPool, largest: Int, idle: Duration) {
        self.base = base
        self.largest = largest
        self.idle = idle
    }

    func prepare() async throws { try await base.prepare() }
    func run() async throws { try await base.run() }

    /// Connections of a peer ("address:port") wait without a limit from here on.
    func upgrade(_ peer: String) { state.withLock { _ = $0.upgraded.insert(peer) } }
    func downgrade(_ peer: String) { state.withLock { _ = $0.upgraded.remove(peer) } }

    func suspendSocket(_ socket: Socket, untilReadyFor events: Socket.Events) async throws {
        // A listening socket has no peer.
        guard events.contains(.read), let peer = try? socket.remotePeer() else { return try await base.suspendSocket(socket, untilReadyFor: events) }
        let name = Self.name(peer)
        let file = socket.file.rawValue
        let (fits, limited) = state.withLock { state in
            let fits = state.waiting.count < largest || state.upgraded.contains(name)
            if fits { state.waiting.insert(file) }
            return (fits, !state.upgraded.contains(name))
        }
        guard fits else { throw SocketError.disconnected }
        defer { state.withLock { _ = $0.waiting.remove(file) } }
        guard limited else { return try await suspendCopy(of: file, untilReadyFor: events) }
        let base = base
        let idle = idle
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await base.suspendSocket(socket, untilReadyFor: events) }
            group.addTask {
                try await Task.sleep(for: idle)
                throw SocketError.disconnected
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// Waits by a descriptor of our own. FlyingFox closes a WebSocket's descriptor when a write to it fails, while the other direction
    /// may be waiting to read: the wait would never end, and the next connection that gets the number would never be woken.
    private func suspendCopy(of file: CInt, untilReadyFor events: Socket.Events) async throws {
        let raw = demux_duplicate(file)
        guard raw >= 0 else { throw SocketError.disconnected }
        defer { close(raw) }
        try await base.suspendSocket(Socket(file: .init(rawValue: raw)), untilReadyFor: events)
        // The number is somebody else's by now, perhaps.
        try Task.checkCancellation()
    }

    static func name(_ peer: Socket.Address) -> String {
        switch peer {
        case .ip4(let address, let port), .ip6(let address, let port): "\(address):\(port)"
        case .unix(let path): path
        }
    }
}

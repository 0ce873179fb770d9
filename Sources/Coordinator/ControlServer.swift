import ControlProtocol
import Glibc
import Platform

/// The guest's control socket: answers the `demux` command of root or of our own user, and nobody else.
final class ControlServer {
    /// Connections at a time; a further one is closed at once.
    static let largestNumber = 32

    private final class Connection {
        let socket: MessageSocket
        let peer: ControlPeer
        init(_ socket: consuming MessageSocket, peer: ControlPeer) {
            self.socket = socket
            self.peer = peer
        }
    }

    private let loop: EventLoop
    private let listener: OwnedDescriptor
    private var connections: [CInt: Connection] = [:]
    private let logBook: LogBook
    /// What came that is no request.
    let faults = FaultLog(source: "the control socket", name: "control")
    private let answer: (ControlRequest, ControlPeer, @escaping (ControlReply) -> Void) -> Void

    init(
        loop: EventLoop, listener: consuming OwnedDescriptor, logBook: LogBook,
        answer: @escaping (ControlRequest, ControlPeer, @escaping (ControlReply) -> Void) -> Void
    ) throws(SystemError) {
        self.loop = loop
        self.logBook = logBook
        self.answer = answer
        self.listener = listener
        try self.listener.setNonBlocking(true)
        try loop.watch(self.listener.raw, for: .readable) { [weak self] _ in self?.accept() }
    }

    deinit {
        loop.forget(listener.raw)
        for (raw, connection) in connections {
            loop.forget(raw)
            connection.peer.end()
        }
    }

    private func accept() {
        guard let accepted = try? UnixSocket.accept(listener.raw) else { return }
        guard connections.count < Self.largestNumber, let peer = try? UnixSocket.peer(of: accepted.raw),
            peer.uid == 0 || peer.uid == geteuid()
        else { return }
        // A command that does not read its answers must not hold up the guest's coordinator.
        guard (try? accepted.setNonBlocking(true)) != nil else { return }
        let raw = accepted.raw
        let account = ControlPeer(pid: peer.pid) { [weak self] reply, bag in
            guard let self, let connection = self.connections[raw] else { return }
            self.send(reply, to: connection, raw, descriptors: bag.raw)
        }
        connections[raw] = Connection(MessageSocket(adopting: accepted), peer: account)
        do {
            try loop.watch(raw, for: .readable) { [weak self] _ in self?.serve(raw) }
        } catch {
            connections[raw] = nil
        }
    }

    private func serve(_ raw: CInt) {
        guard let connection = connections[raw] else { return }
        do {
            switch try connection.socket.receive(wait: false) {
            case .nothing: return
            case .closed: return close(raw)
            case .message(let bytes, _):
                let request = try ControlCodec.decode(ControlRequest.self, from: bytes)
                answer(request, connection.peer) { [weak self, weak connection] reply in
                    // The command may have gone while an attach was under way.
                    guard let self, let connection, self.connections[raw] === connection else { return }
                    self.send(reply, to: connection, raw)
                }
            }
        } catch {
            faults.note(.malformedMessage, "process \(connection.peer.pid) sent what is no request: \(error)", in: logBook)
            send(.failed("\(error)"), to: connection, raw)
        }
    }

    private func send(_ reply: ControlReply, to connection: Connection, _ raw: CInt, descriptors: [CInt] = []) {
        var bytes = ControlCodec.encode(reply)
        if bytes.count > MessageSocket.largestMessage, case .lines(let lines) = reply {
            // The newest lines that fit.
            var fewer = lines
            while bytes.count > MessageSocket.largestMessage, !fewer.isEmpty {
                fewer.removeFirst(max(1, fewer.count / 4))
                bytes = ControlCodec.encode(ControlReply.lines(fewer))
            }
        }
        if bytes.count > MessageSocket.largestMessage, case .status(var status) = reply {
            // Thousands of claims: the first of each emulator's that fit, and how many more there are.
            var most = 256
            while bytes.count > MessageSocket.largestMessage, most > 1 {
                most /= 2
                for index in status.emulators.indices { status.emulators[index].claims = Self.first(most, of: status.emulators[index].claims) }
                bytes = ControlCodec.encode(ControlReply.status(status))
            }
        }
        do { try connection.socket.send(bytes, descriptors: descriptors) } catch { close(raw) }
    }

    private static func first(_ most: Int, of claims: [EmulatorStatus.ClaimStatus]) -> [EmulatorStatus.ClaimStatus] {
        guard claims.count > most else { return claims }
        return claims.prefix(most - 1) + [.init(range: "…", label: "there are more than can be shown")]
    }

    private func close(_ raw: CInt) {
        loop.forget(raw)
        let connection = connections.removeValue(forKey: raw)
        connection?.peer.end()
    }
}

/// Whoever is at the other end of a control connection, for answers that go on: a reader of the surface.
final class ControlPeer {
    let pid: pid_t
    private let push: (ControlReply, DescriptorBag) -> Void
    /// Called once when the connection is closed.
    var closed: (() -> Void)?

    init(pid: pid_t, push: @escaping (ControlReply, DescriptorBag) -> Void) {
        self.pid = pid
        self.push = push
    }

    /// Sends it something; one that does not read is closed.
    func send(_ reply: ControlReply, _ descriptors: DescriptorBag) { push(reply, descriptors) }

    fileprivate func end() {
        let closed = closed
        self.closed = nil
        closed?()
    }
}

import Glibc
import Keeping
import Platform

/// The keeper's own socket in the guest's folder: `demux adopt`. Only root and the keeper's own user are answered.
final class AdoptionDesk {
    private static let most = 8

    private final class Client {
        let socket: MessageSocket
        init(_ socket: consuming MessageSocket) { self.socket = socket }
    }

    private let loop: EventLoop
    private let listener: DescriptorBag
    private let adopt: (Bool) -> String?
    private var clients: [CInt: Client] = [:]
    private var waiting: Set<CInt> = []

    /// - Parameter adopt: carries it out, and gives the answer if there is one at once.
    init(loop: EventLoop, listener: DescriptorBag, adopt: @escaping (Bool) -> String?) throws(SystemError) {
        self.loop = loop
        self.listener = listener
        self.adopt = adopt
        guard let raw = listener.raw.first else { return }
        try loop.watch(raw, for: .readable) { [unowned self] _ in self.accept(raw) }
    }

    /// Answers those who wait.
    func tell(_ text: String) {
        for raw in waiting { answer(raw, text) }
        waiting = []
    }

    private func accept(_ listener: CInt) {
        guard let accepted = try? UnixSocket.accept(listener), clients.count < Self.most, let peer = try? UnixSocket.peer(of: accepted.raw),
            peer.uid == 0 || peer.uid == geteuid(), (try? accepted.setNonBlocking(true)) != nil
        else { return }
        let raw = accepted.raw
        clients[raw] = Client(MessageSocket(adopting: accepted))
        do { try loop.watch(raw, for: .readable) { [unowned self] _ in self.read(raw) } } catch { clients[raw] = nil }
    }

    private func read(_ raw: CInt) {
        guard let client = clients[raw], let received = try? client.socket.receive(wait: false) else { return forget(raw) }
        switch received {
        case .nothing: return
        case .closed: forget(raw)
        case .message(let bytes, _):
            let word = String(decoding: bytes, as: UTF8.self)
            guard word == KeeperNames.adopt || word == KeeperNames.adoptByForce else { return answer(raw, "-the keeper knows 'adopt' only") }
            if let text = adopt(word == KeeperNames.adoptByForce) { answer(raw, text) } else { waiting.insert(raw) }
        }
    }

    private func answer(_ raw: CInt, _ text: String) { try? clients[raw]?.socket.send(Array(text.utf8)) }

    private func forget(_ raw: CInt) {
        loop.forget(raw)
        waiting.remove(raw)
        clients[raw] = nil
    }
}

import CLinux
import ControlProtocol
import Glibc
import Platform
import Synchronization
import Testing

/// A control socket with a thread behind it that gives prepared answers.
final class FakeCoordinator: Sendable {
    /// What it does with a request.
    enum Behaviour: Sendable {
        case reply(ControlReply)
        /// Keeps the connection open and says nothing.
        case silence
        case hangUp
        /// Sends these bytes, whatever they are.
        case bytes([UInt8])
        /// Makes the connection a reader of this screen.
        case screen(FakeScreen)
    }

    private let descriptor: CInt
    private let stopping: Mutex<Bool>
    private let requests: Mutex<[ControlRequest]>

    /// What was asked so far.
    var asked: [ControlRequest] { requests.withLock { $0 } }

    init(domain: UInt16, base: String, _ behaviour: @escaping @Sendable (ControlRequest) -> Behaviour) throws {
        let folder = RunDirectory.directory(domain: domain, base: base)
        if mkdir(folder, 0o700) != 0 { try #require(errno == EEXIST) }
        descriptor = try UnixSocket.listen(.messages, path: RunDirectory.controlSocket(domain: domain, base: base)).release()
        stopping = Mutex(false)
        requests = Mutex([])
        let raw = descriptor
        // Each connection has a thread of its own, so that a silent one holds nobody up.
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Work { [weak self] in
            // Closed by the thread that waits on it: the number could be another test's by the time it looks again.
            defer { close(raw) }
            while let accepted = try? UnixSocket.accept(raw) {
                guard let self, !self.stopping.withLock({ $0 }) else { return }
                let socket = accepted.release()
                var child = pthread_t()
                let work = Unmanaged.passRetained(Work { [weak self] in self?.serve(socket, behaviour) })
                pthread_create(&child, nil, Work.start, work.toOpaque())
                pthread_detach(child)
            }
        })
        pthread_create(&thread, nil, Work.start, box.toOpaque())
        pthread_detach(thread)
    }

    deinit { end() }

    /// Stops listening as a process that died would: the socket's file stays.
    func end() {
        guard !stopping.withLock({ old in defer { old = true }; return old }) else { return }
        shutdown(descriptor, CInt(SHUT_RDWR))
    }

    private func serve(_ raw: CInt, _ behaviour: (ControlRequest) -> Behaviour) {
        let socket = MessageSocket(adopting: OwnedDescriptor(adopting: raw))
        while case .message(let bytes, _) = try? socket.receive() {
            guard let request = try? ControlCodec.decode(ControlRequest.self, from: bytes) else { return }
            requests.withLock { $0.append(request) }
            switch behaviour(request) {
            case .reply(let reply): try? socket.send(ControlCodec.encode(reply))
            case .silence: continue
            case .hangUp: return
            case .bytes(let bytes): try? socket.send(bytes)
            case .screen(let screen): try? screen.subscribe(on: socket)
            }
        }
    }
}

/// What a thread runs.
private final class Work {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }

    static let start: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { pointer in
        if let pointer { Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue().body() }
        return nil
    }
}

/// Counts down over the threads of a fake coordinator.
final class Countdown: Sendable {
    private let left: Mutex<Int>

    init(_ count: Int) { left = Mutex(count) }

    /// The present count, then one less.
    func next() -> Int { left.withLock { left in defer { left -= 1 }; return left } }

    /// Whether there was one left.
    func take() -> Bool { next() > 0 }
}

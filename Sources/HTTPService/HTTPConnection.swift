import Glibc
import Platform

/// How long and how often a server's clients may do things.
public struct HTTPLimits: Sendable {
    /// Connections at a time, tunnels not among them.
    public var connections = 128
    /// Tunnels at a time.
    public var tunnels = 32
    /// Between two requests of a connection.
    public var idle = Duration.seconds(60)
    /// From a request's first byte to its last.
    public var request = Duration.seconds(10)
    /// For the answer, to be made and to be taken.
    public var answer = Duration.seconds(60)
    /// Whether a request must name a host, as HTTP/1.1 has it.
    public var requiresHost = true
    /// Whether a connection serves more than one request.
    public var keepsAlive = true

    public init() {}
}

/// What becomes of a request.
public enum HTTPOutcome {
    case answer(HTTPResponse)
    /// The exchange is answered later.
    case later
    /// The connection becomes a WebSocket to somebody else.
    case tunnel(WebSocketUpgrade, TunnelTarget)
}

/// One client's connection: request, answer, the next request. It reads nothing while it answers.
final class HTTPConnection {
    private static let readLength = 16_384
    /// What a client may send behind a refused request, so that it still sees the answer.
    private static let mostDrained = 1 << 20
    private static let drain = Duration.seconds(2)

    private enum State {
        case reading
        case answering(HTTPRequest)
        case writing(thenReading: Bool)
        /// Answered for the last time: what still comes is thrown away, up to so many bytes.
        case draining(left: Int)
        case tunnel(WebSocketTunnel)
        case closed
    }

    private let descriptor: OwnedDescriptor
    private let loop: EventLoop
    private let limits: HTTPLimits
    private let serve: (HTTPRequest) -> HTTPOutcome
    private let onEnd: () -> Void
    private var state = State.reading
    private var parser = HTTPRequestParser()
    /// Read and not yet parsed: requests that a client sent before the last one was answered.
    private var received: ArraySlice<UInt8> = []
    private var outgoing = OutgoingBytes()
    private var limit: EventLoop.Timer?
    private var since = EventLoop.now()

    /// - Parameter onEnd: called once, after which the connection may go away.
    init(
        _ descriptor: consuming OwnedDescriptor, loop: EventLoop, limits: HTTPLimits, serve: @escaping (HTTPRequest) -> HTTPOutcome, onEnd: @escaping () -> Void
    ) throws(SystemError) {
        self.descriptor = descriptor
        self.loop = loop
        self.limits = limits
        self.serve = serve
        self.onEnd = onEnd
        try loop.watch(self.descriptor.raw, for: .readable) { [unowned self] events in self.move(events) }
        startLimit(limits.idle)
    }

    var isTunnel: Bool { if case .tunnel = state { true } else { false } }

    /// How readily the connection gives its place up: the smallest first. Nil while it must not: it has asked, and waits for us.
    var standing: (Int, UInt64)? {
        switch state {
        case .draining: (0, since)
        case .reading: (1, since)
        case .writing: (2, since)
        case .answering, .tunnel, .closed: nil
        }
    }

    // MARK: - Requests

    private func move(_ events: EventLoop.Interest) {
        switch state {
        case .reading:
            // What is here already is parsed first; more waits in the kernel.
            guard received.isEmpty else { return }
            switch IncomingBytes(from: descriptor.raw, atMost: Self.readLength) {
            case .bytes(let bytes):
                received = bytes[...]
                parse()
            case .nothingYet: break
            case .ended: close()
            }
        // Nothing is asked for, so it is the connection's end. Its place stays taken while its answer is made: the number of answers is bounded by it.
        case .answering: loop.forget(descriptor.raw)
        case .writing: send()
        case .draining(let left):
            switch IncomingBytes(from: descriptor.raw, atMost: Self.readLength) {
            case .bytes(let bytes) where bytes.count < left: state = .draining(left: left - bytes.count)
            case .nothingYet: break
            case .bytes, .ended: close()
            }
        case .tunnel, .closed: break
        }
    }

    private func parse() {
        let hadBegun = parser.hasBegun
        do {
            guard let request = try parser.next(&received) else {
                if !hadBegun && parser.hasBegun { startLimit(limits.request) }
                return
            }
            if limits.requiresHost, request.values("host").isEmpty { throw HTTPRefusal(.badRequest, "it names no host") }
            enter(.answering(request))
            startLimit(limits.answer)
            switch serve(request) {
            case .answer(let response): answer(response)
            case .later: try loop.change(descriptor.raw, to: [])
            case .tunnel(let upgrade, let target): tunnel(upgrade, target)
            }
        } catch let refusal as HTTPRefusal {
            refuse(refusal)
        } catch {
            close()
        }
    }

    private func refuse(_ refusal: HTTPRefusal) {
        received = []
        write(HTTPResponse(refusal).encoded(for: parser.method, keepsAlive: false), thenReading: false)
    }

    private func tunnel(_ upgrade: WebSocketUpgrade, _ target: TunnelTarget) {
        forgetLimit()
        // A browser that vanished without a word is noticed after some minutes.
        var one: CInt = 1
        setsockopt(descriptor.raw, SOL_SOCKET, SO_KEEPALIVE, &one, socklen_t(MemoryLayout<CInt>.size))
        let early = Array(received)
        received = []
        enter(
            .tunnel(
                WebSocketTunnel(loop: loop, browser: descriptor.raw, target: target, greeting: upgrade.response, early: early) { [weak self] in self?.close() }))
    }

    // MARK: - Answers

    /// Answers the request that waits; without one, nothing happens.
    func answer(_ response: HTTPResponse) {
        guard case .answering(let request) = state else { return }
        let keepsAlive = request.keepsAlive && limits.keepsAlive
        write(response.encoded(for: request.method, keepsAlive: keepsAlive), thenReading: keepsAlive)
    }

    private func write(_ bytes: [UInt8], thenReading: Bool) {
        outgoing.append(bytes)
        enter(.writing(thenReading: thenReading))
        startLimit(limits.answer)
        send()
    }

    private func send() {
        guard case .writing(let thenReading) = state else { return }
        do {
            switch outgoing.send(to: descriptor.raw) {
            case .failed: close()
            case .blocked: try loop.change(descriptor.raw, to: .writable)
            case .sent:
                try loop.change(descriptor.raw, to: .readable)
                guard thenReading else {
                    shutdown(descriptor.raw, CInt(SHUT_WR))
                    enter(.draining(left: Self.mostDrained))
                    return startLimit(Self.drain)
                }
                enter(.reading)
                startLimit(limits.idle)
                if !received.isEmpty { loop.soon { [weak self] in self?.parseNext() } }
            }
        } catch {
            close()
        }
    }

    /// The request that came together with the last one.
    private func parseNext() { if case .reading = state { parse() } }

    // MARK: - Limits

    private func enter(_ next: State) {
        state = next
        since = EventLoop.now()
    }

    private func startLimit(_ duration: Duration) {
        forgetLimit()
        limit = loop.after(duration) { [weak self] in self?.overdue() }
    }

    private func forgetLimit() {
        if let limit { loop.cancel(limit) }
        limit = nil
    }

    private func overdue() {
        limit = nil
        if case .reading = state, parser.hasBegun { return refuse(HTTPRefusal(.requestTimeout, "the request did not come to its end")) }
        close()
    }

    /// Ends the connection; nothing is sent any more.
    func close() {
        if case .closed = state { return }
        state = .closed
        forgetLimit()
        loop.forget(descriptor.raw)
        // After the present handler, which may be one of the connection's own.
        loop.soon(onEnd)
    }
}

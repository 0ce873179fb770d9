import Glibc
import Platform

/// An HTTP server for a few local clients, on one event loop: GET and HEAD, without bodies, and WebSockets to UNIX sockets (RFC 9110, 9112, 6455).
///
/// What each client can make it hold is bounded, in bytes, in time and in number: see `HTTPLimits` and `HTTPRequestParser`. When all places are taken, the
/// connection that has waited longest without a whole request loses its own.
public final class HTTPServer {
    private let loop: EventLoop
    private let limits: HTTPLimits
    private let handler: (HTTPRequest, HTTPExchange) -> HTTPOutcome
    private let late: LateAnswers
    private var listeners: [TCPListener.Bound] = []
    private var connections: [UInt64: HTTPConnection] = [:]
    private var nextConnection: UInt64 = 0

    /// - Parameter handler: answers a request, on the loop's thread; it must not wait.
    /// - Throws: SystemError when the kernel gives no descriptors.
    public init(loop: EventLoop, limits: HTTPLimits = HTTPLimits(), handler: @escaping (HTTPRequest, HTTPExchange) -> HTTPOutcome) throws(SystemError) {
        self.loop = loop
        self.limits = limits
        self.handler = handler
        late = try LateAnswers()
        try loop.watch(late.descriptor, for: .readable) { [weak self] _ in
            guard let self else { return }
            for answer in self.late.take() { self.connections[answer.connection]?.answer(answer.response) }
        }
    }

    deinit {
        loop.forget(late.descriptor)
        for listener in listeners { loop.forget(listener.descriptor.raw) }
    }

    /// Serves those that connect to a listening, non-blocking socket.
    /// - Throws: SystemError when it cannot be watched.
    public func serve(_ listener: TCPListener.Bound) throws(SystemError) {
        let raw = listener.descriptor.raw
        listeners.append(listener)
        try loop.watch(raw, for: .readable) { [weak self] _ in self?.accept(raw) }
    }

    private var tunnels: Int { connections.values.count { $0.isTunnel } }

    private func accept(_ listener: CInt) {
        do {
            guard let accepted = try UnixSocket.accept(listener) else { return }
            guard makeRoom() else { return }
            try accepted.setNonBlocking(true)
            let number = nextConnection
            nextConnection &+= 1
            connections[number] = try HTTPConnection(
                accepted, loop: loop, limits: limits,
                serve: { [weak self] request in self?.answer(request, on: number) ?? .answer(HTTPResponse(.serviceUnavailable, text: "the server ends")) },
                onEnd: { [weak self] in self?.connections[number] = nil })
        } catch {
            // No descriptors: one that waits gives its own up, or else the listener has a rest, instead of being told again at once.
            if !throwOut() { rest(listener) }
        }
    }

    private func rest(_ listener: CInt) {
        try? loop.change(listener, to: [])
        loop.after(.milliseconds(200)) { [weak self] in try? self?.loop.change(listener, to: .readable) }
    }

    private func answer(_ request: HTTPRequest, on number: UInt64) -> HTTPOutcome {
        handler(request, HTTPExchange(connection: number, tunnelsLeft: max(0, limits.tunnels - tunnels), answers: late))
    }

    /// False when every place is another's who waits for an answer.
    private func makeRoom() -> Bool { connections.values.count { !$0.isTunnel } < limits.connections || throwOut() }

    /// Ends the connection that has waited longest for its client.
    private func throwOut() -> Bool {
        let oldest = connections.filter { $0.value.standing != nil }.min { ($0.value.standing ?? (0, 0)) < ($1.value.standing ?? (0, 0)) }
        guard let oldest else { return false }
        oldest.value.close()
        connections[oldest.key] = nil
        return true
    }
}

import Glibc
import HTTPService
import Platform
import Synchronization
import TestTools
import Testing

/// A server on a thread of its own, at a UNIX socket; it answers every request with the request's path.
final class RunningServer: Sendable {
    let path: String
    private let stop: EventFD
    private let finished = Mutex(false)

    init(_ path: String, limits: HTTPLimits = HTTPLimits()) throws {
        self.path = path
        stop = try EventFD()
        let listener = try UnixSocket.listen(.stream, path: path).release()
        let raw = stop.descriptor.raw
        try TestThread { [path] in
            do {
                let listener = OwnedDescriptor(adopting: listener)
                try listener.setNonBlocking(true)
                let loop = try EventLoop()
                let server = try HTTPServer(loop: loop, limits: limits) { request, exchange in
                    if request.path == "/later" {
                        exchange.answer(HTTPResponse(.ok, text: request.path))
                        return .later
                    }
                    return .answer(HTTPResponse(.ok, text: request.path))
                }
                try server.serve(TCPListener.Bound(listener, host: path, port: 0))
                try loop.watch(raw, for: .readable) { _ in loop.stop() }
                try withExtendedLifetime(server) { try loop.run() }
            } catch {
                Issue.record(error)
            }
            self.finished.withLock { $0 = true }
        }.detach()
    }

    /// Ends the thread, and waits for it.
    func end() {
        stop.ring()
        while !finished.withLock({ $0 }) { usleep(1000) }
    }

    /// A client that is still connected.
    func connect() throws -> OwnedDescriptor { try UnixSocket.connectStream(path) }

    /// Everything the server sends up to the end of the connection.
    static func rest(_ socket: borrowing OwnedDescriptor) -> String {
        String(decoding: (try? Files.readAll(socket.raw, limit: 1 << 22, what: "the answer")) ?? [], as: UTF8.self)
    }

    static func send(_ bytes: some Collection<UInt8>, to socket: borrowing OwnedDescriptor) {
        var rest = Array(bytes)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(socket.raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }
}

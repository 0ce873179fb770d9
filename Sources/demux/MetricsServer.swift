import Glibc
import Platform
import Seeing

/// The least of HTTP that a scraper needs: GET /metrics, one request a connection.
final class MetricsServer {
    private static let mostConnections = 16
    private static let longestRequest = 8192
    private static let patience = Duration.seconds(5)

    private final class Connection {
        let descriptor: OwnedDescriptor
        var request: [UInt8] = []
        var answer: ArraySlice<UInt8> = []
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    private final class Listener {
        let unix: OwnedDescriptor
        init(_ unix: consuming OwnedDescriptor) { self.unix = unix }
    }

    private let loop: EventLoop
    private let checksHost: Bool
    private let page: () -> String
    private var listeners: [AnyObject] = []
    private var connections: [CInt: Connection] = [:]

    /// - Parameter checksHost: whether a request must be for the loopback address by name, so that no page in a browser reads it by a name that
    ///   somebody else gives it.
    init(loop: EventLoop, checksHost: Bool, page: @escaping () -> String) {
        self.loop = loop
        self.checksHost = checksHost
        self.page = page
    }

    func add(_ bound: TCPListener.Bound) throws(SystemError) {
        listeners.append(bound)
        try watch(bound.descriptor.raw)
    }

    func add(_ socket: consuming OwnedDescriptor) throws(SystemError) {
        try socket.setNonBlocking(true)
        let listener = Listener(socket)
        listeners.append(listener)
        try watch(listener.unix.raw)
    }

    private func watch(_ raw: CInt) throws(SystemError) {
        try loop.watch(raw, for: .readable) { [weak self] _ in self?.accept(raw) }
    }

    private func accept(_ listener: CInt) {
        guard let accepted = try? UnixSocket.accept(listener), connections.count < Self.mostConnections, (try? accepted.setNonBlocking(true)) != nil else { return }
        let raw = accepted.raw
        let connection = Connection(accepted)
        connections[raw] = connection
        do { try loop.watch(raw, for: .readable) { [weak self] _ in self?.move(raw) } } catch { connections[raw] = nil }
        loop.after(Self.patience) { [weak self, weak connection] in
            guard let self, let connection, self.connections[raw] === connection else { return }
            self.close(raw)
        }
    }

    private func close(_ raw: CInt) {
        loop.forget(raw)
        connections[raw] = nil
    }

    private func move(_ raw: CInt) {
        guard let connection = connections[raw] else { return }
        if connection.answer.isEmpty {
            var bytes = [UInt8](repeating: 0, count: 4096)
            let length = read(raw, &bytes, bytes.count)
            if length < 0 && (errno == EAGAIN || errno == EINTR) { return }
            guard length > 0, connection.request.count + length <= Self.longestRequest else { return close(raw) }
            connection.request += bytes[..<length]
            guard let answer = answer(to: connection.request) else { return }
            connection.answer = Array(answer.utf8)[...]
        }
        while !connection.answer.isEmpty {
            let written = connection.answer.withUnsafeBytes { send(raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            if written < 0 && (errno == EAGAIN || errno == EINTR) {
                try? loop.change(raw, to: .writable)
                return
            }
            guard written > 0 else { break }
            connection.answer = connection.answer.dropFirst(written)
        }
        shutdown(raw, CInt(SHUT_WR))
        close(raw)
    }

    /// Nil while the request is not all there.
    private func answer(to bytes: [UInt8]) -> String? {
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.contains("\r\n\r\n") || text.contains("\n\n") else { return nil }
        let lines = text.split(whereSeparator: \.isNewline)
        let words = (lines.first ?? "").split(separator: " ")
        guard words.count >= 2, words[0] == "GET" || words[0] == "HEAD" else { return Self.response("405 Method Not Allowed", "only GET\n") }
        if checksHost, !lines.dropFirst().contains(where: { Self.isLoopback($0) }) {
            return Self.response("403 Forbidden", "ask for 127.0.0.1 or localhost\n")
        }
        let path = words[1].prefix { $0 != "?" }
        guard path == "/metrics" || path == "/" else { return Self.response("404 Not Found", "the metrics are at /metrics\n") }
        return Self.response("200 OK", page(), type: Prometheus.contentType, withBody: words[0] == "GET")
    }

    private static func isLoopback(_ line: Substring) -> Bool {
        guard line.lowercased().hasPrefix("host:") else { return false }
        let host = line.dropFirst(5).drop { $0 == " " }.lowercased()
        return ["127.0.0.1", "localhost", "[::1]"].contains { host == $0 || host.hasPrefix($0 + ":") }
    }

    private static func response(_ status: String, _ body: String, type: String = "text/plain; charset=utf-8", withBody: Bool = true) -> String {
        "HTTP/1.1 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\nConnection: close\r\n\r\n" + (withBody ? body : "")
    }
}

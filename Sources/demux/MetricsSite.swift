import HTTPService
import Platform
import Seeing

/// What is at the metrics' address: GET /metrics, one request a connection.
enum MetricsSite {
    static let limits = {
        var limits = HTTPLimits()
        limits.connections = 16
        limits.tunnels = 0
        limits.idle = .seconds(5)
        limits.request = .seconds(5)
        limits.requiresHost = false
        limits.keepsAlive = false
        return limits
    }()

    /// - Parameter checksHost: whether a request must be for the loopback address by name, so that no page in a browser reads it by a name that
    ///   somebody else gives it.
    static func answer(_ request: HTTPRequest, checksHost: Bool, page: () -> String) -> HTTPResponse {
        if checksHost, !isLoopback(request.value("host") ?? "") { return HTTPResponse(.forbidden, text: "ask for 127.0.0.1 or localhost") }
        guard request.path == "/metrics" || request.path == "/" else { return HTTPResponse(.notFound, text: "the metrics are at /metrics") }
        return HTTPResponse(.ok, type: Prometheus.contentType, body: Array(page().utf8))
    }

    private static func isLoopback(_ host: String) -> Bool {
        let host = host.lowercased()
        return ["127.0.0.1", "localhost", "[::1]"].contains { host == $0 || host.hasPrefix($0 + ":") }
    }
}

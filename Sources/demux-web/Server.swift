import ControlProtocol
import FlyingFox
import FlyingSocks
import Foundation
import Platform
import Synchronization

/// The page, the guests behind it, and noVNC.
final class WebServer: Sendable {
    /// Connections of browsers that may wait at a time, and for how long each.
    static let mostConnections = 128
    static let idle = Duration.seconds(60)
    /// Guests that may be open in noVNC at a time.
    static let mostScreens = 32

    private let settings: WebSettings
    private let check: RequestCheck
    private let guests: Guests
    private let gallery: Gallery
    private let pool: BoundedPool
    private let server: HTTPServer
    private let open = Mutex(0)

    /// - Throws: SystemError when the address cannot be used, or the kernel gives no descriptors.
    init(_ settings: WebSettings) throws {
        self.settings = settings
        check = RequestCheck(hostNames: settings.hostNames)
        guests = Guests(base: settings.base)
        gallery = try Gallery(base: settings.base)
        pool = BoundedPool(base: HTTPServer.defaultPool(), largest: Self.mostConnections, idle: Self.idle)
        let listen = settings.listen
        let address: any SocketAddress =
            listen.isIPv6 ? try sockaddr_in6.inet6(ip6: listen.host, port: listen.port) : try sockaddr_in.inet(ip4: listen.host, port: listen.port)
        server = HTTPServer(config: Self.configuration(address, pool))
    }

    private static func configuration(_ address: some SocketAddress, _ pool: BoundedPool) -> HTTPServer.Configuration {
        HTTPServer.Configuration(address: address, pool: pool, logger: .disabled)
    }

    /// Serves until the task is cancelled; calls `started` with the address once it listens.
    /// - Throws: SystemError when it cannot listen.
    func run(started: @escaping @Sendable (String) -> Void) async throws {
        await server.appendRoute("*") { [weak self] request in await self?.answer(request) ?? HTTPResponse(statusCode: .serviceUnavailable) }
        let listen = settings.listen
        let server = server
        let announcing = Task {
            try await server.waitUntilListening()
            var address = listen.text
            switch await server.listeningAddress {
            case .ip4(let host, let port): address = "\(host):\(port)"
            case .ip6(let host, let port): address = "[\(host)]:\(port)"
            default: break
            }
            started(address)
        }
        defer { announcing.cancel() }
        do {
            try await server.run()
        } catch let error as SocketError {
            if case .failed(_, let code, _) = error {
                throw SystemError(
                    "serve at", listen.text, code: code, remedy: "another 'demux web' may run there; choose another place with --listen")
            }
            throw SystemError("serve at", listen.text, reason: "\(error)")
        }
    }

    func answer(_ request: HTTPRequest) async -> HTTPResponse {
        if let refusal = check.refusal(request.headers) { return Self.text(.forbidden, refusal) }
        guard request.method == .GET || request.method == .HEAD else { return Self.text(.methodNotAllowed, "only GET is served") }
        let parts = request.path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        switch parts.first {
        case "" where parts.count == 1: return page()
        case "guests.json" where parts.count == 1:
            let list = GuestList(guests: await guests.list(), novnc: settings.noVNC != nil, directory: settings.base)
            return Self.response(.ok, "application/json", Data(ControlCodec.encode(list)))
        case "guests" where parts.count == 3: return await guest(String(parts[parts.startIndex + 1]), parts.last ?? "", request)
        case "novnc" where parts.count > 1: return file(parts.dropFirst().joined(separator: "/"))
        case "favicon.ico": return HTTPResponse(statusCode: .noContent)
        default: return Self.text(.notFound, "there is nothing at this address")
        }
    }

    private func page() -> HTTPResponse {
        // Known to this answer only, so that nothing that gets into the page runs.
        let nonce = String(UInt64.random(in: 0...UInt64.max), radix: 36) + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        var response = Self.response(.ok, "text/html; charset=utf-8", Data(Page.html.replacingOccurrences(of: "NONCE", with: nonce).utf8))
        response.headers[HTTPHeader("Content-Security-Policy")] =
            "default-src 'none'; script-src 'nonce-\(nonce)'; style-src 'nonce-\(nonce)'; img-src 'self' blob: data:; connect-src 'self'; "
            + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        return response
    }

    private func guest(_ number: String, _ what: Substring, _ request: HTTPRequest) async -> HTTPResponse {
        // Only the canonical form of a number becomes part of a path.
        guard let domain = UInt16(number), String(domain) == number else { return Self.text(.notFound, "a guest is asked for by its number") }
        switch what {
        case "thumbnail.png": return await thumbnail(domain, request)
        case "vnc": return await screen(domain, request)
        default: return Self.text(.notFound, "there is nothing at this address")
        }
    }

    private func thumbnail(_ domain: UInt16, _ request: HTTPRequest) async -> HTTPResponse {
        switch await gallery.thumbnail(of: domain) {
        case .picture(let bytes, let tag):
            let entity = "\"\(domain)-\(tag)\""
            var response =
                request.headers[.ifNoneMatch] == entity
                ? HTTPResponse(statusCode: .notModified, headers: Self.common) : Self.response(.ok, "image/png", Data(bytes))
            response.headers[.eTag] = entity
            response.headers[.cacheControl] = "private, no-cache"
            return response
        case .none(let reason): return Self.text(.notFound, reason)
        case .notYet(let reason): return Self.text(.serviceUnavailable, reason)
        }
    }

    private func screen(_ domain: UInt16, _ request: HTTPRequest) async -> HTTPResponse {
        let peer = request.remoteAddress.map(Self.name) ?? ""
        let room = open.withLock { open in
            guard open < Self.mostScreens else { return false }
            open += 1
            return true
        }
        guard room else { return Self.text(.serviceUnavailable, "\(Self.mostScreens) guests are open already; close one of them") }
        let proxy: RFBProxy
        do {
            proxy = try RFBProxy(connectingTo: RunDirectory.vncSocket(domain: domain, base: settings.base), pool: pool.base) { [weak self, pool] in
                pool.downgrade(peer)
                self?.open.withLock { $0 -= 1 }
            }
        } catch {
            open.withLock { $0 -= 1 }
            return Self.text(.notFound, "guest \(domain) has no screen to show: \(error)")
        }
        guard var response = try? await WebSocketHTTPHandler(handler: proxy).handleRequest(request) else {
            return Self.text(.badRequest, "the WebSocket's beginning is broken")
        }
        guard response.statusCode == .switchingProtocols else { return response }
        pool.upgrade(peer)
        let protocols = request.headers.values(for: HTTPHeader("Sec-WebSocket-Protocol")).joined(separator: ",").split { $0 == "," || $0 == " " }
        if protocols.contains("binary") { response.headers[HTTPHeader("Sec-WebSocket-Protocol")] = "binary" }
        return response
    }

    private func file(_ path: String) -> HTTPResponse {
        guard let folder = settings.noVNC else {
            return Self.text(.notFound, "noVNC is not installed on this host: apt-get install novnc, then start 'demux web' again")
        }
        guard let (bytes, type) = StaticFiles(folder: folder).file(path) else { return Self.text(.notFound, "noVNC has no such file") }
        var response = Self.response(.ok, type, Data(bytes))
        response.headers[.cacheControl] = "private, max-age=3600"
        return response
    }

    // MARK: - Answers

    private static let common: HTTPHeaders = [
        HTTPHeader("X-Content-Type-Options"): "nosniff", HTTPHeader("Referrer-Policy"): "no-referrer", HTTPHeader("X-Frame-Options"): "DENY",
        HTTPHeader("Cross-Origin-Resource-Policy"): "same-origin",
    ]

    private static func response(_ status: HTTPStatusCode, _ type: String, _ body: Data) -> HTTPResponse {
        var headers = common
        headers[.contentType] = type
        headers[.cacheControl] = "no-store"
        return HTTPResponse(statusCode: status, headers: headers, body: body)
    }

    private static func text(_ status: HTTPStatusCode, _ text: String) -> HTTPResponse {
        response(status, "text/plain; charset=utf-8", Data((text + "\n").utf8))
    }

    private static func name(_ address: HTTPRequest.Address) -> String {
        switch address {
        case .ip4(let host, let port), .ip6(let host, let port): "\(host):\(port)"
        case .unix(let path): path
        }
    }
}

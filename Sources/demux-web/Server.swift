import ControlProtocol
import Glibc
import HTTPService
import Platform

/// The page, the guests behind it, and noVNC.
final class WebServer {
    private let settings: WebSettings
    private let check: RequestCheck
    private let guests: Guests
    private let gallery: Gallery

    /// - Throws: SystemError when the kernel gives no descriptors.
    init(_ settings: WebSettings) throws(SystemError) {
        self.settings = settings
        check = RequestCheck(hostNames: settings.hostNames)
        guests = Guests(base: settings.base)
        gallery = try Gallery(base: settings.base)
    }

    /// Serves as long as the process lasts; calls `started` with the address once it listens.
    /// - Throws: SystemError when it cannot listen.
    func run(started: (String) -> Void) throws(SystemError) {
        let loop = try EventLoop()
        let server = try HTTPServer(loop: loop) { request, exchange in self.answer(request, exchange) }
        let listen = settings.listen
        for bound in try Self.listen(listen) {
            try server.serve(bound)
            // Every address of this host is several sockets with one port.
            if bound.host == listen.host { started(listen.text(port: bound.port)) }
        }
        try withExtendedLifetime(server) { () throws(SystemError) in try loop.run() }
    }

    private static func listen(_ address: ListenAddress) throws(SystemError) -> [TCPListener.Bound] {
        do {
            return try TCPListener.listen(host: address.host == "::" ? "*" : address.host, ports: address.port...address.port)
        } catch {
            guard error.code == EADDRINUSE else { throw error }
            throw SystemError("serve at", address.text, code: error.code, remedy: "another 'demux web' may run there; choose another place with --listen")
        }
    }

    private func answer(_ request: HTTPRequest, _ exchange: HTTPExchange) -> HTTPOutcome {
        if let refusal = check.refusal(request) { return .answer(Answer.text(.forbidden, refusal)) }
        let parts = request.path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        switch parts.first {
        case "" where parts.count == 1: return .answer(page())
        case "guests.json" where parts.count == 1:
            let (guests, settings) = (guests, settings)
            Task {
                let list = GuestList(guests: await guests.list(), novnc: settings.noVNC != nil, directory: settings.base)
                exchange.answer(Answer.response(.ok, "application/json", ControlCodec.encode(list)))
            }
            return .later
        case "guests" where parts.count == 3: return guest(String(parts[parts.startIndex + 1]), parts.last ?? "", request, exchange)
        case "novnc" where parts.count > 1: return .answer(file(parts.dropFirst().joined(separator: "/")))
        case "favicon.ico": return .answer(HTTPResponse(.noContent))
        default: return .answer(Answer.nothing)
        }
    }

    private func page() -> HTTPResponse {
        // Known to this answer only, so that nothing that gets into the page runs.
        let nonce = String(UInt64.random(in: 0...UInt64.max), radix: 36) + String(UInt64.random(in: 0...UInt64.max), radix: 36)
        let policy =
            "default-src 'none'; script-src 'nonce-\(nonce)'; style-src 'nonce-\(nonce)'; img-src 'self' blob: data:; connect-src 'self'; "
            + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        var response = Answer.response(.ok, "text/html; charset=utf-8", Array(Page.html(nonce: nonce).utf8))
        response.fields.append(("Content-Security-Policy", policy))
        return response
    }

    private func guest(_ number: String, _ what: Substring, _ request: HTTPRequest, _ exchange: HTTPExchange) -> HTTPOutcome {
        // Only the canonical form of a number becomes part of a path.
        guard let domain = UInt16(number), String(domain) == number else { return .answer(Answer.text(.notFound, "a guest is asked for by its number")) }
        switch what {
        case "thumbnail.png":
            let (gallery, known) = (gallery, request.value("if-none-match"))
            Task { exchange.answer(Answer.thumbnail(await gallery.thumbnail(of: domain), of: domain, known: known)) }
            return .later
        case "vnc": return screen(domain, request, exchange)
        default: return .answer(Answer.nothing)
        }
    }

    private func screen(_ domain: UInt16, _ request: HTTPRequest, _ exchange: HTTPExchange) -> HTTPOutcome {
        do {
            let upgrade = try WebSocketUpgrade(request)
            guard exchange.tunnelsLeft > 0 else { return .answer(Answer.text(.serviceUnavailable, "too many guests are open already; close one of them")) }
            let exporter = try TunnelTarget(
                connectingTo: RunDirectory.vncSocket(domain: domain, base: settings.base),
                remedy: "the guest's VNC exporter must run; 'demux status' shows it")
            return .tunnel(upgrade, exporter)
        } catch let refusal as HTTPRefusal {
            return .answer(HTTPResponse(refusal))
        } catch {
            return .answer(Answer.text(.notFound, "guest \(domain) has no screen to show: \(error)"))
        }
    }

    private func file(_ path: String) -> HTTPResponse {
        guard let folder = settings.noVNC else {
            return Answer.text(.notFound, "noVNC is not installed on this host: apt-get install novnc, then start 'demux web' again")
        }
        guard let (bytes, type) = StaticFiles(folder: folder).file(path) else { return Answer.text(.notFound, "noVNC has no such file") }
        return Answer.response(.ok, type, bytes, caching: "private, max-age=3600")
    }
}

/// What all answers have in common.
private enum Answer {
    private static let common = [
        (name: "X-Content-Type-Options", value: "nosniff"), (name: "Referrer-Policy", value: "no-referrer"), (name: "X-Frame-Options", value: "DENY"),
        (name: "Cross-Origin-Resource-Policy", value: "same-origin"),
    ]

    static func response(_ status: HTTPStatus, _ type: String, _ body: [UInt8], caching: String = "no-store") -> HTTPResponse {
        HTTPResponse(status, type: type, fields: common + [(name: "Cache-Control", value: caching)], body: body)
    }

    static func text(_ status: HTTPStatus, _ text: String) -> HTTPResponse {
        response(status, "text/plain; charset=utf-8", Array((text + "\n").utf8))
    }

    /// The answer to a browser that has the picture of the tag `known` already.
    static func thumbnail(_ thumbnail: Thumbnail, of domain: UInt16, known: String?) -> HTTPResponse {
        switch thumbnail {
        case .picture(let bytes, let tag):
            let entity = "\"\(domain)-\(tag)\""
            var response = response(known == entity ? .notModified : .ok, "image/png", bytes, caching: "private, no-cache")
            response.fields.append(("ETag", entity))
            return response
        case .none(let reason): return text(.notFound, reason)
        case .notYet(let reason): return text(.serviceUnavailable, reason)
        }
    }

    static let nothing = text(.notFound, "there is nothing at this address")
}

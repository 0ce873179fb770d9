import Glibc

/// Where a web page comes from (RFC 6454): its scheme, host and port, as a browser names them in `Origin`.
public struct WebSocketOrigin: Equatable, Sendable, CustomStringConvertible {
    /// "http" or "https".
    public let scheme: String
    /// In small letters; an IPv6 address in brackets.
    public let host: String
    public let port: UInt16

    /// Reads "https://console.example" or "http://[::1]:6080". Nil for anything else: "null", which says that nobody knows, paths, other schemes.
    public init?(_ text: String) {
        let lower = text.lowercased()
        let usual: UInt16
        if lower.hasPrefix("http://") {
            (scheme, usual) = ("http", 80)
        } else if lower.hasPrefix("https://") {
            (scheme, usual) = ("https", 443)
        } else {
            return nil
        }
        guard let place = WebHost(String(lower.dropFirst(scheme.utf8.count + 3))) else { return nil }
        host = place.name
        port = place.port ?? usual
    }

    public var description: String { "\(scheme)://\(host)" + (port == (scheme == "http" ? 80 : 443) ? "" : ":\(port)") }
}

/// A host and perhaps a port, as in the header `Host`.
struct WebHost: Equatable {
    /// In small letters; an IPv6 address in brackets.
    let name: String
    let port: UInt16?

    init?(_ text: String) {
        var name = text.lowercased()
        var port: UInt16?
        // After the last bracket, so that an IPv6 address keeps its colons.
        if let colon = name.lastIndex(of: ":"), !name[colon...].contains("]") {
            let digits = name[name.index(after: colon)...]
            guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt16(digits), number > 0 else { return nil }
            port = number
            name = String(name[..<colon])
        }
        let isBracketed = name.hasPrefix("[") && name.hasSuffix("]")
        guard isBracketed ? Self.isAddress(String(name.dropFirst().dropLast()), AF_INET6) : Self.isName(name) else { return nil }
        self.name = name
        self.port = port
    }

    private static func isName(_ text: String) -> Bool {
        (1...253).contains(text.utf8.count)
            && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x7a).contains($0) || [0x2d, 0x2e, 0x5f].contains($0) }
    }

    /// Whether nobody's name server has a say in where it leads: an address in numbers, or this machine.
    var isFixed: Bool {
        name == "localhost" || name.hasSuffix(".localhost") || name.hasPrefix("[") || Self.isAddress(name, AF_INET)
    }

    private static func isAddress(_ text: String, _ family: CInt) -> Bool {
        var storage = in6_addr()
        return inet_pton(family, text, &storage) == 1
    }
}

/// Whose pages may connect.
///
/// A browser lets any page connect to any server, and says only where the page comes from. So a page is let in when its origin was named, or
/// when it comes from the very host that it connects to, by whatever port, and no name server could have made that host up (DNS rebinding).
public struct WebSocketAdmission: Equatable, Sendable {
    public var origins: [WebSocketOrigin]

    public init(origins: [WebSocketOrigin] = []) { self.origins = origins }

    /// Why a request is refused; nil when it is not.
    /// - Parameters:
    ///   - origin: nil: no browser's.
    ///   - host: what the request calls this server.
    func refusal(origin: String?, host: String?) -> String? {
        guard let origin else { return nil }
        guard let page = WebSocketOrigin(origin) else { return "a page whose origin is not known asks for it" }
        if origins.contains(page) { return nil }
        if let host = host.flatMap(WebHost.init), host.isFixed, host.name == page.host { return nil }
        return "a page of \(page.description.prefix(100)) asks for it, which is not one of the 'origins'"
    }
}

import Glibc

/// An address of this host and a port: 127.0.0.1:6080, [::1]:6080.
struct ListenAddress: Equatable, Sendable {
    /// Without brackets.
    let host: String
    let port: UInt16
    let isIPv6: Bool

    static let standard = ListenAddress(host: "127.0.0.1", port: 6080, isIPv6: false)

    private init(host: String, port: UInt16, isIPv6: Bool) {
        self.host = host
        self.port = port
        self.isIPv6 = isIPv6
    }

    /// Nil for anything but an address, as numbers, and a port. "localhost" is taken as 127.0.0.1.
    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { return nil }
        var host = String(text[..<colon])
        if host == "localhost" { host = "127.0.0.1" }
        self.port = port
        if host.hasPrefix("["), host.hasSuffix("]") {
            self.host = String(host.dropFirst().dropLast())
            isIPv6 = true
            guard Self.isAddress(self.host, AF_INET6) else { return nil }
        } else {
            self.host = host
            isIPv6 = false
            guard Self.isAddress(host, AF_INET) else { return nil }
        }
    }

    /// As it stands in a URL.
    var text: String { text(port: port) }

    /// The same with the port that was got.
    func text(port: UInt16) -> String { isIPv6 ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Whether a text is an address in numbers.
    static func isAddress(_ text: String, _ family: CInt) -> Bool {
        var bytes = in6_addr()
        return inet_pton(family, text, &bytes) == 1
    }
}

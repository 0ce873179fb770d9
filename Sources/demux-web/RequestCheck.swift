import Glibc
import HTTPService

/// Who may ask: browsers that show a page of ours.
///
/// A page of somebody else can make a browser send requests to this host. Two checks keep it from using them. *Host*: a name
/// that its owner has made point here (DNS rebinding) is not one of ours; an address in numbers cannot be made to. *Origin*: a
/// page that was loaded from elsewhere says so in its WebSockets, which browsers otherwise allow to any server.
struct RequestCheck: Sendable {
    /// Names beside localhost.
    let hostNames: Set<String>

    /// Why a request is refused; nil when it is not.
    func refusal(_ request: HTTPRequest) -> String? {
        let hosts = request.values("host")
        guard hosts.count == 1, let host = hosts.first, let name = Self.name(of: host) else { return "the Host header is missing or broken" }
        guard isOurs(name) else {
            return "this server is not '\(name.prefix(100))'; ask for it as localhost or by its address, or start it with --host \(name.prefix(100))"
        }
        let origins = request.values("origin")
        if !origins.isEmpty {
            guard origins.count == 1, let origin = origins.first, Self.host(of: origin) == host.lowercased() else {
                return "the request comes from a page of another server"
            }
        } else if request.values("sec-fetch-site").contains("cross-site"), request.value("sec-fetch-mode") != "navigate" {
            return "the request comes from a page of another server"
        }
        return nil
    }

    private func isOurs(_ name: String) -> Bool {
        if name == "localhost" || name.hasSuffix(".localhost") || hostNames.contains(name) { return true }
        if name.hasPrefix("["), name.hasSuffix("]") { return ListenAddress.isAddress(String(name.dropFirst().dropLast()), AF_INET6) }
        return ListenAddress.isAddress(name, AF_INET)
    }

    /// What follows the scheme in an origin, in small letters.
    private static func host(of origin: String) -> String? {
        let parts = origin.lowercased().split(separator: "/", omittingEmptySubsequences: false)
        return parts.count == 3 && parts[0].hasSuffix(":") && parts[1].isEmpty ? String(parts[2]) : nil
    }

    /// A Host header without its port, in small letters.
    static func name(of host: String) -> String? {
        var name = host.lowercased()
        // After the last bracket, so that an IPv6 address keeps its colons.
        if let colon = name.lastIndex(of: ":"), !name[colon...].contains("]") {
            guard UInt16(name[name.index(after: colon)...]) != nil else { return nil }
            name = String(name[..<colon])
        }
        return name.isEmpty ? nil : name
    }
}

import FlyingFox
import Foundation
import Glibc

/// Who may ask: browsers that show a page of ours.
///
/// A page of somebody else can make a browser send requests to this host. Two checks keep it from using them. *Host*: a name
/// that its owner has made point here (DNS rebinding) is not one of ours; an address in numbers cannot be made to. *Origin*: a
/// page that was loaded from elsewhere says so in its WebSockets, which browsers otherwise allow to any server.
struct RequestCheck: Sendable {
    /// Names beside localhost.
    let hostNames: Set<String>

    /// Why a request is refused; nil when it is not.
    func refusal(_ headers: HTTPHeaders) -> String? {
        let hosts = headers.values(for: .host)
        guard hosts.count == 1, let host = hosts.first, let name = Self.name(of: host) else { return "the Host header is missing or broken" }
        guard isOurs(name) else {
            return "this server is not '\(name.prefix(100))'; ask for it as localhost or by its address, or start it with --host \(name.prefix(100))"
        }
        if let origin = headers[HTTPHeader("Origin")] {
            guard let separator = origin.range(of: "://"), origin[separator.upperBound...].lowercased() == host.lowercased() else {
                return "the request comes from a page of another server"
            }
        } else if let site = headers[HTTPHeader("Sec-Fetch-Site")], site == "cross-site", headers[HTTPHeader("Sec-Fetch-Mode")] != "navigate" {
            return "the request comes from a page of another server"
        }
        return nil
    }

    private func isOurs(_ name: String) -> Bool {
        if name == "localhost" || name.hasSuffix(".localhost") || hostNames.contains(name) { return true }
        if name.hasPrefix("["), name.hasSuffix("]") { return ListenAddress.isAddress(String(name.dropFirst().dropLast()), AF_INET6) }
        return ListenAddress.isAddress(name, AF_INET)
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

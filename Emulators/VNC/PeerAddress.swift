import Glibc
import Platform

/// Where a viewer comes from.
struct PeerAddress {
    var host: String
    var service: String
    /// As `vnc-status` and QEMU name it: "ipv4", "ipv6", "unix".
    var family: String

    /// The process at a UNIX socket's other end.
    private var process = ""

    /// What wrong passwords and connections are counted by: an IPv6 host has a whole /64 to itself; at a UNIX socket each process counts for itself.
    var source: String {
        guard family == "ipv6" else { return family == "unix" ? process : host }
        var address = in6_addr()
        guard inet_pton(AF_INET6, host.split(separator: "%").first.map(String.init) ?? host, &address) == 1 else { return host }
        return withUnsafeBytes(of: &address) { bytes in
            // An IPv4 address in IPv6's clothes is one host.
            let count = bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xff ? 16 : 8
            return bytes[..<count].map { String($0, radix: 16) }.joined(separator: ":")
        }
    }

    init(of socket: CInt) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        (host, service, family) = ("", "", "unix")
        let found = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(socket, $0, &length) }
        }
        guard found == 0, CInt(storage.ss_family) == AF_INET || CInt(storage.ss_family) == AF_INET6 else {
            if let peer = try? UnixSocket.peer(of: socket) { process = "pid \(peer.pid) of uid \(peer.uid)" }
            return
        }
        family = CInt(storage.ss_family) == AF_INET ? "ipv4" : "ipv6"
        var hostText = [CChar](repeating: 0, count: 256)
        var serviceText = [CChar](repeating: 0, count: 32)
        let code = withUnsafePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getnameinfo($0, length, &hostText, 256, &serviceText, 32, CInt(NI_NUMERICHOST | NI_NUMERICSERV))
            }
        }
        guard code == 0 else { return }
        host = Self.text(hostText)
        service = Self.text(serviceText)
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

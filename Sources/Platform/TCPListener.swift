import CLinux
import Glibc

/// Listening TCP sockets.
public enum TCPListener {
    /// A socket that listens, non-blocking; held by reference so that several can be kept in a list.
    public final class Bound: Sendable {
        public let descriptor: OwnedDescriptor
        /// The numeric address that was bound: "127.0.0.1", "::".
        public let host: String
        public let port: UInt16
        /// Also for one that another process bound.
        public init(_ descriptor: consuming OwnedDescriptor, host: String, port: UInt16) {
            self.descriptor = descriptor
            self.host = host
            self.port = port
        }
    }

    private struct Address {
        var storage = sockaddr_storage()
        var length: socklen_t = 0
        var family: CInt = AF_INET
        var host = ""

        mutating func setPort(_ port: UInt16) {
            withUnsafeMutablePointer(to: &storage) { pointer in
                if family == AF_INET6 {
                    pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { $0.pointee.sin6_port = port.bigEndian }
                } else {
                    pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_port = port.bigEndian }
                }
            }
        }

        var port: UInt16 {
            withUnsafePointer(to: storage) { pointer in
                family == AF_INET6
                    ? pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin6_port) }
                    : pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
            }
        }
    }

    /// Listens at every address of a host, v4 and v6, with the same port: the first of `ports` that is free at all of them.
    /// - Parameters:
    ///   - host: an address or a name; "" or "*" is every address of this machine. A name is looked up, which may take its time.
    ///   - ports: where to look, in order; port 0 lets the kernel choose.
    /// - Throws: SystemError when the host is not known, or no port is free.
    public static func listen(host: String, ports: ClosedRange<UInt16>) throws(SystemError) -> [Bound] {
        let shown = host.isEmpty ? "every address" : host
        let addresses = try resolve(host == "*" ? "" : host, shown: shown)
        var last = EADDRINUSE
        for port in ports {
            let outcome = try listen(addresses, port: port, shown: shown)
            switch outcome {
            case .bound(let sockets): return sockets
            case .taken(let code): last = code
            }
        }
        let place = ports.count == 1 ? "port \(ports.lowerBound)" : "one of the ports \(ports.lowerBound) to \(ports.upperBound)"
        throw SystemError("listen at", "\(shown), \(place)", code: last, remedy: "name ports that are free (see 'ss -tlnp')")
    }

    private enum Outcome {
        case bound([Bound])
        case taken(CInt)
    }

    private static func listen(_ addresses: [Address], port: UInt16, shown: String) throws(SystemError) -> Outcome {
        var sockets: [Bound] = []
        var missing: CInt = EADDRNOTAVAIL
        var chosen = port
        for var address in addresses {
            address.setPort(chosen)
            let raw = socket(address.family, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
            guard raw >= 0 else {
                // A kernel without IPv6.
                missing = errno
                continue
            }
            let descriptor = OwnedDescriptor(adopting: raw)
            var one: CInt = 1
            let size = socklen_t(MemoryLayout<CInt>.size)
            setsockopt(raw, SOL_SOCKET, SO_REUSEADDR, &one, size)
            // v4 has a socket of its own.
            if address.family == AF_INET6 { setsockopt(raw, CInt(IPPROTO_IPV6), IPV6_V6ONLY, &one, size) }
            let bound = withUnsafePointer(to: address.storage) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.bind(raw, $0, address.length) }
            }
            if bound != 0 || Glibc.listen(raw, 64) != 0 {
                let code = errno
                switch code {
                case EADDRINUSE: return .taken(code)
                case EADDRNOTAVAIL, EAFNOSUPPORT:
                    missing = code
                    continue
                default:
                    throw SystemError(
                        "listen at", "\(shown), port \(chosen)", code: code, remedy: code == EACCES ? "ports below 1024 are root's" : "")
                }
            }
            if chosen == 0 { chosen = ownPort(raw, family: address.family) }
            sockets.append(Bound(descriptor, host: address.host, port: chosen))
        }
        guard !sockets.isEmpty else { throw SystemError("listen at", shown, code: missing, remedy: "name an address of this machine") }
        return .bound(sockets)
    }

    private static func ownPort(_ raw: CInt, family: CInt) -> UInt16 {
        var address = Address()
        address.family = family
        address.length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &address.storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(raw, $0, &address.length) }
        }
        return result == 0 ? address.port : 0
    }

    private static func resolve(_ host: String, shown: String) throws(SystemError) -> [Address] {
        var hints = addrinfo()
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var list: UnsafeMutablePointer<addrinfo>?
        let code = host.isEmpty ? getaddrinfo(nil, "0", &hints, &list) : getaddrinfo(host, "0", &hints, &list)
        guard code == 0 else {
            throw SystemError("look up", "the address '\(shown)'", reason: String(cString: gai_strerror(code)), remedy: "give a numeric address")
        }
        defer { freeaddrinfo(list) }
        var found: [Address] = []
        var entry = list
        while let current = entry {
            entry = current.pointee.ai_next
            guard let source = current.pointee.ai_addr, [AF_INET, AF_INET6].contains(current.pointee.ai_family),
                Int(current.pointee.ai_addrlen) <= MemoryLayout<sockaddr_storage>.size
            else { continue }
            var address = Address()
            address.family = current.pointee.ai_family
            address.length = current.pointee.ai_addrlen
            withUnsafeMutableBytes(of: &address.storage) { $0.copyMemory(from: UnsafeRawBufferPointer(start: source, count: Int(current.pointee.ai_addrlen))) }
            var text = [CChar](repeating: 0, count: 256)
            if getnameinfo(source, current.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0 {
                address.host = text.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
            }
            if !found.contains(where: { $0.host == address.host }) { found.append(address) }
        }
        return found
    }
}

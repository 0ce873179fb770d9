/// What `-vnc` asks of an exporter (QEMU's ui/vnc.c; libxl gives an address, `to=99` and `password=on`).
public struct VNCPlan: Equatable, Sendable {
    /// Where to listen.
    public enum Place: Equatable, Sendable, CustomStringConvertible {
        /// The first of these ports that is free. `host` without brackets; empty: every address of this machine.
        case tcp(host: String, ports: ClosedRange<UInt16>)
        /// A UNIX socket.
        case unix(path: String)

        /// As the specification's `listen` has it: "127.0.0.1:0-99", "[::1]:7", "unix:/path"; a port below 5900 as the port itself, "127.0.0.1::443".
        public var description: String {
            switch self {
            case .unix(let path): return "unix:\(path)"
            case .tcp(let host, let ports):
                let bracketed = host.contains(":") ? "[\(host)]" : host
                let offset: UInt16 = ports.lowerBound >= VNCPlan.firstPort ? VNCPlan.firstPort : 0
                let first = ports.lowerBound - offset
                let last = ports.upperBound - offset
                return bracketed + (offset > 0 ? ":" : "::") + (first == last ? "\(first)" : "\(first)-\(last)")
            }
        }
    }

    /// What becomes of other viewers when one asks for the screen alone.
    public enum Sharing: String, Equatable, Sendable {
        case allowExclusive = "allow-exclusive", forceShared = "force-shared", ignore
    }

    /// Every one of these; at least one.
    public let places: [Place]
    /// Nobody is let in until a password is set (`change-vnc-password`).
    public let needsPassword: Bool
    /// The keyboard's layout (`-k`); nil: QEMU's default.
    public let keymap: String?
    public let sharing: Sharing?
    /// Whether browsers' WebSocket connections were asked for; on the same port, or at a place of their own among `places`.
    public let webSocket: Bool

    /// Display 0 is this port.
    static let firstPort: UInt16 = 5900

    /// Reads all `-vnc` of a command line; nil when there is none that listens.
    /// - Throws: ArgumentError for what the exporter does not do, so that nobody believes to be protected by it.
    init?(_ line: QEMUCommandLine) throws(ArgumentError) {
        var places: [Place] = []
        var passwords: [Bool] = []
        var sharing: Sharing?
        var webSocket = false
        for option in line.all("vnc") {
            let list = option.list
            guard let address = list.value(of: "vnc", first: true), address != "none" else { continue }
            let text = option.tokens.joined(separator: " ")
            let place = try Self.place(address, list, text)
            places.append(place)
            passwords.append(Self.isOn("password", list))
            if let value = list["share"] {
                guard let known = Sharing(rawValue: value) else {
                    throw ArgumentError(text, reason: "share=\(value) is not known", remedy: "use allow-exclusive, force-shared or ignore")
                }
                sharing = known
            }
            if let own = try Self.webSocketPlace(list, beside: place, text) { places.append(own) }
            webSocket = webSocket || Self.isOn("websocket", list) || list["websocket"].map { $0 != "off" } ?? false
            for key in ["reverse", "sasl", "tls", "x509", "x509verify", "acl", "tls-creds", "tls-authz", "sasl-authz", "password-secret"]
            where Self.isOn(key, list) || list[key].map({ $0 != "off" }) ?? false {
                throw ArgumentError(
                    text, reason: "Demux's exporter does not know '\(key)'",
                    remedy: "say it under 'vnc:' in the guest's specification (tls, password), or let QEMU keep the screen with 'display: no'")
            }
        }
        guard !places.isEmpty else { return nil }
        guard Set(passwords).count == 1 else {
            throw ArgumentError("-vnc", reason: "one asks for a password and another does not", remedy: "give password=on to all of them, or to none")
        }
        self.places = places
        needsPassword = passwords[0]
        self.sharing = sharing
        self.webSocket = webSocket
        keymap = line.value("k").flatMap { $0.isEmpty ? nil : $0 }
    }

    /// `host:display[,to=display]` or `unix:path`.
    private static func place(_ address: String, _ list: OptionList, _ text: String) throws(ArgumentError) -> Place {
        if address.hasPrefix("unix:") {
            let path = String(address.dropFirst(5))
            // struct sockaddr_un has 108 bytes, the NUL among them.
            guard path.hasPrefix("/"), path.utf8.count < 108 else {
                throw ArgumentError(text, reason: "the socket's path is not absolute, or longer than 107 bytes", remedy: "give an absolute, shorter one")
            }
            return .unix(path: path)
        }
        guard let colon = address.lastIndex(of: ":"), let display = UInt16(address[address.index(after: colon)...]),
            display <= UInt16.max - firstPort
        else {
            throw ArgumentError(
                text, reason: "it is neither HOST:DISPLAY nor unix:PATH",
                remedy: "change vnclisten and vncdisplay; an IPv6 address stands in brackets, as in vnclisten=\"[::1]:0\"")
        }
        var host = String(address[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            throw ArgumentError(
                text, reason: "an IPv6 address without brackets cannot be told from its display",
                remedy: "write it in brackets and with its display, as in vnclisten=\"[::1]:0\"")
        }
        if host.isEmpty { host = everyAddress(list) }
        // `to` is a display too, not how many more there are; one below the first allows no other.
        let last = list["to"].flatMap { UInt16($0) } ?? display
        return .tcp(host: host, ports: (firstPort + display)...(firstPort + min(max(last, display), UInt16.max - firstPort)))
    }

    /// `websocket=PORT` and `websocket=HOST:PORT`: a port of its own; `websocket` alone needs none here.
    private static func webSocketPlace(_ list: OptionList, beside place: Place, _ text: String) throws(ArgumentError) -> Place? {
        guard let value = list["websocket"], value != "on", value != "off" else { return nil }
        var host = ""
        if case .tcp(let other, _) = place { host = other }
        var port = value[...]
        if let colon = value.lastIndex(of: ":") {
            host = String(value[..<colon])
            if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
            port = value[value.index(after: colon)...]
        }
        guard let number = UInt16(port), number > 0 else {
            throw ArgumentError(text, reason: "websocket=\(value) is not a port", remedy: "use websocket=on: browsers get in at the same port")
        }
        return .tcp(host: host, ports: number...number)
    }

    /// What an empty host means: both families, or the one that was not switched off.
    private static func everyAddress(_ list: OptionList) -> String {
        if list["ipv6"] == "off" || (list["ipv4"] == "on" && list["ipv6"] != "on") { return "0.0.0.0" }
        if list["ipv4"] == "off" || (list["ipv6"] == "on" && list["ipv4"] != "on") { return "::" }
        return ""
    }

    /// `key=on`, or the older form: the bare word.
    private static func isOn(_ key: String, _ list: OptionList) -> Bool {
        list[key] == "on" || list.parts.dropFirst().contains { $0.key == nil && $0.value == key }
    }
}

/// What shows a guest's display to VNC viewers: the exporter's program, where it listens, whom it lets in.
public struct VNCSpecification: Codable, Equatable, Sendable {
    /// What the exporter is called among the guest's emulators.
    public static let name = "vnc"
    /// The most origins that can be named.
    public static let mostOrigins = 16
    /// The most sockets it can be told to listen at.
    public static let mostAddresses = 8
    /// The longest password in bytes: VNC's own authentication looks at no more.
    public static let longestPassword = 8

    /// An absolute path.
    public var program: String
    public var arguments: [String]
    /// Where viewers come in. The coordinator's own UNIX socket in the guest's run directory is always there besides.
    public var listen: [VNCAddress]
    /// Whether nobody is let in without a password. Without `password`, nobody is until one is set at run time.
    public var passwordRequired: Bool
    public var password: String?
    public var tls: VNCSecurity?
    /// Whether browsers can connect on the same ports. `demux web` does not need it.
    public var websocket: Bool
    /// Whose pages may connect then ("https://console.example"), besides those of the same host when that is an address or this machine; nil: no
    /// others.
    public var origins: [String]?
    public var share: VNCSharing
    /// The layout for viewers that send no key numbers ("de", "en-us"); nil: the exporter's default.
    public var keymap: String?
    public var clipboard: Bool
    public var viewOnly: Bool
    /// Viewers at a time, 1 to 64.
    public var clients: Int
    /// The title that viewers show; nil: the guest's name.
    public var desktopName: String?
    public var readyWithinMilliseconds: Int
    /// Whom it becomes; nil: nobody, when the coordinator is root.
    public var uid: UInt32?
    public var gid: UInt32?
    /// nil: on failure.
    public var restart: RestartPolicy?
    /// nil: `restart` where it is started again.
    public var whenHung: HungPolicy?
    /// How long it may owe an answer before it counts as hung.
    public var hungAfterMilliseconds: Int

    public init(
        program: String, arguments: [String] = [], listen: [VNCAddress] = [], passwordRequired: Bool = false, password: String? = nil,
        tls: VNCSecurity? = nil, websocket: Bool = false, origins: [String]? = nil, share: VNCSharing = .allowExclusive, keymap: String? = nil, clipboard: Bool = false,
        viewOnly: Bool = false, clients: Int = 16, desktopName: String? = nil, readyWithinMilliseconds: Int = 5000, uid: UInt32? = nil,
        gid: UInt32? = nil, restart: RestartPolicy? = nil, whenHung: HungPolicy? = nil,
        hungAfterMilliseconds: Int = EmulatorSpecification.defaultHungAfterMilliseconds
    ) {
        self.whenHung = whenHung
        self.hungAfterMilliseconds = hungAfterMilliseconds
        self.program = program
        self.arguments = arguments
        self.listen = listen
        self.passwordRequired = passwordRequired
        self.password = password
        self.tls = tls
        self.websocket = websocket
        self.origins = origins
        self.share = share
        self.keymap = keymap
        self.clipboard = clipboard
        self.viewOnly = viewOnly
        self.clients = clients
        self.desktopName = desktopName
        self.readyWithinMilliseconds = readyWithinMilliseconds
        self.uid = uid
        self.gid = gid
        self.restart = restart
    }

    /// How a viewer proves itself, in QEMU's words: "none", "vnc", "vencrypt+x509+vnc", …
    public var authentication: String {
        let inner = passwordRequired ? "vnc" : "none"
        switch tls {
        case nil: return inner
        case .anonymous: return "vencrypt+tls+\(inner)"
        case .certificate: return "vencrypt+x509+\(inner)"
        }
    }
}

/// A place to listen at.
public enum VNCAddress: Codable, Equatable, Sendable, CustomStringConvertible {
    /// The first free one of these TCP ports. The host is an address or a name; "" stands for every address of the machine. Port 0 lets the
    /// kernel choose.
    case tcp(host: String, first: UInt16, last: UInt16)
    /// An absolute path.
    case unix(path: String)

    /// The port of display 0.
    public static let basePort: UInt16 = 5900

    /// "127.0.0.1:5900", "[::1]:5900-5999", "unix:/path": with ports, as sockets are written.
    public var description: String {
        switch self {
        case .tcp(let host, let first, let last): (host.contains(":") ? "[\(host)]" : host) + ":\(first)" + (last > first ? "-\(last)" : "")
        case .unix(let path): "unix:\(path)"
        }
    }

    /// Reads "127.0.0.1:0", "localhost:0-99", "[::1]:5", ":1" or "unix:/path"; the numbers are displays, as in QEMU's and in xl's `vnc`
    /// settings: port 5900 and up. Nil for anything else.
    public static func parse(_ text: String) -> VNCAddress? {
        if text.hasPrefix("unix:") {
            let path = String(text.dropFirst(5))
            return path.hasPrefix("/") && path.utf8.count <= 107 && !path.utf8.contains(0) ? .unix(path: path) : nil
        }
        guard let colon = text.lastIndex(of: ":") else { return nil }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
            guard host.contains(":") else { return nil }
        } else if host.contains(":") {
            return nil
        }
        let ends = text[text.index(after: colon)...].split(separator: "-", omittingEmptySubsequences: false)
        guard (1...2).contains(ends.count), let first = display(ends[0]), let last = display(ends[ends.count - 1]), first <= last,
            isHost(host)
        else { return nil }
        return .tcp(host: host, first: basePort + first, last: basePort + last)
    }

    /// A display's number: its port must be one.
    private static func display(_ text: some StringProtocol) -> UInt16? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt16(text), number <= 65_535 - basePort else {
            return nil
        }
        return number
    }

    private static func isHost(_ text: String) -> Bool {
        text.utf8.count <= 255
            && text.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x61...0x7a).contains(byte | 0x20) || [0x2d, 0x2e, 0x3a, 0x25, 0x5f].contains(byte)
            }
    }
}

/// How the connection is encrypted.
public enum VNCSecurity: Codable, Equatable, Sendable {
    /// Encrypted, and nobody proves who the server is.
    case anonymous
    /// With a certificate. Absolute paths of PEM files; with `authority` viewers must show a certificate that it has signed.
    case certificate(certificate: String, key: String, authority: String?)
}

/// What happens when a viewer asks to be alone.
public enum VNCSharing: String, Codable, Sendable, CaseIterable {
    /// Everybody shares, whatever they ask.
    case ignore
    /// Who asks to be alone sends the others away: what QEMU does, too.
    case allowExclusive = "allow-exclusive"
    /// Who asks to be alone is refused.
    case forceShared = "force-shared"
}

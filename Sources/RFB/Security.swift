/// How a viewer can prove that it may come in, and whether what follows is encrypted.
public enum SecuritySubtype: UInt32, Sendable, CaseIterable {
    // VeNCrypt's numbers.
    case tlsNone = 257, tlsVNC = 258, x509None = 260, x509VNC = 261

    public var asksForPassword: Bool { self == .tlsVNC || self == .x509VNC }
    /// Whether the server shows a certificate.
    public var hasCertificate: Bool { self == .x509None || self == .x509VNC }

    /// As QEMU names it.
    public var name: String {
        switch self {
        case .tlsNone: "tls+none"
        case .tlsVNC: "tls+vnc"
        case .x509None: "x509+none"
        case .x509VNC: "x509+vnc"
        }
    }
}

/// What a viewer is offered.
public struct SecurityOffer: Equatable, Sendable {
    /// Whether VNC authentication is asked for.
    public var password: Bool
    /// Encryption with a certificate is offered.
    public var x509: Bool
    /// Encryption without any certificate is offered: it keeps listeners out, and nobody in the middle.
    public var anonymous: Bool

    public init(password: Bool, x509: Bool = false, anonymous: Bool = false) {
        self.password = password
        self.x509 = x509
        self.anonymous = anonymous
    }

    /// VeNCrypt's kinds, the preferred one first; empty: no encryption is offered, and none demanded.
    var subtypes: [SecuritySubtype] {
        (x509 ? [password ? .x509VNC : .x509None] : []) + (anonymous ? [password ? .tlsVNC : .tlsNone] : [])
    }

    /// Whether nobody gets in unencrypted.
    public var needsEncryption: Bool { !subtypes.isEmpty }

    /// Where encryption is set up, nothing else is offered.
    var type: UInt8 { needsEncryption ? 19 : password ? 2 : 1 }

    /// What a viewer gets whose connection is encrypted already (wss).
    public var insideTLS: SecurityOffer { SecurityOffer(password: password) }
}

/// How a viewer came in.
public enum SecurityChoice: Equatable, Sendable, CustomStringConvertible {
    case none, vnc
    case vencrypt(SecuritySubtype)

    public var description: String {
        switch self {
        case .none: "none"
        case .vnc: "vnc"
        case .vencrypt(let subtype): "vencrypt+\(subtype.name)"
        }
    }
}

import EmulatorProtocol
import Platform
import RFB

/// The exporter's part of the specification, from `attach.options`.
struct Settings {
    enum Sharing: String {
        /// Everybody shares, whatever a viewer asks for.
        case ignore
        /// A viewer that asks to be alone sends the others away.
        case allowExclusive = "allow-exclusive"
        /// A viewer that asks to be alone is refused.
        case forceShared = "force-shared"
    }

    enum Encryption: String { case no, x509, anonymous }

    var passwordRequired = false
    var password: String?
    var keymap = "en-us"
    var sharing = Sharing.allowExclusive
    var viewOnly = false
    /// Viewers at once.
    var clients = 16
    var webSocket = false
    /// Whose pages may connect by a WebSocket.
    var admission = WebSocketAdmission()
    var encryption = Encryption.no
    var certificate: String?
    var key: String?
    /// Where set, viewers must show a certificate that one of these has signed.
    var authorities: String?
    var name = "Demux"
    /// Seconds that a viewer has for its handshake.
    var handshakeSeconds = 10
    /// Worth telling a person, though nothing is wrong.
    var remarks: [String] = []

    /// - Parameter options: all as text. Unknown ones are refused: most likely a slip of the pen.
    init(_ options: [String: String]) throws(SystemError) {
        var requiresPassword: Bool?
        for (option, text) in options.sorted(by: { $0.key < $1.key }) {
            switch option {
            case "password-required": requiresPassword = try Self.flag(option, text)
            case "password": password = text
            case "keymap": keymap = try Self.keymapName(text)
            case "share": sharing = try Self.choice(option, text, Sharing.init, "ignore, allow-exclusive or force-shared")
            case "view-only": viewOnly = try Self.flag(option, text)
            case "clients": clients = try Self.number(option, text, 1...64)
            case "websocket": webSocket = try Self.flag(option, text)
            case "origins": admission.origins = try Self.origins(text)
            case "tls": encryption = try Self.choice(option, text, Encryption.init, "no, x509 or anonymous")
            case "tls-certificate": certificate = text
            case "tls-key": key = text
            case "tls-ca": authorities = text
            case "name": name = String(text.prefix(100))
            case "handshake-seconds": handshakeSeconds = try Self.number(option, text, 1...600)
            case "clipboard":
                if try Self.flag(option, text) { remarks.append("the clipboard stays off: there is nobody in the guest to take it yet") }
            default:
                throw SystemError("use the option", "'\(option.prefix(60))'", reason: "the VNC exporter has none of that name")
            }
        }
        passwordRequired = requiresPassword ?? (password != nil)
        if certificate != nil && encryption == .no { encryption = .x509 }
        guard encryption != .x509 || (certificate != nil && key != nil) else {
            throw SystemError(
                "encrypt", "VNC connections", reason: "the certificate or its key is missing",
                remedy: "give `tls: {certificate: …, key: …}`, or `tls: anonymous`")
        }
    }

    var offer: SecurityOffer {
        SecurityOffer(password: passwordRequired, x509: certificate != nil && encryption != .no, anonymous: encryption == .anonymous)
    }

    /// Reads the keymap's file, or takes the one that is built in.
    mutating func loadKeymap() -> Keymap {
        func text(_ name: String) -> String? {
            for folder in ["/usr/share/qemu/keymaps", "/usr/local/share/qemu/keymaps", "/usr/share/qemu-xen/keymaps"] {
                if let file = try? Files.open("\(folder)/\(name)"), let bytes = try? Files.readAll(file.raw, limit: 1 << 20, what: name) {
                    return String(decoding: bytes, as: UTF8.self)
                }
            }
            return nil
        }
        if keymap == "en-us" { return .builtIn }
        guard let found = text(keymap) else {
            remarks.append("the keymap '\(keymap)' is not to be found where QEMU keeps its keymaps (package qemu-system-data): en-us is used")
            return .builtIn
        }
        return Keymap(text: found) { name in try? text(Self.keymapName(String(name))) }
    }

    /// A name and no path.
    private static func keymapName(_ text: String) throws(SystemError) -> String {
        guard !text.isEmpty, text.utf8.count <= 32, text.utf8.allSatisfy({ (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2d }) else {
            throw SystemError("use the keymap", "'\(text.prefix(40))'", reason: "it is not the name of one", remedy: "write one of QEMU's: de, en-us, fr …")
        }
        return text
    }

    /// Separated by spaces.
    private static func origins(_ text: String) throws(SystemError) -> [WebSocketOrigin] {
        var result: [WebSocketOrigin] = []
        for word in text.split(separator: " ") {
            guard let origin = WebSocketOrigin(String(word)) else {
                throw SystemError(
                    "use the origin", "'\(word.prefix(60))'", reason: "it is not where a page comes from", remedy: "write it as https://console.example:8443")
            }
            result.append(origin)
        }
        return result
    }

    private static func flag(_ name: String, _ text: String) throws(SystemError) -> Bool {
        switch text {
        case "yes", "true", "on": return true
        case "no", "false", "off": return false
        default: throw SystemError("read the option", "'\(name)'", reason: "'\(text.prefix(60))' is neither yes nor no", remedy: "write yes or no")
        }
    }

    private static func number(_ name: String, _ text: String, _ range: ClosedRange<Int>) throws(SystemError) -> Int {
        guard let value = Int(text), range.contains(value) else {
            throw SystemError("read the option", "'\(name)'", reason: "'\(text.prefix(60))' is not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    private static func choice<Value>(_ name: String, _ text: String, _ make: (String) -> Value?, _ words: String) throws(SystemError) -> Value {
        guard let value = make(text) else { throw SystemError("read the option", "'\(name)'", reason: "'\(text.prefix(60))' is not \(words)") }
        return value
    }
}

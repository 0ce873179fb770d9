import Glibc
import RFB
import Specification
import Yams

/// `display:` and `vnc:`: the guest's screen and what shows it.
extension EmulatorReader {
    /// What the display is called among the guest's emulators.
    private static let displayName = "display"
    private static let displayProgram = "demux-display"
    private static let exporterProgram = "demux-vnc"
    private static let displayKeys = [
        "program", "arguments", "memory", "mode", "options", "pci-slot", "interpose", "ready-within", "user", "group", "restart",
        "when-hung", "hung-after",
    ] + restartKeys
    private static let exporterKeys = [
        "program", "arguments", "listen", "password", "password-file", "password-required", "tls", "websocket", "origins", "share", "keymap", "clipboard",
        "view-only", "clients", "name", "ready-within", "user", "group", "restart", "when-hung", "hung-after",
    ]

    // MARK: - The display

    /// - Returns: nil for `no`, and when something essential is wrong; `issues` says what.
    func readDisplay(_ node: Node) -> EmulatorSpecification? {
        guard let fields = section(node, "display", keys: Self.displayKeys) else { return nil }
        let isNew = note(Self.displayName, at: node.mark)
        guard let program = readProgram(fields, default: Self.displayProgram), isNew else { return nil }
        var result = EmulatorSpecification(name: Self.displayName, program: program)
        result.arguments = readArguments(fields)
        result.options = readOptions(fields)
        let memory = fields.value(
            "memory", allowed: "a power of two from 1M to 64M, written as 16M or 16MiB",
            { Quantities.mebibytes($0).flatMap { (1...64).contains($0) && $0 & ($0 - 1) == 0 ? $0 : nil } })
        if let memory { result.options["memory"] = "\(memory << 20)" }
        if let mode = fields.value("mode", allowed: "a size from 64x64 to 8192x8192, as in 1024x768", Quantities.mode) {
            result.options["mode"] = "\(mode.width)x\(mode.height)"
        }
        result.pciSlot = readSlot(fields, name: Self.displayName)
        result.interpose = readInterpositions(fields)
        if let time = readTime(fields) { result.readyWithinMilliseconds = time }
        (result.uid, result.gid) = readAccount(fields)
        readRestart(fields, into: &result)
        readHung(fields, into: &result)
        return result
    }

    /// The fields of a section that can also be `yes` (all by default) or `no`; nil for the latter and for what is neither.
    private func section(_ node: Node, _ key: String, keys: [String]) -> Fields? {
        if case .scalar(let scalar) = node, !Fields.isNothing(node), let wanted = Quantities.flag(scalar.string) {
            return wanted ? Fields(.mapping(.init([], .implicit, .any, node.mark)), what: "'\(key)'", keys: keys, issues: issues) : nil
        }
        return Fields(node, what: "'\(key)'", keys: keys, issues: issues)
    }

    // MARK: - The exporter

    /// - Returns: nil for `no`, and when something essential is wrong; `issues` says what.
    func readVNC(_ node: Node) -> VNCSpecification? {
        guard let fields = section(node, "vnc", keys: Self.exporterKeys) else { return nil }
        let isNew = note(VNCSpecification.name, at: node.mark)
        guard let program = readProgram(fields, default: Self.exporterProgram), isNew else { return nil }
        var result = VNCSpecification(program: program)
        result.arguments = readArguments(fields)
        result.listen = readAddresses(fields)
        readPassword(fields, into: &result)
        result.tls = readSecurity(fields)
        if let websocket = flag(fields, "websocket") { result.websocket = websocket }
        result.origins = readOrigins(fields, websocket: result.websocket)
        if let share = fields.value(
            "share", allowed: "one of \(Wording.list(VNCSharing.allCases.map(\.rawValue)))", { VNCSharing(rawValue: $0) })
        {
            result.share = share
        }
        result.keymap = fields.value("keymap", allowed: "a layout's name, as in de or en-us") { text in
            (1...32).contains(text.utf8.count) && text.utf8.allSatisfy({ (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2d }) ? text : nil
        }
        if let clipboard = flag(fields, "clipboard") { result.clipboard = clipboard }
        if let viewOnly = flag(fields, "view-only") { result.viewOnly = viewOnly }
        if let clients = fields.value("clients", allowed: "a number from 1 to 64", { Quantities.decimal($0).flatMap { (1...64).contains($0) ? $0 : nil } }) {
            result.clients = clients
        }
        result.desktopName = fields.value("name", allowed: "a title of 1 to 128 bytes") { (1...128).contains($0.utf8.count) ? $0 : nil }
        if let time = readTime(fields) { result.readyWithinMilliseconds = time }
        (result.uid, result.gid) = readAccount(fields)
        result.restart = readRestart(fields)
        let hung = readHung(fields)
        result.whenHung = hung.policy
        if let milliseconds = hung.milliseconds { result.hungAfterMilliseconds = milliseconds }
        return result
    }

    private func flag(_ fields: Fields, _ key: String) -> Bool? { fields.value(key, allowed: "'yes' or 'no'", Quantities.flag) }

    private func readAddresses(_ fields: Fields) -> [VNCAddress] {
        let allowed = "a list such as [\"127.0.0.1:0-99\", \"[::1]:5\", \"unix:/run/vnc.sock\"]: a host and a display number or two (display 0 is port \(VNCAddress.basePort)), or a path"
        // Without the key: this machine alone, at the first display that is free, as xl does.
        guard let node = fields.node("listen") else { return [.tcp(host: "127.0.0.1", first: VNCAddress.basePort, last: VNCAddress.basePort + 99)] }
        let texts: [(text: String, mark: Mark?)]
        if case .scalar = node, !Fields.isNothing(node) {
            texts = fields.text("listen", allowed: allowed).map { [($0, node.mark)] } ?? []
        } else {
            texts = fields.texts("listen", allowed: allowed)
        }
        guard texts.count <= VNCSpecification.mostAddresses else {
            issues.add(at: node.mark, "there are \(texts.count) places to listen at", allowed: "at most \(VNCSpecification.mostAddresses)")
            return []
        }
        var found: [VNCAddress] = []
        for entry in texts {
            guard let address = VNCAddress.parse(entry.text) else {
                issues.add(at: entry.mark, "'listen' cannot have \(Wording.quoted(entry.text))", allowed: allowed)
                continue
            }
            guard !found.contains(address) else {
                issues.add(at: entry.mark, "'listen' has \(Wording.quoted(entry.text)) twice", allowed: "each may be given once")
                continue
            }
            found.append(address)
        }
        return found
    }

    private func readOrigins(_ fields: Fields, websocket: Bool) -> [String]? {
        guard fields.has("origins") else { return nil }
        let allowed = "a list such as [\"https://console.example\", \"http://[::1]:6080\"]: where the pages that may connect come from"
        let mark = fields.mark(of: "origins")
        guard websocket else {
            issues.add(at: mark, "'origins' without WebSockets", allowed: "'websocket: yes' beside it")
            return nil
        }
        let texts = fields.texts("origins", allowed: allowed)
        guard texts.count <= VNCSpecification.mostOrigins else {
            issues.add(at: mark, "there are \(texts.count) origins", allowed: "at most \(VNCSpecification.mostOrigins)")
            return nil
        }
        return texts.compactMap { entry in
            guard let origin = WebSocketOrigin(entry.text) else {
                issues.add(at: entry.mark, "'origins' cannot have \(Wording.quoted(entry.text))", allowed: allowed)
                return nil
            }
            return origin.description
        }
    }

    private func readPassword(_ fields: Fields, into result: inout VNCSpecification) {
        let allowed = "1 to \(VNCSpecification.longestPassword) bytes without control characters: VNC's authentication looks at no more"
        if let text = fields.value("password", allowed: allowed, { Self.isPassword($0) ? $0 : nil }) { result.password = text }
        if let path = readPath(fields, "password-file") {
            if fields.has("password") {
                issues.add(at: fields.mark(of: "password-file"), "'password' and 'password-file' are both given", allowed: "one of them")
            } else if let line = firstLine(of: path, at: fields.mark(of: "password-file")) {
                if Self.isPassword(line) {
                    result.password = line
                } else {
                    issues.add(at: fields.mark(of: "password-file"), "the first line of \(Wording.quoted(path)) is no password", allowed: "it is \(allowed)")
                }
            }
        }
        let isGiven = fields.has("password") || fields.has("password-file")
        result.passwordRequired = isGiven
        guard let required = flag(fields, "password-required") else { return }
        if !required && isGiven {
            issues.add(at: fields.mark(of: "password-required"), "a password is given and not required", allowed: "leave one of the two out")
        }
        result.passwordRequired = required
    }

    private static func isPassword(_ text: String) -> Bool {
        (1...VNCSpecification.longestPassword).contains(text.utf8.count) && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f }
    }

    private func readSecurity(_ fields: Fields) -> VNCSecurity? {
        guard let node = fields.node("tls") else { return nil }
        let allowed = "'no', 'anonymous', or a mapping of 'certificate', 'key' and perhaps 'ca' to PEM files"
        if case .scalar(let scalar) = node, !Fields.isNothing(node) {
            if scalar.string == "anonymous" { return .anonymous }
            if Quantities.flag(scalar.string) == false { return nil }
            issues.add(at: node.mark, "'tls' cannot be \(Wording.quoted(scalar.string))", allowed: allowed)
            return nil
        }
        guard let files = Fields(node, what: "'tls'", keys: ["certificate", "key", "ca"], issues: issues) else { return nil }
        for key in ["certificate", "key"] where !files.has(key) {
            issues.add(at: files.mark, "'tls' without '\(key)'", allowed: allowed)
        }
        let certificate = readPEM(files, "certificate")
        let key = readPEM(files, "key")
        let authority = readPEM(files, "ca")
        guard let certificate, let key else { return nil }
        return .certificate(certificate: certificate, key: key, authority: authority)
    }

    /// A file that can be read and looks like PEM: better told now than by the exporter of a guest that is being started.
    private func readPEM(_ fields: Fields, _ key: String) -> String? {
        guard let path = readPath(fields, key) else { return nil }
        guard let start = beginning(of: path, at: fields.mark(of: key)) else { return nil }
        guard start.contains("-----BEGIN ") else {
            issues.add(at: fields.mark(of: key), "there is no '-----BEGIN' in \(Wording.quoted(path))", allowed: "'\(key)' is a PEM file")
            return nil
        }
        return path
    }

    private func readPath(_ fields: Fields, _ key: String) -> String? {
        fields.value(key, allowed: "an absolute path", { $0.hasPrefix("/") ? $0 : nil })
    }

    private func firstLine(of path: String, at mark: Mark?) -> String? {
        beginning(of: path, at: mark).map { String($0.prefix { $0 != "\n" && $0 != "\r\n" }) }
    }

    /// The first 16 KiB of a file; what goes wrong is an issue.
    private func beginning(of path: String, at mark: Mark?) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        var bytes = [UInt8](repeating: 0, count: 16_384)
        var length = -1
        if descriptor >= 0 {
            length = Glibc.read(descriptor, &bytes, bytes.count)
            let code = errno
            close(descriptor)
            errno = code
        }
        guard length >= 0 else {
            issues.add(
                at: mark, "could not read \(Wording.quoted(path)): \(String(cString: strerror(errno)))",
                allowed: "a file that uid \(geteuid()) can read")
            return nil
        }
        return String(decoding: bytes.prefix(length), as: UTF8.self)
    }
}

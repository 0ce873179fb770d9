import EmulatorProtocol
import Host
import Specification
import Yams

/// Reads the emulators of one document: what each says, and that no two say the same.
final class EmulatorReader {
    private static let keys = [
        "name", "program", "arguments", "mode", "options", "pci-slot", "interpose", "ready-within", "user", "group", "restart", "unplug-as", "when-hung",
        "hung-after",
    ] + restartKeys
    /// What follows a death, besides `restart`.
    static let restartKeys = ["successor-within", "restart-limit", "restart-delay"]
    /// The options travel to the emulator in one message, which has at most 65536 bytes and escapes some of them.
    private static let largestOptions = 8192
    private static let mostArguments = 256

    let programs: ProgramFinder
    let issues: Issues
    private var names: [String: Mark?] = [:]
    private var slots: [PCIAddress: String] = [:]

    init(programs: ProgramFinder, issues: Issues) {
        self.programs = programs
        self.issues = issues
    }

    /// - Returns: nil when something essential is wrong; `issues` says what.
    func read(_ node: Node) -> EmulatorSpecification? {
        guard let fields = Fields(node, what: "an emulator", keys: Self.keys, issues: issues) else { return nil }
        let name = readName(fields)
        let program = readProgram(fields)
        var result = EmulatorSpecification(name: name ?? "?", program: program ?? "?")
        result.arguments = readArguments(fields)
        result.mode = fields.value("mode", allowed: "'direct' or 'isolated'; without it, direct on Xen when the emulator can") { text in
            AttachMode(rawValue: text).flatMap { $0 == .exporter ? nil : $0 }
        }
        result.options = readOptions(fields)
        result.pciSlot = readSlot(fields, name: name ?? "?")
        result.interpose = readInterpositions(fields)
        if let time = readTime(fields) { result.readyWithinMilliseconds = time }
        (result.uid, result.gid) = readAccount(fields)
        readRestart(fields, into: &result)
        result.unplugAs = readUnplugClasses(fields)
        readHung(fields, into: &result)
        return name == nil || program == nil ? nil : result
    }

    private func readName(_ fields: Fields) -> String? {
        let allowed = "1 to 32 letters (a to z), digits, '-' and '_'"
        guard fields.has("name") else {
            issues.add(at: fields.mark, "an emulator without 'name'", allowed: "a name has \(allowed)")
            return nil
        }
        guard let name = fields.value("name", allowed: allowed, { EmulatorSpecification.isName($0) ? $0 : nil }) else { return nil }
        return note(name, at: fields.mark(of: "name")) ? name : nil
    }

    /// Takes a name; false when another emulator of the guest has it.
    func note(_ name: String, at place: Mark?) -> Bool {
        if let first = names[name] {
            let line = first.map { " at line \($0.line)" } ?? ""
            issues.add(at: place, "the name '\(name)' is already taken by the emulator\(line)", allowed: "each emulator of a guest has a name of its own")
            return false
        }
        names[name] = place
        return true
    }

    /// - Parameter fallback: the program that is meant without the key; nil: the key must be there.
    func readProgram(_ fields: Fields, default fallback: String? = nil) -> String? {
        let field = ProgramField(programs: programs, issues: issues)
        guard fields.has("program") else {
            if let fallback { return field.check(fallback, key: "program", at: fields.mark) }
            issues.add(at: fields.mark, "an emulator without 'program'", allowed: "'program' is \(field.allowed)")
            return nil
        }
        guard let text = fields.text("program", allowed: field.allowed) else { return nil }
        return field.check(text, key: "program", at: fields.mark(of: "program"))
    }

    func readArguments(_ fields: Fields) -> [String] {
        let arguments = fields.texts("arguments", allowed: "a list of texts, as in [\"--level\", \"2\"]").map(\.text)
        guard arguments.count <= Self.mostArguments else {
            issues.add(at: fields.mark(of: "arguments"), "there are \(arguments.count) arguments", allowed: "at most \(Self.mostArguments)")
            return []
        }
        return arguments
    }

    func readOptions(_ fields: Fields) -> [String: String] {
        guard let node = fields.node("options"), !Fields.isNothing(node) else { return [:] }
        let allowed = "names with one text or number each, as in {ports: 0x500}"
        guard case .mapping(let mapping) = node else {
            issues.add(at: node.mark, "'options' is a mapping, not \(Fields.kind(of: node))", allowed: allowed)
            return [:]
        }
        var options: [String: String] = [:]
        var size = 0
        for (key, value) in mapping {
            guard let name = fields.keyText(key, what: "the name of an option", allowed: allowed) else { continue }
            guard let text = fields.textOrNothing(value, what: "the option \(Wording.quoted(name))", allowed: allowed) else { continue }
            guard options.updateValue(text, forKey: name) == nil else {
                // `on` and `"on"` are two keys to YAML, and one name to an emulator.
                issues.add(at: key.mark, "the option \(Wording.quoted(name)) is given twice", allowed: "each may be given once")
                continue
            }
            size += name.utf8.count + text.utf8.count
        }
        if size > Self.largestOptions {
            issues.add(at: node.mark, "the options have \(size) bytes", allowed: "at most \(Self.largestOptions); put more into a file of its own and name that")
        }
        return options
    }

    func readSlot(_ fields: Fields, name: String) -> String? {
        let allowed = "a place on the guest's bus 0, in hexadecimal as lspci writes it: \"00:05.0\", or \"5\" for device 5"
        guard let slot = fields.value("pci-slot", allowed: allowed, { text in Quantities.slot(text).map { (text, $0) } }) else { return nil }
        if let other = slots[slot.1] {
            issues.add(at: fields.mark(of: "pci-slot"), "the PCI slot \(slot.1) is already given to the emulator '\(other)'", allowed: "a function has one emulator")
            return nil
        }
        slots[slot.1] = name
        return slot.0
    }

    func readInterpositions(_ fields: Fields) -> [String] {
        let allowed = "a list of ranges such as \"ports 0x10-0x1f\", \"mmio 0xa0000-0xbffff\" or \"pci 00:03.0\""
        return fields.texts("interpose", allowed: allowed).compactMap { entry in
            if let range = RangeText.parse(entry.text) {
                if case .pci = range, Quantities.slot(String(entry.text.drop { $0 != " " }.drop { $0 == " " })) == nil {
                    issues.add(at: entry.mark, "'interpose' cannot have \(Wording.quoted(entry.text))", allowed: "a PCI function is on the guest's bus 0, as in \"pci 00:03.0\"")
                    return nil
                }
                return entry.text
            }
            issues.add(at: entry.mark, "'interpose' cannot have \(Wording.quoted(entry.text))", allowed: allowed + ", the first end not above the second")
            return nil
        }
    }

    /// Whoever becomes another user also leaves the group: its own one, or the one of the same number when the machine
    /// does not know the user.
    func readAccount(_ fields: Fields) -> (uid: UInt32?, gid: UInt32?) {
        var result: (uid: UInt32?, gid: UInt32?) = (nil, nil)
        if let user = fields.value("user", allowed: "a user of this machine, or a number from 0 to \(Accounts.highest)", { Accounts.user($0) }) {
            result = (user.uid, user.gid ?? user.uid)
        }
        if let group = fields.value("group", allowed: "a group of this machine, or a number from 0 to \(Accounts.highest)", { Accounts.group($0) }) {
            result.gid = group
        }
        return result
    }

    func readTime(_ fields: Fields) -> Int? {
        fields.value(
            "ready-within", allowed: "a time from 1ms to 60s, written as 500ms or 5s",
            { Quantities.milliseconds($0).flatMap { (1...60_000).contains($0) ? $0 : nil } })
    }

    /// What follows a death.
    func readRestart(_ fields: Fields, into result: inout EmulatorSpecification) {
        result.restart = readRestart(fields)
        func time(_ key: String) -> Int? {
            fields.value(key, allowed: "a time from 0ms to 60s, written as 250ms or 5s", { Quantities.milliseconds($0).flatMap { (0...60_000).contains($0) ? $0 : nil } })
        }
        if let budget = time("successor-within") { result.successorWithinMilliseconds = budget }
        if let delay = time("restart-delay") { result.restartDelayMilliseconds = delay }
        let limit = fields.value("restart-limit", allowed: "a number from 0 to 100000", { Quantities.decimal($0).flatMap { (0...100_000).contains($0) ? $0 : nil } })
        if let limit { result.restartLimit = limit }
    }

    func readRestart(_ fields: Fields) -> RestartPolicy? {
        fields.value("restart", allowed: "one of \(Wording.list(RestartPolicy.allCases.map(\.rawValue)))") { RestartPolicy(rawValue: $0) }
    }

    private func readUnplugClasses(_ fields: Fields) -> [UnplugClass]? {
        guard fields.has("unplug-as") else { return nil }
        let allowed = "a list of classes: \(Wording.list(UnplugClass.allCases.map(\.rawValue))); [] for what no guest unplugs"
        return fields.texts("unplug-as", allowed: allowed).compactMap { entry in
            if let known = UnplugClass(rawValue: entry.text) { return known }
            issues.add(at: entry.mark, "'unplug-as' cannot have \(Wording.quoted(entry.text))", allowed: allowed)
            return nil
        }
    }
}

extension EmulatorReader {
    /// What happens when it hangs.
    /// - Returns: what is said of it; nil for what is not.
    func readHung(_ fields: Fields) -> (policy: HungPolicy?, milliseconds: Int?) {
        let policy = fields.value("when-hung", allowed: "one of \(Wording.list(HungPolicy.allCases.map(\.rawValue)))") { HungPolicy(rawValue: $0) }
        let time = fields.value(
            "hung-after", allowed: "a time from 1s to 3600s, written as 5s or 5000ms",
            { Quantities.milliseconds($0).flatMap { (1000...3_600_000).contains($0) ? $0 : nil } })
        return (policy, time)
    }

    func readHung(_ fields: Fields, into result: inout EmulatorSpecification) {
        let (policy, milliseconds) = readHung(fields)
        result.whenHung = policy
        if let milliseconds { result.hungAfterMilliseconds = milliseconds }
    }
}

/// A field that names a program.
struct ProgramField {
    let programs: ProgramFinder
    let issues: Issues

    var allowed: String {
        "an absolute path, or the name of a program in " + (programs.directories.isEmpty ? "demux's folder" : programs.directories.joined(separator: " or "))
    }

    /// The path of the program that `text` names; what is wrong with it is an issue.
    func check(_ text: String, key: String, at mark: Mark?) -> String? {
        switch programs.find(text) {
        case .program(let path): return path
        case .relative:
            issues.add(at: mark, "'\(key)' is \(Wording.quoted(text)), which is a relative path", allowed: "it is \(allowed)")
        case .notExecutable(let path):
            issues.add(at: mark, "the program \(Wording.quoted(path)) cannot be executed", allowed: "it must be a file with execute permission (chmod +x)")
        case .missing(let places):
            let looked = places.isEmpty ? "" : " (looked for \(places.joined(separator: " and ")))"
            issues.add(at: mark, "there is no program \(Wording.quoted(text))\(looked)", allowed: "install it, or give \(allowed)")
        }
        return nil
    }
}

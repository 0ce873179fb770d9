import Host
import Specification
import Yams

/// Reads what a person wrote, strictly: whatever is not understood is an error with its place.
public struct SpecificationReader: Sendable {
    /// The version of the format that this reads.
    public static let version = 1
    /// Emulators that one guest may have.
    static let mostEmulators = 64

    private static let guestKeys = ["demux", "qemu", "local", "display", "vnc", "unplug", "emulators"]
    private static let localKeys = ["vcpus", "memory", "program", "engine", "firmware"]
    private static let localPrograms = ["idle", "demo", "display-demo"]

    let programs: ProgramFinder

    public init(programs: ProgramFinder = .besideExecutable()) { self.programs = programs }

    /// Reads a guest's specification.
    /// - Throws: everything that is wrong with it.
    public func guest(file: String) throws(SpecificationErrors) -> GuestSpecification {
        try guest(Document.read(file: file), file: file)
    }

    /// Reads a guest's specification out of text; `file` is what messages call it.
    /// - Throws: everything that is wrong with it.
    public func guest(text: [UInt8], file: String) throws(SpecificationErrors) -> GuestSpecification {
        try guest(Document.parse(text, file: file), file: file)
    }

    /// Reads one emulator: out of a file that holds nothing else, or out of a guest's specification by its name.
    /// - Throws: everything that is wrong with it, or that there is no such emulator.
    public func emulator(file: String, named name: String?) throws(SpecificationErrors) -> EmulatorSpecification {
        try emulator(Document.read(file: file), file: file, named: name)
    }

    /// As `emulator(file:named:)`, out of text.
    public func emulator(text: [UInt8], file: String, named name: String?) throws(SpecificationErrors) -> EmulatorSpecification {
        try emulator(Document.parse(text, file: file), file: file, named: name)
    }

    /// What a field of an emulator holds when it does not come from a file.
    public enum Field: Sendable {
        case text(String)
        case list([String])
        case mapping([(key: String, value: String)])
    }

    /// Checks one emulator whose fields were given otherwise, by the rules of the file; `source` is what messages call it.
    /// - Throws: everything that is wrong with it.
    public func emulator(fields: [(key: String, value: Field)], source: String) throws(SpecificationErrors) -> EmulatorSpecification {
        func scalar(_ text: String) -> Node { .scalar(.init(text, .implicit, .doubleQuoted)) }
        let pairs = fields.map { field -> (Node, Node) in
            switch field.value {
            case .text(let text): (scalar(field.key), scalar(text))
            case .list(let texts): (scalar(field.key), Node(texts.map(scalar)))
            case .mapping(let entries): (scalar(field.key), Node(entries.map { (scalar($0.key), scalar($0.value)) }))
            }
        }
        let issues = Issues(file: source)
        let emulator = EmulatorReader(programs: programs, issues: issues).read(Node(pairs))
        try issues.check()
        guard let emulator else { throw SpecificationErrors([SpecificationIssue(file: source, problem: "no emulator is described")]) }
        return emulator
    }

    // MARK: - The document

    private func guest(_ root: Node, file: String) throws(SpecificationErrors) -> GuestSpecification {
        let issues = Issues(file: file)
        var specification = GuestSpecification(source: ProgramFinder.resolve(file) ?? file)
        if let fields = Fields(root, what: "a specification", keys: Self.guestKeys, issues: issues) {
            checkVersion(fields)
            if let qemu = readQEMU(fields) { specification.qemu = qemu }
            if let node = fields.node("local") { specification.local = readLocal(node, issues) }
            let reader = EmulatorReader(programs: programs, issues: issues)
            if let node = fields.node("display") { specification.display = reader.readDisplay(node) }
            if let node = fields.node("vnc") { specification.vnc = reader.readVNC(node) }
            if let node = fields.node("unplug") { specification.unplug = UnplugReader(issues: issues).read(node) }
            specification.emulators = readEmulators(fields, reader)
        }
        try issues.check()
        return specification
    }

    private func emulator(_ root: Node, file: String, named name: String?) throws(SpecificationErrors) -> EmulatorSpecification {
        if case .mapping(let mapping) = root, mapping["emulators"] != nil || mapping["demux"] != nil {
            let emulators = try guest(root, file: file).emulators
            let choice = "its emulators are \(Wording.list(emulators.map(\.name)))"
            if let name {
                guard let chosen = emulators.first(where: { $0.name == name }) else {
                    throw SpecificationErrors([
                        SpecificationIssue(
                            file: file, problem: "there is no emulator \(Wording.quoted(name)) in this specification",
                            allowed: emulators.isEmpty ? "it has no emulators" : choice)
                    ])
                }
                return chosen
            }
            guard let only = emulators.first, emulators.count == 1 else {
                throw SpecificationErrors([
                    SpecificationIssue(
                        file: file, problem: "this specification has \(emulators.count) emulators and none was chosen",
                        allowed: emulators.isEmpty ? "it needs one" : "choose one with --name; \(choice)")
                ])
            }
            return only
        }
        let issues = Issues(file: file)
        let emulator = EmulatorReader(programs: programs, issues: issues).read(root)
        if let emulator, let name, name != emulator.name {
            issues.add(at: root.mark, "the file describes the emulator '\(emulator.name)', not \(Wording.quoted(name))", allowed: "leave --name out, or change it")
        }
        try issues.check()
        guard let emulator else { throw SpecificationErrors([SpecificationIssue(file: file, problem: "no emulator is described")]) }
        return emulator
    }

    // MARK: - Its parts

    private func checkVersion(_ fields: Fields) {
        let allowed = "this program reads version \(Self.version): write 'demux: \(Self.version)'"
        guard fields.has("demux") else {
            fields.issues.add(at: fields.mark, "the key 'demux', the version of the format, is missing", allowed: allowed)
            return
        }
        _ = fields.value("demux", allowed: allowed) { Quantities.decimal($0) == Self.version ? true : nil }
    }

    private func readQEMU(_ fields: Fields) -> String? {
        let allowed = "an absolute path of an executable program, as in '\(GuestSpecification.defaultQEMU)'"
        guard let text = fields.text("qemu", allowed: allowed) else { return nil }
        guard text.hasPrefix("/") else {
            fields.issues.add(at: fields.mark(of: "qemu"), "'qemu' is \(Wording.quoted(text)), which is no absolute path", allowed: allowed)
            return nil
        }
        return ProgramField(programs: programs, issues: fields.issues).check(text, key: "qemu", at: fields.mark(of: "qemu"))
    }

    private func readLocal(_ node: Node, _ issues: Issues) -> LocalGuest {
        var local = LocalGuest()
        guard let fields = Fields(node, what: "'local'", keys: Self.localKeys, issues: issues) else { return local }
        if let vcpus = fields.value("vcpus", allowed: "a number from 1 to 128", { Quantities.decimal($0).flatMap { (1...128).contains($0) ? $0 : nil } }) {
            local.vcpus = vcpus
        }
        if let memory = fields.value(
            "memory", allowed: "a size from 1M to 4096M, written as 64M, 64MiB, 1G or 1GiB",
            { Quantities.mebibytes($0).flatMap { (1...4096).contains($0) ? $0 : nil } })
        {
            local.memoryMiB = memory
        }
        if let program = fields.value("program", allowed: "one of \(Wording.list(Self.localPrograms))", { Self.localPrograms.contains($0) ? $0 : nil }) {
            local.program = program
        }
        let engines = LocalGuest.Engine.allCases.map(\.rawValue)
        if let engine = fields.value("engine", allowed: "one of \(Wording.list(engines))", { LocalGuest.Engine(rawValue: $0) }) { local.engine = engine }
        if let firmware = fields.value("firmware", allowed: "an absolute path of a ROM of 64 or 128 KiB", { $0.hasPrefix("/") ? $0 : nil }) {
            local.firmware = firmware
        } else if local.engine == .kvm, !fields.has("firmware") {
            issues.add(at: fields.mark, "'engine' is 'kvm', and there is no 'firmware' for it to run", allowed: "an absolute path of a ROM of 64 or 128 KiB")
        }
        return local
    }

    private func readEmulators(_ fields: Fields, _ reader: EmulatorReader) -> [EmulatorSpecification] {
        guard let node = fields.node("emulators"), !Fields.isNothing(node) else { return [] }
        let issues = fields.issues
        guard case .sequence(let entries) = node else {
            issues.add(
                at: node.mark, "'emulators' is a list, not \(Fields.kind(of: node))",
                allowed: "each entry begins with '- name: …'")
            return []
        }
        guard entries.count <= Self.mostEmulators else {
            issues.add(at: node.mark, "there are \(entries.count) emulators", allowed: "a guest can have \(Self.mostEmulators)")
            return []
        }
        return entries.compactMap { reader.read($0) }
    }
}

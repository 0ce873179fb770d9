import Host

/// Turns an emulator's accesses into words. It remembers the index registers that it has seen written, so that an access to a data register
/// can be called by the register that it reaches; a trace that begins in the middle knows none at first.
public struct AccessDecoder {
    /// The ranges that the emulator has claimed, and what it calls them.
    public var claims: [(range: IORange, label: String)]
    private var crtc: UInt8?
    private var sequencer: UInt8?
    private var graphics: UInt8?
    private var dispi: UInt16?
    private var cmos: UInt8?

    public init(claims: [(range: IORange, label: String)] = []) { self.claims = claims }

    /// What the access reaches: "CMOS data [status A]", "PCI 0000:00:05.0 BAR0", "registers+0x4". Empty when nothing is known.
    public mutating func name(_ entry: TraceEntry) -> String {
        switch entry.kind {
        case .portIO:
            let known = indexed(entry)
            // Above the ports that every PC has alike another device may be at one that has a name: a claim that begins elsewhere is not of the
            // device that everybody knows.
            if let own = place(entry), known == nil || entry.address >= 0x400 && !beginsAtKnownPort(entry.address) { return own }
            return known ?? ""
        case .copy: return RegisterNames.memory(entry.address) ?? place(entry) ?? ""
        case .pciConfig:
            let register = entry.address & 0xffff_ffff
            return "PCI \(short(PCIAddress(requestAddress: entry.address))) \(Hex.string(register)) \(RegisterNames.configuration(register))"
        case .timeOffset: return "the guest set its clock"
        case .invalidate: return "forget cached mappings"
        case nil: return "type \(entry.type)"
        }
    }

    /// As lspci writes it, without the segment that every guest has.
    private func short(_ address: PCIAddress) -> String {
        let text = "\(address)"
        return text.hasPrefix("0000:") ? String(text.dropFirst(5)) : text
    }

    private func beginsAtKnownPort(_ port: UInt64) -> Bool {
        for case (.ports(let ports), _) in claims where (UInt64(ports.first)...UInt64(ports.last)).contains(port) {
            return RegisterNames.port(UInt64(ports.first)) != nil
        }
        return true
    }

    /// The claim's label and the place in it.
    private func place(_ entry: TraceEntry) -> String? {
        for claim in claims {
            switch claim.range {
            case .ports(let ports):
                guard entry.kind == .portIO, (UInt64(ports.first)...UInt64(ports.last)).contains(entry.address) else { continue }
                return "\(claim.label)+\(Hex.string(entry.address - UInt64(ports.first)))"
            case .memory(let memory):
                guard entry.kind == .copy, (memory.first.rawValue...memory.last.rawValue).contains(entry.address) else { continue }
                return "\(claim.label)+\(Hex.string(entry.address - memory.first.rawValue))"
            case .pci: continue
            }
        }
        return nil
    }

    /// Index and data registers, and every other port that has a name.
    private mutating func indexed(_ entry: TraceEntry) -> String? {
        guard let name = RegisterNames.port(entry.address) else { return nil }
        let writes = entry.direction == .write && !entry.isPointer
        let low = UInt8(truncatingIfNeeded: entry.value)
        // A write of 16 bits to an index register writes the data register too.
        let both = entry.size == 2
        func text(_ index: UInt8?, _ names: [String]) -> String {
            guard let index else { return name }
            return names.indices.contains(Int(index)) ? "\(name) [\(names[Int(index)])]" : "\(name) [\(Hex.string(index))]"
        }
        switch entry.address {
        case 0x3d4, 0x3b4:
            if writes { crtc = low }
            return writes ? text(low, RegisterNames.crtc) + (both ? " and its data" : "") : name
        case 0x3d5, 0x3b5: return text(crtc, RegisterNames.crtc)
        case 0x3c4:
            if writes { sequencer = low }
            return writes ? text(low, RegisterNames.sequencer) + (both ? " and its data" : "") : name
        case 0x3c5: return text(sequencer, RegisterNames.sequencer)
        case 0x3ce:
            if writes { graphics = low }
            return writes ? text(low, RegisterNames.graphics) + (both ? " and its data" : "") : name
        case 0x3cf: return text(graphics, RegisterNames.graphics)
        case 0x1ce:
            if writes { dispi = UInt16(truncatingIfNeeded: entry.value) }
            return writes ? text(low, RegisterNames.dispi) : name
        case 0x1cf, 0x1d0: return text(dispi.flatMap { UInt8(exactly: $0) }, RegisterNames.dispi)
        case 0x70:
            guard writes else { return name }
            cmos = low & 0x7f
            return cmosText(name)
        case 0x71: return cmosText(name)
        default: return name
        }
    }

    private func cmosText(_ name: String) -> String {
        guard let cmos else { return name }
        return "\(name) [\(RegisterNames.cmos[cmos] ?? Hex.string(cmos))]"
    }
}

extension TraceEntry {
    /// "read", "write"; with the kind: "out", "in", "config read" …
    public var verb: String {
        let reads = direction == .read
        switch kind {
        case .portIO: return reads ? "in" : "out"
        case .copy: return reads ? "mmio read" : "mmio write"
        case .pciConfig: return reads ? "config read" : "config write"
        case .timeOffset: return "clock"
        case .invalidate: return "invalidate"
        case nil: return reads ? "read" : "write"
        }
    }

    /// "ports", "memory", "config" …, for programs.
    public var category: String {
        switch kind {
        case .portIO: "ports"
        case .copy: "memory"
        case .pciConfig: "config"
        case .timeOffset: "clock"
        case .invalidate: "invalidate"
        case nil: "unknown"
        }
    }

    /// The register, port or guest-physical address, without the function in front of a configuration register.
    public var place: UInt64 { kind == .pciConfig ? address & 0xffff_ffff : address }

    /// Whether some byte of the first access lies in a range.
    public func touches(_ range: IORange) -> Bool {
        let last = { (bytes: UInt64) in self.address.addingReportingOverflow(max(bytes, 1) - 1) }(span)
        let end = last.overflow ? UInt64.max : last.partialValue
        switch range {
        case .ports(let ports): return kind == .portIO && address <= UInt64(ports.last) && end >= UInt64(ports.first)
        case .memory(let memory): return kind == .copy && address <= memory.last.rawValue && end >= memory.first.rawValue
        case .pci(let function): return kind == .pciConfig && PCIAddress(requestAddress: address) == function
        }
    }

    /// Bytes of the device's addresses that the request reaches; a string operation on a port stays at it.
    private var span: UInt64 { kind == .copy ? UInt64(size).multipliedReportingOverflow(by: UInt64(max(count, 1))).partialValue : UInt64(size) }
}

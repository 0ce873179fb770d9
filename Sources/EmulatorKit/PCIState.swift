import Host

/// One BAR as it is now.
struct BARState {
    enum Kind { case none, ports, memory32, memory64, rom }

    var kind = Kind.none
    /// Bytes, a power of two.
    var size: UInt64 = 0
    var claimed = true
    /// The register's offset.
    var register = 0
    /// Where it is decoded now, with the coordinator's agreement when it is claimed.
    var mapped: UInt64?
    /// The coordinator's number for the claim.
    var claim: Int?
    /// The region that is shown here; below 0: none.
    var region = -1
    /// An address that the coordinator refused: not asked for again until the guest writes another one.
    var refused: UInt64?

    func range(at address: UInt64) -> IORange? {
        switch kind {
        case .none: return nil
        case .ports:
            guard let first = UInt16(exactly: address) else { return nil }
            return PortRange(first: first, count: Int(size)).map(IORange.ports)
        case .memory32, .memory64, .rom:
            return MMIORange(first: GuestAddress(address), length: size).map(IORange.memory)
        }
    }
}

/// A PCI function: its configuration space and what follows from it.
struct PCIState: ~Copyable {
    /// Which step of following its BARs it is in.
    enum Remapping: Equatable {
        case settled
        /// Claims are being given back.
        case unclaiming
        /// New ones are being asked for.
        case claiming
    }

    let label: String
    let address: PCIAddress
    /// The high half of a request's address.
    let key: UInt32
    var config = ConfigSpace()
    /// BAR 0 to 5 and the ROM.
    let bars: UnsafeMutablePointer<BARState>
    static let barCount = 7

    /// The coordinator's number for the function itself.
    var claim: Int?
    /// The device has taken it away: it reads as all-ones, wherever an access still comes from.
    var isRemoved = false
    /// The histogram of its configuration space's latencies.
    var block: UInt8 = 0

    var remapping = Remapping.settled
    /// Answers of the coordinator that are still to come.
    var outstanding = 0
    /// Slots whose configuration write is completed once the BARs are where the guest put them.
    var waiting = VCPUSet()
    /// BARs that moved since the device was told, one bit each.
    var movedBars: UInt8 = 0

    /// Whether the device asserts its interrupt, and what was last driven on the line.
    var asserted = false
    var line = false
    let pin: UInt8
    /// Whether a predecessor's registers were found.
    private(set) var isRestored = false
    /// Where the MSI capability is; 0: none.
    private(set) var messages = 0
    private let messageKind: PCIDescription.MessageInterrupts
    /// MSI-X; nil: none, or not settled in the state region yet.
    private(set) var table: MessageTable?
    private let tableDescription: PCIDescription.MessageTable?
    private var tableCapability = 0

    init(_ description: PCIDescription, address: PCIAddress) throws(SetupError) {
        label = description.label
        self.address = address
        key = UInt32(truncatingIfNeeded: address.requestAddress >> 32)
        pin = description.interruptPin?.rawValue ?? 0
        messageKind = description.messageInterrupts ?? .init()
        tableDescription = description.messageTable
        bars = .allocate(capacity: Self.barCount)
        bars.initialize(repeating: BARState(), count: Self.barCount)
        writeHeader(description)
        try layOutBars(description)
        if let table = description.messageTable, let fault = description.fault(in: table) {
            throw SetupError("add", "the PCI function '\(label)'", reason: fault, remedy: "this is a fault of the emulator's program")
        }
        try layOutCapabilities(description)
    }

    deinit { bars.deallocate() }

    private mutating func writeHeader(_ description: PCIDescription) {
        config.set(0x00, size: 2, UInt64(description.vendor))
        config.set(0x02, size: 2, UInt64(description.device))
        config.set(0x08, size: 4, UInt64(description.classCode & 0xff_ffff) << 8 | UInt64(description.revision))
        config.setWritable(0x0c, size: 2, 0xffff)  // cache line size and latency timer: kept for whoever reads them
        config.set(0x2c, size: 2, UInt64(description.subsystemVendor))
        config.set(0x2e, size: 2, UInt64(description.subsystem))
        config.setWritable(ConfigSpace.Register.interruptLine, size: 1, 0xff)
        config.set(ConfigSpace.Register.interruptPin, size: 1, UInt64(pin))
    }

    private mutating func layOutBars(_ description: PCIDescription) throws(SetupError) {
        func fault(_ reason: String) -> SetupError {
            SetupError("add", "the PCI function '\(description.label)'", reason: reason, remedy: "this is a fault of the emulator's program")
        }
        var decoded = ConfigSpace.Command.busMaster | ConfigSpace.Command.systemError | ConfigSpace.Command.interruptDisable
        for (number, bar) in description.bars.sorted(by: { $0.key < $1.key }) {
            guard (0..<6).contains(number) else { throw fault("there is no BAR \(number)") }
            let register = ConfigSpace.Register.bars + number * 4
            let (kind, flags): (BARState.Kind, UInt64) = switch bar.kind {
            case .ports: (.ports, 0x1)
            case .memory32: (.memory32, bar.prefetchable ? 0x8 : 0x0)
            case .memory64: (.memory64, bar.prefetchable ? 0xc : 0x4)
            }
            if kind == .memory64, number == 5 || description.bars[number + 1] != nil {
                throw fault("BAR \(number) has 64 bits, but the register after it is not free")
            }
            bars[number] = BARState(kind: kind, size: bar.size, claimed: bar.claimed, register: register)
            bars[number].region = bar.region?.index ?? -1
            config.set(register, size: 4, flags)
            config.setWritable(register, size: kind == .memory64 ? 8 : 4, ~(bar.size - 1) & ~(kind == .ports ? 0x3 : 0xf))
            decoded |= kind == .ports ? ConfigSpace.Command.ports : ConfigSpace.Command.memory
        }
        if let romSize = description.romSize {
            let size = PCIDescription.BAR.power(romSize, from: 2048, to: 1 << 24)
            bars[6] = BARState(kind: .rom, size: size, register: ConfigSpace.Register.rom)
            config.setWritable(ConfigSpace.Register.rom, size: 4, ~(size - 1) | 1)
            decoded |= ConfigSpace.Command.memory
        }
        // A VGA decodes its ports without a BAR, and firmware that cannot switch them on takes it for none (SeaBIOS, is_pci_vga).
        if description.classCode >> 8 == 0x0300 { decoded |= ConfigSpace.Command.ports | ConfigSpace.Command.memory }
        config.setWritable(ConfigSpace.Register.command, size: 2, decoded)
    }

    private mutating func layOutCapabilities(_ description: PCIDescription) throws(SetupError) {
        var all = description.capabilities
        if let table = description.messageTable {
            func word(_ offset: Int) -> [UInt8] {
                let value = UInt32(truncatingIfNeeded: offset | table.bar)
                return (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
            }
            // Enable and mask all are the guest's.
            all.insert(
                .init(id: 0x11, bytes: [UInt8(table.vectors - 1), 0] + word(table.tableOffset) + word(table.pendingOffset), writable: [0, 0xc0]), at: 0)
        }
        if let kind = description.messageInterrupts {
            guard [1, 2, 4, 8, 16, 32].contains(kind.vectors) else {
                throw SetupError("add", "the PCI function '\(label)'", reason: "MSI cannot have \(kind.vectors) vectors", remedy: "1, 2, 4, 8, 16 or 32")
            }
            let control = UInt16(kind.vectors.trailingZeroBitCount) << 1 | (kind.wide ? 0x80 : 0) | (kind.maskable ? 0x100 : 0)
            let message: [UInt8] = [0xfc, 0xff, 0xff, 0xff] + (kind.wide ? [0xff, 0xff, 0xff, 0xff] : []) + [0xff, 0xff, 0, 0]
            let masks: [UInt8] = kind.maskable ? [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0] : []
            let writable = [kind.vectors > 1 ? 0x71 : 0x01, 0] + message + masks
            let bytes = [UInt8(truncatingIfNeeded: control), UInt8(truncatingIfNeeded: control >> 8)]
            all.insert(.init(id: 0x05, bytes: bytes + [UInt8](repeating: 0, count: writable.count - 2), writable: writable), at: 0)
        }
        var place = ConfigSpace.Register.device
        var link = ConfigSpace.Register.capabilities
        for (number, capability) in all.enumerated() {
            guard place + 2 + capability.bytes.count <= ConfigSpace.length else {
                throw SetupError("add", "the PCI function '\(label)'", reason: "its capabilities do not fit 192 bytes", remedy: "leave some out")
            }
            config.set(link, size: 1, UInt64(place))
            config.set(place, size: 1, UInt64(capability.id))
            for (index, byte) in capability.bytes.enumerated() { config.set(place + 2 + index, size: 1, UInt64(byte)) }
            for (index, mask) in capability.writable.prefix(capability.bytes.count).enumerated() {
                config.setWritable(place + 2 + index, size: 1, UInt64(mask))
            }
            if number == 0 && description.messageInterrupts != nil { messages = place }
            if number == (description.messageInterrupts == nil ? 0 : 1) && description.messageTable != nil { tableCapability = place }
            link = place + 1
            place = (place + 2 + capability.bytes.count + 3) & ~3
        }
        if !all.isEmpty { config.set(ConfigSpace.Register.status, size: 2, ConfigSpace.Status.capabilities) }
    }

    /// Has the configuration space live in the state region from now on. What the guest had written to a predecessor's is taken over, and
    /// nothing else: what the guest cannot change is as the description says.
    mutating func settle(in state: borrowing KitState, index: Int) {
        let identity = UInt32(truncatingIfNeeded: config.read(0, size: 4))
        if let old = state.configuration(ofFunction: index, identity: identity, key: key) {
            config.takeOver(old)
            if messages != 0, messageKind.maskable {
                // Set by the device and cleared by the guest's unmasking: pending messages.
                let place = messages + (messageKind.wide ? 20 : 16)
                var pending: UInt64 = 0
                for byte in 0..<4 where place + byte < ConfigSpace.length { pending |= UInt64(old[place + byte]) << UInt64(byte * 8) }
                config.set(place, size: 4, pending & (messageKind.vectors >= 32 ? 0xffff_ffff : 1 << UInt64(messageKind.vectors) - 1))
            }
            isRestored = true
        }
        config.move(to: state.place(ofFunction: index, identity: identity, key: key))
        table = tableDescription.map { MessageTable($0, capability: tableCapability, bytes: state.placeOfTable(ofFunction: index), fresh: !isRestored) }
    }

    // MARK: what the registers say

    private var command: UInt64 { config.read(ConfigSpace.Register.command, size: 2) }

    /// Where the guest wants a BAR; nil when it is not decoded, being sized, or put where it cannot be.
    func wanted(_ number: Int) -> UInt64? {
        let bar = bars[number]
        let gate = bar.kind == .ports ? ConfigSpace.Command.ports : ConfigSpace.Command.memory
        guard bar.kind != .none, command & gate != 0 else { return nil }
        let raw = config.read(bar.register, size: bar.kind == .memory64 ? 8 : 4)
        if bar.kind == .rom && raw & 1 == 0 { return nil }
        let address = raw & ~(bar.size - 1)
        let (last, overflow) = address.addingReportingOverflow(bar.size - 1)
        // Address 0 is a register nobody has written yet; all-ones is a register being sized.
        guard address != 0, !overflow else { return nil }
        switch bar.kind {
        case .none: return nil
        case .ports: return last <= 0xffff ? address : nil
        case .memory32, .rom: return last < 0xffff_ffff ? address : nil
        // 52 bits are what a page table can name; sizing leaves more than that set.
        case .memory64: return last < 1 << 52 ? address : nil
        }
    }

    /// Whether a BAR is not where the guest wants it, other than for a refusal.
    func isMisplaced(_ number: Int) -> Bool {
        let wanted = wanted(number)
        return wanted != bars[number].mapped && (wanted != bars[number].refused || bars[number].mapped != nil)
    }

    // MARK: interrupts

    private var messagesEnabled: Bool { messages != 0 && config.read(messages + 2, size: 2) & 1 != 0 }

    /// MSI-X's control register; nil while the guest has not enabled it.
    private var tableControl: UInt64? {
        guard let table else { return nil }
        let control = config.read(table.capability + 2, size: 2)
        return control & MessageTable.Control.enabled != 0 ? control : nil
    }

    /// The level that the line should have: what the device asserts, unless the guest disabled it or uses messages.
    var wantedLine: Bool {
        asserted && pin != 0 && command & ConfigSpace.Command.interruptDisable == 0 && !messagesEnabled && tableControl == nil
    }

    /// Notes what the device asserts in the status register.
    mutating func setAsserted(_ asserted: Bool) {
        self.asserted = asserted
        let status = config.read(ConfigSpace.Register.status, size: 2)
        config.set(
            ConfigSpace.Register.status, size: 2, asserted ? status | ConfigSpace.Status.interrupt : status & ~ConfigSpace.Status.interrupt)
    }

    /// What one message is made of; nil while the guest has not enabled messages, or masks this one (it is then pending).
    mutating func message(_ vector: Int) -> (address: UInt64, data: UInt32)? {
        if let table, let control = tableControl { return table.message(vector, control: control) }
        guard messagesEnabled, (0..<messageKind.vectors).contains(vector) else { return nil }
        let control = config.read(messages + 2, size: 2)
        let wide = messageKind.wide
        // The guest may grant fewer vectors than were asked for; the device then uses those it has.
        let granted = min(1 << Int(control >> 4 & 7), messageKind.vectors)
        let number = vector & (granted - 1)
        if messageKind.maskable {
            let masks = config.read(messages + (wide ? 16 : 12), size: 4)
            if masks >> UInt64(number) & 1 != 0 {
                config.set(pendingPlace, size: 4, config.read(pendingPlace, size: 4) | 1 << UInt64(number))
                return nil
            }
        }
        let address = config.read(messages + 4, size: wide ? 8 : 4)
        let data = config.read(messages + (wide ? 12 : 8), size: 2)
        return (address, UInt32(truncatingIfNeeded: data & ~UInt64(granted - 1) | UInt64(number)))
    }

    /// Where the MSI capability's pending bits are.
    private var pendingPlace: Int { messages + (messageKind.wide ? 20 : 16) }

    /// A pending message that the guest has unmasked.
    func nextUnmasked() -> Int? {
        if let table, let control = tableControl { return table.nextUnmasked(control: control) }
        guard messagesEnabled, messageKind.maskable else { return nil }
        let ready = config.read(pendingPlace, size: 4) & ~config.read(messages + (messageKind.wide ? 16 : 12), size: 4)
        return ready == 0 ? nil : ready.trailingZeroBitCount
    }

    /// A pending message that `nextUnmasked` named was sent.
    mutating func clearPending(_ vector: Int) {
        if let table, tableControl != nil { return table.clearPending(vector) }
        config.set(pendingPlace, size: 4, config.read(pendingPlace, size: 4) & ~(1 << UInt64(vector & 31)))
    }
}

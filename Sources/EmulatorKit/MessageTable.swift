import Host

/// MSI-X as one function has it (PCI Local Bus Specification 3.0, section 6.8.2): the table of messages and the pending bits, which the guest
/// reaches through a BAR and the device does not.
///
/// The bytes lie in the kit's part of the state region, so that a successor interrupts as its predecessor would have: 16 bytes for each vector,
/// then 64 pending bits. Whatever stands there is the guest's choice and goes no further than into a message.
struct MessageTable {
    static let mostVectors = 16
    /// Bytes of it in the state region.
    static let length = mostVectors * entryLength + 8
    private static let entryLength = 16
    private static let pendingPlace = mostVectors * entryLength
    private static let controlPlace = 12

    let description: PCIDescription.MessageTable
    /// Where the capability is.
    let capability: Int
    // Sound: in the state region, which lives as long as the core, and `length` bytes long.
    private let bytes: UnsafeMutableRawPointer

    /// - Parameter fresh: whether nobody has used the table yet: every vector is then masked, as after a reset.
    init(_ description: PCIDescription.MessageTable, capability: Int, bytes: UnsafeMutableRawPointer, fresh: Bool) {
        self.description = description
        self.capability = capability
        self.bytes = bytes
        guard fresh else { return }
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: Self.length)
        for vector in 0..<Self.mostVectors { bytes.storeBytes(of: 1, toByteOffset: vector * Self.entryLength + Self.controlPlace, as: UInt32.self) }
    }

    // MARK: messages

    private var pending: UInt64 {
        get { bytes.load(fromByteOffset: Self.pendingPlace, as: UInt64.self) }
        nonmutating set { bytes.storeBytes(of: newValue, toByteOffset: Self.pendingPlace, as: UInt64.self) }
    }

    /// Whether a vector's messages have to wait.
    /// - Parameter control: the capability's control register.
    private func isMasked(_ vector: Int, _ control: UInt64) -> Bool {
        let entry = bytes + vector * Self.entryLength
        // A message of vector 0 to an APIC is one of Xen's own: it names an event channel, by which the guest masks it. Linux as a Xen guest
        // then leaves the mask bits here as they were after the reset: set.
        if entry.load(fromByteOffset: 8, as: UInt32.self) & 0xff == 0, entry.load(as: UInt32.self) >> 20 == 0xfee { return false }
        return control & Control.masked != 0 || entry.load(fromByteOffset: Self.controlPlace, as: UInt32.self) & 1 != 0
    }

    /// What the message of a vector is made of; nil when there is none or it is masked (it is then pending).
    /// - Parameter control: the capability's control register.
    func message(_ vector: Int, control: UInt64) -> (address: UInt64, data: UInt32)? {
        guard (0..<description.vectors).contains(vector) else { return nil }
        guard !isMasked(vector, control) else {
            pending |= 1 << UInt64(vector)
            return nil
        }
        let entry = bytes + vector * Self.entryLength
        return (entry.load(as: UInt64.self), entry.load(fromByteOffset: 8, as: UInt32.self))
    }

    /// A pending vector that nothing masks.
    func nextUnmasked(control: UInt64) -> Int? {
        guard pending != 0 else { return nil }
        return (0..<description.vectors).first { pending >> UInt64($0) & 1 != 0 && !isMasked($0, control) }
    }

    /// A vector's message was sent.
    func clearPending(_ vector: Int) { pending &= ~(1 << UInt64(vector & 63)) }

    /// Bits of the capability's control register.
    enum Control {
        static let enabled: UInt64 = 0x8000
        static let masked: UInt64 = 0x4000
    }

    // MARK: the guest's accesses

    /// Whether an access to a BAR is one to the table or to the pending bits.
    func covers(bar: Int, offset: Int) -> Bool {
        bar == description.bar && (inTable(offset) || inPending(offset))
    }

    private func inTable(_ offset: Int) -> Bool {
        offset >= description.tableOffset && offset < description.tableOffset + description.vectors * Self.entryLength
    }

    private func inPending(_ offset: Int) -> Bool { offset >= description.pendingOffset && offset < description.pendingOffset + 8 }

    /// Whole, aligned words are what the specification allows; anything else reads as all-ones and is dropped.
    private func place(_ offset: Int, _ size: Int) -> Int? {
        guard size == 4 || size == 8, offset & (size - 1) == 0 else { return nil }
        return inTable(offset) ? offset - description.tableOffset : Self.pendingPlace + offset - description.pendingOffset
    }

    func read(_ offset: Int, size: Int) -> UInt64 {
        guard let place = place(offset, size) else { return .max }
        return size == 4 ? UInt64(bytes.load(fromByteOffset: place, as: UInt32.self)) : bytes.load(fromByteOffset: place, as: UInt64.self)
    }

    /// Pending bits are read-only.
    func write(_ offset: Int, size: Int, _ value: UInt64) {
        guard inTable(offset), let place = place(offset, size) else { return }
        for half in 0..<(size / 4) {
            let word = UInt32(truncatingIfNeeded: value >> UInt64(half * 32))
            let here = place + half * 4
            let mask: UInt32 = switch here % Self.entryLength {
            case 0: ~3
            case Self.controlPlace: 1
            default: .max
            }
            bytes.storeBytes(of: word & mask, toByteOffset: here, as: UInt32.self)
        }
    }
}

extension Core {
    /// Carries out the access that the guest makes to an MSI-X table. False when it is one for the device.
    mutating func tableAccess(_ slot: Int, _ window: UInt16, _ offset: Int) -> Bool {
        guard Int(window) >= PCIFunction.firstWindow else { return false }
        let number = Int(window) - PCIFunction.firstWindow
        let index = number / 8
        guard index < functionCount, let table = functions[index].table, table.covers(bar: number % 8, offset: offset) else { return false }
        let size = Int(work[slot].request.size)
        if work[slot].request.direction == .read {
            deliver(slot, table.read(offset, size: size))
        } else {
            table.write(offset, size: size, written(slot))
            sendUnmasked(index)
            deliver(slot, 0)
        }
        return true
    }
}

extension PCIDescription {
    /// Why a table cannot be; nil when it can.
    func fault(in table: MessageTable) -> String? {
        guard (1...EmulatorKit.MessageTable.mostVectors).contains(table.vectors) else {
            return "MSI-X has 1 to \(EmulatorKit.MessageTable.mostVectors) vectors here, not \(table.vectors)"
        }
        guard let bar = bars[table.bar], bar.kind != .ports, bar.claimed else {
            return "BAR \(table.bar), which is to hold the MSI-X table, is not one of claimed memory"
        }
        let tableEnd = table.tableOffset + table.vectors * 16
        guard table.tableOffset >= 0, table.pendingOffset >= 0, table.tableOffset & 7 == 0, table.pendingOffset & 7 == 0,
            UInt64(tableEnd) <= bar.size, UInt64(table.pendingOffset) + 8 <= bar.size,
            table.pendingOffset >= tableEnd || table.pendingOffset + 8 <= table.tableOffset
        else { return "its MSI-X table and pending bits do not fit BAR \(table.bar)" }
        return nil
    }
}

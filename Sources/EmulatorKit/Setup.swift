import EmulatorProtocol
import Host
import Platform

/// What a device has while it sets itself up: its options, and the coordinator to claim ranges from.
public struct Setup: ~Copyable {
    let core: UnsafeMutablePointer<Core>
    private var options: Options

    @usableFromInline
    init(core: UnsafeMutablePointer<Core>) {
        self.core = core
        options = Options(core.pointee.attachment.attach.options)
    }

    private var control: ControlConnection { core.pointee.control }

    /// The name under which the coordinator shows this emulator.
    public var name: String { core.pointee.attachment.attach.name }

    /// What may be done already now: watching descriptors, setting deadlines, logging.
    public var context: Context { Context(core: core) }

    /// The guest's memory; nil when this emulator has no access to it.
    public var memory: (any GuestMemory)? { core.pointee.attachment.memory }

    /// The device's state that outlives the process, `Emulator.stateLength` bytes.
    public var state: StateRegion {
        var state = core.pointee.belongings.state.device
        state.core = core
        return state
    }

    // MARK: options

    /// An option as text; nil when the specification does not have it.
    public mutating func option(_ name: String) -> String? { options.text(name) }

    /// An option that is a number, decimal or "0x…".
    /// - Throws: SetupError when it is not a number within the range.
    public mutating func number(_ name: String, default fallback: UInt64, in range: ClosedRange<UInt64> = 0...UInt64.max) throws(SetupError) -> UInt64 {
        try options.number(name, default: fallback, in: range)
    }

    /// An option that is a port.
    public mutating func port(_ name: String, default fallback: UInt16) throws(SetupError) -> UInt16 {
        UInt16(truncatingIfNeeded: try options.number(name, default: UInt64(fallback), in: 0...0xffff))
    }

    /// An option that says yes or no.
    public mutating func flag(_ name: String, default fallback: Bool) throws(SetupError) -> Bool { try options.flag(name, default: fallback) }

    // MARK: claims

    /// Claims `count` I/O ports.
    /// - Throws: SetupError when some of them belong to another emulator; it names both.
    public mutating func claim(ports first: UInt16, count: Int, label: String) throws(SetupError) -> Window {
        guard let range = PortRange(first: first, count: count) else {
            throw SetupError("claim", "\(count) ports at \(Hex.string(first))", reason: "there are ports 0 to 0xffff only", remedy: "choose a lower base")
        }
        return try claim(.ports(range), label)
    }

    /// Claims `length` bytes of guest-physical address space.
    /// - Throws: SetupError when some of them belong to another emulator; it names both.
    public mutating func claim(memory first: UInt64, length: UInt64, label: String) throws(SetupError) -> Window {
        guard length < 1 << 48, let range = MMIORange(first: GuestAddress(first), length: length) else {
            throw SetupError(
                "claim", "\(length) bytes at \(Hex.string(first))", reason: "the range is empty or passes the last address", remedy: "choose another base")
        }
        return try claim(.memory(range), label)
    }

    private mutating func claim(_ range: IORange, _ label: String) throws(SetupError) -> Window {
        guard let answer = control.request(.claim(Claim(range, label: label))) else { throw .closed("claim", "\(range)") }
        if case .error(let refusal) = answer.packet.body { throw SetupError("claim", "\(range) as '\(label)'", refused: refusal) }
        let window = core.pointee.windows
        let block = core.pointee.belongings.observed.block(of: window, range)
        let fits: Bool
        switch range {
        case .ports(let ports): fits = core.pointee.ports.insert(first: UInt64(ports.first), last: UInt64(ports.last), window: window, block: block)
        case .memory(let memory): fits = core.pointee.memory.insert(first: memory.first.rawValue, last: memory.last.rawValue, window: window, block: block)
        case .pci: fits = false
        }
        guard fits, Int(window) < PCIFunction.firstWindow else {
            throw SetupError("claim", "\(range)", reason: "an emulator can have 256 ranges of a kind", remedy: "claim fewer, longer ones")
        }
        core.pointee.windows += 1
        if case .ok(let reply) = answer.packet.body, let number = reply.claim {
            core.pointee.belongings.claims[Window(index: window)] = (range, number)
        }
        return Window(index: window)
    }

    /// Adds a PCI function. Its BARs' claims follow the guest's configuration writes by themselves.
    /// - Parameter slot: the wished place, as "00:05.0" or "5"; nil: wherever the coordinator has room.
    /// - Throws: SetupError when the place is taken or the description cannot be.
    public mutating func add(_ description: PCIDescription, slot: String? = nil) throws(SetupError) -> PCIFunction {
        let index = core.pointee.functionCount
        guard index < Core.mostFunctions else {
            throw SetupError("add", "the PCI function '\(description.label)'", reason: "an emulator can have \(Core.mostFunctions)", remedy: "use a second emulator")
        }
        for region in description.bars.values.compactMap(\.region) where region.isBound || !core.pointee.belongings.region(region) {
            throw SetupError(
                "add", "the PCI function '\(description.label)'", reason: "region '\(region.label)' belongs to another BAR",
                remedy: "this is a fault of the emulator's program")
        }
        let asked = "the PCI function '\(description.label)'" + (slot.map { " at \($0)" } ?? "")
        guard let answer = control.request(.pci(PCIRequest(slot: slot, label: description.label))) else { throw .closed("add", asked) }
        switch answer.packet.body {
        case .ok(let reply):
            guard let address = reply.address.flatMap({ PCIAddress(parsing: $0) }) else {
                throw SetupError("add", asked, reason: "the answer names no PCI address", remedy: "this is a fault of the coordinator's")
            }
            var state = try PCIState(description, address: address)
            state.claim = reply.claim
            state.block = core.pointee.belongings.observed.block(of: ObservedWindows.configuration(of: index), .pci(address))
            state.settle(in: core.pointee.belongings.state, index: index)
            for bar in description.bars.values { bar.region?.isBound = true }
            (core.pointee.functions + index).initialize(to: state)
            core.pointee.functionCount += 1
            if description.messageTable != nil { core.pointee.hasTables = true }
            return PCIFunction(index: index)
        case .error(let refusal): throw SetupError("add", asked, refused: refusal)
        default: throw SetupError("add", asked, reason: "the answer is neither ok nor error", remedy: "this is a fault of the coordinator's")
        }
    }

    // MARK: the end of it

    /// Says that everything is claimed.
    @usableFromInline
    mutating func finish() throws(SetupError) {
        try options.refuseOthers()
        core.pointee.restoreBARs()
        if core.pointee.run == .quitting { return }
        core.pointee.endRelocating()
        core.pointee.belongings.state.markServing(&core.pointee.area)
        guard let answer = control.request(.ready) else { throw .closed("say", "that it is ready") }
        if case .error(let refusal) = answer.packet.body { throw SetupError("say", "that it is ready", refused: refusal) }
    }
}

import Platform

/// A channel of memfd pages and two eventfds: how LocalHost's emulators and isolated ones are reached.
///
/// One doorbell each way: the host rings `kick` when a slot became READY or the ring got an entry, the emulator rings
/// `done` when an answer is ready. Neither says which vCPU: the other side looks at all of its slots.
public struct EventFDChannel: Channel, ~Copyable {
    private let slotMapping: Mapping
    private let ringMapping: Mapping?
    private let kick: EventFD
    private let done: EventFD
    public let slots: SlotPage
    public let ring: BufferedRing?
    public let vcpuCount: Int

    /// Maps pages that were received or made here. The memory must be sealed and one page long.
    public init(
        slots slotMemory: borrowing SharedMemory, ring ringMapping: consuming Mapping?, kick: consuming EventFD, done: consuming EventFD,
        vcpuCount: Int
    ) throws(SystemError) {
        let mapping = try slotMemory.map(what: "the page of ioreq slots")
        slots = SlotPage(page: mapping.base)
        if let base = ringMapping?.base { ring = BufferedRing(page: base) } else { ring = nil }
        slotMapping = mapping
        self.ringMapping = ringMapping
        self.kick = kick
        self.done = done
        self.vcpuCount = min(max(vcpuCount, 1), VCPUID.limit)
    }

    public var waitDescriptor: CInt { kick.descriptor.raw }
    public mutating func bind() throws(HostError) {}
    public mutating func acknowledge() -> Bool { kick.clear() }
    public func notify(_ vcpu: Int) { done.ring() }
}

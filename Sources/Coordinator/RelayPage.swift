import Host
import Platform

/// What a relay and one process of its emulator share: a page of slots and two doorbells. Each process gets one of its own, so that nobody to
/// whom a dead one left its descriptors reaches what its successor serves.
final class RelayPage {
    private let memory: MappedMemory
    // Both are shared with the emulator, flags and all, so that a plain write or read of either could wait for ever.
    private let kick: EventFD
    private let done: EventFD

    var slots: SlotPage { SlotPage(page: memory.base) }

    init(name: String) throws(SystemError) {
        memory = try MappedMemory(name: "demux-relay-\(name)", length: SlotPage.length, what: "the relay's page for \(name)")
        kick = try EventFD()
        done = try EventFD()
    }

    /// Takes over a predecessor's: page, kick, done.
    init(adopting bag: DescriptorBag) throws(SystemError) {
        guard let page = bag.take(), let kick = bag.take(), let done = bag.take() else {
            throw SystemError("take over", "a relay's page", reason: "not all three descriptors are held")
        }
        memory = try MappedMemory(adopting: page, length: SlotPage.length, what: "a relay's page")
        self.kick = EventFD(adopting: kick)
        self.done = EventFD(adopting: done)
    }

    var descriptor: CInt { memory.descriptor }

    /// The doorbells' numbers, to be kept and waited for; never to be written or read.
    var doorbells: (kick: CInt, done: CInt) { (kick.descriptor.raw, done.descriptor.raw) }

    /// Has the emulator look at its slots; waits for nobody.
    func ringEmulator() { kick.ringShared() }

    /// What goes with `attach`: slots, kick, done.
    func duplicates() throws(SystemError) -> DescriptorBag {
        let bag = DescriptorBag()
        bag.add(try slotDescriptor())
        bag.add(try kick.descriptor.duplicate())
        bag.add(try done.descriptor.duplicate())
        return bag
    }

    func slotDescriptor() throws(SystemError) -> OwnedDescriptor { try memory.duplicate() }
}

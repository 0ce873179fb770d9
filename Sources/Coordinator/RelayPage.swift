import Host
import Platform

/// What a relay and one process of its emulator share: a page of slots and two doorbells. Each process gets one of its own, so that nobody to
/// whom a dead one left its descriptors reaches what its successor serves.
final class RelayPage {
    private let memory: SharedMemory
    private let mapping: Mapping
    let kick: EventFD
    let done: EventFD

    var slots: SlotPage { SlotPage(page: mapping.base) }

    init(name: String) throws(SystemError) {
        memory = try SharedMemory(name: "demux-relay-\(name)", length: SlotPage.length)
        mapping = try memory.map(what: "the relay's page for \(name)")
        kick = try EventFD()
        done = try EventFD()
    }

    /// Takes over a predecessor's: page, kick, done.
    init(adopting bag: DescriptorBag) throws(SystemError) {
        guard let page = bag.take(), let kick = bag.take(), let done = bag.take() else {
            throw SystemError("take over", "a relay's page", reason: "not all three descriptors are held")
        }
        memory = try SharedMemory(adopting: page, length: SlotPage.length, what: "a relay's page")
        mapping = try memory.map(what: "a relay's page")
        self.kick = EventFD(adopting: kick)
        self.done = EventFD(adopting: done)
    }

    var descriptor: CInt { memory.descriptor.raw }

    /// What goes with `attach`: slots, kick, done.
    func duplicates() throws(SystemError) -> DescriptorBag {
        let bag = DescriptorBag()
        bag.add(try slotDescriptor())
        bag.add(try kick.descriptor.duplicate())
        bag.add(try done.descriptor.duplicate())
        return bag
    }

    func slotDescriptor() throws(SystemError) -> OwnedDescriptor { try memory.descriptor.duplicate() }
}

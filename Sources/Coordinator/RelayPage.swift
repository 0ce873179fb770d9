import Host
import Platform

/// What a relay and one process of its emulator share: a page of slots and two doorbells.
final class RelayPage {
    private let memory: SharedMemory
    private let mapping: Mapping
    let kick: EventFD
    let done: EventFD

    var slots: SlotPage { SlotPage(page: mapping.base) }
    var descriptor: CInt { memory.descriptor.raw }

    init(name: String) throws(SystemError) {
        memory = try SharedMemory(name: "demux-relay-\(name)", length: SlotPage.length)
        mapping = try memory.map(what: "the relay's page for \(name)")
        kick = try EventFD()
        done = try EventFD()
    }

    /// Takes over a predecessor's.
    init(adopting page: consuming OwnedDescriptor, kick: consuming OwnedDescriptor, done: consuming OwnedDescriptor) throws(SystemError) {
        memory = try SharedMemory(adopting: page, length: SlotPage.length, what: "a relay's page")
        mapping = try memory.map(what: "a relay's page")
        self.kick = EventFD(adopting: kick)
        self.done = EventFD(adopting: done)
    }

    /// What goes with `attach`: slots, kick, done.
    func duplicates() throws(SystemError) -> DescriptorBag {
        let bag = DescriptorBag()
        bag.add(try memory.descriptor.duplicate())
        bag.add(try kick.descriptor.duplicate())
        bag.add(try done.descriptor.duplicate())
        return bag
    }
}

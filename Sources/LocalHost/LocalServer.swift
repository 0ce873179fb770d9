import Glibc
import Host
import Platform

/// One shared page of a server.
final class LocalPage: Sendable {
    let memory: SharedMemory
    let mapping: Mapping

    init(name: String) throws(SystemError) {
        memory = try SharedMemory(name: name, length: 4096)
        mapping = try memory.map(what: "'\(name)'")
    }
}

/// One ioreq server of a LocalHost: its pages, doorbells and ranges.
///
/// The pages and doorbells never change; `enabled` and the ranges belong to the host's lock.
final class LocalServer: @unchecked Sendable {
    // Sendable: immutable but for `enabled` and the range sets, which are touched under LocalHost's lock only.
    let id: ServerID
    private let slotPage: LocalPage
    private let ringPage: LocalPage?
    let kick: EventFD
    let done: EventFD
    let slots: SlotPage
    let ring: BufferedRing?
    let answers: AnswerWaiter
    var enabled = false
    var ports = RangeSet()
    var memory = RangeSet()
    var functions = RangeSet()

    init(id: ServerID, ring hasRing: Bool, end: CInt) throws(SystemError) {
        self.id = id
        slotPage = try LocalPage(name: "demux-slots-\(id.rawValue)")
        slots = SlotPage(page: slotPage.mapping.base)
        ringPage = hasRing ? try LocalPage(name: "demux-ring-\(id.rawValue)") : nil
        ring = ringPage.map { BufferedRing(page: $0.mapping.base) }
        kick = try EventFD()
        done = try EventFD()
        answers = AnswerWaiter(done: done.descriptor.raw, end: end)
    }

    /// Whether all of an access lies in this server's ranges of its type.
    func owns(_ span: ClosedRange<UInt64>, _ type: IORequest.Kind) -> Bool {
        switch type {
        case .portIO: ports.contains(span)
        case .copy: memory.contains(span)
        case .pciConfig: functions.contains(span)
        case .timeOffset, .invalidate: false
        }
    }

    /// What `attach` carries: slots, kick, done and, when there is one, ring.
    func descriptors() throws(SystemError) -> DescriptorBag {
        let bag = DescriptorBag()
        bag.add(try slotPage.memory.descriptor.duplicate())
        bag.add(try kick.descriptor.duplicate())
        bag.add(try done.descriptor.duplicate())
        if let ringPage { bag.add(try ringPage.memory.descriptor.duplicate()) }
        return bag
    }

    /// The emulator's end, for somebody in this process.
    func channel(vcpus: Int) throws(SystemError) -> EventFDChannel {
        let ring: Mapping?
        if let ringPage { ring = try ringPage.memory.map(what: "a buffered ring") } else { ring = nil }
        return try EventFDChannel(
            slots: slotPage.memory, ring: ring, kick: EventFD(adopting: try kick.descriptor.duplicate()),
            done: EventFD(adopting: try done.descriptor.duplicate()), vcpuCount: vcpus)
    }
}

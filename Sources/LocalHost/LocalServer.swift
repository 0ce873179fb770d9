import Host
import Platform
import Synchronization

/// One ioreq server of a LocalHost: its pages, doorbells and ranges.
///
/// The pages and doorbells never change; `enabled` and the ranges belong to the host's lock.
final class LocalServer: @unchecked Sendable {
    // Sendable: immutable but for `enabled` and the range sets, which are touched under LocalHost's lock only, and an atomic.
    let id: ServerID
    let slotMemory: SharedMemory
    private let ringMemory: SharedMemory?
    let kick: EventFD
    let done: EventFD
    private let slotMapping: Mapping
    private let ringMapping: Mapping?
    let slots: SlotPage
    let ring: BufferedRing?
    /// Serialises the vCPUs that post: the ring has one writer (bufioreq_lock).
    private let posting = Mutex<Void>(())
    let answers: AnswerWaiter
    /// The event channel number of each vCPU, which stands in the slots once the server has been enabled.
    let ports: [UInt32]
    /// The event channel number of the ring; nil without one.
    let ringPort: UInt32?
    /// Set by destroy: whoever waits here is not answered any more.
    let destroyed = Atomic<Bool>(false)
    var enabled = false
    var portRanges = RangeSet()
    var memoryRanges = RangeSet()
    var functions = RangeSet()

    init(id: ServerID, ports: [UInt32], ringPort: UInt32?, end: CInt) throws(SystemError) {
        self.id = id
        self.ports = ports
        self.ringPort = ringPort
        slotMemory = try SharedMemory(name: "demux-slots-\(id.rawValue)", length: 4096)
        slotMapping = try slotMemory.map(what: "a page of slots")
        slots = SlotPage(page: slotMapping.base)
        if ringPort != nil {
            let memory = try SharedMemory(name: "demux-ring-\(id.rawValue)", length: 4096)
            let mapping = try memory.map(what: "a buffered ring")
            ring = BufferedRing(page: mapping.base)
            ringMapping = consume mapping
            ringMemory = consume memory
        } else {
            ring = nil
            ringMapping = nil
            ringMemory = nil
        }
        kick = try EventFD()
        done = try EventFD()
        answers = try AnswerWaiter(done: done.descriptor.raw, end: end)
    }

    /// Whether all of an access lies in one of this server's ranges of its type.
    func owns(_ span: ClosedRange<UInt64>, _ type: IORequest.Kind) -> Bool {
        switch type {
        case .portIO: portRanges.contains(span)
        case .copy: memoryRanges.contains(span)
        case .pciConfig: functions.contains(span)
        case .timeOffset, .invalidate: false
        }
    }

    /// Posts an entry and rings, as ioreq_send_buffered does. False when there is no ring or no room in it.
    func post(_ entry: BufferedEntry) -> Bool {
        guard let ring, posting.withLock({ _ in ring.post(entry) }) else { return false }
        kick.ring()
        return true
    }

    /// Fills the vCPU's slot, as ioreq_send does before it notifies: to be called under the host's lock, so that a server that
    /// is disabled (for which Xen pauses the domain) has every request that was routed to it in its slots. The caller rings.
    /// - Returns: what was wrong with the slot when it does not take it.
    func fill(_ request: IORequest, vcpu: Int) -> String? {
        let port = slots.remotePort(vcpu)
        guard port == ports[vcpu] else { return "the device model has set a bad event channel \(port), not \(ports[vcpu])" }
        guard slots.submit(vcpu, request) else { return "the device model has set a bad state \(slots.rawState(vcpu))" }
        return nil
    }

    /// The ring's page for another process; nil for a server without one.
    func duplicateRing() throws(SystemError) -> OwnedDescriptor? { try ringMemory?.duplicateDescriptor() }

    /// The emulator's end, for somebody in this process.
    func channel(vcpus: Int) throws(SystemError) -> any SharedChannel { try OwnChannel(self, vcpus: vcpus) }
}

/// A server's channel for somebody in this process. An emulator may share the doorbells, and may have left them to a child.
private final class OwnChannel: SharedChannel {
    private let server: LocalServer
    private let kick: EventFD
    private let done: EventFD
    let vcpuCount: Int

    init(_ server: LocalServer, vcpus: Int) throws(SystemError) {
        self.server = server
        // Of its own, so that two channels can be watched.
        kick = EventFD(adopting: try server.kick.descriptor.duplicate())
        done = EventFD(adopting: try server.done.descriptor.duplicate())
        vcpuCount = vcpus
    }

    var slots: SlotPage { server.slots }
    var ring: BufferedRing? { server.ring }
    var waitDescriptor: CInt { kick.descriptor.raw }
    func bind() {}
    func acknowledge() -> Bool { kick.clearShared() }
    func notify(_ vcpu: Int) { done.ringShared() }
}

extension SharedMemory {
    /// A second descriptor for the same memory. (A function of its own, because only this much can be called through an optional.)
    fileprivate borrowing func duplicateDescriptor() throws(SystemError) -> OwnedDescriptor { try descriptor.duplicate() }
}

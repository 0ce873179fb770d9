import CIoreq
import Glibc
import Host
import Platform

/// The guest's end of one server's page: what Xen does around a vCPU's access, and nothing else, so that what is measured is
/// the server and the way to it.
final class GuestEnd {
    private let mapping: Mapping
    private let slot: UnsafeMutablePointer<demux_ioreq>
    private let kick: EventFD
    private let done: EventFD
    /// How long an answer is looked for before this end sleeps.
    var spinNanoseconds: UInt64 = 0

    /// - Parameter descriptors: of a server's page and doorbells, as `attach` sends them.
    init(_ descriptors: DescriptorBag) throws {
        guard let page = descriptors.take(), let kick = descriptors.take(), let done = descriptors.take() else {
            throw BenchError("the host gave too few descriptors")
        }
        mapping = try Mapping(descriptor: page.raw, length: SlotPage.length, what: "a page of slots")
        slot = mapping.base.bindMemory(to: demux_ioreq.self, capacity: Int(DEMUX_SLOTS_PER_PAGE))
        self.kick = EventFD(adopting: kick)
        self.done = EventFD(adopting: done)
    }

    /// Makes one request and waits for its answer; nil when none came in ten seconds.
    @inline(__always)
    func roundTrip(_ request: IORequest, bits: UInt8) -> UInt64? {
        slot.pointee.addr = request.address
        slot.pointee.data = request.data
        slot.pointee.count = request.count
        slot.pointee.size = request.size
        slot.pointee.type = request.type
        demux_slot_store_bits(slot, bits | UInt8(DEMUX_STATE_READY))
        kick.ring()
        guard spin() || sleep() else { return nil }
        let data = slot.pointee.data
        demux_slot_store_bits(slot, UInt8(DEMUX_STATE_NONE))
        return data
    }

    @inline(__always)
    private func isAnswered() -> Bool { demux_slot_bits(slot) & UInt8(DEMUX_BITS_STATE) == UInt8(DEMUX_STATE_RESPONSE_READY) }

    @inline(__always)
    private func spin() -> Bool {
        guard spinNanoseconds > 0 else { return false }
        var deadline: UInt64 = 0
        while true {
            var looks = 0
            while looks < 16 {
                if isAnswered() { return true }
                demux_cpu_relax()
                looks &+= 1
            }
            let now = EventLoop.now()
            if deadline == 0 { deadline = now &+ spinNanoseconds } else if now >= deadline { return false }
        }
    }

    private func sleep() -> Bool {
        while !isAnswered() {
            var wait = pollfd(fd: done.descriptor.raw, events: Int16(POLLIN), revents: 0)
            let found = poll(&wait, 1, 10_000)
            if found == 0 { return isAnswered() }
            _ = done.clear()
        }
        return true
    }
}

extension IORequest {
    /// The byte of bit-fields without the state.
    var fixedBits: UInt8 {
        (direction == .read ? UInt8(DEMUX_BITS_READ) : 0) | (dataIsPointer ? UInt8(DEMUX_BITS_DATA_IS_PTR) : 0)
            | (backwards ? UInt8(DEMUX_BITS_DF) : 0)
    }
}

import CIoreq

/// The page of synchronous slots, one a vCPU, with the exact Xen ABI (struct shared_iopage).
///
/// A view: it does not own the page. Whoever makes one keeps the mapping alive for as long; channels do so by owning both.
/// All pointers into the page are in this file. Indices outside 0..<128 are folded into the page, so that no caller's
/// mistake reaches beyond it.
public struct SlotPage: @unchecked Sendable {
    // Sendable: the page is shared between processes by nature; every move on it is atomic and ordered.
    /// Length of the page in bytes.
    public static let length = Int(DEMUX_PAGE_SIZE)
    @usableFromInline let slots: UnsafeMutablePointer<demux_ioreq>

    /// - Parameter page: 4096 bytes, page-aligned, mapped for reading and writing.
    public init(page: UnsafeMutableRawPointer) {
        slots = page.bindMemory(to: demux_ioreq.self, capacity: Int(DEMUX_SLOTS_PER_PAGE))
    }

    @inlinable
    func slot(_ index: Int) -> UnsafeMutablePointer<demux_ioreq> {
        slots + (index & (Int(DEMUX_SLOTS_PER_PAGE) - 1))
    }

    /// The state of a slot, with acquire order; nil for a value that is none of the four.
    @inlinable
    public func state(_ index: Int) -> IORequest.State? {
        IORequest.State(rawValue: demux_slot_bits(slot(index)) & UInt8(DEMUX_BITS_STATE))
    }

    /// Whether a request waits in a slot, with acquire order.
    @inlinable
    public func isReady(_ index: Int) -> Bool { demux_slot_bits(slot(index)) & UInt8(DEMUX_BITS_STATE) == UInt8(DEMUX_STATE_READY) }

    /// The event channel of Xen's end for this vCPU; valid only once the server has been enabled.
    public func remotePort(_ index: Int) -> UInt32 { slot(index).pointee.vp_eport }

    // MARK: the emulator's side

    /// Takes a READY request: moves it to INPROCESS and copies it. Nil when the slot is not READY.
    @inlinable
    public func take(_ index: Int) -> IORequest? {
        let slot = slot(index)
        guard demux_slot_move(slot, UInt8(DEMUX_STATE_READY), UInt8(DEMUX_STATE_INPROCESS)) else { return nil }
        return IORequest(copying: slot, bits: demux_slot_bits(slot))
    }

    /// Copies whatever request a slot holds, without moving it: for one that another process had taken before it died.
    public func copy(_ index: Int) -> IORequest {
        let slot = slot(index)
        return IORequest(copying: slot, bits: demux_slot_bits(slot))
    }

    /// Answers an INPROCESS request: writes only `data`, then IORESP_READY with release order. The caller notifies.
    /// - Returns: false when the slot was no longer INPROCESS (the host has taken it back); nothing is moved then.
    @inlinable
    @discardableResult
    public func complete(_ index: Int, data: UInt64) -> Bool {
        let slot = slot(index)
        guard demux_slot_bits(slot) & UInt8(DEMUX_BITS_STATE) == UInt8(DEMUX_STATE_INPROCESS) else { return false }
        slot.pointee.data = data
        return demux_slot_move(slot, UInt8(DEMUX_STATE_INPROCESS), UInt8(DEMUX_STATE_RESPONSE_READY))
    }

    /// Answers a request that nobody has taken, or that one who is dead had: READY or INPROCESS becomes IORESP_READY at once. Never by way of
    /// INPROCESS: whoever serves next takes a request found there for one that its predecessor had begun.
    /// - Returns: false when no request waits in the slot.
    public func answerUntaken(_ index: Int, data: UInt64) -> Bool {
        let slot = slot(index)
        let state = demux_slot_bits(slot) & UInt8(DEMUX_BITS_STATE)
        guard state == UInt8(DEMUX_STATE_READY) || state == UInt8(DEMUX_STATE_INPROCESS) else { return false }
        slot.pointee.data = data
        return demux_slot_move(slot, state, UInt8(DEMUX_STATE_RESPONSE_READY))
    }

    /// Sets a slot whose state is none of the four to INPROCESS. Only for one whose emulator is dead: it left it so, having taken the request.
    /// - Returns: whether it was in such a state.
    public func repair(_ index: Int) -> Bool {
        guard state(index) == nil else { return false }
        force(index, rawState: UInt8(DEMUX_STATE_INPROCESS))
        return true
    }

    // MARK: the host's side

    /// Fills a slot and makes it READY, as Xen does for a vCPU's access. The caller notifies.
    /// - Returns: false when the slot is not NONE.
    public func submit(_ index: Int, _ request: IORequest) -> Bool {
        let slot = slot(index)
        guard demux_slot_bits(slot) & UInt8(DEMUX_BITS_STATE) == UInt8(DEMUX_STATE_NONE) else { return false }
        slot.pointee.addr = request.address
        slot.pointee.data = request.data
        slot.pointee.count = request.count
        slot.pointee.size = request.size
        slot.pointee.type = request.type
        demux_slot_store_bits(slot, request.bits(state: .ready))
        return true
    }

    /// Fills a slot with a request that somebody has taken already and not answered: what a relay gives the successor of a dead emulator.
    public func submitTaken(_ index: Int, _ request: IORequest) {
        clear(index)
        guard submit(index, request) else { return }
        demux_slot_store_bits(slot(index), request.bits(state: .inProcess))
    }

    /// Takes an answer: moves IORESP_READY to NONE and gives the data. Nil when there is no answer yet.
    public func collect(_ index: Int) -> UInt64? {
        let slot = slot(index)
        guard demux_slot_bits(slot) & UInt8(DEMUX_BITS_STATE) == UInt8(DEMUX_STATE_RESPONSE_READY) else { return nil }
        let data = slot.pointee.data
        guard demux_slot_move(slot, UInt8(DEMUX_STATE_RESPONSE_READY), UInt8(DEMUX_STATE_NONE)) else { return nil }
        return data
    }

    /// Sets a slot to NONE whatever it held: what Xen does when a server is disabled or reset.
    public func clear(_ index: Int) { demux_slot_store_bits(slot(index), UInt8(DEMUX_STATE_NONE)) }

    /// Writes the raw state, for tests of bad transitions and for hosts that publish event channels.
    public func force(_ index: Int, rawState: UInt8) {
        let slot = slot(index)
        demux_slot_store_bits(slot, demux_slot_bits(slot) & ~UInt8(DEMUX_BITS_STATE) | rawState & UInt8(DEMUX_BITS_STATE))
    }

    /// The raw state, for a host that must crash the domain on one that is not allowed.
    public func rawState(_ index: Int) -> UInt8 { demux_slot_bits(slot(index)) & UInt8(DEMUX_BITS_STATE) }

    /// Publishes a vCPU's event channel number.
    public func setRemotePort(_ index: Int, _ port: UInt32) { slot(index).pointee.vp_eport = port }
}

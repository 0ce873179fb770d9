import CIoreq
import Host

/// The guest's side: one vCPU that makes accesses as Xen would turn them into requests. To be used by one thread at a time.
public struct LocalVCPU: Sendable {
    private let host: LocalHost
    private let index: Int
    /// Looks at the slot before the thread blocks; 0 to block at once.
    public var spins = 2000

    init(host: LocalHost, index: Int) {
        self.host = host
        self.index = index
    }

    /// `in`: all-ones when nobody serves the port.
    public func read(port: UInt16, size: UInt32) throws(GuestEnded) -> UInt64 {
        try perform(IORequest(kind: .portIO, direction: .read, address: UInt64(port), size: size))
    }

    /// `out`.
    public func write(port: UInt16, size: UInt32, value: UInt64) throws(GuestEnded) {
        _ = try perform(
            IORequest(kind: .portIO, direction: .write, address: UInt64(port), data: value & AccessSize.allOnes(size), size: size))
    }

    /// A load: from RAM, or from whoever serves the address.
    public func readMemory(_ address: GuestAddress, size: UInt32) throws(GuestEnded) -> UInt64 {
        if let value = host.memory.load(address, size: size) { return value }
        return try perform(IORequest(kind: .copy, direction: .read, address: address.rawValue, size: size))
    }

    /// A store.
    public func writeMemory(_ address: GuestAddress, size: UInt32, value: UInt64) throws(GuestEnded) {
        if host.memory.contains(address, count: Int(size)) {
            _ = host.memory.store(address, value: value, size: size)
            return
        }
        _ = try perform(
            IORequest(kind: .copy, direction: .write, address: address.rawValue, data: value & AccessSize.allOnes(size), size: size))
    }

    /// `rep ins`: from a port into a buffer in guest RAM.
    public func readString(port: UInt16, size: UInt32, count: UInt32, into buffer: GuestAddress, backwards: Bool = false) throws(GuestEnded) {
        _ = try perform(
            IORequest(
                kind: .portIO, direction: .read, address: UInt64(port), data: buffer.rawValue, size: size, count: count,
                dataIsPointer: true, backwards: backwards))
    }

    /// `rep outs`: from a buffer in guest RAM to a port.
    public func writeString(port: UInt16, size: UInt32, count: UInt32, from buffer: GuestAddress, backwards: Bool = false) throws(GuestEnded) {
        _ = try perform(
            IORequest(
                kind: .portIO, direction: .write, address: UInt64(port), data: buffer.rawValue, size: size, count: count,
                dataIsPointer: true, backwards: backwards))
    }

    /// `rep movs` from a device's window into RAM (`read`), or from RAM into the window (`write`).
    public func copy(
        _ direction: IORequest.Direction, window: GuestAddress, buffer: GuestAddress, size: UInt32, count: UInt32, backwards: Bool = false
    ) throws(GuestEnded) {
        _ = try perform(
            IORequest(
                kind: .copy, direction: direction, address: window.rawValue, data: buffer.rawValue, size: size, count: count,
                dataIsPointer: true, backwards: backwards))
    }

    /// `rep stos` to a device's window.
    public func fill(window: GuestAddress, value: UInt64, size: UInt32, count: UInt32, backwards: Bool = false) throws(GuestEnded) {
        _ = try perform(
            IORequest(
                kind: .copy, direction: .write, address: window.rawValue, data: value & AccessSize.allOnes(size), size: size, count: count,
                backwards: backwards))
    }

    /// A configuration read by ports 0xcf8 and 0xcfc.
    public func configRead(_ function: PCIAddress, register: UInt8, size: UInt32) throws(GuestEnded) -> UInt64 {
        try write(port: 0xcf8, size: 4, value: Self.cf8(function, register))
        return try read(port: 0xcfc + UInt16(register & 3), size: size)
    }

    /// A configuration write by ports 0xcf8 and 0xcfc.
    public func configWrite(_ function: PCIAddress, register: UInt8, size: UInt32, value: UInt64) throws(GuestEnded) {
        try write(port: 0xcf8, size: 4, value: Self.cf8(function, register))
        try write(port: 0xcfc + UInt16(register & 3), size: size, value: value)
    }

    private static func cf8(_ function: PCIAddress, _ register: UInt8) -> UInt64 {
        0x8000_0000 | UInt64(function.bus) << 16 | UInt64(function.device) << 11 | UInt64(function.function) << 8 | UInt64(register & 0xfc)
    }

    /// Makes one request as it is: a single write to the legacy window goes through the ring of whoever serves it.
    /// - Returns: what was read; the request's own data for writes and pointers.
    public func perform(_ request: IORequest) throws(GuestEnded) -> UInt64 {
        try host.checkRunning()
        guard let (server, routed) = host.route(request) else { return try unclaimed(request) }
        if isPosted(routed), let ring = server.ring,
            ring.post(
                BufferedEntry(type: routed.type, direction: .write, size: routed.size, address: routed.address, data: routed.data))
        {
            server.kick.ring()
            return routed.data
        }
        return try submit(routed, to: server)
    }

    /// What Xen posts: single writes to 0xa0000–0xbffff (xen/arch/x86/hvm/stdvga.c).
    private func isPosted(_ request: IORequest) -> Bool {
        guard request.kind == .copy, request.direction == .write, request.count == 1, !request.dataIsPointer, let span = request.memorySpan else {
            return false
        }
        return span.lowerBound >= 0xa0000 && span.upperBound <= 0xbffff
    }

    /// Nobody's access: reads give all-ones, writes vanish.
    private func unclaimed(_ request: IORequest) throws(GuestEnded) -> UInt64 {
        guard request.direction == .read else { return request.data }
        guard request.dataIsPointer else { return request.allOnes }
        for index in 0..<request.count {
            let distance = Int64(index) * Int64(request.size)
            _ = host.memory.store(
                GuestAddress(request.data).advanced(by: request.backwards ? -distance : distance), value: .max, size: request.size)
        }
        return request.data
    }

    /// Has every enabled server drop what it cached of the guest's address space, and waits for each (send_invalidate_req).
    public func invalidate() throws(GuestEnded) {
        try host.checkRunning()
        for server in host.enabledServers {
            _ = try submit(IORequest(kind: .invalidate, direction: .write, address: 0, data: .max, size: 4, count: 0), to: server)
        }
    }

    /// Tells every enabled server that has a ring of a changed clock (TIMEOFFSET).
    public func timeOffset(_ seconds: UInt64) throws(GuestEnded) {
        try host.checkRunning()
        for server in host.enabledServers {
            let entry = BufferedEntry(type: IORequest.Kind.timeOffset.rawValue, direction: .write, size: 8, address: 0, data: seconds)
            if server.ring?.post(entry) == true { server.kick.ring() }
        }
    }

    private func submit(_ request: IORequest, to server: LocalServer) throws(GuestEnded) -> UInt64 {
        let slots = server.slots
        guard slots.submit(index, request) else {
            host.crash("a slot of \(server.id) was in state \(slots.rawState(index)) when vCPU \(index) needed it")
            throw host.ended
        }
        server.kick.ring()
        var seen = UInt8(DEMUX_STATE_READY)
        var outcome: UInt64?
        var bad: UInt8?
        let index = index
        let answered = server.answers.wait(spins: spins) {
            let state = slots.rawState(index)
            switch Int(state) {
            case Int(DEMUX_STATE_RESPONSE_READY):
                outcome = slots.collect(index)
                return outcome != nil
            case Int(DEMUX_STATE_READY), Int(DEMUX_STATE_INPROCESS):
                if state < seen { bad = state }
                seen = max(seen, state)
                return bad != nil
            case Int(DEMUX_STATE_NONE):
                // Taken from under the vCPU: it reads all-ones (xen/common/ioreq.c, wait_for_io).
                outcome = request.allOnes
                return true
            default:
                bad = state
                return true
            }
        }
        if let bad {
            host.crash("the slot of vCPU \(index) in \(server.id) went from state \(seen) to \(bad)")
            throw host.ended
        }
        guard answered, let outcome else { throw host.ended }
        return request.direction == .read && !request.dataIsPointer ? outcome & request.allOnes : request.data
    }
}

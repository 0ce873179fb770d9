import CIoreq
import Host

/// An access on its way: what Xen does between the guest's instruction and the emulator's answer (hvmemul_do_io, ioreq_send,
/// wait_for_io).
extension LocalHost {
    /// What became of an access.
    struct Completion {
        /// What was read; the request's own data for writes and pointers.
        var value: UInt64
        /// Repetitions that are done: fewer than asked for when Xen looks at each of them itself.
        var count: UInt32
    }

    /// Where Xen posts single writes when the server has a ring (xen/arch/x86/hvm/stdvga.c). What 4.17 answers there from its own copy
    /// of a planar VGA's memory, until the first repeated write, is not modelled.
    private static let postedWindow: ClosedRange<UInt64> = 0xa0000...0xbffff

    /// Makes one access on a vCPU's thread and waits until it is done.
    /// - Parameter spins: looks at the slot before the thread blocks.
    func perform(_ request: IORequest, vcpu: Int, spins: Int) throws(GuestError) -> Completion {
        try checkRunning()
        guard AccessSize.isValid(request.size), request.count > 0 else {
            throw .fault("no access has \(request.count) times \(request.size) bytes")
        }
        var request = request
        if request.kind == .portIO, (0xcf8..<0xcfc).contains(request.address), request.address + UInt64(request.size) <= 0xcfc {
            // Xen listens here, so that it takes string operations one by one and then passes each on.
            request.count = 1
            if request.direction == .write {
                let value = firstElement(of: request)
                table.withLock { $0.latch(request, value: value) }
            }
        }
        if request.kind == .copy, request.direction == .write, request.count == 1, let span = request.memorySpan,
            Self.postedWindow.contains(span.lowerBound), Self.postedWindow.contains(span.upperBound), post(request)
        {
            return Completion(value: request.data, count: 1)
        }
        var mistake: String?
        let chosen = table.withLock { table -> LocalServer? in
            guard let target = table.select(request) else { return nil }
            mistake = target.server.fill(target.request, vcpu: vcpu)
            return target.server
        }
        guard let server = chosen else { return unclaimed(request) }
        if let mistake {
            // Xen takes this for a failed emulation: a plain port access ends the domain, anything else faults in the guest.
            let reason = "\(server.id), vCPU \(vcpu): \(mistake)"
            guard request.kind == .portIO, !request.dataIsPointer else { throw .fault(reason) }
            crash(reason)
            throw ending
        }
        server.kick.ring()
        let data = try answer(from: server, vcpu: vcpu, spins: spins)
        noteAnswer()
        let reads = request.direction == .read && !request.dataIsPointer
        return Completion(value: reads ? data & request.allOnes : request.data, count: request.count)
    }

    /// Has every enabled server drop what it cached of the guest's address space, all at once, and waits for each
    /// (ioreq_signal_mapcache_invalidate).
    func broadcastInvalidate(vcpu: Int) throws(GuestError) {
        try checkRunning()
        let request = IORequest(kind: .invalidate, direction: .write, address: 0, data: .max, size: 4, count: 0)
        // One whose slot is in disorder is left out, as Xen leaves it out.
        let asked = table.withLock { table in table.enabled.filter { $0.fill(request, vcpu: vcpu) == nil } }
        for server in asked { server.kick.ring() }
        for server in asked { _ = try answer(from: server, vcpu: vcpu, spins: 0) }
    }

    /// Posts a change of the guest's clock to every enabled server that has a ring (send_timeoffset_req).
    func broadcastTimeOffset(_ seconds: Int64) throws(GuestError) {
        try checkRunning()
        let entry = BufferedEntry(
            type: IORequest.Kind.timeOffset.rawValue, direction: .write, size: 8, address: 0, data: UInt64(bitPattern: seconds))
        for server in table.withLock({ $0.enabled }) { _ = server.post(entry) }
    }

    /// The value that a write carries, or the first one of its buffer (all-ones when that is no RAM).
    private func firstElement(of request: IORequest) -> UInt64 {
        guard request.dataIsPointer else { return request.data }
        return memory.load(GuestAddress(request.data), size: request.size) ?? request.allOnes
    }

    /// Tries the ring of whoever gets the access.
    private func post(_ request: IORequest) -> Bool {
        guard let server = table.withLock({ $0.select(request) })?.server else { return false }
        return server.post(
            BufferedEntry(
                type: request.type, direction: .write, size: request.size, address: request.address, data: firstElement(of: request)))
    }

    /// Nobody's access: reads give all-ones, writes vanish.
    private func unclaimed(_ request: IORequest) -> Completion {
        guard request.direction == .read else { return Completion(value: request.data, count: request.count) }
        guard request.dataIsPointer else { return Completion(value: request.allOnes, count: request.count) }
        for index in 0..<request.count {
            let distance = Int64(index) * Int64(request.size)
            _ = memory.store(GuestAddress(request.data).advanced(by: request.backwards ? -distance : distance), value: .max, size: request.size)
        }
        return Completion(value: request.data, count: request.count)
    }

    private enum Wait {
        case answered(UInt64)
        case orphaned
        case broken(String)
    }

    /// Waits for the answer in the vCPU's slot (wait_for_io).
    private func answer(from server: LocalServer, vcpu: Int, spins: Int) throws(GuestError) -> UInt64 {
        let slots = server.slots
        var seen = UInt8(DEMUX_STATE_READY)
        var wait: Wait?
        let outcome = server.answers.wait(spins: spins) { _ in
            if server.destroyed.load(ordering: .acquiring) {
                wait = .orphaned
                return true
            }
            let state = slots.rawState(vcpu)
            switch Int(state) {
            case Int(DEMUX_STATE_RESPONSE_READY):
                wait = slots.collect(vcpu).map { .answered($0) }
            case Int(DEMUX_STATE_NONE):
                // Taken from under the vCPU: it reads all-ones.
                wait = .answered(.max)
            case Int(DEMUX_STATE_READY), Int(DEMUX_STATE_INPROCESS):
                if state < seen { wait = .broken("weird state transition \(seen) -> \(state)") }
                seen = max(seen, state)
            default:
                wait = .broken("weird state \(state)")
            }
            return wait != nil
        }
        guard outcome != .ended, let wait else { throw ending }
        if outcome == .unrung { unrung.add(ForgottenBell(server: server.id, vcpu: vcpu)) }
        switch wait {
        case .answered(let data): return data
        case .orphaned:
            try awaitRescue(number: server.ports[vcpu], vcpu: vcpu)
            return 0
        case .broken(let reason):
            crash("\(server.id), vCPU \(vcpu): \(reason)")
            throw ending
        }
    }

    /// Waits until a server that was made later, and got the event channel number that this vCPU waits on, is notified.
    /// (LocalHost's doorbell names no vCPU: a notification for any vCPU of that server counts.)
    private func awaitRescue(number: UInt32, vcpu: Int) throws(GuestError) {
        enum Found {
            case server(LocalServer)
            case end
        }
        while true {
            let found = orphans.wait { () -> Found? in
                if isOver { return .end }
                return table.withLock { table in table.servers.compactMap { $0 }.first { $0.ports[vcpu] == number } }.map { .server($0) }
            }
            guard case .server(let server) = found else { throw ending }
            var rung = false
            let outcome = server.answers.wait(spins: 0) { rings in
                rung = rings > 0
                return rung || server.destroyed.load(ordering: .acquiring)
            }
            if rung { return }
            if outcome == .ended { throw ending }
        }
    }
}

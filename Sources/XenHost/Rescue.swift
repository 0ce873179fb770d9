import CXen
import Glibc
import Host

/// What the coordinator does for a server whose emulator died or hangs, so that no vCPU waits for ever.
///
/// Xen frees a waiting vCPU neither when the emulator dies nor when its server is disabled or destroyed: somebody has to
/// write an answer and notify. Once the owner is dead its event channels can be bound by us. While it lives they cannot, but
/// any channel that Xen waits on for the same vCPU wakes it: one of a server made for the purpose and thrown away.
extension XenHost {
    /// Answers every request that waits in a server's slots, and wakes the vCPUs; also those whose answer is there, because
    /// its emulator may have died before it told them. Whoever serves the server must be dead, or be treated as if it were.
    /// - Parameter answer: the data for a vCPU's request; without one, all-ones for a read.
    /// - Returns: how many were answered or told.
    /// - Throws: HostError when the pages cannot be mapped or a vCPU cannot be woken; `noFreeServer` when the owner lives
    ///   and all eight servers are taken.
    @discardableResult
    public func answerPending(
        of server: ServerID, with answer: (Int, IORequest) -> UInt64 = { $1.unservedAnswer }
    ) throws(HostError) -> Int {
        let pages = try ServerPages(handles, server: server, ring: false)
        var waiting = VCPUSet()
        var count = 0
        for vcpu in 0..<(try handles.vcpuCount()) {
            switch pages.slots.state(vcpu) {
            case .ready:
                guard let request = pages.slots.take(vcpu) else { continue }
                guard pages.slots.complete(vcpu, data: answer(vcpu, request)) else { continue }
            case .inProcess:
                guard pages.slots.complete(vcpu, data: answer(vcpu, pages.slots.copy(vcpu))) else { continue }
            case .responseReady: break
            case .some(.none), nil: continue
            }
            waiting.insert(vcpu)
            count += 1
        }
        guard count > 0 else { return 0 }
        let unheard = try notify(waiting, through: pages)
        if !unheard.isEmpty { try wake(unheard) }
        return count
    }

    /// Wakes vCPUs that wait for an answer which is in their slot already, without the event channels of the server they
    /// wait on: through a server made for this and destroyed again.
    /// - Throws: `noFreeServer` when all eight are taken.
    public func wake(_ vcpus: VCPUSet) throws(HostError) {
        let helper = try createServer(ring: false)
        do throws(HostError) {
            let pages = try ServerPages(handles, server: helper, ring: false)
            try setServer(helper, enabled: true)
            let unheard = try notify(vcpus, through: pages)
            guard unheard.isEmpty else {
                throw HostError("wake", "vCPUs of \(domain)", .invalid, detail: "the event channels of a new server could not be bound", remedy: "try again")
            }
        } catch {
            try? retire(helper)
            throw error
        }
        // While it was enabled an INVALIDATE may have been sent to it too.
        try retire(helper)
    }

    /// Takes a server away without leaving a vCPU behind: disable, answer what waits, wait until the slots are empty,
    /// destroy. A request that Xen was about to send is over once `disable` returns, because that pauses the domain.
    /// - Parameter limit: how long to wait for the vCPUs to fetch their answers; a paused guest does not fetch any, and its
    ///   interrupted read then gives 0.
    public func retire(_ server: ServerID, limit: Duration = .seconds(2)) throws(HostError) {
        try setServer(server, enabled: false)
        let pages = try ServerPages(handles, server: server, ring: false)
        let vcpus = try handles.vcpuCount()
        let end = ContinuousClock.now + limit
        var pause: UInt32 = 500
        while (0..<vcpus).contains(where: { pages.slots.state($0) != IORequest.State.none }) {
            try answerPending(of: server)
            if ContinuousClock.now >= end { break }
            usleep(pause)
            // Each look may wake vCPUs anew, which costs a living guest something.
            pause = min(pause * 2, 50_000)
        }
        try destroyServer(server)
    }

    /// Notifies vCPUs through a server's event channels, as far as they are free.
    /// - Returns: those whose channel is not.
    private func notify(_ vcpus: VCPUSet, through pages: ServerPages) throws(HostError) -> VCPUSet {
        let events = try EventChannelHandle()
        var left = vcpus
        var unheard = VCPUSet()
        while let vcpu = left.popFirst() {
            let port = xenevtchn_bind_interdomain(events.raw, UInt32(domain.rawValue), pages.slots.remotePort(vcpu))
            if port > 0 {
                xenevtchn_notify(events.raw, evtchn_port_t(port))
                xenevtchn_unbind(events.raw, evtchn_port_t(port))
            } else {
                guard handles.exists else {
                    throw handles.failure("wake", "vCPU \(vcpu) of \(domain)", .domain, code: ESRCH)
                }
                unheard.insert(vcpu)
            }
        }
        return unheard
    }
}

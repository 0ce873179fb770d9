import Host
import Platform

/// One access to what the coordinator serves itself.
struct OwnAccess: Equatable {
    enum Space { case ports, memory, configuration }
    let space: Space
    /// A port, a guest-physical address, or a PCI request address.
    let address: UInt64
    /// Bytes: 1, 2 or 4, in memory also 8.
    let size: Int
}

/// What answers the accesses of the coordinator's own server.
protocol OwnAccessHandler: AnyObject {
    /// Whether all of an access is the handler's.
    func serves(_ access: OwnAccess) -> Bool
    /// All-ones where nothing is the handler's: a run through memory may leave it.
    func read(_ access: OwnAccess) -> UInt64
    /// Dropped where nothing is the handler's.
    /// - Parameter later: carries the write's end out; called once, and never from inside, after `false` was returned.
    /// - Returns: whether the write has been carried out.
    func write(_ access: OwnAccess, value: UInt64, later: @escaping () -> Void) -> Bool
    /// All of a request's accesses have been carried out; it is answered next.
    func settle()
}

/// Serves the coordinator's own ioreq server in its event loop. A write may be answered later; every other slot, INVALIDATE and TIMEOFFSET are
/// served meanwhile.
final class OwnServer {
    /// Repetitions of one request beyond which it is answered as malformed (emulator protocol, section 6.4).
    private static let mostRepetitions: UInt32 = 65_536

    private struct Job {
        var request: IORequest
        /// The repetition that is due.
        var index: UInt32 = 0
        var value: UInt64 = 0
        /// Tells a late answer of this request from one of an earlier one in the same slot.
        var number: UInt64
    }

    private let loop: EventLoop
    private let host: any Host
    private let server: ServerID
    private let channel: any SharedChannel
    private let memory: (any GuestMemory)?
    private unowned let handler: any OwnAccessHandler
    private var jobs: [Job?]
    private var nextNumber: UInt64 = 0
    private var running = true
    private var stopping = false

    /// Takes the ranges, enables the server and serves it from now on.
    /// - Parameters:
    ///   - ranges: those that there are already; others can be mapped later.
    ///   - adopting: another coordinator has done so before, and was killed.
    init(
        loop: EventLoop, host: any Host, server: ServerID, ranges: [IORange], handler: any OwnAccessHandler, adopting: Bool = false
    ) throws(HostError) {
        self.loop = loop
        self.host = host
        self.server = server
        self.handler = handler
        for range in ranges { if adopting { try host.mapAgain(range, to: server) } else { try host.map(range, to: server) } }
        channel = try host.openChannel(server)
        memory = try? host.guestMemory()
        jobs = Array(repeating: nil, count: channel.vcpuCount)
        try host.setServer(server, enabled: true)
        do {
            try channel.bind()
            try loop.watch(channel.waitDescriptor, for: .readable) { [weak self] _ in
                guard let self else { return }
                _ = self.channel.acknowledge()
                self.pump()
            }
        } catch {
            try? host.setServer(server, enabled: false)
            throw (error as? HostError) ?? HostError("serve", "the coordinator's own ranges", .failed((error as? SystemError)?.code ?? 0), detail: "\(error)")
        }
        guard adopting else {
            pump()
            return
        }
        // Not before everybody is known who may have to do with what the guest says here.
        loop.soon { [weak self] in
            self?.takeOver()
            self?.pump()
        }
    }

    /// What the one before had taken is carried out again: nothing that a guest does here is different the second time.
    private func takeOver() {
        guard running else { return }
        for vcpu in jobs.indices {
            switch channel.slots.state(vcpu) {
            case .inProcess: begin(vcpu, channel.slots.copy(vcpu))
            case .responseReady: channel.notify(vcpu)
            default: continue
            }
        }
    }

    deinit { letGo() }

    /// Disables the server and answers what waits; whoever made the server destroys it.
    func stop() {
        guard running else { return }
        stopping = true
        try? host.setServer(server, enabled: false)
        for vcpu in jobs.indices {
            guard let job = jobs[vcpu] else { continue }
            finish(vcpu, job)
        }
        pump()
        letGo()
    }

    /// Lets go without asking the host for anything: the guest is gone.
    func letGo() {
        guard running else { return }
        running = false
        loop.forget(channel.waitDescriptor)
    }

    private func pump() {
        drainRing()
        for vcpu in jobs.indices where jobs[vcpu] == nil && channel.slots.isReady(vcpu) {
            drainRing()
            guard let request = channel.slots.take(vcpu) else { continue }
            begin(vcpu, request)
        }
    }

    /// No write to these ranges is ever posted, and nothing here has a clock: a TIMEOFFSET is taken and passed over.
    private func drainRing() {
        guard let ring = channel.ring else { return }
        for _ in 0..<BufferedRing.capacity where ring.next() == nil { return }
    }

    private func begin(_ vcpu: Int, _ request: IORequest) {
        let job = Job(request: request, number: nextNumber)
        nextNumber &+= 1
        jobs[vcpu] = job
        switch request.kind {
        case .portIO, .copy, .pciConfig:
            if isServed(request) && !stopping { advance(vcpu) } else { answer(vcpu, request.unservedAnswer) }
        case .invalidate:
            memory?.invalidate()
            answer(vcpu, request.data)
        case .timeOffset: answer(vcpu, request.data)
        default: answer(vcpu, request.unservedAnswer)
        }
    }

    private func isServed(_ request: IORequest) -> Bool {
        guard AccessSize.isValid(request.size), request.size < 8 || request.kind == .copy, (1...Self.mostRepetitions).contains(request.count),
            !request.dataIsPointer || memory != nil
        else { return false }
        return handler.serves(Self.access(request, 0))
    }

    /// One repetition. In memory the place goes on with each; a port stays where it is.
    private static func access(_ request: IORequest, _ index: UInt32) -> OwnAccess {
        let space: OwnAccess.Space = request.kind == .copy ? .memory : request.kind == .pciConfig ? .configuration : .ports
        let address = space == .memory ? stepped(request.address, request, index) : request.address
        return OwnAccess(space: space, address: address, size: Int(request.size))
    }

    /// Carries out repetitions until one has to wait.
    private func advance(_ vcpu: Int) {
        while var job = jobs[vcpu] {
            let request = job.request
            guard job.index < request.count else { return finish(vcpu, job) }
            let access = Self.access(request, job.index)
            let buffer = GuestAddress(Self.stepped(request.data, request, job.index))
            job.index += 1
            guard request.direction == .write else {
                let value = handler.read(access) & request.allOnes
                if request.dataIsPointer { _ = memory?.store(buffer, value: value, size: request.size) } else { job.value = value }
                jobs[vcpu] = job
                continue
            }
            jobs[vcpu] = job
            var value = request.data
            if request.dataIsPointer { value = memory?.load(buffer, size: request.size) ?? request.allOnes }
            let number = job.number
            let isDone = handler.write(access, value: value & request.allOnes) { [weak self] in
                guard let self, self.running, self.jobs[vcpu]?.number == number else { return }
                self.advance(vcpu)
                // What came for this slot in the meantime rang then.
                self.pump()
            }
            guard isDone else { return }
        }
    }

    private static func stepped(_ base: UInt64, _ request: IORequest, _ index: UInt32) -> UInt64 {
        let distance = UInt64(index) &* UInt64(request.size)
        return request.backwards ? base &- distance : base &+ distance
    }

    private func finish(_ vcpu: Int, _ job: Job) {
        handler.settle()
        answer(vcpu, job.request.direction == .read && !job.request.dataIsPointer ? job.value : job.request.data)
    }

    private func answer(_ vcpu: Int, _ data: UInt64) {
        jobs[vcpu] = nil
        if channel.slots.complete(vcpu, data: data) { channel.notify(vcpu) }
    }
}

import Host
import Platform

/// Stands between the host's channel and an isolated emulator: takes the host's requests, hands each on as single accesses on
/// pages of its own, and answers the host when the emulator has. It outlives the emulator's processes: each successor gets a page of its own,
/// with the accesses that the last one had not answered on it, in the state in which it left them.
///
/// Buffers in guest memory (data_is_ptr) are expanded here, and posted writes are delivered one at a time through one slot more
/// than there are vCPUs, so that they stay in order with the synchronous requests. INVALIDATE is answered here: the
/// emulator has no map of the guest. Nothing that the emulator does to its pages reaches beyond its own answers.
final class Relay {
    /// Repetitions of one request beyond which it is answered as malformed; Xen's own requests stay within a page.
    static let largestCount: UInt32 = 65_536

    private struct Job {
        var request: IORequest
        /// The single access that the emulator has.
        var single: IORequest
        /// The repetition that it is.
        var index: UInt32 = 0
        var value: UInt64 = 0
    }

    private let context: GuestContext
    private let name: String
    private let channel: any SharedChannel
    private let memory: (any GuestMemory)?
    private var page: RelayPage
    /// The page of a process that pauses while another one is tried in its place.
    private var aside: RelayPage?
    private var jobs: [Job?]
    private var posted: [BufferedEntry] = []
    /// Whether it has the host's channel.
    private(set) var isRunning = false
    /// Whether nobody serves: everything is answered here.
    private(set) var isParked = false
    /// Requests and posted writes that were answered or dropped here.
    private(set) var answered: UInt64 = 0

    /// Slots that the emulator is told of: one for each vCPU and one for posted writes.
    var slotCount: Int { channel.vcpuCount + 1 }
    private var postedSlot: Int { channel.vcpuCount }
    /// The host's side.
    var source: any SharedChannel { channel }
    private var slots: SlotPage { page.slots }

    init(name: String, context: GuestContext, channel: any SharedChannel) throws(SystemError) {
        guard channel.vcpuCount < VCPUID.limit else {
            throw SystemError(
                "relay", "emulator '\(name)'", reason: "the guest has \(channel.vcpuCount) vCPUs",
                remedy: "an isolated emulator serves at most \(VCPUID.limit - 1); attach it directly")
        }
        self.name = name
        self.context = context
        self.channel = channel
        memory = try? context.host.guestMemory()
        page = try RelayPage(name: name)
        jobs = Array(repeating: nil, count: channel.vcpuCount + 1)
    }

    deinit { stop() }

    /// What goes with `attach`: slots, kick, done.
    func attachmentDescriptors() throws(SystemError) -> DescriptorBag { try page.duplicates() }

    /// The emulator's page of slots, for whoever watches over it.
    func slotDescriptor() throws(SystemError) -> OwnedDescriptor { try page.slotDescriptor() }

    /// Binds the host's channel (the server is enabled) and serves from now on.
    func start() throws(HostError) {
        isParked = false
        guard !isRunning else { return pump() }
        try channel.bind()
        isRunning = true
        do {
            try context.loop.watch(channel.waitDescriptor, for: .readable) { [weak self] _ in
                guard let self else { return }
                _ = self.channel.acknowledge()
                self.pump()
            }
            try watchDone()
        } catch {
            throw HostError("relay", "emulator '\(name)'", .failed(error.code), detail: "\(error)")
        }
        takeOver()
        pump()
    }

    /// What an emulator had taken that served the host's pages itself before this relay was put between.
    private func takeOver() {
        for vcpu in 0..<channel.vcpuCount {
            switch channel.slots.state(vcpu) {
            case .inProcess: begin(vcpu, channel.slots.copy(vcpu))
            case .responseReady: channel.notify(vcpu)
            default: continue
            }
        }
    }

    private func watchDone() throws(SystemError) {
        try context.loop.watch(page.done.descriptor.raw, for: .readable) { [weak self] _ in
            guard let self else { return }
            self.page.done.clear()
            self.collect()
            self.pump()
        }
    }

    func stop() {
        guard isRunning else { return }
        isRunning = false
        context.loop.forget(channel.waitDescriptor)
        context.loop.forget(page.done.descriptor.raw)
    }

    // MARK: one process after the other

    /// The process is dead: what it had answered is handed on, and everything else waits on a page for its successor.
    func renew() throws(SystemError) {
        collect()
        try turn(to: try RelayPage(name: name))
        aside = nil
    }

    /// The process pauses, and another one is tried in its place, on a page of its own.
    func setAside() throws(SystemError) {
        collect()
        let old = page
        try turn(to: try RelayPage(name: name))
        aside = old
    }

    /// The other one has not begun: the one that pauses gets back what waits. It finds there what it had not taken, and what came since.
    func takeBack() throws(SystemError) {
        guard let old = aside else { return }
        aside = nil
        for slot in jobs.indices { old.slots.clear(slot) }
        try turn(to: old)
    }

    /// The other one serves.
    func forgetAside() { aside = nil }

    private func turn(to next: RelayPage) throws(SystemError) {
        for slot in jobs.indices {
            guard let job = jobs[slot] else { continue }
            // Taken by the last process: the next one may know from their common state what became of it.
            if slots.state(slot) == .inProcess { next.slots.submitTaken(slot, job.single) } else { _ = next.slots.submit(slot, job.single) }
        }
        if isRunning { context.loop.forget(page.done.descriptor.raw) }
        page = next
        if isRunning { try watchDone() }
        page.kick.ring()
    }

    /// Nobody serves: everything that waits, and everything that still comes, is answered with all-ones.
    func park() {
        isParked = true
        answered &+= UInt64(posted.count)
        posted = []
        for slot in jobs.indices {
            guard let job = jobs[slot] else { continue }
            jobs[slot] = nil
            answered &+= 1
            // Whoever comes next must not find it.
            slots.clear(slot)
            if slot != postedSlot { finish(slot, data: Self.nobodysAnswer(job.request)) }
        }
        pump()
    }

    private static func nobodysAnswer(_ request: IORequest) -> UInt64 {
        request.direction == .read && !request.dataIsPointer ? request.allOnes : request.data
    }

    private func pump() {
        drainRing()
        forwardPosted()
        for vcpu in 0..<channel.vcpuCount where jobs[vcpu] == nil && channel.slots.state(vcpu) == .ready {
            // Whatever this vCPU posted before its request is in the ring by now, and comes first.
            drainRing()
            forwardPosted()
            if channel.slots.copy(vcpu).kind != .invalidate {
                guard posted.isEmpty, jobs[postedSlot] == nil else { continue }
            }
            guard let request = channel.slots.take(vcpu) else { continue }
            begin(vcpu, request)
        }
    }

    private func drainRing() {
        guard let ring = channel.ring else { return }
        // Bounded also when nothing is kept: what is posted meanwhile rings again.
        for _ in 0..<BufferedRing.capacity {
            guard posted.count < Int(BufferedRing.capacity), let entry = ring.next() else { return }
            if isParked { answered &+= 1 } else { posted.append(entry) }
        }
    }

    private func forwardPosted() {
        guard jobs[postedSlot] == nil, !posted.isEmpty, !isParked else { return }
        let entry = posted.removeFirst()
        guard let kind = IORequest.Kind(rawValue: entry.type), kind == .copy || kind == .portIO || kind == .timeOffset else { return forwardPosted() }
        let request = IORequest(kind: kind, direction: .write, address: entry.address, data: entry.data, size: entry.size)
        jobs[postedSlot] = Job(request: request, single: request)
        submit(postedSlot, request)
    }

    private func begin(_ vcpu: Int, _ request: IORequest) {
        switch request.kind {
        case .invalidate:
            memory?.invalidate()
            return finish(vcpu, data: request.data)
        case .timeOffset, .portIO, .copy, .pciConfig: break
        case nil: return finish(vcpu, data: request.allOnes)
        }
        if isParked {
            answered &+= 1
            return finish(vcpu, data: Self.nobodysAnswer(request))
        }
        guard AccessSize.isValid(request.size), request.count > 0, request.count <= Self.largestCount, !request.dataIsPointer || memory != nil else {
            return finish(vcpu, data: Self.nobodysAnswer(request))
        }
        jobs[vcpu] = Job(request: request, single: request)
        forward(vcpu)
    }

    /// Gives the emulator the repetition that is due.
    private func forward(_ slot: Int) {
        guard let job = jobs[slot] else { return }
        let request = job.request
        var single = request
        single.count = 1
        single.dataIsPointer = false
        single.backwards = false
        single.address = request.kind == .copy ? Self.stepped(request.address, request, job.index) : request.address
        if request.dataIsPointer {
            single.data = 0
            if request.direction == .write {
                let source = GuestAddress(Self.stepped(request.data, request, job.index))
                single.data = memory?.load(source, size: request.size) ?? request.allOnes
            }
        }
        jobs[slot]?.single = single
        submit(slot, single)
    }

    private static func stepped(_ base: UInt64, _ request: IORequest, _ index: UInt32) -> UInt64 {
        let distance = UInt64(index) &* UInt64(request.size)
        return request.backwards ? base &- distance : base &+ distance
    }

    private func submit(_ slot: Int, _ request: IORequest) {
        // The page is shared with the emulator: if it has left the slot in a state that is not NONE, it is put right.
        if !slots.submit(slot, request) {
            slots.clear(slot)
            _ = slots.submit(slot, request)
        }
        page.kick.ring()
    }

    private func collect() {
        for slot in jobs.indices {
            guard var job = jobs[slot], let data = slots.collect(slot) else { continue }
            let value = data & AccessSize.allOnes(job.request.size)
            if job.request.direction == .read {
                if job.request.dataIsPointer {
                    let target = GuestAddress(Self.stepped(job.request.data, job.request, job.index))
                    _ = memory?.store(target, value: value, size: job.request.size)
                } else {
                    job.value = value
                }
            }
            job.index &+= 1
            if job.index < job.request.count {
                jobs[slot] = job
                forward(slot)
                continue
            }
            jobs[slot] = nil
            if slot == postedSlot { continue }
            finish(slot, data: job.request.direction == .read && !job.request.dataIsPointer ? job.value : job.request.data)
        }
    }

    private func finish(_ vcpu: Int, data: UInt64) {
        if channel.slots.complete(vcpu, data: data) { channel.notify(vcpu) }
    }
}

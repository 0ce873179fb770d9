import Host
import Platform

/// Stands between the host's channel and an isolated emulator: takes the host's requests, hands each on as single accesses on
/// pages of its own, and answers the host when the emulator has.
///
/// Buffers in guest memory (data_is_ptr) are expanded here, and posted writes are delivered one at a time through one slot more
/// than there are vCPUs, so that they stay in order with the synchronous requests. INVALIDATE is answered here: the
/// emulator has no map of the guest. Nothing that the emulator does to its pages reaches beyond its own answers.
final class Relay {
    /// Repetitions of one request beyond which it is answered as malformed; Xen's own requests stay within a page.
    static let largestCount: UInt32 = 65_536

    struct Job {
        var request: IORequest
        /// The repetition that the emulator has.
        var index: UInt32 = 0
        var value: UInt64 = 0
    }

    private let context: GuestContext
    private let name: String
    let channel: any SharedChannel
    private let memory: (any GuestMemory)?
    let page: RelayPage
    /// How far each job is, for a successor of this coordinator.
    let journal: RelayJournal
    var jobs: [Job?]
    private var running = false
    private var abandoned = false

    /// Slots that the emulator is told of: one for each vCPU and one for posted writes.
    var slotCount: Int { channel.vcpuCount + 1 }
    var postedSlot: Int { channel.vcpuCount }
    /// The host's side.
    var source: any SharedChannel { channel }
    var slots: SlotPage { page.slots }

    /// - Parameters:
    ///   - page: a predecessor's, with the jobs that it had under way in `journal`.
    init(name: String, context: GuestContext, channel: any SharedChannel, page: RelayPage? = nil, journal: RelayJournal? = nil) throws(SystemError) {
        guard channel.vcpuCount < VCPUID.limit else {
            throw SystemError(
                "relay", "emulator '\(name)'", reason: "the guest has \(channel.vcpuCount) vCPUs",
                remedy: "an isolated emulator serves at most \(VCPUID.limit - 1); attach it directly")
        }
        self.name = name
        self.context = context
        self.channel = channel
        memory = try? context.host.guestMemory()
        if let page { self.page = page } else { self.page = try RelayPage(name: name) }
        if let journal { self.journal = journal } else { self.journal = try RelayJournal(name: name) }
        jobs = Array(repeating: nil, count: channel.vcpuCount + 1)
    }

    deinit { stop() }

    /// What goes with `attach`: slots, kick, done.
    func attachmentDescriptors() throws(SystemError) -> DescriptorBag { try page.duplicates() }

    /// Binds the host's channel (the server is enabled) and serves from now on.
    /// - Parameter adopting: there was a relay before this one, which had jobs under way.
    func start(adopting: Bool = false) throws(HostError) {
        try channel.bind()
        running = true
        do {
            try context.loop.watch(channel.waitDescriptor, for: .readable) { [weak self] _ in
                guard let self else { return }
                _ = self.channel.acknowledge()
                self.pump()
            }
            try context.loop.watch(page.done.descriptor.raw, for: .readable) { [weak self] _ in
                guard let self else { return }
                self.page.done.clear()
                self.collect()
                self.pump()
            }
        } catch {
            throw HostError("relay", "emulator '\(name)'", .failed(error.code), detail: "\(error)")
        }
        if adopting {
            takeOver()
            collect()
        }
        pump()
    }

    func stop() {
        guard running else { return }
        running = false
        context.loop.forget(channel.waitDescriptor)
        context.loop.forget(page.done.descriptor.raw)
    }

    /// The emulator is dead: everything that waits, and everything that still comes, is answered with all-ones.
    func abandon() {
        abandoned = true
        for slot in jobs.indices {
            guard let job = jobs[slot] else { continue }
            jobs[slot] = nil
            if slot != postedSlot { finish(slot, data: job.request.direction == .read ? job.request.allOnes : job.request.data) }
        }
        pump()
    }

    private func pump() {
        forwardPosted()
        for vcpu in 0..<channel.vcpuCount where jobs[vcpu] == nil && channel.slots.state(vcpu) == .ready {
            // Whatever this vCPU posted before its request is in the ring by now, and comes first.
            forwardPosted()
            if channel.slots.copy(vcpu).kind != .invalidate {
                guard channel.ring?.peek() == nil, jobs[postedSlot] == nil else { continue }
            }
            journal.begin(vcpu)
            guard let request = channel.slots.take(vcpu) else { continue }
            begin(vcpu, request)
        }
    }

    /// A posted write stays in the ring until the emulator has answered it, so that it is never in this process alone.
    private func forwardPosted() {
        guard let ring = channel.ring, jobs[postedSlot] == nil else { return }
        // Bounded: what is posted meanwhile rings again.
        for _ in 0..<BufferedRing.capacity {
            guard let (entry, words) = ring.peek() else { return }
            guard !abandoned, let request = Self.request(of: entry) else {
                ring.consume(words)
                continue
            }
            jobs[postedSlot] = Job(request: request)
            journal.begin(postedSlot, position: ring.position)
            return submit(postedSlot, 0, request)
        }
    }

    /// Nil for what is no posted write.
    static func request(of entry: BufferedEntry) -> IORequest? {
        guard let kind = IORequest.Kind(rawValue: entry.type), kind == .copy || kind == .portIO || kind == .timeOffset else { return nil }
        return IORequest(kind: kind, direction: .write, address: entry.address, data: entry.data, size: entry.size)
    }

    func begin(_ vcpu: Int, _ request: IORequest) {
        switch request.kind {
        case .invalidate:
            memory?.invalidate()
            return finish(vcpu, data: request.data)
        case .timeOffset, .portIO, .copy, .pciConfig: break
        case nil: return finish(vcpu, data: request.allOnes)
        }
        guard isForwarded(request) else {
            return finish(vcpu, data: request.direction == .read && !request.dataIsPointer ? request.allOnes : request.data)
        }
        jobs[vcpu] = Job(request: request)
        forward(vcpu)
    }

    /// Whether a request is one for the emulator, and not answered here.
    func isForwarded(_ request: IORequest) -> Bool {
        guard let kind = request.kind, kind != .invalidate else { return false }
        return !abandoned && AccessSize.isValid(request.size) && request.count > 0 && request.count <= Self.largestCount
            && (!request.dataIsPointer || memory != nil)
    }

    /// Gives the emulator the repetition that is due.
    func forward(_ slot: Int) {
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
        submit(slot, job.index, single)
    }

    private static func stepped(_ base: UInt64, _ request: IORequest, _ index: UInt32) -> UInt64 {
        let distance = UInt64(index) &* UInt64(request.size)
        return request.backwards ? base &- distance : base &+ distance
    }

    private func submit(_ slot: Int, _ index: UInt32, _ request: IORequest) {
        journal.noteSubmitted(slot, index &+ 1)
        // The page is shared with the emulator: if it has left the slot in a state that is not NONE, it is put right.
        if !slots.submit(slot, request) {
            slots.clear(slot)
            _ = slots.submit(slot, request)
        }
        page.kick.ring()
    }

    private func collect() {
        for slot in jobs.indices {
            guard var job = jobs[slot], slots.state(slot) == .responseReady else { continue }
            let value = slots.copy(slot).data & AccessSize.allOnes(job.request.size)
            if job.request.direction == .read {
                if job.request.dataIsPointer {
                    let target = GuestAddress(Self.stepped(job.request.data, job.request, job.index))
                    _ = memory?.store(target, value: value, size: job.request.size)
                } else {
                    job.value = value
                }
            }
            job.index &+= 1
            // In this order: at each step a successor can tell what was done.
            journal.noteDone(slot, job.index, value: job.value)
            if slot == postedSlot, let ring = channel.ring, let (_, words) = ring.peek() { ring.consume(words) }
            _ = slots.collect(slot)
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

    func finish(_ vcpu: Int, data: UInt64) {
        if channel.slots.complete(vcpu, data: data) { channel.notify(vcpu) }
    }
}

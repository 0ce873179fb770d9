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

    private struct Job {
        var request: IORequest
        /// The repetition that the emulator has.
        var index: UInt32 = 0
        var value: UInt64 = 0
    }

    private let context: GuestContext
    private let name: String
    private let channel: any SharedChannel
    private let memory: (any GuestMemory)?
    private let slotMemory: SharedMemory
    private let slotMapping: Mapping
    private let kick: EventFD
    private let done: EventFD
    private var jobs: [Job?]
    private var posted: [BufferedEntry] = []
    private var running = false
    private var abandoned = false

    /// Slots that the emulator is told of: one for each vCPU and one for posted writes.
    var slotCount: Int { channel.vcpuCount + 1 }
    private var postedSlot: Int { channel.vcpuCount }
    /// The host's side.
    var source: any SharedChannel { channel }
    private var slots: SlotPage { SlotPage(page: slotMapping.base) }

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
        slotMemory = try SharedMemory(name: "demux-relay-\(name)", length: 4096)
        slotMapping = try slotMemory.map(what: "the relay's page for \(name)")
        kick = try EventFD()
        done = try EventFD()
        jobs = Array(repeating: nil, count: channel.vcpuCount + 1)
    }

    deinit { stop() }

    /// What goes with `attach`: slots, kick, done.
    func attachmentDescriptors() throws(SystemError) -> DescriptorBag {
        let bag = DescriptorBag()
        bag.add(try slotMemory.descriptor.duplicate())
        bag.add(try kick.descriptor.duplicate())
        bag.add(try done.descriptor.duplicate())
        return bag
    }

    /// The emulator's page of slots, for whoever watches over it.
    func slotDescriptor() throws(SystemError) -> OwnedDescriptor { try slotMemory.descriptor.duplicate() }

    /// Binds the host's channel (the server is enabled) and serves from now on.
    func start() throws(HostError) {
        try channel.bind()
        running = true
        do {
            try context.loop.watch(channel.waitDescriptor, for: .readable) { [weak self] _ in
                guard let self else { return }
                _ = self.channel.acknowledge()
                self.pump()
            }
            try context.loop.watch(done.descriptor.raw, for: .readable) { [weak self] _ in
                guard let self else { return }
                self.done.clear()
                self.collect()
                self.pump()
            }
        } catch {
            throw HostError("relay", "emulator '\(name)'", .failed(error.code), detail: "\(error)")
        }
        pump()
    }

    func stop() {
        guard running else { return }
        running = false
        context.loop.forget(channel.waitDescriptor)
        context.loop.forget(done.descriptor.raw)
    }

    /// The emulator is dead: everything that waits, and everything that still comes, is answered with all-ones.
    func abandon() {
        abandoned = true
        posted = []
        for slot in jobs.indices {
            guard let job = jobs[slot] else { continue }
            jobs[slot] = nil
            if slot != postedSlot { finish(slot, data: job.request.direction == .read ? job.request.allOnes : job.request.data) }
        }
        pump()
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
        while posted.count < Int(BufferedRing.capacity), let entry = ring.next() {
            if !abandoned { posted.append(entry) }
        }
    }

    private func forwardPosted() {
        guard jobs[postedSlot] == nil, !posted.isEmpty, !abandoned else { return }
        let entry = posted.removeFirst()
        guard let kind = IORequest.Kind(rawValue: entry.type), kind == .copy || kind == .portIO || kind == .timeOffset else { return forwardPosted() }
        let request = IORequest(kind: kind, direction: .write, address: entry.address, data: entry.data, size: entry.size)
        jobs[postedSlot] = Job(request: request)
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
        guard !abandoned, AccessSize.isValid(request.size), request.count > 0, request.count <= Self.largestCount,
            !request.dataIsPointer || memory != nil
        else {
            return finish(vcpu, data: request.direction == .read && !request.dataIsPointer ? request.allOnes : request.data)
        }
        jobs[vcpu] = Job(request: request)
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
        kick.ring()
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

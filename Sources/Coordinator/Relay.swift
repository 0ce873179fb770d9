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

    struct Job {
        var request: IORequest
        /// The single access that the emulator has.
        var single: IORequest
        /// The repetition that it is.
        var index: UInt32 = 0
        var value: UInt64 = 0
        /// Which of the accesses that were given to the emulator it is; 0: none yet.
        var serial: UInt64 = 0
    }

    let context: GuestContext
    let name: String
    let channel: any SharedChannel
    private let memory: (any GuestMemory)?
    private(set) var page: RelayPage
    /// How far each job is, for a successor of this coordinator.
    let journal: RelayJournal
    /// The page of a process that pauses while another one is tried in its place.
    private var aside: RelayPage?
    var jobs: [Job?]
    /// Whether it has the host's channel.
    private(set) var isRunning = false
    /// Whether nobody serves: everything is answered here.
    private(set) var isParked = false
    /// Requests and posted writes that were answered or dropped here.
    private(set) var answered: UInt64 = 0
    /// What the emulator does against the protocol.
    private let faults: FaultLog
    /// Finds what no bell told of.
    private var rounds = RelayRounds()
    /// Accesses that the emulator was given.
    private var submissions: UInt64 = 0

    /// Slots that the emulator is told of: one for each vCPU and one for posted writes.
    var slotCount: Int { channel.vcpuCount + 1 }
    var postedSlot: Int { channel.vcpuCount }
    /// The host's side.
    var source: any SharedChannel { channel }
    var slots: SlotPage { page.slots }

    /// - Parameters:
    ///   - page: a predecessor's, with the jobs that it had under way in `journal`.
    init(
        name: String, context: GuestContext, channel: any SharedChannel, faults: FaultLog, page: RelayPage? = nil, journal: RelayJournal? = nil
    ) throws(SystemError) {
        guard channel.vcpuCount < VCPUID.limit else {
            throw SystemError(
                "relay", "emulator '\(name)'", reason: "the guest has \(channel.vcpuCount) vCPUs",
                remedy: "an isolated emulator serves at most \(VCPUID.limit - 1); attach it directly")
        }
        self.name = name
        self.context = context
        self.channel = channel
        self.faults = faults
        memory = try? context.host.guestMemory()
        if let page { self.page = page } else { self.page = try RelayPage(name: name) }
        if let journal { self.journal = journal } else { self.journal = try RelayJournal(name: name) }
        jobs = Array(repeating: nil, count: channel.vcpuCount + 1)
    }

    deinit { stop() }

    /// What goes with `attach`: slots, kick, done.
    func attachmentDescriptors() throws(SystemError) -> DescriptorBag { try page.duplicates() }

    /// The emulator's page of slots, for whoever watches over it.
    func slotDescriptor() throws(SystemError) -> OwnedDescriptor { try page.slotDescriptor() }

    /// Binds the host's channel (the server is enabled) and serves from now on.
    /// - Parameter adopting: another coordinator's relay had jobs under way here.
    func start(adopting: Bool = false) throws(HostError) {
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
        if adopting { resumeJobs() } else { takeOver() }
        pump()
    }

    /// What an emulator had taken that served the host's pages itself before this relay was put between.
    private func takeOver() {
        for vcpu in 0..<channel.vcpuCount {
            switch channel.slots.state(vcpu) {
            case .inProcess:
                journal.begin(vcpu)
                begin(vcpu, channel.slots.copy(vcpu))
            case .responseReady: channel.notify(vcpu)
            default: continue
            }
        }
    }

    private func watchDone() throws(SystemError) {
        // Never read: the emulator has the same open file, and could make a read of it wait.
        try context.loop.watch(page.doorbells.done, for: [.readable, .edge]) { [weak self] _ in
            guard let self else { return }
            self.collect()
            self.pump()
        }
    }

    func stop() {
        if let timer = rounds.timer { context.loop.cancel(timer) }
        rounds.timer = nil
        guard isRunning else { return }
        isRunning = false
        context.loop.forget(channel.waitDescriptor)
        context.loop.forget(page.doorbells.done)
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
        if isRunning { context.loop.forget(page.doorbells.done) }
        page = next
        keepPage()
        if isRunning { try watchDone() }
        page.ringEmulator()
    }

    /// Nobody serves: everything that waits, and everything that still comes, is answered with all-ones.
    func park() {
        isParked = true
        for slot in jobs.indices {
            guard let job = jobs[slot] else { continue }
            jobs[slot] = nil
            answered &+= 1
            // Whoever comes next must not find it.
            if slot == postedSlot {
                consumePosted()
            } else {
                finish(slot, data: job.request.unservedAnswer)
            }
            slots.clear(slot)
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

    /// A posted write stays in the ring until the emulator has answered it: it is never in this process alone.
    private func forwardPosted() {
        guard let ring = channel.ring, jobs[postedSlot] == nil else { return }
        // Bounded: what is posted meanwhile rings again.
        for _ in 0..<BufferedRing.capacity {
            guard let peeked = ring.peek() else { return }
            guard !isParked, let request = Self.request(of: peeked.entry) else {
                if isParked { answered &+= 1 }
                ring.consume(peeked.count)
                continue
            }
            jobs[postedSlot] = Job(request: request, single: request)
            journal.begin(postedSlot, position: peeked.position)
            return submit(postedSlot, 0, request)
        }
    }

    /// Gives the place of the posted write back that the emulator had.
    private func consumePosted() {
        if let ring = channel.ring, let peeked = ring.peek(), peeked.position == journal[postedSlot].position { ring.consume(peeked.count) }
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
        if isParked {
            answered &+= 1
            return finish(vcpu, data: request.unservedAnswer)
        }
        guard isForwarded(request) else { return finish(vcpu, data: request.unservedAnswer) }
        jobs[vcpu] = Job(request: request, single: request)
        forward(vcpu)
    }

    /// Whether a request is one for the emulator, and not answered here.
    func isForwarded(_ request: IORequest) -> Bool {
        guard let kind = request.kind, kind != .invalidate else { return false }
        return AccessSize.isValid(request.size) && request.count > 0 && request.count <= Self.largestCount && (!request.dataIsPointer || memory != nil)
    }

    /// Gives the emulator the repetition that is due.
    func forward(_ slot: Int) {
        guard let job = jobs[slot] else { return }
        let single = single(of: job.request, job.index)
        jobs[slot]?.single = single
        submit(slot, job.index, single)
    }

    /// One repetition of a request, as the emulator gets it.
    func single(of request: IORequest, _ index: UInt32) -> IORequest {
        var single = request
        single.count = 1
        single.dataIsPointer = false
        single.backwards = false
        single.address = request.kind == .copy ? Self.stepped(request.address, request, index) : request.address
        if request.dataIsPointer {
            single.data = 0
            if request.direction == .write {
                let source = GuestAddress(Self.stepped(request.data, request, index))
                single.data = memory?.load(source, size: request.size) ?? request.allOnes
            }
        }
        return single
    }

    private static func stepped(_ base: UInt64, _ request: IORequest, _ index: UInt32) -> UInt64 {
        let distance = UInt64(index) &* UInt64(request.size)
        return request.backwards ? base &- distance : base &+ distance
    }

    private func submit(_ slot: Int, _ index: UInt32, _ request: IORequest) {
        submissions &+= 1
        jobs[slot]?.serial = submissions
        journal.noteSubmitted(slot, index &+ 1)
        // The page is shared with the emulator: if it has left the slot in a state that is not NONE, it is put right.
        if !slots.submit(slot, request) {
            slots.clear(slot)
            _ = slots.submit(slot, request)
        }
        page.ringEmulator()
        startRounds()
    }

    /// Takes what the emulator has answered, and sees to slots that it has left in a state in which no answer can come.
    func collect() {
        for slot in jobs.indices {
            guard var job = jobs[slot] else { continue }
            switch slots.state(slot) {
            case .ready, .inProcess: continue
            case .responseReady: break
            // Taken from under the vCPU (NONE), or nothing that is a state.
            default:
                recover(slot, job)
                continue
            }
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
            if slot == postedSlot { consumePosted() }
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

    /// A slot whose request can never be answered any more: it is the next process's, if there is to be one, and answered with all-ones otherwise.
    private func recover(_ slot: Int, _ job: Job) {
        let what = slots.state(slot) == nil ? "state \(slots.rawState(slot)), which is none" : "no request, instead of answering it"
        faults.note(
            .invalidSlotState, "it has left slot \(slot) with \(what): \(job.single.words)", ["slot": "\(slot)", "state": "\(slots.rawState(slot))"],
            in: context.logBook)
        if slots.state(slot) == nil, context.replaceBroken(name) { return slots.submitTaken(slot, job.single) }
        jobs[slot] = nil
        slots.clear(slot)
        answered &+= 1
        if slot == postedSlot { consumePosted() } else { finish(slot, data: job.request.unservedAnswer) }
    }

    func startRounds() {
        guard rounds.timer == nil else { return }
        rounds.timer = context.loop.after(RelayRounds.period) { [weak self] in
            guard let self else { return }
            self.rounds.timer = nil
            self.goRound()
        }
    }

    /// Finds answers that nobody rang for, and slots in no state, while requests are under way.
    private func goRound() {
        guard isRunning else { return }
        var answers: [RelayRounds.Answer] = []
        var isBroken = false
        for slot in jobs.indices {
            guard let job = jobs[slot] else { continue }
            switch slots.state(slot) {
            case .ready, .inProcess: continue
            case .responseReady: answers.append(.init(slot: slot, serial: job.serial))
            default: isBroken = true
            }
        }
        let unrung = rounds.look(answers)
        for answer in unrung {
            let request = jobs[answer.slot]?.single.words ?? "a request"
            faults.note(.forgottenBell, "it has answered on slot \(answer.slot) without ringing: \(request)", ["slot": "\(answer.slot)"], in: context.logBook)
        }
        if isBroken || !unrung.isEmpty {
            collect()
            pump()
        }
        if jobs.contains(where: { $0 != nil }) { startRounds() }
    }

    func finish(_ vcpu: Int, data: UInt64) {
        if channel.slots.complete(vcpu, data: data) { channel.notify(vcpu) }
    }
}

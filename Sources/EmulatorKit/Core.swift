import EmulatorProtocol
import Host
import Platform

/// What one slot is being answered with: kept from one repetition to the next, and while an answer is deferred.
struct SlotWork {
    enum Phase {
        /// Nothing was taken from the slot.
        case idle
        /// Repetitions are being carried out.
        case active
        /// A handler has deferred its answer, or a BAR is following the guest's write.
        case waiting
        /// Everything is carried out: the answer goes out once that is committed.
        case answering
    }

    var phase = Phase.idle
    var request = IORequest(kind: .invalidate, direction: .write, address: 0, size: 0, count: 0)
    /// Repetitions carried out.
    var done: UInt32 = 0
    /// Counts the accesses dispatched for this slot, so that a token is good for one answer only.
    var sequence: UInt32 = 0
    /// The value of the last read.
    var result: UInt64 = 0
    /// The answer given by `complete` before the handler said `.later`.
    var early: UInt64?
    /// Repetitions whose data is in the staging buffer: the first one, and how many.
    var chunkFirst: UInt32 = 0
    var chunkCount: UInt32 = 0
    /// Whether this request was counted as malformed already.
    var complained = false
    /// Whether the access that waits was carried out and counted: only the answer is held back.
    var isHeld = false
    /// What a finished request is answered with.
    var answer: UInt64 = 0
    /// When it was taken, in the observer's ticks, and which histogram it belongs to.
    var begun: UInt64 = 0
    var block: UInt8 = 0
    var isLate = false
}

/// What the loop has to do next for the device. What goes with it stands in the core, in `access`, `value` and `movedTo`: an enum
/// that carried it would be copied from one function to the next, which cost more than everything else about a repetition.
@usableFromInline
enum Step: UInt8 {
    case nothing
    /// A read of `access`.
    case read
    /// A write of `value` to `access`.
    case write
    /// The window of `access` is now at `movedTo`.
    case moved
    /// The guest's clock was set by `value` seconds, as a bit pattern.
    case timeOffset
}

/// The serving loop without the device: slots, ring, claims, PCI functions and the control connection.
///
/// It hands out one access at a time (`next`) and takes the device's answer (`answer`), so that everything here is
/// compiled once and only the few lines between the two are generic. Nothing on the way of a request allocates, locks or counts
/// references. All of a guest's values are hostile: no arithmetic on them can trap.
///
/// What is called for each request or repetition is `mutating` even where it changes nothing: a call that only borrows gets a copy of the
/// whole core, which is 400 bytes.
@usableFromInline
struct Core: ~Copyable {
    /// Repetitions carried out in one go before other slots are looked at.
    static let slice: UInt32 = 1024
    /// Slices in one go.
    static let mostPicks = 64
    /// The most repetitions a request may have (emulator protocol, section 6.4). Xen splits at 4096 or earlier.
    static let mostRepetitions: UInt32 = 65_536
    /// Bytes staged between the device and a buffer in guest memory.
    static let stagingLength = 4096

    let slots: SlotPage
    let ring: BufferedRing?
    /// Slots to look at: 0 to this number.
    var vcpus: Int
    let counters: CounterPage
    var observer: Observer
    let control: ControlConnection
    let attachment: Attachment
    /// The attachment's memory, for the way of a request; nil when this emulator has no access to it.
    let guestMemory: BorrowedMemory?

    let work: UnsafeMutablePointer<SlotWork>
    let staging: UnsafeMutableRawPointer

    /// Slots to look at, and slots with repetitions left.
    var look = VCPUSet()
    var runnable = VCPUSet()
    /// Slots that were answered and whose vCPU is still to be told.
    @usableFromInline var answered = VCPUSet()
    /// The slot being worked on; -1: none.
    var current = -1
    /// The slot of the access that the device has now; -1 for a posted write.
    var dispatched = -1
    /// What goes with the last step.
    @usableFromInline var access = Access(window: Window(index: 0), offset: 0, size: 1)
    @usableFromInline var value: UInt64 = 0
    @usableFromInline var movedTo: UInt64?
    var sliceLeft: UInt32 = 0
    /// Slices that may be begun before everything else gets a look: vCPUs that keep asking must not hold the loop.
    var picksLeft = 0
    /// Ring entries that may be taken before the next slot is served.
    var ringBudget: UInt32 = 0
    /// Slots with a request that was taken and not answered yet.
    var busy = 0
    /// Accesses handed to the device and requests taken since the start: how the loop knows that it did something.
    @usableFromInline var progress: UInt64 = 0

    var ports = ClaimTable()
    var memory = ClaimTable()
    var windows: UInt16 = 0
    let functions: UnsafeMutablePointer<PCIState>
    static let mostFunctions = 8
    var functionCount = 0
    /// Whether some function has an MSI-X table, whose accesses are not the device's.
    var hasTables = false
    /// Whether some function has a BAR whose move the device was not told yet.
    var hasMoves = false
    var remaps: [PendingRemap] = []
    let belongings: Belongings

    // Committing; see Journal.swift.
    var area: CommitArea
    /// Whether what the predecessor had committed was looked at: before that, nothing is committed.
    var isLive = false
    /// Whether the device was called since the last commit.
    var isChanged = false
    /// Slots that are to be answered after the next commit.
    var finished = VCPUSet()
    /// Entries of the ring that were carried out and not given back, and the places of the one that the device has now.
    var posted = CommitArea.Posted()
    var postedNow: UInt32 = 0
    #if DEBUG
        /// What tests do at each point at which the process could die.
        var atPoint: ((Point) -> Void)?
    #endif

    /// Whether a region is being moved by this process, and whether the device is to be told something.
    var relocating = false
    @usableFromInline var hasEvents = false

    var complaints = RateLimit(burst: 10, interval: 1_000_000_000)
    var events: EventSources
    var run = RunState.stopped
    /// Requests of the coordinator's that are answered once they are true.
    var pauseID: UInt32?
    var quitID: UInt32?
    /// What the device is still to be told, and what it was told.
    var resumed = false
    /// Another process may be about to take this one's place: the notifications are to be let go of at the pause, and what the device waits for rests.
    @usableFromInline var releasing = false
    @usableFromInline var isReleased = false
    /// A `resume` that is answered once the notifications are connected again.
    @usableFromInline var rebindID: UInt32?
    var toldStopping = false
    var toldClosed = false
    /// When the channel last had something, in monotonic nanoseconds.
    @usableFromInline var lastWake: UInt64 = 0

    /// Whether requests are taken.
    enum RunState { case stopped, running, pausing, paused, quitting }

    init(attachment: Attachment, slots: SlotPage, ring: BufferedRing?, vcpus: Int, belongings: Belongings) {
        self.attachment = attachment
        self.belongings = belongings
        area = belongings.state.area
        self.slots = slots
        self.ring = ring
        self.vcpus = min(max(vcpus, 1), VCPUID.limit)
        counters = attachment.counters
        observer = Observer(attachment.observation, slowMilliseconds: attachment.attach.observe?.slow ?? 0)
        control = attachment.control
        guestMemory = attachment.memory.map { BorrowedMemory($0) }
        events = EventSources(control: attachment.control.descriptor)
        work = .allocate(capacity: VCPUID.limit)
        work.initialize(repeating: SlotWork(), count: VCPUID.limit)
        staging = .allocate(byteCount: VCPUID.limit * Self.stagingLength, alignment: 4096)
        functions = .allocate(capacity: Self.mostFunctions)
    }

    deinit {
        guestMemory?.release()
        work.deallocate()
        staging.deallocate()
        (functions + 0).deinitialize(count: functionCount)
        functions.deallocate()
    }

    // MARK: looking

    /// Has every slot and the ring looked at.
    @usableFromInline
    mutating func lookAtAll() {
        look = VCPUSet(first: vcpus)
        ringBudget = BufferedRing.capacity
    }

    /// Has the slots that the channel named looked at, and the ring.
    @usableFromInline
    mutating func lookAt(_ named: VCPUSet) {
        look = look.union(named)
        ringBudget = BufferedRing.capacity
    }

    /// Whether a slot is READY or the ring holds something; for spinning.
    @usableFromInline
    mutating func somethingWaits() -> Bool {
        var slot = 0
        while slot < vcpus {
            if slots.isReady(slot) { return true }
            slot &+= 1
        }
        return (ring?.waiting ?? 0) > posted.count &+ postedNow
    }

    /// Whether every slot but that of the access which the device has now is empty.
    var isAlone: Bool {
        mutating get {
            for slot in 0..<vcpus where slot != dispatched && slots.state(slot) != IORequest.State.none { return false }
            return true
        }
    }

    // MARK: handing out

    /// The next thing for the device to do.
    @usableFromInline
    mutating func next() -> Step {
        while true {
            // Requests that were finished without the device.
            if !finished.isEmpty { settle() }
            if hasMoves {
                let step = nextMove()
                if step != .nothing { return step }
            }
            if ringBudget > 0 {
                let step = nextPosted()
                if step != .nothing { return step }
                if ringBudget > 0 { continue }
            }
            if current >= 0 {
                let step = advance(current)
                if step != .nothing { return step }
                current = -1
            } else {
                guard let slot = pick() else {
                    if area.isOn { settle() }
                    return .nothing
                }
                // The entries posted before this request come first: they are looked at again after it was taken, because
                // one could have been posted between an earlier look and the request.
                current = slot
                sliceLeft = Self.slice
                ringBudget = BufferedRing.capacity
            }
        }
    }

    /// Begins one go of the loop: what it leaves undone is told by `hasWork`.
    @usableFromInline
    mutating func beginGo() { picksLeft = Self.mostPicks }

    /// Whether the last go left something undone that no notification will tell of.
    var hasWork: Bool { mutating get { relocating || hasEvents || !finished.isEmpty || current >= 0 || !runnable.isEmpty || run == .running && (!look.isEmpty || ringBudget > 0) } }

    /// A slot to work on: first a new request, then one with repetitions left.
    private mutating func pick() -> Int? {
        guard picksLeft > 0 else { return nil }
        picksLeft -= 1
        if run == .running {
            while let slot = look.popFirst() {
                guard let request = take(slot) else { continue }
                begin(slot, request)
                if work[slot].phase == .active { return slot }
            }
        }
        while let slot = runnable.popFirst() {
            guard work[slot].phase == .active else { continue }
            // Others get their turn after this slice.
            if run == .running { lookAtAll() }
            return slot
        }
        return nil
    }

    /// The next posted write. Uses up one of `ringBudget`, all of it when the ring is empty.
    private mutating func nextPosted() -> Step {
        guard run == .running, let entry = takePosted() else {
            ringBudget = 0
            if ring?.isBroken == true { counters.add(.malformed) }
            return .nothing
        }
        ringBudget -= 1
        progress &+= 1
        counters.add(.buffered)
        dispatched = -1
        switch IORequest.Kind(rawValue: entry.type) {
        case .timeOffset:
            counters.add(.timeOffsets)
            value = entry.data
            return .timeOffset
        case .copy, .portIO:
            let isPort = entry.type == IORequest.Kind.portIO.rawValue
            guard entry.direction == .write,
                let found = isPort ? ports.find(entry.address, size: entry.size) : memory.find(entry.address, size: entry.size)
            else { break }
            access = Access(
                window: Window(index: found.window), offset: Int(truncatingIfNeeded: found.offset), size: Int(entry.size), isPosted: true)
            if observer.isTracing { observer.began(entry, block: found.block) }
            value = entry.data & AccessSize.allOnes(entry.size)
            return .write
        default: break
        }
        endPosted()
        counters.add(.malformed)
        if complaints.allows(at: EventLoop.now()) {
            complain("a posted access of type \(entry.type), \(entry.size) bytes at \(Hex.string(entry.address)) was dropped: no claim of this emulator takes it")
        }
        return .nothing
    }

    // MARK: taking answers

    /// Takes the device's answer to the access that `next` handed out.
    @usableFromInline
    mutating func answer(_ answer: Answer) {
        guard dispatched >= 0 else {
            endPosted()
            return observer.endPosted()
        }
        let slot = dispatched
        dispatched = -1
        switch answer {
        case .value(let value): deliver(slot, value)
        case .later:
            counters.add(.deferred)
            work[slot].isLate = true
            if let value = work[slot].early {
                deliver(slot, value)
            } else {
                work[slot].phase = .waiting
                current = -1
            }
        case .held(let value):
            if work[slot].early != nil {
                deliver(slot, value)
            } else {
                counters.add(.deferred)
                hold(slot, value)
                current = -1
            }
        }
        if !finished.isEmpty { settle() }
    }

    /// The device was told of a new time.
    @usableFromInline
    mutating func endTimeOffset() {
        guard dispatched >= 0 else { return endPosted() }
        let slot = dispatched
        dispatched = -1
        finish(slot, work[slot].request.data)
        settle()
    }

    /// The token of the access that the device has now.
    mutating func token() -> Token { Token(slot: Int16(truncatingIfNeeded: dispatched), sequence: dispatched >= 0 ? work[dispatched].sequence : 0) }

    /// Answers a deferred access. False when it was answered before, or is not waiting for anything.
    mutating func complete(_ token: Token, _ value: UInt64) -> Bool {
        let slot = Int(token.slot)
        guard (0..<VCPUID.limit).contains(slot), work[slot].sequence == token.sequence else { return false }
        if slot == dispatched {
            guard work[slot].early == nil else { return false }
            work[slot].early = value
            return true
        }
        guard work[slot].phase == .waiting else { return false }
        resume(slot, value)
        return true
    }

    /// Goes on with a slot that waited.
    mutating func resume(_ slot: Int, _ value: UInt64) {
        guard work[slot].phase == .waiting else { return }
        work[slot].phase = .active
        if work[slot].isHeld { release(slot) } else { deliver(slot, value) }
        if work[slot].phase == .active { runnable.insert(slot) }
    }

    /// Logs a line about what a guest did, unless there were too many.
    func complain(_ text: String) {
        control.log(.warning, complaints.suppressed > 0 ? "\(text) (and \(complaints.suppressed) more before it)" : text)
    }
}

/// An NVMe controller with one namespace, as a value that knows no host (NVM Express 1.3).
///
/// Who owns it hands it the guest's register accesses, calls `advance` after each write, tells it the ends of disk jobs, and after each of these calls
/// takes the interrupts. Nothing here waits: a command's data goes through a buffer of the controller's between guest memory and the disk.
/// All that the guest says is hostile: no arithmetic on it can trap, and the work of one call is bounded by `advance`'s budget.
///
/// The registers live in memory that may outlive the process. What was under way then is carried out again by `recover`: a command
/// whose completion the guest has not seen has no effect that could not be repeated. Whoever keeps the state in steps of its own is told before
/// a completion is shown (`ControllerMemory.commitState`).
public struct Controller: ~Copyable {
    /// Bytes of state.
    public static let stateLength = ControllerState.length
    /// Bytes of BAR 0: registers, doorbells, and room for an MSI-X table at `tableOffset` and its pending bits at `pendingOffset`.
    public static let windowLength = 0x4000
    public static let tableOffset = 0x2000
    public static let pendingOffset = 0x3000
    /// Interrupt vectors.
    public static let vectors = ControllerState.queueCount
    /// Disk jobs at once: commands, and a flush.
    public static let mostJobs = ControllerState.slotCount + 1

    /// The most bytes that one command transfers: MDTS.
    static let mostBytes = 128 << 10
    static let transferExponent: UInt8 = 5
    /// Pages that a transfer can touch.
    static let mostPieces = mostBytes / 4096 + 1
    /// The number of the flush that no command asked for.
    static let ownFlush = ControllerState.slotCount

    /// A part of a command's data in guest memory.
    struct Piece {
        var address: UInt64 = 0
        var length = 0
    }

    /// What a slot's command waits for.
    enum Phase {
        case free
        case executing
        /// The disk.
        case disk
        /// The disk, and nothing else any more: its queue is gone.
        case abandoned
        /// Something to report.
        case event
        /// The commands of the submission queue that it deletes.
        case deletion
        /// Room in the completion queue.
        case finished
    }

    struct Work {
        var phase = Phase.free
        var pieceCount = 0
        var length = 0
    }

    let state: ControllerState
    let memory: any ControllerMemory
    let disk: any ControllerDisk
    let geometry: DiskGeometry
    let identity: ControllerIdentity

    var work = [Work](repeating: Work(), count: ControllerState.slotCount)
    var errors = ErrorLog()
    let pieces: UnsafeMutablePointer<Piece>
    private let buffers: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    /// For a page of a PRP list, and for what admin commands give.
    let page: UnsafeMutableRawPointer

    /// The queue that is looked at next.
    private var turn = 0
    private var vectorsToSend: UInt32 = 0

    // What waits until no command has a job under way.
    var isResetting = false
    var isFlushing = false
    private var removals: [(QuiesceOutcome) -> Void] = []
    /// Whether commands are left in their queues for now.
    public private(set) var isPaused = false

    /// A controller over `state`, `stateLength` bytes that are kept for as long as it.
    ///
    /// - Parameter fresh: whether nobody has used the state. Otherwise, and if it makes sense, the controller is where its predecessor was: call
    ///   `recover` once the guest's memory can be reached.
    public init(
        state bytes: UnsafeMutableRawPointer, fresh: Bool, geometry: DiskGeometry, identity: ControllerIdentity, memory: any ControllerMemory,
        disk: any ControllerDisk
    ) {
        state = ControllerState(bytes: bytes)
        self.memory = memory
        self.disk = disk
        self.geometry = geometry
        self.identity = identity
        pieces = .allocate(capacity: ControllerState.slotCount * Self.mostPieces)
        pieces.initialize(repeating: Piece(), count: ControllerState.slotCount * Self.mostPieces)
        buffers = .allocate(capacity: ControllerState.slotCount)
        buffers.initialize(repeating: nil, count: ControllerState.slotCount)
        page = .allocate(byteCount: 4096, alignment: 4096)
        page.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
        if fresh || !state.isKnown {
            state.clear()
            setDefaults()
        }
    }

    deinit {
        pieces.deallocate()
        for slot in 0..<ControllerState.slotCount { buffers[slot]?.deallocate() }
        buffers.deallocate()
        page.deallocate()
    }

    /// A slot's buffer, made when it is first needed.
    func buffer(_ slot: Int) -> UnsafeMutableRawPointer {
        if let buffer = buffers[slot] { return buffer }
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: Self.mostBytes, alignment: 4096)
        buffer.initializeMemory(as: UInt8.self, repeating: 0, count: Self.mostBytes)
        buffers[slot] = buffer
        return buffer
    }

    // MARK: interrupts

    /// The vectors of completion queues that got something since the last call, one bit each: a message to be sent for each.
    public mutating func takeMessages() -> UInt32 {
        defer { vectorsToSend = 0 }
        return vectorsToSend
    }

    /// The level of the interrupt line, for a guest that uses no messages.
    public var interruptLine: Bool {
        guard !state.isRemoved, state.status & ControllerStatus.ready != 0 else { return false }
        for number in 0..<ControllerState.queueCount {
            let queue = state.completion(number)
            if queue.exists, queue.interrupts, queue.unconsumed != 0, state.mask >> UInt32(queue.vector & 31) & 1 == 0 { return true }
        }
        return false
    }

    // MARK: serving

    /// Whether commands are taken out of queues.
    var isServing: Bool {
        !isPaused && !isResetting && removals.isEmpty && !state.isRemoved && state.status == ControllerStatus.ready
            && state.configuration & Configuration.enable != 0
    }

    /// Takes commands out of the queues and begins them.
    /// - Parameter budget: how many at most.
    /// - Returns: whether there may be more: call again, after others had their turn.
    public mutating func advance(budget: Int = 32) -> Bool {
        var left = budget
        var empty = 0
        while left > 0, empty < ControllerState.queueCount, isServing {
            if fetch(turn) {
                left -= 1
                empty = 0
            } else {
                empty += 1
                turn = (turn + 1) % ControllerState.queueCount
            }
        }
        // One queue's commands must not keep the others waiting for ever.
        if left == 0 { turn = (turn + 1) % ControllerState.queueCount }
        return left == 0 && isServing
    }

    /// Leaves commands in their queues from now on, or takes them again. What is under way ends as ever.
    public mutating func setPaused(_ paused: Bool) { isPaused = paused }

    /// Takes a command out of a queue and begins it. False when there is none, or no slot for it.
    private mutating func fetch(_ number: Int) -> Bool {
        let queue = state.submission(number)
        guard queue.exists, !queue.isBeingDeleted, queue.head != queue.tail else { return false }
        let slots = number == 0 ? ControllerState.ioSlotCount..<ControllerState.slotCount : 0..<ControllerState.ioSlotCount
        guard let place = slots.first(where: { work[$0].phase == .free }) else { return false }
        let slot = state.slot(place)
        let target = UnsafeMutableRawBufferPointer(start: slot.command, count: Command.length)
        guard memory.read(queue.base &+ UInt64(queue.head) &* UInt64(Command.length), into: target) else {
            fail()
            return false
        }
        slot.queue = number
        slot.fetchNumber = queue.fetched
        slot.postNumber = Slot.notPosting
        slot.stage = .taken
        queue.fetched &+= 1
        execute(place)
        return true
    }

    /// Carries out what stands in a slot.
    mutating func execute(_ place: Int) {
        work[place].phase = .executing
        let slot = state.slot(place)
        let command = Command(slot.command)
        if slot.queue == 0 { executeAdmin(place, command) } else { executeIO(place, command) }
    }

    /// A queue cannot be reached: nothing goes on until the guest resets the controller.
    mutating func fail() { state.status |= ControllerStatus.fatal }

    // MARK: completions

    /// Ends a command.
    mutating func finish(_ place: Int, _ status: Status, result: UInt32 = 0) {
        let slot = state.slot(place)
        let queue = state.submission(slot.queue)
        let command = Command(slot.command)
        if !status.isSuccess { errors.note(status, command, queue: slot.queue) }
        slot.completion.storeBytes(of: result, as: UInt32.self)
        slot.completion.storeBytes(of: 0, toByteOffset: 4, as: UInt32.self)
        slot.completion.storeBytes(of: queue.head | UInt32(slot.queue) << 16, toByteOffset: 8, as: UInt32.self)
        slot.completion.storeBytes(of: UInt32(command.identifier) | UInt32(status.word) << 16, toByteOffset: 12, as: UInt32.self)
        slot.stage = .finished
        work[place].phase = .finished
        post(place)
    }

    /// Posts a completion, if there is room.
    mutating func post(_ place: Int) {
        let slot = state.slot(place)
        let submission = state.submission(slot.queue)
        let queue = state.completion(Int(submission.completion))
        guard submission.exists, queue.exists else { return free(place) }
        guard !queue.isFull, state.status & ControllerStatus.fatal == 0 else { return }
        slot.postNumber = queue.posted
        let last = slot.completion.load(fromByteOffset: 12, as: UInt32.self) & ~0x1_0000 | UInt32(queue.phase) << 16
        slot.completion.storeBytes(of: last, toByteOffset: 12, as: UInt32.self)
        let address = queue.base &+ queue.posted % UInt64(queue.size) &* 16
        // Once the guest sees it, it uses the command's buffer for something else: a successor posts it again, and does not carry the command out again.
        memory.commitState()
        // The word with the phase tag comes last: the guest looks at it, and believes the others.
        guard memory.write(address, from: UnsafeRawBufferPointer(start: slot.completion, count: 12)),
            memory.write(address &+ 12, from: UnsafeRawBufferPointer(start: slot.completion + 12, count: 4))
        else { return fail() }
        queue.posted &+= 1
        free(place)
        if queue.interrupts { vectorsToSend |= 1 << UInt32(queue.vector & 31) }
    }

    /// Posts what waited for room in a completion queue.
    mutating func postWaiting(_ number: Int) {
        for place in 0..<ControllerState.slotCount
        where work[place].phase == .finished && Int(state.submission(state.slot(place).queue).completion) == number {
            post(place)
        }
    }

    mutating func free(_ place: Int) {
        state.slot(place).stage = .free
        work[place] = Work()
    }

    // MARK: the disk

    /// A disk job has ended.
    public mutating func finished(_ number: Int, _ outcome: DiskOutcome) {
        if number == Self.ownFlush {
            guard isFlushing else { return }
            isFlushing = false
            flushed(outcome)
        } else if work.indices.contains(number) {
            switch work[number].phase {
            case .disk: finishIO(number, outcome)
            case .abandoned: free(number)
            default: return
            }
        }
        settle()
    }

    /// Whether a command's job is under way.
    var hasJobs: Bool { work.contains { $0.phase == .disk || $0.phase == .abandoned } }

    /// Goes on with what waits for commands to end.
    mutating func settle() {
        settleDeletions()
        guard !hasJobs, !isFlushing else { return }
        if isResetting { finishReset() }
        guard state.status & ControllerStatus.shutdown == ControllerStatus.shutdownOccurring || !removals.isEmpty else { return }
        isFlushing = true
        disk.begin(DiskJob(number: Self.ownFlush, kind: .flush))
    }

    private mutating func flushed(_ outcome: DiskOutcome) {
        if state.status & ControllerStatus.shutdown == ControllerStatus.shutdownOccurring {
            state.status = state.status & ~ControllerStatus.shutdown | ControllerStatus.shutdownComplete
        }
        // A job that began meanwhile is another one's: there is none, because nothing is taken while somebody waits for the flush.
        guard !removals.isEmpty else { return }
        let waiting = removals
        removals = []
        if outcome == .done { state.isRemoved = true }
        for tell in waiting { tell(outcome == .done ? .removed : .failed) }
    }

    // MARK: removal

    /// Takes no command any more, waits until those under way have ended and were completed, has everything written to stable storage, and then
    /// removes the device: its registers read as all-ones, and a successor leaves it so.
    ///
    /// What the guest had queued but the controller had not taken is never acknowledged. When the flush fails the controller goes on as before:
    /// call `advance`. A controller that was removed before tells so at once.
    /// - Parameter then: called once, from within this call or from `finished`; it must not touch the controller.
    public mutating func quiesce(then: @escaping (QuiesceOutcome) -> Void) {
        guard !state.isRemoved else { return then(.removed) }
        removals.append(then)
        settle()
    }

    /// Whether `quiesce` has removed the device, in this process or in one before it.
    public var isRemoved: Bool { state.isRemoved }

    /// Whether a controller that had this state was removed.
    public static func wasRemoved(_ state: UnsafeMutableRawPointer) -> Bool {
        let state = ControllerState(bytes: state)
        return state.isKnown && state.isRemoved
    }

    /// Removes the device at once, for whoever has begun nothing and has had everything written out. False, and nothing happens, when commands are
    /// under way.
    public mutating func removeAtOnce() -> Bool {
        guard !hasJobs, !isFlushing else { return false }
        state.isRemoved = true
        return true
    }

    // MARK: after a predecessor

    /// Goes on where a predecessor stopped. Of a state that cannot be, nothing is believed: the controller then says that it failed, and the guest
    /// resets it.
    public mutating func recover() {
        guard !state.isRemoved else { return }
        guard stateMakesSense else {
            clearQueues()
            return fail()
        }
        for place in 0..<ControllerState.slotCount {
            let slot = state.slot(place)
            let submission = state.submission(slot.queue)
            guard slot.stage != .free, submission.exists else {
                slot.stage = .free
                continue
            }
            // It died between the two stores of `fetch`.
            if slot.fetchNumber == submission.fetched { submission.fetched &+= 1 }
            if slot.stage == .finished {
                // It died between the two stores of `post`.
                let posted = state.completion(Int(submission.completion)).posted
                if slot.postNumber != Slot.notPosting, slot.postNumber != posted {
                    slot.stage = .free
                    continue
                }
                work[place].phase = .finished
            } else {
                work[place].phase = .executing
            }
        }
        if state.configuration & Configuration.enable == 0, state.status & ControllerStatus.ready != 0 { isResetting = true }
        for place in 0..<ControllerState.slotCount where !isResetting {
            switch work[place].phase {
            case .finished: post(place)
            case .executing: execute(place)
            default: break
            }
        }
        if isResetting { abandonAll() }
        // Its last messages may not have been sent.
        for number in 0..<ControllerState.queueCount {
            let queue = state.completion(number)
            if queue.exists, queue.interrupts, queue.unconsumed != 0 { vectorsToSend |= 1 << UInt32(queue.vector & 31) }
        }
        settle()
    }

    private var stateMakesSense: Bool {
        (0..<ControllerState.queueCount).allSatisfy { number in
            let submission = state.submission(number)
            let completion = state.completion(number)
            let most = number == 0 ? 4096 : UInt32(ControllerState.mostEntries)
            return (!submission.exists
                || (2...most).contains(submission.size) && submission.tail < submission.size
                    && submission.completion < UInt32(ControllerState.queueCount) && state.completion(Int(submission.completion)).exists)
                && (!completion.exists
                    || (2...most).contains(completion.size) && completion.unconsumed < UInt64(completion.size)
                        && completion.vector < UInt16(Self.vectors))
        }
    }
}

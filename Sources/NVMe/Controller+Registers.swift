// The registers and doorbells, enabling, reset and shutdown.
extension Controller {
    /// Answers the guest's read of BAR 0. Registers are read in words of 32 bits, or two at once; parts of one are given as well.
    public func read(_ offset: Int, size: Int) -> UInt64 {
        let allOnes = size >= 8 ? UInt64.max : 1 << UInt64(max(size, 0) * 8) - 1
        guard !state.isRemoved, offset >= 0, [1, 2, 4, 8].contains(size), offset & (size - 1) == 0 else { return allOnes }
        if size == 8 { return UInt64(word(offset)) | UInt64(word(offset &+ 4)) << 32 }
        return UInt64(word(offset & ~3)) >> UInt64((offset & 3) * 8) & allOnes
    }

    private func word(_ offset: Int) -> UInt32 {
        switch offset {
        case Register.capabilities: UInt32(truncatingIfNeeded: Register.capabilityValue)
        case Register.capabilities + 4: UInt32(truncatingIfNeeded: Register.capabilityValue >> 32)
        case Register.version: Register.versionValue
        case Register.maskSet, Register.maskClear: state.mask
        case Register.configuration: state.configuration
        case Register.status: state.status
        case Register.adminAttributes: state.adminAttributes
        case Register.adminSubmission: UInt32(truncatingIfNeeded: state.adminSubmission)
        case Register.adminSubmission + 4: UInt32(truncatingIfNeeded: state.adminSubmission >> 32)
        case Register.adminCompletion: UInt32(truncatingIfNeeded: state.adminCompletion)
        case Register.adminCompletion + 4: UInt32(truncatingIfNeeded: state.adminCompletion >> 32)
        default: 0
        }
    }

    /// Carries out the guest's write to BAR 0; parts of a register cannot be written. `advance` comes next.
    public mutating func write(_ offset: Int, size: Int, _ value: UInt64) {
        guard !state.isRemoved, offset >= 0, size == 4 || size == 8, offset & (size - 1) == 0 else { return }
        setWord(offset, UInt32(truncatingIfNeeded: value))
        if size == 8 { setWord(offset &+ 4, UInt32(truncatingIfNeeded: value >> 32)) }
    }

    private mutating func setWord(_ offset: Int, _ value: UInt32) {
        func low(_ old: UInt64) -> UInt64 { old & ~0xffff_ffff | UInt64(value & ~0xfff) }
        func high(_ old: UInt64) -> UInt64 { old & 0xffff_ffff | UInt64(value) << 32 }
        switch offset {
        case Register.maskSet: state.mask |= value
        case Register.maskClear: state.mask &= ~value
        case Register.configuration: configure(value & Configuration.all)
        case Register.adminAttributes: state.adminAttributes = value & 0x0fff_0fff
        case Register.adminSubmission: state.adminSubmission = low(state.adminSubmission)
        case Register.adminSubmission + 4: state.adminSubmission = high(state.adminSubmission)
        case Register.adminCompletion: state.adminCompletion = low(state.adminCompletion)
        case Register.adminCompletion + 4: state.adminCompletion = high(state.adminCompletion)
        case Register.doorbells..<Register.doorbellEnd:
            let number = (offset - Register.doorbells) / 8
            if offset & 4 == 0 { submit(number, tail: value) } else { consume(number, head: value) }
        case Register.doorbellEnd..<Self.tableOffset: report(.invalidDoorbell)
        default: break
        }
    }

    // MARK: doorbells

    private mutating func submit(_ number: Int, tail: UInt32) {
        let queue = state.submission(number)
        guard !isResetting, queue.exists else { return report(.invalidDoorbell) }
        guard tail < queue.size else { return report(.invalidDoorbellValue) }
        queue.tail = tail
    }

    private mutating func consume(_ number: Int, head: UInt32) {
        let queue = state.completion(number)
        guard !isResetting, queue.exists else { return report(.invalidDoorbell) }
        guard head < queue.size else { return report(.invalidDoorbellValue) }
        let size = UInt64(queue.size)
        let taken = (UInt64(head) + size - queue.consumed % size) % size
        guard taken <= queue.unconsumed else { return report(.invalidDoorbellValue) }
        queue.consumed &+= taken
        postWaiting(number)
    }

    // MARK: enabling and reset

    private mutating func configure(_ value: UInt32) {
        let old = state.configuration
        state.configuration = value
        let wasEnabled = old & Configuration.enable != 0
        let isEnabled = value & Configuration.enable != 0
        if wasEnabled && !isEnabled { beginReset() }
        if !wasEnabled && isEnabled && !isResetting { enable() }
        let asked = value & Configuration.shutdown != 0
        if asked && old & Configuration.shutdown == 0 {
            state.status = state.status & ~ControllerStatus.shutdown | ControllerStatus.shutdownOccurring
            settle()
        } else if !asked {
            state.status &= ~ControllerStatus.shutdown
        }
    }

    private mutating func enable() {
        let submissions = state.adminAttributes & 0xfff
        let completions = state.adminAttributes >> 16 & 0xfff
        guard state.adminSubmission != 0, state.adminCompletion != 0, submissions > 0, completions > 0,
            state.configuration & (Configuration.commandSet | Configuration.pageSize | Configuration.arbitration) == 0
        else { return fail() }
        state.completion(0).make(base: state.adminCompletion, size: completions + 1, vector: 0, interrupts: true)
        state.submission(0).make(base: state.adminSubmission, size: submissions + 1, completion: 0)
        state.status = ControllerStatus.ready
    }

    /// Not ready only when the disk has let go of every command: nothing is written after the guest has seen the reset's end.
    private mutating func beginReset() {
        isResetting = true
        abandonAll()
        settle()
    }

    mutating func abandonAll() {
        for place in work.indices {
            switch work[place].phase {
            case .disk, .abandoned:
                state.slot(place).stage = .free
                work[place].phase = .abandoned
            case .free: break
            default: free(place)
            }
        }
    }

    mutating func finishReset() {
        isResetting = false
        clearQueues()
        state.status = 0
        state.mask = 0
        state.pendingEvents = 0
        state.maskedEvents = 0
        setDefaults()
        if state.configuration & Configuration.enable != 0 { enable() }
    }

    mutating func clearQueues() {
        for number in 0..<ControllerState.queueCount {
            state.submission(number).size = 0
            state.completion(number).size = 0
        }
        for place in 0..<ControllerState.slotCount { state.slot(place).stage = .free }
    }
}

// The admin command set.
extension Controller {
    mutating func executeAdmin(_ place: Int, _ command: Command) {
        guard !command.asksForMore else { return finish(place, .invalidField) }
        switch command.opcode {
        case AdminOpcode.deleteSubmissionQueue: deleteSubmissionQueue(place, command)
        case AdminOpcode.createSubmissionQueue: finish(place, createSubmissionQueue(command))
        case AdminOpcode.getLogPage: getLogPage(place, command)
        case AdminOpcode.deleteCompletionQueue: finish(place, deleteCompletionQueue(command))
        case AdminOpcode.createCompletionQueue: finish(place, createCompletionQueue(command))
        case AdminOpcode.identify: identify(place, command)
        // Bit 0: it was not aborted. A command that is under way ends soon, or with the storage.
        case AdminOpcode.abort: finish(place, .success, result: 1)
        case AdminOpcode.setFeatures: setFeatures(place, command)
        case AdminOpcode.getFeatures: getFeatures(place, command)
        case AdminOpcode.asyncEventRequest:
            guard work.count(where: { $0.phase == .event }) <= Self.eventLimit else { return finish(place, .tooManyEventRequests) }
            work[place].phase = .event
            deliverEvents()
        default: finish(place, .invalidOpcode)
        }
    }

    // MARK: queues

    /// I/O queues that the guest may have, of each kind.
    private var grantedQueues: (submission: Int, completion: Int) {
        let value = state.feature(Feature.queueCount)
        let most = ControllerState.queueCount - 1
        return (min(Int(value & 0xffff) + 1, most), min(Int(value >> 16) + 1, most))
    }

    private func sizeFault(_ size: UInt32) -> Bool {
        size < 2 || size > UInt32(ControllerState.mostEntries)
            || state.configuration & (Configuration.submissionEntry | Configuration.completionEntry) != Configuration.entrySizes
    }

    private mutating func createCompletionQueue(_ command: Command) -> Status {
        let number = Int(command.words.0 & 0xffff)
        let size = (command.words.0 >> 16) + 1
        let vector = command.words.1 >> 16
        guard (1...grantedQueues.completion).contains(number), !state.completion(number).exists else { return .invalidQueueIdentifier }
        guard !sizeFault(size) else { return .invalidQueueSize }
        // Queues in several pieces are not offered (CAP.CQR).
        guard command.words.1 & 1 != 0 else { return .invalidField }
        guard vector < UInt32(Self.vectors) else { return .invalidVector }
        guard command.prp1 & 0xfff == 0 else { return .invalidPRPOffset }
        state.completion(number).make(
            base: command.prp1, size: size, vector: UInt16(truncatingIfNeeded: vector), interrupts: command.words.1 & 2 != 0)
        return .success
    }

    private mutating func createSubmissionQueue(_ command: Command) -> Status {
        let number = Int(command.words.0 & 0xffff)
        let size = (command.words.0 >> 16) + 1
        let completion = Int(command.words.1 >> 16)
        guard (1..<ControllerState.queueCount).contains(completion), state.completion(completion).exists else { return .invalidCompletionQueue }
        guard (1...grantedQueues.submission).contains(number), !state.submission(number).exists else { return .invalidQueueIdentifier }
        guard !sizeFault(size) else { return .invalidQueueSize }
        guard command.words.1 & 1 != 0 else { return .invalidField }
        guard command.prp1 & 0xfff == 0 else { return .invalidPRPOffset }
        state.submission(number).make(base: command.prp1, size: size, completion: completion)
        return .success
    }

    private mutating func deleteCompletionQueue(_ command: Command) -> Status {
        let number = Int(command.words.0 & 0xffff)
        guard (1..<ControllerState.queueCount).contains(number), state.completion(number).exists else { return .invalidQueueIdentifier }
        for other in 1..<ControllerState.queueCount where state.submission(other).exists && Int(state.submission(other).completion) == number {
            return .invalidQueueDeletion
        }
        state.completion(number).size = 0
        return .success
    }

    /// Ends when the queue's commands that were taken have ended; those that were not are never taken.
    private mutating func deleteSubmissionQueue(_ place: Int, _ command: Command) {
        let number = Int(command.words.0 & 0xffff)
        guard (1..<ControllerState.queueCount).contains(number), state.submission(number).exists else {
            return finish(place, .invalidQueueIdentifier)
        }
        state.submission(number).isBeingDeleted = true
        work[place].phase = .deletion
        settleDeletions()
    }

    mutating func settleDeletions() {
        for place in work.indices where work[place].phase == .deletion {
            let number = Int(Command(state.slot(place).command).words.0 & 15)
            let queue = state.submission(number)
            // Another command may have deleted it first.
            guard queue.exists, queue.isBeingDeleted else {
                finish(place, .invalidQueueIdentifier)
                continue
            }
            var isBusy = false
            for other in work.indices where state.slot(other).queue == number && other != place {
                switch work[other].phase {
                case .disk, .executing: isBusy = true
                default: break
                }
            }
            if isBusy { continue }
            // What found no room in the completion queue is dropped with the queue.
            for other in work.indices where work[other].phase == .finished && state.slot(other).queue == number { free(other) }
            queue.size = 0
            finish(place, .success)
        }
    }

    // MARK: features

    private mutating func getFeatures(_ place: Int, _ command: Command) {
        let number = Int(command.words.0 & 0xff)
        guard Feature.isKnown(number) else { return finish(place, .invalidField) }
        if number == Feature.vectorConfiguration {
            let vector = Int(command.words.1 & 0xffff)
            guard vector < Self.vectors else { return finish(place, .invalidField) }
            return finish(place, .success, result: UInt32(vector) | state.vectorConfiguration(vector))
        }
        if number == Feature.temperatureThreshold {
            // There is one sensor, and nothing that it must not fall below.
            guard command.words.1 >> 16 & 0xf == 0 else { return finish(place, .invalidField) }
            if command.words.1 >> 20 & 3 == 1 { return finish(place, .success) }
        }
        finish(place, .success, result: state.feature(number))
    }

    private mutating func setFeatures(_ place: Int, _ command: Command) {
        let number = Int(command.words.0 & 0xff)
        let value = command.words.1
        guard command.words.0 & 1 << 31 == 0 else { return finish(place, .notSaveable) }
        switch number {
        case Feature.queueCount:
            for other in 1..<ControllerState.queueCount where state.submission(other).exists || state.completion(other).exists {
                return finish(place, .commandSequence)
            }
            guard value & 0xffff != 0xffff, value >> 16 != 0xffff else { return finish(place, .invalidField) }
            let most = UInt32(ControllerState.queueCount - 2)
            let granted = min(value & 0xffff, most) | min(value >> 16, most) << 16
            state.setFeature(number, granted)
            finish(place, .success, result: granted)
        case Feature.powerManagement:
            guard value & 0x1f == 0 else { return finish(place, .invalidField) }
            finish(place, .success)
        case Feature.writeCache:
            state.setFeature(number, value & 1)
            // What was cached so far is the flush's, when the guest turns the cache off.
            guard value & 1 == 0, !geometry.isReadOnly else { return finish(place, .success) }
            work[place].phase = .disk
            disk.begin(DiskJob(number: place, kind: .flush))
        case Feature.vectorConfiguration:
            let vector = Int(value & 0xffff)
            guard vector < Self.vectors else { return finish(place, .invalidField) }
            state.setVectorConfiguration(vector, value & 0x1_0000)
            finish(place, .success)
        case Feature.temperatureThreshold:
            guard value >> 16 & 0x3f == 0 else { return finish(place, value >> 16 & 0xf == 0 && value >> 20 & 3 == 1 ? .success : .invalidField) }
            state.setFeature(number, value & 0xffff)
            finish(place, .success)
        case Feature.arbitration, Feature.errorRecovery, Feature.interruptCoalescing, Feature.writeAtomicity, Feature.eventConfiguration:
            state.setFeature(number, value & Feature.settable(number))
            finish(place, .success)
        default: finish(place, .invalidField)
        }
    }

    func setDefaults() {
        for number in 0..<16 { state.setFeature(number, 0) }
        for vector in 0..<16 { state.setVectorConfiguration(vector, 0) }
        state.setFeature(Feature.temperatureThreshold, Self.warningTemperature)
        state.setFeature(Feature.writeCache, 1)
        let most = UInt32(ControllerState.queueCount - 2)
        state.setFeature(Feature.queueCount, most | most << 16)
    }

    // MARK: events

    /// Asynchronous event requests at once, less one: AERL.
    static let eventLimit = 3

    /// Something that the guest did wrong outside of any command.
    enum Occurrence: UInt32 {
        case invalidDoorbell = 0
        case invalidDoorbellValue = 1
    }

    mutating func report(_ occurrence: Occurrence) {
        guard state.status & ControllerStatus.ready != 0 else { return }
        state.pendingEvents |= 1 << occurrence.rawValue
        deliverEvents()
    }

    /// Ends an event request, if there is something to report. Events of a kind come one at a time: the next when the guest has read the log.
    mutating func deliverEvents() {
        guard state.pendingEvents & 3 != 0, state.maskedEvents == 0, let place = work.firstIndex(where: { $0.phase == .event }) else { return }
        let occurrence: UInt32 = state.pendingEvents & 1 != 0 ? 0 : 1
        state.pendingEvents &= ~(1 << occurrence)
        state.maskedEvents = 1
        // Type 0, an error; the error log tells of it.
        finish(place, .success, result: occurrence << 8 | UInt32(LogPage.errors) << 16)
    }
}

/// Identifiers of features (specification, section 5.21.1).
enum Feature {
    static let arbitration = 0x01
    static let powerManagement = 0x02
    static let temperatureThreshold = 0x04
    static let errorRecovery = 0x05
    static let writeCache = 0x06
    static let queueCount = 0x07
    static let interruptCoalescing = 0x08
    static let vectorConfiguration = 0x09
    static let writeAtomicity = 0x0a
    static let eventConfiguration = 0x0b

    static func isKnown(_ number: Int) -> Bool { [1, 2, 4, 5, 6, 7, 8, 9, 10, 11].contains(number) }

    /// The bits that are kept of those that are only kept.
    static func settable(_ number: Int) -> UInt32 {
        switch number {
        case arbitration: 0xffff_ff07
        case errorRecovery, interruptCoalescing: 0xffff
        case writeAtomicity: 1
        default: 0x7ff
        }
    }
}

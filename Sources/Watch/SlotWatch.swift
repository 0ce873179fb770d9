import Host

/// Tells whether one emulator goes on with what waits in its slots: a value that is told what each slot holds, and for how long it may.
///
/// Another process's slots can only be polled. Two looks that find the same may have found two requests that are alike; the slot's sequence tells
/// (emulator protocol, section 8), and where an emulator keeps none, whether it has served anything at all in between.
public struct SlotWatch: Sendable {
    /// What a slot that is READY or INPROCESS holds.
    public struct Mark: Equatable, Sendable {
        public var request: IORequest
        /// How many requests were taken from the slot.
        public var sequence: UInt32
        /// How many requests the emulator has taken; looked at only while `sequence` is 0.
        public var requests: UInt64

        public init(request: IORequest, sequence: UInt32, requests: UInt64) {
            self.request = request
            self.sequence = sequence
            self.requests = sequence == 0 ? requests : 0
        }
    }

    public enum Finding: Equatable, Sendable {
        /// The request has been seen to wait for this many nanoseconds: told once.
        case hung(slot: Int, IORequest, nanoseconds: UInt64)
        /// A request that was told of as hung is not there any more.
        case answered(slot: Int)
    }

    private struct Seen {
        var mark: Mark
        var waited: UInt64 = 0
        var isTold = false
    }

    /// Nanoseconds that a request may wait.
    public let limit: UInt64
    private var seen: [Int: Seen] = [:]

    public init(limit: UInt64) { self.limit = limit }

    /// One look.
    /// - Parameters:
    ///   - slots: those that hold a request now.
    ///   - elapsed: nanoseconds since the last look, as far as the watcher itself was awake: what stood still together with it does not hang.
    public mutating func look(_ slots: [(slot: Int, mark: Mark)], elapsed: UInt64) -> [Finding] {
        var findings: [Finding] = []
        var next: [Int: Seen] = [:]
        for (slot, mark) in slots {
            guard var known = seen[slot], known.mark == mark else {
                next[slot] = Seen(mark: mark)
                continue
            }
            known.waited &+= elapsed
            if known.waited >= limit && !known.isTold {
                known.isTold = true
                findings.append(.hung(slot: slot, mark.request, nanoseconds: known.waited))
            }
            next[slot] = known
        }
        for (slot, known) in seen.sorted(by: { $0.key < $1.key }) where known.isTold && next[slot]?.isTold != true { findings.append(.answered(slot: slot)) }
        seen = next
        return findings
    }
}

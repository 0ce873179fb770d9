import CIoreq

/// What a serving loop counts, in a page that the coordinator reads: plain stores, nothing else.
public enum Counter: Int, CaseIterable, Sendable {
    case requests, portReads, portWrites, memoryReads, memoryWrites, configReads, configWrites
    case buffered, invalidations, timeOffsets, deferred, malformed, wakeups, spurious

    /// The name that `demux status --json` uses.
    public var name: String { "\(self)" }
}

/// A view of a counters page: a u64 magic, a u64 count of counters, then one u64 for each `Counter` in order; from byte 1024 on a u32 for
/// each slot, how many requests were taken from it.
public struct CounterPage: @unchecked Sendable {
    // Sendable: counters are single untorn words written by one process and read by others.
    /// "DMXCNT01", little-endian.
    public static let magic: UInt64 = 0x3130_544e_4358_4d44
    /// Length of the page in bytes.
    public static let length = 4096
    /// Where the slots' sequences begin, in bytes.
    public static let sequences = 1024
    @usableFromInline let words: UnsafeMutablePointer<UInt64>

    /// - Parameter page: 4096 bytes, aligned to 8.
    public init(page: UnsafeMutableRawPointer) { words = page.bindMemory(to: UInt64.self, capacity: Self.length / 8) }

    /// Writes the header; what the owner of the page does before it hands it out.
    public func initialize() {
        words[0] = Self.magic
        words[1] = UInt64(Counter.allCases.count)
    }

    /// Whether the page has been prepared by its owner.
    public var hasHeader: Bool { words[0] == Self.magic }

    /// How many counters its owner knows. One with a higher number must not be written.
    public var count: UInt64 { words[1] }

    @inlinable
    public func add(_ counter: Counter, _ amount: UInt64 = 1) { demux_counter_add(words + 2 + counter.rawValue, amount) }
    public func read(_ counter: Counter) -> UInt64 { demux_counter_read(words + 2 + counter.rawValue) }

    /// Notes that a request was taken from a slot: how a watcher tells one that hangs from another that looks the same.
    @inlinable
    public func noteTaken(_ slot: Int) { demux_sequence_advance(sequence(slot)) }
    /// How many requests were taken from a slot, modulo 2^32; 0 for ever when the emulator does not count them.
    public func taken(_ slot: Int) -> UInt32 { demux_sequence_read(sequence(slot)) }

    /// Sound: 128 words of 4 bytes at byte 1024 are within the page, and an index outside them is folded into it.
    @inlinable
    func sequence(_ slot: Int) -> UnsafeMutablePointer<UInt32> {
        UnsafeMutableRawPointer(words).advanced(by: Self.sequences).assumingMemoryBound(to: UInt32.self) + (slot & (VCPUID.limit - 1))
    }
}

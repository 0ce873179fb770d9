import CCommit
import Platform

/// Where a device's state and the requests that made it are committed together: the last part of the state region (emulator protocol, 10.1).
///
/// Two halves, of which a selector names the one that counts. A commit writes the other one and flips the selector with one store, so that a
/// death between any two instructions leaves what was before the request or what is after it. What the device writes to is a copy in this process's
/// own memory: nobody ever sees half of a request's effects.
struct CommitArea {
    // Sound: all pointers go into the state region and the copy beside it, which live as long as the core; every place is made of a number that
    // was checked when this was made.

    /// Whether there is anything to commit: a device with state, and a coordinator that keeps it.
    let isOn: Bool
    /// How often a request was taken from each slot, before it was.
    private let taken: UnsafeMutablePointer<UInt32>
    private let selector: UnsafeMutablePointer<UInt64>
    private let halves: UnsafeMutableRawPointer
    private let halfLength: Int
    /// What the device writes to: `blocks` blocks, zeros behind the device's bytes.
    private let working: UnsafeMutableRawPointer
    private let blocks: Int
    /// The head of the half that is written next, as far as it never changes.
    private var head = demux_commit_head()
    /// The number of the last commit.
    private(set) var number: UInt64 = 0

    /// Bytes from `taken`, at the place where this area begins, to the first half.
    static let headLength = 4096
    private static let selectorPlace = 1024
    private static let block = Int(DEMUX_COMMIT_BLOCK)
    private static let deviceOffset = DEMUX_COMMIT_HEAD + DEMUX_COMMIT_ENTRY * DEMUX_COMMIT_MOST_ENTRIES
    private static let mostEntries = Int(DEMUX_COMMIT_MOST_ENTRIES)

    /// The device's bytes with what fills up the last block.
    static func padded(_ length: Int) -> Int { (length + block - 1) & ~(block - 1) }

    /// Bytes of both halves for a device of so many bytes.
    static func wanted(deviceLength: Int) -> Int { headLength + 2 * ((Int(deviceOffset) + padded(deviceLength) + 63) & ~63) }

    /// - Parameters:
    ///   - base: where this area begins, aligned to a page; `length` bytes of it are this area's.
    ///   - working: `padded(deviceLength)` bytes.
    init(base: UnsafeMutableRawPointer, length: Int, isOn: Bool, working: UnsafeMutableRawPointer, deviceLength: Int, version: Int) {
        taken = base.bindMemory(to: UInt32.self, capacity: Self.mostEntries)
        selector = (base + Self.selectorPlace).bindMemory(to: UInt64.self, capacity: 1)
        halves = base + Self.headLength
        // Of the length alone, which the coordinator knows: a successor whose device is longer or shorter looks at the same places.
        halfLength = max((length - Self.headLength) / 2, 0) & ~63
        self.working = working
        blocks = Self.padded(deviceLength) / Self.block
        self.isOn = isOn && halfLength >= Int(Self.deviceOffset) + Self.padded(deviceLength)
        head.version = UInt32(truncatingIfNeeded: version)
        head.length = UInt32(truncatingIfNeeded: deviceLength)
    }

    private func half(_ number: UInt64) -> UnsafeMutableRawPointer { halves + Int(truncatingIfNeeded: number & 1) * halfLength }

    // MARK: taking

    /// To be called before a slot's READY becomes INPROCESS.
    @inline(__always) func advanceTaken(_ slot: Int) { demux_taken_advance(taken + (slot & (Self.mostEntries - 1))) }

    func takenCount(_ slot: Int) -> UInt32 { demux_taken_read(taken + (slot & (Self.mostEntries - 1))) }

    // MARK: committing

    /// What the ring had come to: entries from `position` on were carried out, and are about to be given back.
    struct Posted: Equatable {
        var position: UInt32 = 0
        var count: UInt32 = 0
        /// The first one's first 8 bytes.
        var word: UInt64 = 0
    }

    /// Puts an entry into the half that is written next. Numbered from 0 without a gap.
    mutating func put(_ entry: demux_commit_entry, at place: Int) {
        let place = min(place, Self.mostEntries - 1)
        (half(number &+ 1) + Int(DEMUX_COMMIT_HEAD) + place * Int(DEMUX_COMMIT_ENTRY)).storeBytes(of: entry, as: demux_commit_entry.self)
    }

    /// Copies the device's bytes and writes the head: all but the flip.
    mutating func write(entries: Int, posted: Posted) {
        number &+= 1
        head.number = number
        head.entries = UInt32(truncatingIfNeeded: min(entries, Self.mostEntries))
        head.posted = posted.count
        head.position = posted.position
        head.word = posted.word
        demux_commit_write(half(number), head, working, blocks)
    }

    /// Makes what was written count.
    func flip() { demux_commit_select(selector, number) }

    // MARK: what a predecessor committed

    /// What was found, in this process's own memory.
    struct Found {
        var version: Int
        /// Bytes of the device's, of which as many as fit stand in the working copy.
        var length: Int
        var entries: [demux_commit_entry]
        var posted: Posted
        /// Whether the half that counts was damaged, and this is what was committed before.
        var isOlder: Bool

        /// What a slot's request had come to.
        func entry(slot: Int, sequence: UInt32) -> demux_commit_entry? {
            entries.first { Int($0.slot) == slot && $0.sequence == sequence }
        }
    }

    /// Copies what was committed last to the working copy; nil when neither half is whole. Whatever stands there was written by somebody else.
    mutating func find() -> Found? {
        let selected = demux_commit_selected(selector)
        for (number, isOlder) in [(selected, false), (selected &- 1, true)] {
            guard var found = read(number) else { continue }
            found.isOlder = isOlder
            // The damaged one is overwritten by the next commit, which is the next but one after that which is believed.
            self.number = isOlder ? selected &- 1 : selected
            return found
        }
        return nil
    }

    private func read(_ number: UInt64) -> Found? {
        let half = half(number)
        guard halfLength >= Int(Self.deviceOffset) else { return nil }
        let head = half.load(as: demux_commit_head.self)
        let length = Int(head.length)
        guard head.number == number, number != 0, length <= halfLength - Int(Self.deviceOffset), head.entries <= UInt32(Self.mostEntries),
            Self.padded(length) <= halfLength - Int(Self.deviceOffset),
            demux_commit_sum(half, head, Self.padded(length) / Self.block) == head.sum
        else { return nil }
        let entries = (0..<Int(head.entries)).map {
            half.load(fromByteOffset: Int(DEMUX_COMMIT_HEAD) + $0 * Int(DEMUX_COMMIT_ENTRY), as: demux_commit_entry.self)
        }
        let whole = blocks * Self.block
        working.initializeMemory(as: UInt8.self, repeating: 0, count: whole)
        working.copyMemory(from: half + Int(Self.deviceOffset), byteCount: min(length, Int(self.head.length)))
        return Found(
            version: Int(head.version), length: length, entries: entries,
            posted: Posted(position: head.position, count: head.posted, word: head.word), isOlder: false)
    }
}

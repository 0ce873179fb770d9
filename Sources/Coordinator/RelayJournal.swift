import CIoreq
import Host
import Platform

/// How far a relay is with each slot's job, in memory that outlives it and that no emulator sees.
///
/// Each word is written before what it announces is done. So whatever instruction the coordinator dies at, its successor can tell a
/// repetition that the emulator never got from one that it has, and that from one whose answer was taken.
final class RelayJournal {
    /// Words of one slot: repetitions submitted, repetitions answered and taken, the last value read, a posted write's place in the ring.
    private static let words = 4
    private static let length = 8192

    private let memory: MappedMemory

    init(name: String) throws(SystemError) {
        memory = try MappedMemory(name: "demux-relay-journal-\(name)", length: Self.length, what: "the relay's journal for \(name)")
    }

    /// Takes over a predecessor's.
    init(adopting descriptor: consuming OwnedDescriptor) throws(SystemError) {
        memory = try MappedMemory(adopting: descriptor, length: Self.length, what: "a relay's journal")
    }

    var descriptor: CInt { memory.descriptor }

    /// What is known of one slot's job.
    struct Entry: Equatable {
        var submitted: UInt32
        var done: UInt32
        var value: UInt64
        var position: UInt32
    }

    private func word(_ slot: Int, _ index: Int) -> UnsafeMutablePointer<UInt64> {
        // Sound: 256 slots of four words fill the mapping, and a relay has at most 128.
        (memory.base + ((slot & 255) * Self.words + index) * 8).assumingMemoryBound(to: UInt64.self)
    }

    subscript(slot: Int) -> Entry {
        Entry(
            submitted: UInt32(truncatingIfNeeded: demux_word_load(word(slot, 0))), done: UInt32(truncatingIfNeeded: demux_word_load(word(slot, 1))),
            value: demux_word_load(word(slot, 2)), position: UInt32(truncatingIfNeeded: demux_word_load(word(slot, 3))))
    }

    /// A job is about to be taken: nothing of it was done, and the slot is empty.
    /// - Parameter position: a posted write's place in the ring.
    func begin(_ slot: Int, position: UInt32 = 0) {
        demux_word_store(word(slot, 0), 0)
        demux_word_store(word(slot, 1), 0)
        demux_word_store(word(slot, 2), 0)
        demux_word_store(word(slot, 3), UInt64(position))
    }

    /// So many repetitions are with the emulator, or have been; the last of them is put there next.
    func noteSubmitted(_ slot: Int, _ count: UInt32) { demux_word_store(word(slot, 0), UInt64(count)) }

    /// So many repetitions are answered, and the last answer is about to be taken off the slot.
    func noteDone(_ slot: Int, _ count: UInt32, value: UInt64) {
        demux_word_store(word(slot, 2), value)
        demux_word_store(word(slot, 1), UInt64(count))
    }
}

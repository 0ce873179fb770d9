/// The device's own part of the state that the coordinator keeps: what is written here outlives the process, so that a successor goes on
/// where this one stopped, and is saved with the guest.
///
/// A device keeps its registers in here while it runs; nothing has to be said or flushed. Death can come between any two stores: write what
/// belongs together so that a successor can live with half of it. When it is not fresh, its content was written by another process of the same
/// name and the same `Emulator.stateLength`, perhaps of another version, or came with a saved guest: check what an index or a length is
/// made of, and put a version of your own at the beginning.
public struct StateRegion: @unchecked Sendable {
    // Sendable: the memory lives as long as the process serves; who uses it from two threads orders the accesses.
    /// The first byte, aligned to a page. Sound for `length` bytes until the process ends.
    public let bytes: UnsafeMutableRawPointer
    /// Bytes: `Emulator.stateLength`.
    public let length: Int
    /// Whether it is all zero: the device begins at its reset state.
    public let isFresh: Bool
    /// Whether the coordinator keeps it. False with one that offers no state: then it ends with the process.
    public let isKept: Bool
}

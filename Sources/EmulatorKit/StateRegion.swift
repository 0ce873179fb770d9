import Host

/// The device's own part of the state that the coordinator keeps: what is written here outlives the process, so that a successor goes on
/// where this one stopped, and is saved with the guest.
///
/// A device keeps its registers in here while it runs, and need say nothing: EmulatorKit commits all of it together with each request, in one step
/// before the guest gets the answer. However a process dies, its successor finds the state from before a request, which it then carries out, or from
/// after it, whose answer it then gives; never half of one. So no order of stores matters within a handler, and no handler is called twice
/// on the same state. An event (a timer, a descriptor) is committed when its handler has returned.
///
/// What a handler does *outside* of it is not taken back: carried out once more by a successor, a disk write, a message or a change of the guest's
/// memory has to come to the same. A device whose guest sees something before the request or the event is over (a completion in guest memory)
/// calls `commit` first.
///
/// Anything that is not fresh was written by another process of the same name, perhaps of another version (`version`), or came with a saved guest:
/// check what an index or a length is made of. Give `Emulator.stateVersion` another number when the layout changes.
public struct StateRegion: @unchecked Sendable {
    // Sendable: the memory lives as long as the process serves, and belongs to the thread that serves.
    /// The first byte, aligned to a page. Sound for `length` bytes until the process ends. To be written by the serving thread only.
    public let bytes: UnsafeMutableRawPointer
    /// Bytes: `Emulator.stateLength`.
    public let length: Int
    /// Whether it is all zero: the device begins at its reset state.
    public let isFresh: Bool
    /// Whether the coordinator keeps it. False with one that offers no state: then it ends with the process.
    public let isKept: Bool
    /// The version of the layout that is in it: the device's own, or when a predecessor wrote it another one of `Emulator.stateAccepts`. The device
    /// brings it up to date in its `init`; what is committed from then on has its own version.
    public let version: Int
    /// Sound: as `bytes`. Nil before there is a core.
    var core: UnsafeMutablePointer<Core>?

    init(bytes: UnsafeMutableRawPointer, length: Int, isFresh: Bool, isKept: Bool, version: Int) {
        (self.bytes, self.length, self.isFresh, self.isKept, self.version) = (bytes, length, isFresh, isKept, version)
    }

    /// A register in the state, little-endian, at any offset. Outside of it there is nothing: it reads as zero, and a write is dropped.
    @inlinable
    public subscript<Value: FixedWidthInteger>(offset: Int, type: Value.Type = Value.self) -> Value {
        get {
            guard holds(offset, MemoryLayout<Value>.size) else { return 0 }
            return Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
        }
        nonmutating set {
            guard holds(offset, MemoryLayout<Value>.size) else { return }
            bytes.storeBytes(of: newValue.littleEndian, toByteOffset: offset, as: Value.self)
        }
    }

    @inlinable
    func holds(_ offset: Int, _ size: Int) -> Bool { offset >= 0 && size <= length && offset <= length &- size }

    /// Memory of the device that lies in the state, at most as much as there is from `offset` on.
    public func memory(at offset: Int = 0, length wanted: Int? = nil) -> DeviceMemory {
        let start = min(max(offset, 0), length)
        return DeviceMemory(bytes + start, length: min(max(wanted ?? length, 0), length - start))
    }

    /// Commits what is written now, in the middle of a handler, before something that the guest or the world sees at once and that a successor
    /// must know of. On the serving thread only.
    ///
    /// The access that is being handled counts as not carried out: a successor carries it out again, on this state.
    public func commit() { core?.pointee.commitEarly() }
}

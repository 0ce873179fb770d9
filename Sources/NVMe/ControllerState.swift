/// A controller's registers, queues and commands under way, as bytes that outlive the process.
///
/// Little-endian. 0 magic u64; 8 version u32; 12 whether it was removed, u32; 16 CC, 20 CSTS, 24 interrupt mask, 28 AQA, u32; 32 ASQ, 40
/// ACQ, u64; 48 features, 16 × u32; 112 interrupt vectors' configuration, 16 × u32; 176 blocks read, blocks written, reads, writes, u64; 208 asynchronous
/// events pending and masked, u32; at 256 the submission queues and at 768 the completion queues, 32 bytes each; at 2048 the slots of
/// commands under way, 128 bytes each.
///
/// Positions in queues are counts that only grow, so that one store moves a position and tells how often the queue went round.
struct ControllerState {
    static let length = 8192
    static let queueCount = 16
    static let mostEntries = 1024
    /// Commands under way: the first ones for I/O, the others for the admin queue.
    static let slotCount = 40
    static let ioSlotCount = 32

    static let magic: UInt64 = 0x3130_454d_564e_4d44  // "DMNVME01"
    static let version: UInt32 = 1

    // Sound: `length` bytes, aligned to a page, that live as long as the controller; every place below is a constant or made of a checked number.
    let bytes: UnsafeMutableRawPointer

    func load<T: FixedWidthInteger>(_ place: Int, as type: T.Type = T.self) -> T { bytes.load(fromByteOffset: place, as: T.self) }
    func store<T: FixedWidthInteger>(_ place: Int, _ value: T) { bytes.storeBytes(of: value, toByteOffset: place, as: T.self) }

    var isKnown: Bool { load(0) == Self.magic && load(8) == Self.version }

    /// Everything as after power-on.
    func clear() {
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: Self.length)
        store(8, Self.version)
        store(0, Self.magic)
    }

    var isRemoved: Bool {
        get { load(12, as: UInt32.self) != 0 }
        nonmutating set { store(12, UInt32(newValue ? 1 : 0)) }
    }
    var configuration: UInt32 { get { load(16) } nonmutating set { store(16, newValue) } }
    var status: UInt32 { get { load(20) } nonmutating set { store(20, newValue) } }
    var mask: UInt32 { get { load(24) } nonmutating set { store(24, newValue) } }
    var adminAttributes: UInt32 { get { load(28) } nonmutating set { store(28, newValue) } }
    var adminSubmission: UInt64 { get { load(32) } nonmutating set { store(32, newValue) } }
    var adminCompletion: UInt64 { get { load(40) } nonmutating set { store(40, newValue) } }
    var blocksRead: UInt64 { get { load(176) } nonmutating set { store(176, newValue) } }
    var blocksWritten: UInt64 { get { load(184) } nonmutating set { store(184, newValue) } }
    var reads: UInt64 { get { load(192) } nonmutating set { store(192, newValue) } }
    var writes: UInt64 { get { load(200) } nonmutating set { store(200, newValue) } }
    var pendingEvents: UInt32 { get { load(208) } nonmutating set { store(208, newValue) } }
    var maskedEvents: UInt32 { get { load(212) } nonmutating set { store(212, newValue) } }

    /// A feature's value, by its identifier.
    func feature(_ number: Int) -> UInt32 { load(48 + (number & 15) * 4) }
    func setFeature(_ number: Int, _ value: UInt32) { store(48 + (number & 15) * 4, value) }
    func vectorConfiguration(_ vector: Int) -> UInt32 { load(112 + (vector & 15) * 4) }
    func setVectorConfiguration(_ vector: Int, _ value: UInt32) { store(112 + (vector & 15) * 4, value) }

    func submission(_ number: Int) -> SubmissionQueue { SubmissionQueue(state: self, place: 256 + (number & 15) * 32) }
    func completion(_ number: Int) -> CompletionQueue { CompletionQueue(state: self, place: 768 + (number & 15) * 32) }
    func slot(_ number: Int) -> Slot { Slot(state: self, place: 2048 + min(max(number, 0), Self.slotCount - 1) * 128) }
}

/// A submission queue: base u64, fetched u64, size u32, tail u32, completion queue u32, being deleted u32.
struct SubmissionQueue {
    let state: ControllerState
    let place: Int

    var base: UInt64 { get { state.load(place) } nonmutating set { state.store(place, newValue) } }
    /// Entries taken so far.
    var fetched: UInt64 { get { state.load(place + 8) } nonmutating set { state.store(place + 8, newValue) } }
    /// Entries; 0: there is no such queue.
    var size: UInt32 { get { state.load(place + 16) } nonmutating set { state.store(place + 16, newValue) } }
    var tail: UInt32 { get { state.load(place + 20) } nonmutating set { state.store(place + 20, newValue) } }
    var completion: UInt32 { get { state.load(place + 24) } nonmutating set { state.store(place + 24, newValue) } }
    var isBeingDeleted: Bool {
        get { state.load(place + 28, as: UInt32.self) != 0 }
        nonmutating set { state.store(place + 28, UInt32(newValue ? 1 : 0)) }
    }
    var exists: Bool { size != 0 }
    var head: UInt32 { size == 0 ? 0 : UInt32(truncatingIfNeeded: fetched % UInt64(size)) }

    func make(base: UInt64, size: UInt32, completion: Int) {
        self.base = base
        fetched = 0
        tail = 0
        self.completion = UInt32(truncatingIfNeeded: completion)
        isBeingDeleted = false
        self.size = size
    }
}

/// A completion queue: base u64, posted u64, consumed u64, size u32, vector u16, interrupts enabled u16.
struct CompletionQueue {
    let state: ControllerState
    let place: Int

    var base: UInt64 { get { state.load(place) } nonmutating set { state.store(place, newValue) } }
    /// Entries written so far, and taken by the guest.
    var posted: UInt64 { get { state.load(place + 8) } nonmutating set { state.store(place + 8, newValue) } }
    var consumed: UInt64 { get { state.load(place + 16) } nonmutating set { state.store(place + 16, newValue) } }
    /// Entries; 0: there is no such queue.
    var size: UInt32 { get { state.load(place + 24) } nonmutating set { state.store(place + 24, newValue) } }
    var vector: UInt16 { get { state.load(place + 28) } nonmutating set { state.store(place + 28, newValue) } }
    var interrupts: Bool {
        get { state.load(place + 30, as: UInt16.self) != 0 }
        nonmutating set { state.store(place + 30, UInt16(newValue ? 1 : 0)) }
    }
    var exists: Bool { size != 0 }
    var unconsumed: UInt64 { posted &- consumed }
    var isFull: Bool { size == 0 || unconsumed >= UInt64(size) - 1 }
    /// The phase tag of the next entry: 1 in the first round.
    var phase: UInt16 { size == 0 || posted / UInt64(size) & 1 == 0 ? 1 : 0 }

    func make(base: UInt64, size: UInt32, vector: UInt16, interrupts: Bool) {
        self.base = base
        posted = 0
        consumed = 0
        self.vector = vector
        self.interrupts = interrupts
        self.size = size
    }
}

/// A command under way: the command, 64 bytes; its completion, 16; stage u32; submission queue u32; its number among those fetched u64; the
/// position at which the completion is being posted u64.
struct Slot {
    let state: ControllerState
    let place: Int

    enum Stage: UInt32 {
        case free = 0
        /// To be carried out; after the death of a process, once more.
        case taken = 1
        /// The completion stands here, and is to be posted.
        case finished = 2
    }

    var command: UnsafeMutableRawPointer { state.bytes + place }
    /// Words 0, 2 and 3 of the completion; the phase tag comes when it is posted.
    var completion: UnsafeMutableRawPointer { state.bytes + place + 64 }
    var stage: Stage {
        get { Stage(rawValue: state.load(place + 80)) ?? .free }
        nonmutating set { state.store(place + 80, newValue.rawValue) }
    }
    var queue: Int {
        get { Int(state.load(place + 84, as: UInt32.self) & 15) }
        nonmutating set { state.store(place + 84, UInt32(truncatingIfNeeded: newValue)) }
    }
    var fetchNumber: UInt64 { get { state.load(place + 88) } nonmutating set { state.store(place + 88, newValue) } }
    /// `notPosting` until the completion is about to be posted.
    var postNumber: UInt64 { get { state.load(place + 96) } nonmutating set { state.store(place + 96, newValue) } }
    static let notPosting = UInt64.max
}

import EmulatorKit

/// The register file: 16 bytes of memory, an identity, a sum, a counter and an interrupt request.
///
/// All of it lies in the state region, each register at its own offset, so that a successor goes on with it.
struct Registers: ~Copyable {
    /// What a write to INTERRUPT asks for.
    enum Interrupt: UInt64 { case deassert = 0, assert = 1, message = 2 }

    private enum Place {
        static let memoryEnd = 0x10
        static let identity = 0x10
        static let sum = 0x14
        static let counter = 0x18
        static let interrupt = 0x1c
    }

    /// Bytes of the state.
    static let length = 0x20
    /// "SCRT", little-endian.
    static let identity: UInt64 = 0x5452_4353

    private let state: StateRegion
    private var memory: DeviceMemory

    /// - Parameter state: `length` bytes of it, from the beginning.
    init(_ state: StateRegion) {
        self.state = state
        memory = state.memory(length: Place.memoryEnd)
    }

    private var sum: UInt32 { get { state[Place.sum] } nonmutating set { state[Place.sum] = newValue } }
    private var counter: UInt32 { get { state[Place.counter] } nonmutating set { state[Place.counter] = newValue } }
    private(set) var isAsserted: Bool {
        get { state[Place.interrupt, UInt32.self] != 0 }
        nonmutating set { state[Place.interrupt] = UInt32(newValue ? 1 : 0) }
    }

    mutating func read(_ access: Access) -> UInt64 {
        if access.offset < Place.memoryEnd { return memory.load(access.offset, size: access.size) }
        guard access.size <= 4 else { return access.allOnes }
        switch access.offset {
        case Place.identity: return Self.identity
        case Place.sum: return UInt64(sum)
        case Place.counter:
            defer { counter &+= 1 }
            return UInt64(counter)
        case Place.interrupt: return isAsserted ? 1 : 0
        default: return access.allOnes
        }
    }

    /// - Returns: what a write to INTERRUPT asks for; nil for any other register.
    mutating func write(_ access: Access, _ value: UInt64) -> Interrupt? {
        if access.offset < Place.memoryEnd {
            memory.store(access.offset, size: access.size, value)
            return nil
        }
        guard access.size <= 4 else { return nil }
        switch access.offset {
        case Place.sum: sum &+= UInt32(truncatingIfNeeded: value)
        case Place.counter: counter = UInt32(truncatingIfNeeded: value)
        case Place.interrupt:
            guard let request = Interrupt(rawValue: value) else { return nil }
            if request != .message { isAsserted = request == .assert }
            return request
        default: break
        }
        return nil
    }
}

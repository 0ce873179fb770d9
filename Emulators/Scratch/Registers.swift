import EmulatorKit

/// The register file: 16 bytes of memory, an identity, a sum, a counter and an interrupt request.
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

    /// "SCRT", little-endian.
    static let identity: UInt64 = 0x5452_4353

    private var memory = DeviceMemory(length: Place.memoryEnd)
    private var sum: UInt32 = 0
    private var counter: UInt32 = 0
    private var asserted = false

    mutating func read(_ access: Access) -> UInt64 {
        if access.offset < Place.memoryEnd { return memory.load(access.offset, size: access.size) }
        guard access.size <= 4 else { return access.allOnes }
        switch access.offset {
        case Place.identity: return Self.identity
        case Place.sum: return UInt64(sum)
        case Place.counter:
            defer { counter &+= 1 }
            return UInt64(counter)
        case Place.interrupt: return asserted ? 1 : 0
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
            if request != .message { asserted = request == .assert }
            return request
        default: break
        }
        return nil
    }
}

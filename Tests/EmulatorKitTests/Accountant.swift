import EmulatorKit
import Host

/// A device whose state tells how often each thing was done: nothing of what it does can be repeated without being seen.
///
/// Ports 0x700…: 0 adds to a sum (write) or pops the next number of a sequence (read); 4 is the sum; 8 pops from a sequence of 16 bits. MMIO at 0xe0000000: a write adds to the sum.
/// For the ring, at 0xa0000: a write appends to a hash. A write to port 0xc is answered by a timer, and means something only once.
struct Accountant: Emulator, ~Copyable {
    static let name = "accountant"
    static let stateLength = 100

    static let ports: UInt64 = 0x700
    static let memory: UInt64 = 0xe000_0000
    static let low: UInt64 = 0xa0000

    /// The registers, by their offset in the state.
    enum Place {
        static let sum = 0
        static let next = 8
        static let hash = 16
        static let clocks = 24
        static let held = 32
        static let short = 40
    }

    let state: StateRegion
    private let window: Window
    private let low: Window
    /// How an access to port 0xc waits.
    enum Manner { case later, held }
    var manner = Manner.later
    var tokens: [Token] = []

    init(_ setup: inout Setup) throws(SetupError) {
        let window = try setup.claim(ports: UInt16(Self.ports), count: 16, label: "ports")
        _ = try setup.claim(memory: Self.memory, length: 0x10000, label: "memory")
        let low = try setup.claim(memory: Self.low, length: 0x20000, label: "low memory")
        (self.window, self.low) = (window, low)
        state = setup.state
    }

    mutating func read(_ access: Access, _ context: borrowing Context) -> Answer {
        guard access.window == window, access.offset != 4 else { return .value(state[Place.sum]) }
        if access.offset == 8 {
            let number: UInt64 = state[Place.short]
            if number % 97 == 0 { context.commit() }
            state[Place.short] = number &+ 1
            return .value(Self.short(number))
        }
        let number: UInt64 = state[Place.next]
        state[Place.next] = number &+ 1
        return .value(Self.value(number))
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        // In the middle of an access, which is then carried out again.
        if value % 61 == 0 { context.commit() }
        if access.window == low {
            state[Place.hash] = Self.hash(state[Place.hash], value)
            return .done
        }
        guard access.window == window, access.offset == 0xc else {
            state[Place.sum] &+= value
            return .done
        }
        tokens.append(context.token)
        if tokens.count == 1 { _ = context.wake(after: .zero) }
        switch manner {
        case .later: return .later
        case .held:
            state[Place.held] &+= value
            return .held(0)
        }
    }

    mutating func event(_ event: Event, _ context: borrowing Context) {
        // One handler that finishes many: all of them with one commit.
        for token in tokens {
            if manner == .later { state[Place.held] &+= 1 as UInt64 }
            context.complete(token)
        }
        tokens = []
    }

    mutating func timeOffset(_ seconds: Int64) { state[Place.clocks] &+= seconds }

    /// What the n-th read of port 0 gives: another number each.
    static func value(_ number: UInt64) -> UInt64 { (number &+ 1) &* 0x9e37_79b1 & 0xffff_ffff }
    static func short(_ number: UInt64) -> UInt64 { (number &+ 1) &* 0x9e37 & 0xffff }
    static func hash(_ hash: UInt64, _ value: UInt64) -> UInt64 { (hash ^ value) &* 0x100_0000_01b3 &+ 1 }
}

import EmulatorKit
import Host

/// A device that remembers what it was asked and does what the test wishes.
struct Probe: Emulator, ~Copyable {
    static let name = "probe"

    struct Seen: Equatable {
        var write: Bool
        var window: Window
        var offset: Int
        var size: Int
        var value: UInt64
    }

    struct Moved: Equatable {
        var window: Window
        var address: UInt64?
    }

    static let portBase: UInt64 = 0x700
    static let memoryBase: UInt64 = 0xe000_0000
    /// Ring entries have 20 address bits.
    static let lowBase: UInt64 = 0xa0000

    let ports: Window
    let memory: Window
    let low: Window
    private(set) var seen: [Seen] = []
    var moves: [Moved] = []
    var events: [Event] = []
    var timeOffsets: [Int64] = []
    /// Reads give 1, 2, 3 …
    private var nextValue: UInt64 = 1
    /// The accesses, counted from now on, whose answers are deferred.
    var defers: (UInt64) -> Bool = { _ in false }
    /// What is called in the middle of a deferred access.
    var beforeLater: (borrowing Context, Token) -> Void = { _, _ in }
    /// What is called for an event.
    var onEvent: (Event, borrowing Context) -> Void = { _, _ in }
    private(set) var tokens: [Token] = []
    private var count: UInt64 = 0

    init(_ setup: inout Setup) throws(SetupError) {
        _ = try setup.flag("flag", default: false)
        _ = try setup.number("number", default: 1, in: 0...10)
        let ports = try setup.claim(ports: UInt16(Self.portBase), count: 8, label: "ports")
        let memory = try setup.claim(memory: Self.memoryBase, length: 0x10000, label: "memory")
        let low = try setup.claim(memory: Self.lowBase, length: 0x20000, label: "low memory")
        (self.ports, self.memory, self.low) = (ports, memory, low)
    }

    mutating func takeSeen() -> [Seen] {
        defer { seen = [] }
        return seen
    }

    private mutating func later(_ context: borrowing Context) -> Bool {
        defer { count += 1 }
        guard defers(count) else { return false }
        tokens.append(context.token)
        beforeLater(context, context.token)
        return true
    }

    mutating func read(_ access: Access, _ context: borrowing Context) -> Answer {
        let value = nextValue
        nextValue += 1
        seen.append(Seen(write: false, window: access.window, offset: access.offset, size: access.size, value: value))
        return later(context) ? .later : .value(value)
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        seen.append(Seen(write: true, window: access.window, offset: access.offset, size: access.size, value: value))
        return later(context) ? .later : .done
    }

    mutating func event(_ event: Event, _ context: borrowing Context) {
        events.append(event)
        onEvent(event, context)
    }

    mutating func moved(_ window: Window, to address: UInt64?, _ context: borrowing Context) {
        moves.append(Moved(window: window, address: address))
    }

    mutating func timeOffset(_ seconds: Int64) { timeOffsets.append(seconds) }
}

import Glibc
import Synchronization

/// What emulators did to the guest's interrupt lines, for whoever plays the guest.
public final class Interrupts: Sendable {
    /// One message-signalled interrupt.
    public struct Message: Equatable, Sendable {
        public let address: UInt64
        public let data: UInt32

        public init(address: UInt64, data: UInt32) {
            self.address = address
            self.data = data
        }
    }

    /// A change that somebody may wait for.
    public enum Event: Equatable, Sendable {
        /// A line of a device on bus 0: pin 0 is INTA.
        case intx(device: UInt8, pin: UInt8, asserted: Bool)
        case isa(line: UInt8, asserted: Bool)
        case message(Message)
    }

    /// How many messages are kept; the oldest go first.
    public static let keptMessages = 1024

    private struct State {
        var intx = Set<UInt8>()
        var isa = Set<UInt8>()
        var messages: [Message] = []
        var count: UInt64 = 0
        var hook: (@Sendable (Event) -> Void)?
    }
    private let state = Mutex(State())

    /// Whether a line of a device on bus 0 is asserted.
    public func intx(device: UInt8, pin: UInt8) -> Bool { state.withLock { $0.intx.contains(device &* 4 &+ pin) } }

    public func isa(_ line: UInt8) -> Bool { state.withLock { $0.isa.contains(line) } }

    /// The last messages, oldest first.
    public var messages: [Message] { state.withLock { $0.messages } }

    /// How many messages there have been.
    public var messageCount: UInt64 { state.withLock { $0.count } }

    /// Has `hook` called after every change, on the thread that made it; nil ends that.
    public func onEvent(_ hook: (@Sendable (Event) -> Void)?) { state.withLock { $0.hook = hook } }

    func set(device: UInt8, pin: UInt8, asserted: Bool) {
        note(.intx(device: device, pin: pin, asserted: asserted)) {
            if asserted { $0.intx.insert(device &* 4 &+ pin) } else { $0.intx.remove(device &* 4 &+ pin) }
        }
    }

    func set(isa line: UInt8, asserted: Bool) {
        note(.isa(line: line, asserted: asserted)) { if asserted { $0.isa.insert(line) } else { $0.isa.remove(line) } }
    }

    func send(_ message: Message) {
        note(.message(message)) {
            if $0.messages.count >= Self.keptMessages { $0.messages.removeFirst(Self.keptMessages / 2) }
            $0.messages.append(message)
            $0.count &+= 1
        }
    }

    private func note(_ event: Event, _ change: (inout State) -> Void) {
        let hook = state.withLock { state in
            change(&state)
            return state.hook
        }
        hook?(event)
    }
}

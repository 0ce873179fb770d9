import EmulatorProtocol
import Host
import Platform

/// Who takes keys and pointer events that is not an emulator of ours: QEMU, through the toolstack.
public protocol InputSink: AnyObject {
    /// Whether its pointer takes absolute places now.
    var takesAbsolute: Bool { get }

    /// Hands events on, oldest first. It must not wait: what cannot be handed on is dropped.
    func deliver(_ events: [InputEvent])
}

/// Carries what viewers do to whoever takes it: an emulator with the capability "input", otherwise the sink.
///
/// Bounded at every step: an emulator that does not read gets the newest movement and no more keys than it can hold, and what a
/// viewer holds down is let go when its exporter dies.
final class InputRouter {
    /// Keys and buttons that are known to be held; more at a time are nobody's hands.
    static let mostHeld = 64

    /// What an exporter may hand on: 2048 events at once and 2000 a second, twice as many as ours sends.
    private var limit = RateLimit(burst: 2048, interval: 500_000)

    weak var sink: (any InputSink)?
    private weak var emulator: EmulatorSession?
    private(set) var emulatorIsAbsolute = false
    private var queue = InputQueue()
    private var held: [InputEvent] = []
    /// Called when `isAbsolute` may have changed.
    var modeChanged: (() -> Void)?

    /// Whether the guest's pointer takes absolute places.
    var isAbsolute: Bool { emulator != nil ? emulatorIsAbsolute : sink?.takesAbsolute ?? false }

    var hasEmulator: Bool { emulator != nil }

    /// From now on this emulator takes input.
    /// - Parameter isAbsolute: which kind of pointer it is, when it has said so to a predecessor of this coordinator.
    func attach(_ session: EmulatorSession, isAbsolute: Bool? = nil) {
        emulator = session
        emulatorIsAbsolute = isAbsolute ?? session.capabilities.contains("input-absolute")
        queue = InputQueue()
        modeChanged?()
    }

    func isTaken(by session: EmulatorSession) -> Bool { emulator === session }

    func detach(_ session: EmulatorSession) {
        guard emulator === session else { return }
        emulator = nil
        modeChanged?()
    }

    /// The emulator that takes input says which kind of pointer it is now.
    func note(_ mode: InputMode, from session: EmulatorSession) {
        guard emulator === session else { return }
        emulatorIsAbsolute = mode.absolute
        modeChanged?()
    }

    func take(_ input: Input) throws(Refusal) {
        guard input.events.count <= Input.most else {
            throw Refusal(.invalid, asked: "input of \(input.events.count) events", message: "a message carries at most \(Input.most)")
        }
        let now = EventLoop.now()
        // What ends the holding of a key comes through always: there are as many as there were presses.
        let events = input.events.filter { isReleaseOfHeld($0) || limit.allows(at: now) }
        for event in events { note(event) }
        if !events.isEmpty { deliver(events) }
    }

    /// The exporter is gone, and with it whoever held keys down.
    func releaseHeld() {
        let events = held.compactMap(\.released)
        held = []
        if !events.isEmpty { deliver(events) }
    }

    private func isReleaseOfHeld(_ event: InputEvent) -> Bool { event.released == event && held.contains { $0.released == event } }

    private func note(_ event: InputEvent) {
        guard let up = event.released else { return }
        held.removeAll { $0.released == up }
        if event != up, held.count < Self.mostHeld { held.append(event) }
    }

    private func deliver(_ events: [InputEvent]) {
        guard let emulator else {
            sink?.deliver(events)
            return
        }
        for event in events { queue.add(event) }
        flush(emulator)
    }

    private func flush(_ emulator: EmulatorSession) {
        while let events = queue.first(Input.most) {
            guard emulator.offer(.input(Input(events)), retry: { [weak self, weak emulator] in
                guard let self, let emulator, self.emulator === emulator else { return }
                self.flush(emulator)
            }) else { return }
            queue.removeFirst(events.count)
        }
    }
}

extension InputEvent {
    /// What ends the holding of this key or button; itself when it does so already; nil for movements.
    var released: InputEvent? {
        switch self {
        case .key(let number, _): .key(number, down: false)
        case .button(let button, _): .button(button, down: false)
        case .absolute, .relative: nil
        }
    }
}

/// Events that wait for an emulator to read: movements are merged, and when there is no room presses are dropped, never releases.
struct InputQueue {
    static let capacity = 256
    private(set) var events: [InputEvent] = []

    mutating func add(_ event: InputEvent) {
        switch (event, events.last) {
        case (.absolute, .absolute): events[events.count - 1] = event
        case (.relative(let x, let y), .relative(let earlierX, let earlierY)):
            events[events.count - 1] = .relative(x: Int16(clamping: Int(x) + Int(earlierX)), y: Int16(clamping: Int(y) + Int(earlierY)))
        default:
            if events.count >= Self.capacity, !makeRoom(for: event) { return }
            events.append(event)
        }
    }

    /// False when the event itself is what is dropped.
    private mutating func makeRoom(for event: InputEvent) -> Bool {
        guard let up = event.released, event == up else { return false }
        // Two releases of one key say no more than one; a movement is worth less than a key that stays down.
        if let same = events.firstIndex(of: event) {
            events.remove(at: same)
            return true
        }
        guard let lesser = events.firstIndex(where: { $0.released != $0 }) else { return false }
        events.remove(at: lesser)
        return true
    }

    /// The oldest, at most that many; nil when there are none.
    func first(_ most: Int) -> [InputEvent]? { events.isEmpty ? nil : Array(events.prefix(most)) }

    mutating func removeFirst(_ count: Int) { events.removeFirst(min(count, events.count)) }
}

import EmulatorProtocol
import Platform

/// Hands what a person does at a viewer to QEMU's keyboard and pointers (`input-send-event`, qapi/ui.json).
///
/// Commands are sent without waiting for the replies to earlier ones, up to `mostInFlight`; what comes meanwhile is kept in order, up to
/// `mostKept` events. Beyond that, movement and new presses are lost, but never the release of what was pressed.
/// Belongs to the thread of its event loop.
public final class QEMUInput {
    /// Commands without a reply.
    public static let mostInFlight = 16
    /// Events kept back while as many commands are on their way. Releases come on top, at most one for each press.
    public static let mostKept = 256
    /// Events in one command.
    private static let mostInCommand = 64
    /// How often, at most, QEMU is asked about the pointer while it is used.
    private static let modeInterval: UInt64 = 500_000_000

    /// A key or a button.
    private enum Switch: Hashable {
        case key(UInt16)
        case button(InputEvent.Button)
    }

    /// QEMU looks for a handler of each kind, and refuses a whole command when one is missing: kinds are not mixed.
    private enum Kind { case key, button, absolute, relative }

    private let client: QMPClient
    private var kept: [InputEvent] = []
    private var inFlight = 0
    /// What is down, the kept events done.
    private var down: Set<Switch> = []
    /// Releases that QEMU would not take because the guest stood still: sent before anything else.
    private var owed: [InputEvent] = []
    private var askedMode: UInt64?
    private var isAsking = false

    /// Whether the guest's pointer takes absolute places; nil: not known yet.
    public private(set) var isAbsolute: Bool?
    /// Called when `isAbsolute` has become known or has changed.
    public var modeChanged: ((Bool) -> Void)?
    /// Events that were lost because QEMU did not keep up.
    public private(set) var dropped: UInt64 = 0
    /// Called with QEMU's words when it refuses events for another reason than that the guest stands still.
    public var trouble: ((QMPError) -> Void)?

    public init(client: QMPClient) { self.client = client }

    /// Takes events, oldest first. What is no event of QEMU's (a key number above 0xff) is left out.
    public func send(_ events: [InputEvent]) {
        for event in events { keep(event) }
        flush()
        if events.contains(where: { Self.kind(of: $0) != .key }) { askModeAgain() }
    }

    /// Releases all that is down: whoever held it is gone.
    public func releaseAll() {
        let events = down.map { what -> InputEvent in
            switch what {
            case .key(let number): .key(number, down: false)
            case .button(let button): .button(button, down: false)
            }
        }
        send(events)
    }

    /// To be called when the guest runs again (QEMU's event RESUME): what it would not take is sent.
    public func guestResumed() { flush() }

    /// Asks QEMU whether the pointer takes absolute places. At the start, and by itself while the pointer is used: a guest switches when
    /// its driver finds the tablet, and QEMU tells nobody.
    public func askMode() {
        guard !isAsking else { return }
        isAsking = true
        askedMode = EventLoop.now()
        client.execute("query-mice") { [weak self] result in
            guard let self else { return }
            self.isAsking = false
            guard case .success(let reply) = result, let mice = reply.elements else { return }
            let found = mice.contains { $0["current"]?.bool == true && $0["absolute"]?.bool == true }
            guard found != self.isAbsolute else { return }
            self.isAbsolute = found
            self.modeChanged?(found)
        }
    }

    private func askModeAgain() {
        guard askedMode.map({ EventLoop.now() &- $0 >= Self.modeInterval }) ?? true else { return }
        askMode()
    }

    // MARK: keeping

    private func keep(_ event: InputEvent) {
        let isFull = kept.count >= Self.mostKept
        switch event {
        case .key(let number, let isDown):
            // QEMU's table ends with the prefixed codes (ui/input-keymap.c).
            guard number <= 0xff else { return dropped &+= 1 }
            keep(event, .key(number), isDown, isFull)
        case .button(let button, let isDown): keep(event, .button(button), isDown, isFull)
        case .absolute:
            if case .absolute? = kept.last { kept[kept.count - 1] = event } else { keepMotion(event, isFull) }
        case .relative(let x, let y):
            if case .relative(let beforeX, let beforeY)? = kept.last {
                let (sumX, overX) = beforeX.addingReportingOverflow(x)
                let (sumY, overY) = beforeY.addingReportingOverflow(y)
                if !overX && !overY { return kept[kept.count - 1] = .relative(x: sumX, y: sumY) }
            }
            keepMotion(event, isFull)
        }
    }

    private func keepMotion(_ event: InputEvent, _ isFull: Bool) {
        if isFull { dropped &+= 1 } else { kept.append(event) }
    }

    private func keep(_ event: InputEvent, _ what: Switch, _ isDown: Bool, _ isFull: Bool) {
        if isDown {
            guard !isFull else { return dropped &+= 1 }
            down.insert(what)
        } else if down.remove(what) == nil, isFull {
            // Its press was never passed on.
            return dropped &+= 1
        }
        kept.append(event)
    }

    // MARK: sending

    private func flush() {
        if !owed.isEmpty, inFlight < Self.mostInFlight {
            kept.insert(contentsOf: owed, at: 0)
            owed = []
        }
        while inFlight < Self.mostInFlight, let first = kept.first {
            let kind = Self.kind(of: first)
            let run = Array(kept.prefix(Self.mostInCommand).prefix { Self.kind(of: $0) == kind })
            kept.removeFirst(run.count)
            execute(run)
        }
    }

    private func execute(_ events: [InputEvent]) {
        inFlight += 1
        client.execute("input-send-event", arguments: ["events": .array(events.flatMap(Self.json))]) { [weak self] result in
            guard let self else { return }
            self.inFlight -= 1
            if case .failure(let error) = result { self.refused(events, error) }
            // What was owed now was refused just now: it waits for the guest, or for the next event.
            if !self.kept.isEmpty { self.flush() }
        }
    }

    private func refused(_ events: [InputEvent], _ error: QMPError) {
        guard case .refused(_, let text) = error.reason, text == "VM not running" else {
            trouble?(error)
            return
        }
        for event in events {
            switch event {
            case .key(_, down: false), .button(_, down: false): if !owed.contains(event) { owed.append(event) }
            default: break
            }
        }
    }

    private static func kind(of event: InputEvent) -> Kind {
        switch event {
        case .key: .key
        case .button: .button
        case .absolute: .absolute
        case .relative: .relative
        }
    }

    /// As QEMU takes it: a movement is one event an axis.
    private static func json(_ event: InputEvent) -> [JSONValue] {
        func axes(_ type: JSONValue, _ x: Int64, _ y: Int64) -> [JSONValue] {
            [("x", x), ("y", y)].map { ["type": type, "data": ["axis": .string($0.0), "value": .integer($0.1)]] }
        }
        switch event {
        case .key(let number, let isDown):
            return [["type": "key", "data": ["down": .bool(isDown), "key": ["type": "number", "data": .integer(Int64(number))]]]]
        case .button(let button, let isDown):
            return [["type": "btn", "data": ["down": .bool(isDown), "button": .string(button.rawValue)]]]
        case .absolute(let x, let y): return axes("abs", Int64(x), Int64(y))
        case .relative(let x, let y): return axes("rel", Int64(x), Int64(y))
        }
    }
}

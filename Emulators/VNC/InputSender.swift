import EmulatorProtocol
import Platform
import RFB

/// What viewers do, on its way to the coordinator: in order, joined where that loses nothing, at most so much a second, and never waiting.
final class InputSender {
    /// Events that may wait. Beyond, only what lets go is taken, of which there is never more than keys and buttons.
    private static let most = 512
    private static let mostReleases = 1024
    /// Events a second in the long run, and at once.
    private static let rate: UInt64 = 1000
    private static let burst: UInt64 = 256

    private let control: ControlChannel
    private let loop: EventLoop
    private var queue: [InputEvent] = []
    private var tokens = InputSender.burst
    private var filled = EventLoop.now()
    private var isScheduled = false
    private(set) var dropped: UInt64 = 0
    /// Something has been sent.
    var onSend: () -> Void = {}

    init(control: ControlChannel, loop: EventLoop) {
        self.control = control
        self.loop = loop
    }

    func key(_ strokes: [KeyStroke]) {
        for stroke in strokes { add(.key(stroke.number, down: stroke.down), isRelease: !stroke.down) }
        flush()
    }

    func pointer(_ strokes: [PointerStroke]) {
        let buttons: [InputEvent.Button] = [.left, .middle, .right, .wheelUp, .wheelDown, .wheelLeft, .wheelRight, .side]
        for stroke in strokes {
            switch stroke {
            case .absolute(let x, let y): add(.absolute(x: x, y: y), isRelease: false)
            case .relative(let x, let y): add(.relative(x: x, y: y), isRelease: false)
            case .button(let bit, let down) where buttons.indices.contains(bit): add(.button(buttons[bit], down: down), isRelease: !down)
            case .button: break
            }
        }
        flush()
    }

    private func add(_ event: InputEvent, isRelease: Bool) {
        if let last = queue.last {
            // Only the last place of a movement counts, and steps add up.
            switch (last, event) {
            case (.absolute, .absolute):
                queue[queue.count - 1] = event
                return
            case (.relative(let x0, let y0), .relative(let x, let y)):
                queue[queue.count - 1] = .relative(x: Int16(clamping: Int(x0) + Int(x)), y: Int16(clamping: Int(y0) + Int(y)))
                return
            default: break
            }
        }
        guard queue.count < (isRelease ? Self.mostReleases : Self.most) else {
            dropped &+= 1
            return
        }
        queue.append(event)
    }

    /// Sends what may be sent now, and comes back for the rest.
    func flush() {
        let now = EventLoop.now()
        let earned = (now &- filled) / (1_000_000_000 / Self.rate)
        if earned > 0 {
            tokens = min(Self.burst, tokens &+ min(earned, Self.burst))
            filled = now
        }
        while !queue.isEmpty, tokens > 0, !control.wantsToWrite, !control.isClosed {
            let count = min(queue.count, Input.most, Int(tokens))
            control.send(Packet(.input(Input(Array(queue.prefix(count))))))
            queue.removeFirst(count)
            tokens -= UInt64(count)
            onSend()
        }
        if control.isClosed { queue = [] }
        guard !queue.isEmpty, !isScheduled else { return }
        isScheduled = true
        loop.after(.milliseconds(8)) { [weak self] in
            self?.isScheduled = false
            self?.flush()
        }
    }
}

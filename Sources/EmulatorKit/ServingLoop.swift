import CIoreq
import Host
import Platform

/// How long the loop looks for the next request before it sleeps: nothing at all while requests are rare, up to the limit
/// while each comes soon after the last.
@usableFromInline
struct SpinBudget {
    private let limit: UInt64
    @usableFromInline private(set) var nanoseconds: UInt64 = 0
    private static let least: UInt64 = 10_000

    @usableFromInline
    init(limit: Duration) { self.limit = limit.clampedNanoseconds }

    /// A request came while the loop looked for it.
    @usableFromInline
    mutating func found() { nanoseconds = min(limit, nanoseconds &* 2) }

    /// The loop slept, and the next request came this long after the last one was served.
    @usableFromInline
    mutating func slept(gap: UInt64) {
        if gap <= limit {
            nanoseconds = min(limit, max(Self.least, max(nanoseconds, gap &* 2)))
        } else {
            // One long gap in a busy time halves it; a few more, or a very long one, end it.
            nanoseconds = nanoseconds > Self.least && gap < limit &* 16 ? nanoseconds / 2 : 0
        }
    }
}

/// Serves one device's requests: the part that is compiled for each channel and device.
@usableFromInline
struct ServingLoop<C: Channel & ~Copyable, E: Emulator & ~Copyable>: ~Copyable {
    @usableFromInline var channel: C
    @usableFromInline var emulator: E
    @usableFromInline let core: UnsafeMutablePointer<Core>
    @usableFromInline var spin: SpinBudget
    /// Rounds since the control socket was last looked at.
    @usableFromInline var rounds = 0

    /// - Parameter core: owned by the caller, and kept for as long as the loop.
    @inlinable
    init(channel: consuming C, emulator: consuming E, core: UnsafeMutablePointer<Core>) {
        self.channel = channel
        self.emulator = emulator
        self.core = core
        spin = SpinBudget(limit: SpinSetting.limit(E.spinLimit))
    }

    /// Waits until the server is enabled. The device is told meanwhile what it is to leave out (Event.unplug).
    /// - Returns: the number of the coordinator's `start`, to be answered once the channel serves; nil when it said `quit` instead.
    @inlinable
    mutating func awaitStart() throws(SetupError) -> UInt32? {
        while true {
            switch try core.pointee.hearBeforeStart() {
            case .start(let id): return id
            case .quit: return nil
            case .another:
                tellEvents()
                tellChanges()
            }
        }
    }

    /// Connects the notifications and finishes what waits already. The caller answers `start` afterwards.
    @inlinable
    mutating func start() throws(SetupError) {
        do throws(HostError) { try channel.bind() } catch { throw SetupError(error) }
        // What the device asked for while it set itself up comes before what a predecessor's guest waits for.
        tellChanges()
        core.pointee.takeOver()
        pump()
    }

    /// Serves until the coordinator says `quit`.
    @inlinable
    mutating func run() {
        while !core.pointee.isStopped { turn(block: true) }
    }

    /// Carries out what waits, one access after the other, until nothing is left or the go is over.
    @inlinable
    mutating func pump() {
        core.pointee.beginGo()
        while true {
            let step = core.pointee.next()
            if !core.pointee.answered.isEmpty { notify() }
            let context = Context(core: core)
            switch step {
            case .nothing: return
            case .read: core.pointee.answer(emulator.read(core.pointee.access, context))
            case .write: core.pointee.answer(emulator.write(core.pointee.access, core.pointee.value, context))
            case .moved:
                emulator.moved(core.pointee.access.window, to: core.pointee.movedTo, context)
                core.pointee.settle()
            case .timeOffset:
                emulator.timeOffset(Int64(bitPattern: core.pointee.value))
                core.pointee.endTimeOffset()
            }
            if !core.pointee.answered.isEmpty { notify() }
        }
    }

    @inlinable
    mutating func notify() {
        while let slot = core.pointee.answered.popFirst() { channel.notify(slot) }
    }

    /// Waits for something, unless `block` is false, and serves what came.
    @inlinable
    mutating func turn(block: Bool) {
        pump()
        tellChanges()
        if core.pointee.isStopped { return }
        let spent = spin.nanoseconds
        if block {
            // Found without a system call. The notification stays pending: one wake-up too many, later. However fast requests
            // come, the descriptors get a look now and then.
            while rounds < 256, spin.nanoseconds > 0, !core.pointee.mustNotSleep, core.pointee.spin(for: spin.nanoseconds) {
                rounds &+= 1
                spin.found()
                core.pointee.lookAtAll()
                pump()
            }
        }
        let sleeps = block && rounds < 256 && !core.pointee.mustNotSleep
        rounds = 0
        let idleSince = EventLoop.now()
        let ready = core.pointee.wait(channel: channel.waitDescriptor, block: sleeps)
        if ready.channel {
            let rung = channel.acknowledge()
            if let named = channel.named { core.pointee.lookAt(named) } else { core.pointee.lookAtAll() }
            let before = core.pointee.progress
            pump()
            core.pointee.countWakeup(spurious: !rung || core.pointee.progress == before)
            if sleeps && core.pointee.progress != before { spin.slept(gap: core.pointee.lastWake &- idleSince &+ spent) }
        }
        if ready.control { core.pointee.readControl() }
        if core.pointee.rebindID != nil { rebind() }
        tellEvents()
        pump()
        tellChanges()
    }

    @inlinable
    mutating func rebind() {
        do throws(HostError) {
            try channel.bind()
            core.pointee.rebound(nil)
        } catch {
            core.pointee.rebound(error)
        }
    }

    @usableFromInline
    mutating func tellEvents() {
        if core.pointee.isReleased { return }
        // A device that sets a deadline of 0 in each event must not keep the loop here: each pass is bounded. Whoever has more to do than one
        // event should take does it in several, and is not in the guest's way: requests are served in between.
        var told = 0
        while told < EventSources.mostTimers, let event = core.pointee.nextEvent() {
            emulator.event(event, Context(core: core))
            core.pointee.settle()
            told += 1
            serveInBetween()
        }
    }

    @usableFromInline
    mutating func tellChanges() {
        var told = 0
        while told < EventSources.mostTimers, let change = core.pointee.nextChange() {
            emulator.event(change, Context(core: core))
            // Whoever is told of a pause may look at the state.
            core.pointee.settle()
            if change == .paused && core.pointee.releasing {
                channel.unbind()
                core.pointee.released()
            }
            core.pointee.acknowledgeChange(change)
            core.pointee.settle()
            told += 1
            serveInBetween()
        }
    }

    @usableFromInline
    mutating func serveInBetween() {
        if core.pointee.somethingWaits() { core.pointee.lookAtAll() }
        if core.pointee.mustNotSleep || !core.pointee.answered.isEmpty { pump() }
    }
}

/// What came before the start.
@usableFromInline
enum EarlyWord {
    case start(UInt32)
    case quit
    /// Something that the device may have to be told of.
    case another
}

extension Core {
    /// Waits for the next packet of the coordinator's, or for a deadline or a descriptor of the device's.
    @usableFromInline
    mutating func hearBeforeStart() throws(SetupError) -> EarlyWord {
        if run == .quitting { return .quit }
        if let incoming = control.receive() {
            if case .start = incoming.packet.body { return .start(incoming.packet.id ?? 0) }
            handle(incoming)
            return run == .quitting ? .quit : .another
        }
        guard !control.isClosed else { throw .closed("wait for", "the start") }
        control.flush()
        _ = wait(channel: -1, block: !hasEvents)
        return .another
    }

    /// Whether the coordinator said `quit` and was answered.
    @usableFromInline var isStopped: Bool { mutating get { run == .quitting && toldStopping } }

    /// Whether something is to be done that no descriptor will tell of.
    @usableFromInline var mustNotSleep: Bool { mutating get { control.hasStash || hasWork } }

    /// Looks for a request without sleeping. True when one came. The clock is not read while requests come at once.
    @usableFromInline
    mutating func spin(for nanoseconds: UInt64) -> Bool {
        guard run == .running else { return false }
        var deadline: UInt64?
        while true {
            var looks = 0
            while looks < 16 {
                if somethingWaits() { return true }
                demux_cpu_relax()
                looks &+= 1
            }
            let now = EventLoop.now()
            if let deadline, now >= deadline { return false }
            if deadline == nil { deadline = now &+ nanoseconds }
        }
    }

    @usableFromInline
    mutating func wait(channel: CInt, block: Bool) -> (channel: Bool, control: Bool) {
        // A closed control socket would be readable for ever.
        let descriptor = control.isClosed ? -1 : control.descriptor
        // A doorbell that is not ours any more: clearing it would take it from another process.
        var ready = events.wait(channel: isReleased ? -1 : channel, control: descriptor, controlWrites: control.wantsToWrite, block: block, muted: isReleased)
        if control.hasStash { ready.control = true }
        if ready.channel { lastWake = EventLoop.now() }
        return ready
    }

    /// A watched descriptor that can be read, or a deadline that has passed.
    @usableFromInline
    mutating func nextEvent() -> Event? {
        if let descriptor = events.nextReadable() {
            isChanged = true
            return touched(descriptor).map { .regionTouched($0) } ?? .readable(descriptor)
        }
        guard let timer = events.nextDue() else { return nil }
        isChanged = true
        return .timer(timer)
    }

    @usableFromInline
    mutating func countWakeup(spurious: Bool) {
        counters.add(.wakeups)
        if spurious { counters.add(.spurious) }
    }
}

import CLinux
import Glibc

/// One thread that waits for descriptors and deadlines: the shape of every control-plane process here.
///
/// Nothing runs unless something happened: there is no tick, and a timer exists only while a deadline is set.
/// Not Sendable: it belongs to the thread that runs it.
public final class EventLoop {
    public struct Interest: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let readable = Interest(rawValue: EPOLLIN.rawValue)
        public static let writable = Interest(rawValue: EPOLLOUT.rawValue)
        /// Together with others: told once of each thing that comes, so that nothing has to be taken off the descriptor to have it quiet.
        public static let edge = Interest(rawValue: EPOLLET.rawValue)
        /// The other side has closed or the descriptor failed; always reported, never needs to be asked for.
        public static let hangUp = Interest(rawValue: EPOLLHUP.rawValue | EPOLLERR.rawValue | EPOLLRDHUP.rawValue)
    }

    /// A deadline that can be called off.
    public struct Timer: Hashable, Sendable { fileprivate let number: UInt64 }

    private struct Watch {
        let generation: UInt32
        let handler: (Interest) -> Void
    }

    private struct Deadline {
        let at: UInt64
        let timer: Timer
        let action: () -> Void
    }

    private let epoll: OwnedDescriptor
    private let timerDescriptor: OwnedDescriptor
    private var watches: [CInt: Watch] = [:]
    private var generation: UInt32 = 0
    private var deadlines: [Deadline] = []
    private var nextTimer: UInt64 = 0
    private var later: [() -> Void] = []
    private var stopped = false

    public init() throws(SystemError) {
        let raw = epoll_create1(CInt(EPOLL_CLOEXEC))
        guard raw >= 0 else { throw SystemError("create", "an epoll set") }
        epoll = OwnedDescriptor(adopting: raw)
        let timer = timerfd_create(CLOCK_MONOTONIC, CInt(TFD_CLOEXEC | TFD_NONBLOCK))
        guard timer >= 0 else { throw SystemError("create", "a timer") }
        timerDescriptor = OwnedDescriptor(adopting: timer)
        // Every turn ends with a look at the deadlines.
        try watch(timer, for: .readable) { [unowned self] _ in _ = EventFD.clear(self.timerDescriptor.raw) }
    }

    /// Calls `handler` whenever the descriptor has what it is watched for. The caller keeps the descriptor open and
    /// calls `forget` before it closes it. Watching again replaces interest and handler.
    public func watch(_ descriptor: CInt, for interest: Interest, handler: @escaping (Interest) -> Void) throws(SystemError) {
        generation &+= 1
        let known = watches[descriptor] != nil
        try control(known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, descriptor, interest, generation)
        watches[descriptor] = Watch(generation: generation, handler: handler)
    }

    /// Changes what a watched descriptor is watched for. A descriptor that is not watched is left alone.
    public func change(_ descriptor: CInt, to interest: Interest) throws(SystemError) {
        guard let watch = watches[descriptor] else { return }
        try control(EPOLL_CTL_MOD, descriptor, interest, watch.generation)
    }

    /// Stops watching. Events already fetched for it are dropped.
    public func forget(_ descriptor: CInt) {
        guard watches.removeValue(forKey: descriptor) != nil else { return }
        var event = epoll_event()
        _ = epoll_ctl(epoll.raw, EPOLL_CTL_DEL, descriptor, &event)
    }

    /// Runs `action` once, this long from now.
    @discardableResult
    public func after(_ delay: Duration, _ action: @escaping () -> Void) -> Timer {
        let timer = Timer(number: nextTimer)
        nextTimer &+= 1
        let deadline = Deadline(at: Self.now() &+ delay.clampedNanoseconds, timer: timer, action: action)
        let place = deadlines.firstIndex { $0.at > deadline.at } ?? deadlines.endIndex
        deadlines.insert(deadline, at: place)
        arm()
        return timer
    }

    /// Calls a deadline off; one that has passed is left alone.
    public func cancel(_ timer: Timer) {
        deadlines.removeAll { $0.timer == timer }
        arm()
    }

    /// Runs `action` after the handlers of this turn, before the loop waits again. What such an action asks for in its turn runs in the
    /// next one: descriptors and deadlines are looked at in between, so that nobody who always has more to do keeps the others waiting.
    public func soon(_ action: @escaping () -> Void) { later.append(action) }

    /// Makes `run` return after the present handler.
    public func stop() { stopped = true }

    /// Serves until `stop`.
    public func run() throws(SystemError) {
        stopped = false
        while !stopped { try turn() }
    }

    /// Waits once (at most `limit`, for ever when nil) and serves what came. Does not wait while there is something to do.
    public func turn(limit: Duration? = nil) throws(SystemError) {
        var events = [epoll_event](repeating: epoll_event(), count: 32)
        let milliseconds = later.isEmpty ? limit.map { CInt(clamping: ($0.clampedNanoseconds &+ 999_999) / 1_000_000) } ?? -1 : 0
        let count = epoll_wait(epoll.raw, &events, 32, milliseconds)
        if count < 0 {
            if errno == EINTR { return }
            throw SystemError("wait for", "events")
        }
        for event in events.prefix(Int(count)) {
            let descriptor = CInt(truncatingIfNeeded: event.data.u64 & 0xffff_ffff)
            // A descriptor closed and reopened by an earlier handler of this round has another generation.
            guard let watch = watches[descriptor], UInt64(watch.generation) == event.data.u64 >> 32 else { continue }
            watch.handler(Interest(rawValue: event.events))
            if stopped { return }
        }
        // Not only when the timer's descriptor is among the events: with many descriptors it need not be.
        runDeadlines()
        runLater()
    }

    /// Monotonic time in nanoseconds.
    public static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
    }

    /// Those that are there now; what they add waits for the next turn.
    private func runLater() {
        guard !later.isEmpty, !stopped else { return }
        let actions = later
        later = []
        for action in actions { action() }
    }

    /// Those that have passed by now; what they add waits for the next turn, even when it is due at once.
    private func runDeadlines() {
        guard !deadlines.isEmpty, !stopped else { return }
        let (now, added) = (Self.now(), nextTimer)
        guard deadlines[0].at <= now else { return }
        while let first = deadlines.first, first.at <= now, first.timer.number < added {
            deadlines.removeFirst()
            first.action()
            if stopped { break }
        }
        arm()
    }

    private func arm() {
        var setting = itimerspec()
        if let first = deadlines.first {
            setting.it_value.tv_sec = time_t(clamping: first.at / 1_000_000_000)
            setting.it_value.tv_nsec = Int(first.at % 1_000_000_000)
            if first.at == 0 { setting.it_value.tv_nsec = 1 }
        }
        _ = timerfd_settime(timerDescriptor.raw, CInt(1 /* TFD_TIMER_ABSTIME */), &setting, nil)
    }

    private func control(_ operation: CInt, _ descriptor: CInt, _ interest: Interest, _ generation: UInt32) throws(SystemError) {
        var event = epoll_event()
        event.events = interest.rawValue
        event.data.u64 = UInt64(generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
        guard epoll_ctl(epoll.raw, operation, descriptor, &event) == 0 else {
            throw SystemError("watch", "descriptor \(descriptor)")
        }
    }
}

extension Duration {
    /// Whole nanoseconds, 0 for negative durations, clamped to about 292 years.
    public var clampedNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        if overflow || product > UInt64(Int64.max) { return UInt64(Int64.max) }
        return product &+ UInt64(attoseconds / 1_000_000_000)
    }
}

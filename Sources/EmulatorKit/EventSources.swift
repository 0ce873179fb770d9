import CLinux
import Glibc
import Platform

/// What the loop waits for besides requests: the control socket, the device's descriptors and its deadlines.
struct EventSources: ~Copyable {
    /// How many descriptors a device can watch, and how many deadlines it can have.
    static let mostWatches = 16
    static let mostTimers = 32
    /// Watched descriptors with those of regions.
    private static let mostEntries = mostWatches + Core.mostRegions

    private struct Deadline {
        var timer: Timer
        var at: UInt64
    }

    /// 0: the channel, 1: the control socket, then the watched ones.
    private let entries: UnsafeMutablePointer<pollfd>
    private var watches = 0
    /// Those of the kit, which are never forgotten.
    private var ownWatches = 0
    private var deadlines: [Deadline] = []
    private var nextTimer: UInt32 = 0

    init(control: CInt) {
        entries = .allocate(capacity: 2 + Self.mostEntries)
        entries.initialize(repeating: pollfd(fd: -1, events: Int16(POLLIN), revents: 0), count: 2 + Self.mostEntries)
        entries[1].fd = control
        deadlines.reserveCapacity(Self.mostTimers)
    }

    deinit { entries.deallocate() }

    // MARK: what the device asks for

    /// - Parameter own: for the kit itself, which has room that the device has not.
    mutating func watch(_ descriptor: CInt, own: Bool = false) -> Bool {
        forget(descriptor)
        guard descriptor >= 0, own ? watches < Self.mostEntries : watches - ownWatches < Self.mostWatches else { return false }
        if own { ownWatches += 1 }
        entries[2 + watches] = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        watches += 1
        return true
    }

    mutating func forget(_ descriptor: CInt) {
        guard let place = (0..<watches).first(where: { entries[2 + $0].fd == descriptor }) else { return }
        watches -= 1
        entries[2 + place] = entries[2 + watches]
    }

    mutating func wake(at time: UInt64) -> Timer? {
        guard deadlines.count < Self.mostTimers else { return nil }
        let timer = Timer(number: nextTimer)
        nextTimer &+= 1
        deadlines.append(Deadline(timer: timer, at: time))
        return timer
    }

    /// Whether the device has any deadline: without one nothing but the guest, the coordinator and descriptors wake it.
    var hasDeadlines: Bool { !deadlines.isEmpty }

    mutating func cancel(_ timer: Timer) { deadlines.removeAll { $0.timer == timer } }

    // MARK: what the loop asks

    /// A deadline that has passed, taken out.
    mutating func nextDue() -> Timer? {
        guard !deadlines.isEmpty else { return nil }
        let now = EventLoop.now()
        guard let place = deadlines.indices.filter({ deadlines[$0].at <= now }).min(by: { deadlines[$0].at < deadlines[$1].at }) else { return nil }
        return deadlines.remove(at: place).timer
    }

    /// A watched descriptor that the last wait found readable; each is told once a wait.
    mutating func nextReadable() -> CInt? {
        for place in 0..<watches where entries[2 + place].revents != 0 {
            entries[2 + place].revents = 0
            return entries[2 + place].fd
        }
        return nil
    }

    /// Waits until something can be read or a deadline passes; without `block` only looks.
    /// - Parameter muted: leaves out what the device waits for.
    /// - Returns: whether the channel and the control socket have something.
    mutating func wait(channel: CInt, control: CInt, controlWrites: Bool, block: Bool, muted: Bool = false) -> (channel: Bool, control: Bool) {
        entries[0].fd = channel
        entries[1].fd = control
        entries[1].events = Int16(truncatingIfNeeded: POLLIN | (controlWrites ? POLLOUT : 0))
        var limit: Int64 = block ? -1 : 0
        if block, !muted, !deadlines.isEmpty {
            let first = deadlines.reduce(UInt64.max) { min($0, $1.at) }
            let now = EventLoop.now()
            limit = first > now ? Int64(clamping: first &- now) : 0
        }
        let found = demux_poll(entries, UInt32(truncatingIfNeeded: muted ? 2 : 2 + watches), limit)
        guard found > 0 else {
            for place in 0..<(2 + watches) { entries[place].revents = 0 }
            return (false, false)
        }
        return (entries[0].revents != 0, entries[1].revents != 0)
    }
}

import Specification

/// When a process that died gets a successor: at once at first, then later and later, and not at all when it dies too often.
struct RestartBackoff {
    /// Nanoseconds.
    static let window: UInt64 = 60_000_000_000
    static let shortest = Duration.milliseconds(50)

    private var deaths: [UInt64] = []

    /// How long to wait before the successor starts; nil: it died too often, and stays dead until somebody asks for it.
    /// - Parameters:
    ///   - now: monotonic, in nanoseconds.
    ///   - emulator: says how many successors it may have within `window`, and how long one is made to wait at most.
    mutating func next(now: UInt64, for emulator: EmulatorSpecification) -> Duration? {
        deaths.removeAll { now &- $0 >= Self.window }
        guard deaths.count < emulator.restartLimit else { return nil }
        let earlier = deaths.count
        deaths.append(now)
        guard earlier > 0 else { return .zero }
        // At most nine doublings: nobody waits longer than `longest` anyway.
        return min(.milliseconds(emulator.restartDelayMilliseconds), Self.shortest * (1 << min(earlier - 1, 9)))
    }
}

/// When one is tried again that died too often, and whose absence costs the guest nothing: an exporter. Later and later, at last once a minute.
struct LateRetry {
    var first = Duration.seconds(5)
    static let longest = Duration.seconds(60)
    /// Nanoseconds after which an earlier parking is forgotten.
    static let memory: UInt64 = 600_000_000_000

    private var tries = 0
    private var last: UInt64 = 0

    /// - Parameter now: monotonic, in nanoseconds.
    mutating func next(now: UInt64) -> Duration {
        if now &- last >= Self.memory { tries = 0 }
        last = now
        defer { tries = min(tries + 1, 8) }
        return min(Self.longest, first * (1 << tries))
    }
}

/// When a coordinator that died is succeeded: at once at first, then later and later, and not at all when too many died within a minute.
struct Restarts {
    /// Deaths within `window`; a further one is the last.
    static let most = 25
    /// Nanoseconds.
    static let window: UInt64 = 60_000_000_000
    /// Deaths within the window after which the next coordinator is started at once.
    private static let atOnce = 4
    /// Milliseconds.
    private static let longest = 1000

    let limit: Int
    private var deaths: [UInt64] = []

    init(limit: Int) { self.limit = limit }

    /// How many milliseconds to wait before the next; nil: too many have died.
    mutating func next(now: UInt64) -> Int? {
        deaths.removeAll { now &- $0 >= Self.window }
        guard deaths.count < limit else { return nil }
        deaths.append(now)
        guard deaths.count > Self.atOnce else { return 0 }
        return min(Self.longest, 20 << min(deaths.count - Self.atOnce - 1, 10))
    }

    /// Somebody has looked at it: what was does not count any more.
    mutating func forgive() { deaths = [] }
}

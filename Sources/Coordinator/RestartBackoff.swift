/// When a process that died gets a successor: at once at first, later and later, and not at all when it dies too often.
struct RestartBackoff {
    /// Successors within `window`; a further death parks it.
    static let most = 10
    /// Nanoseconds.
    static let window: UInt64 = 60_000_000_000
    static let shortest = Duration.milliseconds(50)
    static let longest = Duration.seconds(5)

    private var deaths: [UInt64] = []

    /// How long to wait before the successor starts; nil: it died too often, and stays dead until somebody asks for it.
    /// - Parameter now: monotonic, in nanoseconds.
    mutating func next(now: UInt64) -> Duration? {
        deaths.removeAll { now &- $0 >= Self.window }
        guard deaths.count < Self.most else { return nil }
        // At most nine doublings.
        let delay = min(Self.longest, Self.shortest * (1 << deaths.count))
        deaths.append(now)
        return delay
    }
}

/// Lets a burst through and then one event an interval, so that nobody who is hostile fills a log or a queue.
public struct RateLimit: Sendable {
    private let burst: UInt64
    private let interval: UInt64
    private var tokens: UInt64
    private var last: UInt64 = 0
    /// Events held back since the last one that was let through.
    public private(set) var suppressed: UInt64 = 0

    /// - Parameters:
    ///   - burst: how many may come at once.
    ///   - interval: nanoseconds after which one more may come.
    public init(burst: UInt64, interval: UInt64) {
        self.burst = max(burst, 1)
        self.interval = max(interval, 1)
        tokens = self.burst
    }

    /// Whether the event may happen now. When it may, `suppressed` still says how many were held back before it, until they are taken.
    public mutating func allows(at now: UInt64) -> Bool {
        let earned = (now &- last) / interval
        if now < last || earned >= burst {
            (tokens, last) = (burst, now)
        } else {
            tokens = min(burst, tokens &+ earned)
            last = last &+ earned &* interval
        }
        guard tokens > 0 else {
            suppressed &+= 1
            return false
        }
        tokens -= 1
        return true
    }

    /// Takes how many were held back.
    public mutating func takeSuppressed() -> UInt64 {
        defer { suppressed = 0 }
        return suppressed
    }
}

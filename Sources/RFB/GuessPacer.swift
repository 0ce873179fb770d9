/// Limits how fast passwords can be guessed by all addresses together: a burst is judged at once, and then one an interval. Nobody is turned
/// away for what others guess: a verdict is only given later. Right passwords do not count.
public struct GuessPacer: Sendable {
    /// Wrong passwords that are judged at once.
    public static let burst: UInt64 = 20
    /// Nanoseconds from one to the next in the long run.
    public static let interval: UInt64 = 200_000_000

    /// When the guesses that have been counted would all have been judged at the steady pace.
    private var busyUntil: UInt64 = 0

    public init() {}

    /// Counts a guess.
    /// - Parameter now: monotonic, in nanoseconds.
    /// - Returns: nanoseconds after which it may be judged.
    public mutating func delay(now: UInt64) -> UInt64 {
        let start = max(busyUntil, now)
        busyUntil = start &+ Self.interval
        let free = now &+ Self.burst &* Self.interval
        return busyUntil > free ? busyUntil - free : 0
    }

    /// The guess was right, or was not judged.
    public mutating func discount() { busyUntil = busyUntil > Self.interval ? busyUntil - Self.interval : 0 }
}

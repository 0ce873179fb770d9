import Platform

/// A relay's looks at its slots without having been told: twice a second while requests are under way, and not at all otherwise. An answer that two
/// looks find was given without ringing, for what is rung for is taken before the next look.
struct RelayRounds {
    static let period = Duration.milliseconds(500)

    /// An answer that waits to be taken.
    struct Answer: Equatable {
        var slot: Int
        /// Which request it answers.
        var serial: UInt64
    }

    /// The next look; nil while none is due.
    var timer: EventLoop.Timer?
    private var seen: [Answer] = []

    /// One look.
    /// - Returns: the answers that were there at the last one.
    mutating func look(_ answers: [Answer]) -> [Answer] {
        defer { seen = answers }
        return answers.filter { seen.contains($0) }
    }
}

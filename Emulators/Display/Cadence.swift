/// When the next update of the scan-out is due: as fast as the readers take them while the picture changes, seldom while it rests, and
/// never so often that looking for changes costs the guest more than a sixteenth of its time.
///
/// A value without a clock: every time is handed in, in nanoseconds of one monotonic clock.
struct Cadence {
    /// What a look costs is at most this part of the time.
    static let share: UInt64 = 16
    /// The longest time between two looks at a picture that rests: four a second.
    static let rest: UInt64 = 250_000_000
    /// Looks that find nothing before the time between them doubles.
    static let patience = 8
    /// Updates that may come at once after a pause, so that the first change after a rest is shown without delay.
    static let burst: UInt64 = 3

    /// The most updates a second.
    static let mostRate = 240

    /// Updates a second that the readers take, 1 to 240.
    var rate = 60 { didSet { rate = min(max(rate, 1), Self.mostRate) } }
    /// What a look and an update cost together, smoothed.
    private(set) var cost: UInt64 = 0
    private var idleLooks = 0
    private var interval: UInt64 = 0
    private var last: UInt64 = 0
    /// Updates that may be made now, in nanoseconds of the time between two.
    private var credit: UInt64 = 0

    /// The shortest time between two updates in the long run.
    var shortest: UInt64 { max(1_000_000_000 / UInt64(rate), cost &* Self.share) }

    /// Something was looked for.
    /// - Parameters:
    ///   - changed: whether anything was found.
    ///   - spent: what it cost, nanoseconds.
    mutating func looked(at now: UInt64, changed: Bool, spent: UInt64) {
        // One slow look (the process was preempted) must not slow everything; many must.
        let sample = min(spent, 50_000_000)
        cost = sample < cost ? sample / 2 &+ cost / 2 : cost &- cost / 4 &+ sample / 4
        refill(now)
        // A look in vain costs as much: a reader that asks without pause is not to have it made without pause.
        credit = credit > shortest ? credit &- shortest : 0
        if changed {
            idleLooks = 0
            interval = shortest
        } else {
            idleLooks &+= 1
            if idleLooks % Self.patience == 0 { interval = min(max(interval, shortest) &* 2, Self.rest) }
        }
    }

    /// The picture is known to have changed, or somebody has just typed: no rest any more.
    mutating func stir() {
        idleLooks = 0
        interval = shortest
    }

    /// When to look again by itself.
    /// - Parameter blink: when the picture is drawn anew in any case: a look at rest that would be due just before waits for it, so that what
    ///   rests is woken up once for both.
    func nextLook(after now: UInt64, blink: UInt64? = nil) -> UInt64 {
        let next = now &+ max(interval, shortest)
        guard let blink else { return next }
        return interval >= Self.rest && blink > next && blink &- next <= Self.rest / 4 ? blink : min(next, blink)
    }

    /// When an update may be made for a change that is known of: now, unless there were too many just before.
    mutating func nextUpdate(from now: UInt64) -> UInt64 {
        refill(now)
        return credit >= shortest ? now : now &+ (shortest &- credit)
    }

    private mutating func refill(_ now: UInt64) {
        let passed = now > last ? now &- last : 0
        credit = min(credit &+ min(passed, Self.rest &* 4), shortest &* Self.burst)
        last = now
    }
}

/// Whether what blinks blinks: only as long as somebody does something. A cursor that blinks at nobody changes the picture four times a second
/// for every viewer, and terminals let it stand after as long. A value without a clock, as `Cadence` is.
struct Blinking {
    /// How long nothing has to happen before everything that blinks stands still, and is shown.
    var patience: UInt64 = 10_000_000_000
    private var stirredAt: UInt64 = 0

    /// The guest has changed something that the picture depends on, somebody types, or somebody begins to look.
    mutating func stir(at now: UInt64) { stirredAt = max(stirredAt, now) }

    func isSteady(at now: UInt64) -> Bool { now > stirredAt && now &- stirredAt >= patience }
}

/// Whether the host is asked which pages the guest has written, or video memory is compared with what it was: asking pauses the guest and makes
/// it fault again on each page that it writes, so that it does not pay while most pages change.
struct Strategy {
    /// Below this many bytes comparing is always cheaper.
    static let small = 512 << 10

    private(set) var comparesUntil: UInt64 = 0
    private var heavy = 0
    private var pause: UInt64 = 1_000_000_000
    private var primed = false

    func tracks(_ bytes: Int, free: Bool, at now: UInt64) -> Bool { free || bytes > Self.small && now >= comparesUntil }

    /// What the host said. The first answer names every page and means nothing.
    /// - Parameter free: whether asking costs the guest nothing.
    mutating func answered(dirty: Int, of pages: Int, free: Bool, at now: UInt64) {
        guard primed else {
            primed = true
            return
        }
        heavy = dirty &* 4 > pages ? heavy &+ 1 : 0
        if heavy >= 3 && !free {
            comparesUntil = now &+ pause
            pause = min(pause &* 2, 16_000_000_000)
            heavy = 0
        } else if heavy == 0 && now > comparesUntil &+ 2_000_000_000 {
            pause = 1_000_000_000
        }
    }

    /// Tracking was stopped: the next answer is a first one again.
    mutating func forget() { primed = false }
}

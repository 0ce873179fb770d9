import Glibc
import Platform

/// Waiting in tests, without a guess at how long something takes.
///
/// Who can be waited for by a descriptor, a semaphore or a thread's end is waited for so. `until` is for the rest, which no event signals: a process's
/// state in /proc, a coordinator's answer to a question, a page in shared memory whose doorbell is somebody else's.
public enum Waiting {
    /// What keeps a test that hangs from hanging for ever; never a measure of anything.
    public static let limit = Duration.seconds(90)

    /// Looks again and again until something is so.
    /// - Returns: false when it has not become so within `limit`.
    public static func until(within limit: Duration = limit, _ condition: () throws -> Bool) rethrows -> Bool {
        let end = EventLoop.now() &+ limit.clampedNanoseconds
        // Soon at first, for what is nearly so; then seldom enough to leave the processor to whom is waited for.
        var rest: UInt32 = 100
        while try !condition() {
            guard EventLoop.now() < end else { return false }
            usleep(rest)
            rest = min(rest * 2, 5000)
        }
        return true
    }

    /// Waits until a descriptor can be read, or its other end is closed.
    /// - Returns: false when neither has happened within `limit`.
    @discardableResult
    public static func forEvent(on descriptor: CInt, within limit: Duration = limit) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        let end = EventLoop.now() &+ limit.clampedNanoseconds
        while true {
            let now = EventLoop.now()
            let count = poll(&entry, 1, CInt(clamping: (end > now ? end &- now : 0) / 1_000_000))
            if count != 0 || now >= end { return count > 0 }
        }
    }
}

/// Moments that a seed chooses: when a process is killed that has to survive it at any time.
///
/// Nothing is hoped for in the meantime: whatever has happened by then, what the test expects holds. Moments that follow from what the guest
/// does are better where there are any; these are for a start, a takeover and other times without a guest.
public enum RandomMoment {
    /// Lets a time pass from 0 up to `most` microseconds.
    public static func pass(upTo most: UInt32, _ generator: inout some RandomNumberGenerator) {
        usleep(UInt32.random(in: 0..<most, using: &generator))
    }
}

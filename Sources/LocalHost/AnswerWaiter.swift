import CIoreq
import Glibc
import Platform

/// Waits for what an emulator does with one server, for several vCPU threads at once on one doorbell.
///
/// One of the waiting threads, the leader, blocks on the doorbell; when it rings, the leader looks whether its own
/// answer is there and wakes the others to look at theirs. With one vCPU waiting there is nobody to hand over to, and
/// a wait is a look, a bounded spin and a poll. The end of the domain is a descriptor too. Twice a second whoever waits looks without a ring: an emulator
/// may have answered and forgotten it. Nobody waits, nobody looks.
final class AnswerWaiter: @unchecked Sendable {
    // Sendable: `leading`, `followers`, `rings` and `isSilent` are guarded by the mutex; the descriptors never change.
    private let done: CInt
    private let end: CInt
    /// Rung by the host when the waiting vCPUs are to look again. No emulator has it.
    private let nudge: EventFD
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var leading = false
    private var followers = 0
    private var rings: UInt64 = 0
    /// Whether the last leader came back because nobody had rung for a while.
    private var isSilent = false

    /// How a wait ended.
    enum Outcome {
        case ready
        /// What was waited for had come, and nobody had rung for it.
        case unrung
        /// The domain ended first.
        case ended
    }

    /// Milliseconds between two looks without a ring, and those in which a ring may still follow its answer.
    private static let patience: CInt = 500
    private static let grace: CInt = 50

    /// - Parameters:
    ///   - done: the doorbell that emulators ring.
    ///   - end: readable for ever once the domain is destroyed or has crashed.
    init(done: CInt, end: CInt) throws(SystemError) {
        self.done = done
        self.end = end
        nudge = try EventFD()
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        condition = .allocate(capacity: 1)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        condition.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Waits until `ready` says so. It is asked again whenever the doorbell has rung, and told how many rings a leader has seen.
    /// - Parameter spins: looks before it blocks.
    func wait(spins: Int, until ready: (_ rings: UInt64) -> Bool) -> Outcome {
        // The count of rings may only be read under the mutex, and whoever asks for it does not spin.
        for _ in 0..<spins {
            if ready(0) { return .ready }
            demux_cpu_relax()
        }
        pthread_mutex_lock(mutex)
        var ended = false
        var found = Outcome.ready
        while !ready(rings) {
            if ended {
                pthread_mutex_unlock(mutex)
                return .ended
            }
            if leading {
                followers += 1
                pthread_cond_wait(condition, mutex)
                followers -= 1
                found = isSilent ? .unrung : .ready
                continue
            }
            leading = true
            pthread_mutex_unlock(mutex)
            let (rung, over, silent) = block()
            pthread_mutex_lock(mutex)
            leading = false
            rings &+= rung
            ended = over
            isSilent = silent
            found = silent ? .unrung : .ready
            if followers > 0 { pthread_cond_broadcast(condition) }
        }
        // Whoever leaves hands the doorbell to one that still waits.
        if !leading && followers > 0 { pthread_cond_broadcast(condition) }
        pthread_mutex_unlock(mutex)
        guard found == .unrung else { return found }
        // It may have come in this moment, with the ring on its way. What rings is left to whoever waits next.
        var ring = pollfd(fd: done, events: Int16(POLLIN), revents: 0)
        return poll(&ring, 1, Self.grace) > 0 ? .ready : .unrung
    }

    /// Has every waiting vCPU look again, without counting as a ring.
    func wake() { nudge.ring() }

    /// Blocks until the doorbell rings or the domain ends. Allocates nothing.
    private func block() -> (rings: UInt64, ended: Bool, isSilent: Bool) {
        withUnsafeTemporaryAllocation(of: pollfd.self, capacity: 3) { waits in
            waits.initialize(repeating: pollfd(fd: done, events: Int16(POLLIN), revents: 0))
            waits[1].fd = end
            waits[2].fd = nudge.descriptor.raw
            var woken = poll(waits.baseAddress, 3, Self.patience)
            while woken < 0 && errno == EINTR { woken = poll(waits.baseAddress, 3, Self.patience) }
            if waits[2].revents != 0 { nudge.clear() }
            // The emulator shares the doorbell, and may have taken away meanwhile what was there.
            return (waits[0].revents != 0 ? EventFD.clearShared(done) : 0, waits[1].revents != 0, woken == 0)
        }
    }
}

import CIoreq
import Glibc
import Platform

/// Waits for what an emulator does with one server, for several vCPU threads at once on one doorbell.
///
/// One of the waiting threads, the leader, blocks on the doorbell; when it rings, the leader looks whether its own
/// answer is there and wakes the others to look at theirs. With one vCPU waiting there is nobody to hand over to, and
/// a wait is a look, a bounded spin and a poll. No timer: the end of the domain is a descriptor too.
final class AnswerWaiter: @unchecked Sendable {
    // Sendable: `leading`, `followers` and `rings` are guarded by the mutex; the descriptors never change.
    private let done: CInt
    private let end: CInt
    /// Rung by the host when the waiting vCPUs are to look again. No emulator has it.
    private let nudge: EventFD
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var leading = false
    private var followers = 0
    private var rings: UInt64 = 0

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
    /// - Returns: false when the domain ended first.
    func wait(spins: Int, until ready: (_ rings: UInt64) -> Bool) -> Bool {
        // The count of rings may only be read under the mutex, and whoever asks for it does not spin.
        for _ in 0..<spins {
            if ready(0) { return true }
            demux_cpu_relax()
        }
        pthread_mutex_lock(mutex)
        var ended = false
        while !ready(rings) {
            if ended {
                pthread_mutex_unlock(mutex)
                return false
            }
            if leading {
                followers += 1
                pthread_cond_wait(condition, mutex)
                followers -= 1
                continue
            }
            leading = true
            pthread_mutex_unlock(mutex)
            let (rung, over) = block()
            pthread_mutex_lock(mutex)
            leading = false
            rings &+= rung
            ended = over
            if followers > 0 { pthread_cond_broadcast(condition) }
        }
        // Whoever leaves hands the doorbell to one that still waits.
        if !leading && followers > 0 { pthread_cond_broadcast(condition) }
        pthread_mutex_unlock(mutex)
        return true
    }

    /// Has every waiting vCPU look again, without counting as a ring.
    func wake() { nudge.ring() }

    /// Blocks until the doorbell rings or the domain ends. Allocates nothing.
    private func block() -> (rings: UInt64, ended: Bool) {
        withUnsafeTemporaryAllocation(of: pollfd.self, capacity: 3) { waits in
            waits.initialize(repeating: pollfd(fd: done, events: Int16(POLLIN), revents: 0))
            waits[1].fd = end
            waits[2].fd = nudge.descriptor.raw
            while poll(waits.baseAddress, 3, -1) < 0 && errno == EINTR {}
            if waits[2].revents != 0 { nudge.clear() }
            // The emulator shares the doorbell, and may have taken away meanwhile what was there.
            return (waits[0].revents != 0 ? EventFD.clearShared(done) : 0, waits[1].revents != 0)
        }
    }
}

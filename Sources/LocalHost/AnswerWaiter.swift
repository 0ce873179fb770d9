import CIoreq
import Glibc
import Host

/// Waits for answers in one server's slots, for several vCPU threads at once on one doorbell.
///
/// One of the waiting threads, the leader, blocks on the doorbell; when it rings, the leader looks whether its own
/// answer is there and wakes the others to look at theirs. With one vCPU waiting there is nobody to hand over to, and
/// a wait is a look, a bounded spin and a poll.
final class AnswerWaiter: @unchecked Sendable {
    // Sendable: `leading` and `followers` are guarded by the mutex; the descriptors never change.
    private let done: CInt
    private let end: CInt
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var leading = false
    private var followers = 0

    /// - Parameters:
    ///   - done: the doorbell that emulators ring.
    ///   - end: readable for ever once the domain is destroyed or has crashed.
    init(done: CInt, end: CInt) {
        self.done = done
        self.end = end
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

    /// Waits until `ready` says so.
    /// - Parameter spins: looks before it blocks.
    /// - Returns: false when the domain ended first.
    func wait(spins: Int, until ready: () -> Bool) -> Bool {
        for _ in 0..<spins {
            if ready() { return true }
            demux_cpu_relax()
        }
        pthread_mutex_lock(mutex)
        while true {
            if ready() { break }
            if leading {
                followers += 1
                pthread_cond_wait(condition, mutex)
                followers -= 1
                continue
            }
            leading = true
            pthread_mutex_unlock(mutex)
            var waits = [pollfd(fd: done, events: Int16(POLLIN), revents: 0), pollfd(fd: end, events: Int16(POLLIN), revents: 0)]
            while poll(&waits, 2, -1) < 0 && errno == EINTR {}
            var count: UInt64 = 0
            if waits[0].revents != 0 { _ = read(done, &count, 8) }
            pthread_mutex_lock(mutex)
            leading = false
            if followers > 0 { pthread_cond_broadcast(condition) }
            if waits[1].revents != 0 && !ready() {
                pthread_mutex_unlock(mutex)
                return false
            }
        }
        // Whoever leaves hands the doorbell to one that still waits.
        if !leading && followers > 0 { pthread_cond_broadcast(condition) }
        pthread_mutex_unlock(mutex)
        return true
    }
}

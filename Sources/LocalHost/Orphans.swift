import Glibc

/// vCPUs whose server was destroyed while they waited for its answer.
///
/// Xen does not wake them: they stay blocked until the event channel with the number that they wait on is notified again, by
/// whoever serves a later server that got the same number, and then go on with a value of 0. The end of the domain frees them too.
final class Orphans: @unchecked Sendable {
    // Sendable: `looks` is guarded by the mutex.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var looks: UInt64 = 0
    private var waiting = 0

    init() {
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

    /// How many vCPUs wait without a server.
    var count: Int {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return waiting
    }

    /// Has every orphan look whether there is a server for it now, or no domain any more.
    func look() {
        pthread_mutex_lock(mutex)
        looks &+= 1
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Asks `found` now and after every `look` until it gives something.
    func wait<Found>(for found: () -> Found?) -> Found {
        pthread_mutex_lock(mutex)
        waiting += 1
        defer {
            waiting -= 1
            pthread_mutex_unlock(mutex)
        }
        while true {
            let seen = looks
            pthread_mutex_unlock(mutex)
            let result = found()
            pthread_mutex_lock(mutex)
            if let result { return result }
            while looks == seen { pthread_cond_wait(condition, mutex) }
        }
    }
}

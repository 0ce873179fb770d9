import CLinux
import EmulatorKit
import Glibc
import NVMe
import Platform
import Synchronization

/// Does disk jobs on a thread of its own, one after the other, so that the serving loop never waits for storage.
///
/// The loop watches `doorbell`, and takes what has ended with `takeFinished`. How many jobs wait is the controller's bound.
final class DiskWorker: ControllerDisk, @unchecked Sendable {
    // Sendable: what both threads touch is in the mutex; the image's descriptor never changes; the thread is joined by its one owner.
    private struct Queue {
        var waiting: [DiskJob] = []
        var finished: [(number: Int, outcome: DiskOutcome)] = []
        var isEnding = false
    }

    private let image: ImageFile
    private let queue = Mutex(Queue())
    /// Rung for the worker, and by it.
    private let work: EventFD
    private let done: EventFD
    private var thread: pthread_t?

    var geometry: DiskGeometry { image.geometry }
    /// Bytes of the last block that the image's file does not have.
    var missingBytes: Int { image.missingBytes }
    /// Readable when jobs have ended.
    var doorbell: CInt { done.descriptor.raw }

    /// Starts the thread.
    init(_ image: consuming ImageFile) throws(SetupError) {
        do throws(SystemError) {
            work = try EventFD()
            done = try EventFD()
        } catch {
            throw SetupError(error)
        }
        self.image = image
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<DiskWorker>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        guard code == 0 else {
            Unmanaged.passUnretained(self).release()
            throw SetupError(SystemError("start", "the thread that does the disk's work", code: code))
        }
        self.thread = thread
    }

    func begin(_ job: DiskJob) {
        queue.withLock { $0.waiting.append(job) }
        work.ring()
    }

    /// What has ended since the last call.
    func takeFinished() -> [(number: Int, outcome: DiskOutcome)] {
        done.clear()
        return queue.withLock { queue in
            defer { queue.finished = [] }
            return queue.finished
        }
    }

    /// Does what waits, has everything written to stable storage, and ends the thread. No job may be begun afterwards.
    /// - Returns: whether the storage took it all.
    func end() -> Bool {
        guard let thread else { return true }
        queue.withLock { $0.isEnding = true }
        work.ring()
        pthread_join(thread, nil)
        self.thread = nil
        return flush()
    }

    /// Has everything written to stable storage, in the caller's thread.
    func flush() -> Bool { image.perform(DiskJob(number: 0, kind: .flush)) == .done }

    /// Lets others lock the image.
    func unlock() { image.unlock() }

    private func run() {
        var entry = pollfd(fd: work.descriptor.raw, events: Int16(POLLIN), revents: 0)
        while true {
            work.clear()
            let (jobs, isEnding) = queue.withLock { queue in
                defer { queue.waiting = [] }
                return (queue.waiting, queue.isEnding)
            }
            for job in jobs {
                let outcome = image.perform(job)
                queue.withLock { $0.finished.append((job.number, outcome)) }
                done.ring()
            }
            if jobs.isEmpty {
                if isEnding { return }
                _ = demux_poll(&entry, 1, -1)
            }
        }
    }
}

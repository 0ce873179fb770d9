import Glibc
import Platform

/// A thread of a test's own: a vCPU blocks its thread, and there are moments in which both ends of a socket wait for each other.
public struct TestThread: Sendable {
    private final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    private let thread: pthread_t

    /// Starts it. Whoever did either waits for its end with `join`, or lets go of it with `detach`.
    /// - Throws: SystemError when the kernel has no room for another thread.
    public init(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
        var thread = pthread_t()
        let work = Unmanaged.passRetained(Work(body))
        let code = pthread_create(
            &thread, nil,
            { pointer in
                if let pointer { Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue().body() }
                return nil
            }, work.toOpaque())
        guard code == 0 else {
            work.release()
            throw SystemError("start", "a thread", code: code)
        }
        self.thread = thread
    }

    /// Waits until it has ended.
    public func join() { pthread_join(thread, nil) }

    /// It ends when it ends.
    public func detach() { pthread_detach(thread) }
}

import Glibc
import Platform

/// A thread of the benchmark's, to be joined.
final class BenchThread {
    private final class Work {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    private var thread = pthread_t()

    init(_ body: @escaping @Sendable () -> Void) throws {
        let work = Unmanaged.passRetained(Work(body))
        let code = pthread_create(&thread, nil, { pointer in
            if let pointer { Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue().body() }
            return nil
        }, work.toOpaque())
        guard code == 0 else {
            work.release()
            throw SystemError("start", "a thread", code: code)
        }
    }

    func join() { pthread_join(thread, nil) }
}

/// Sleeps until a time of EventLoop's clock.
func sleep(until time: UInt64) {
    let now = EventLoop.now()
    guard time > now else { return }
    var rest = timespec(tv_sec: Int((time &- now) / 1_000_000_000), tv_nsec: Int((time &- now) % 1_000_000_000))
    nanosleep(&rest, nil)
}

/// A folder for sockets: their paths have at most 107 bytes.
final class SocketFolder {
    let path: String

    init() throws {
        var template = Array("/tmp/demux-bench-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw SystemError("make", "a folder for sockets") }
        path = String(cString: made)
    }

    deinit {
        if let folder = opendir(path) {
            while let entry = readdir(folder) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
                if name != "." && name != ".." { unlink(path + "/" + name) }
            }
            closedir(folder)
        }
        rmdir(path)
    }
}

/// Tries until something works that another process makes possible.
func retry<Value>(_ what: String, seconds: UInt64 = 30, _ body: () throws -> Value?) throws -> Value {
    let end = EventLoop.now() &+ seconds &* 1_000_000_000
    while true {
        if let value = try body() { return value }
        guard EventLoop.now() < end else { throw BenchError("\(what): not within \(seconds) seconds") }
        usleep(5000)
    }
}

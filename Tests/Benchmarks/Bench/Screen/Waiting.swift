import Glibc
import Platform

/// Sleeps until a time of EventLoop's clock.
func sleep(until time: UInt64) {
    let now = EventLoop.now()
    guard time > now else { return }
    var rest = timespec(tv_sec: Int((time &- now) / 1_000_000_000), tv_nsec: Int((time &- now) % 1_000_000_000))
    nanosleep(&rest, nil)
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

import Glibc
import Host

/// The smallest serving loop: what a conformance case answers is a closure.
enum Serving {
    /// Serves until `done` says so; false when it did not in time.
    static func serve<Served: Channel & ~Copyable>(
        _ channel: inout Served, seconds: Int = 20, until done: () -> Bool, buffered: (BufferedEntry) -> Void = { _ in },
        answer: (Int, IORequest) -> UInt64
    ) -> Bool {
        let end = ContinuousClock.now + .seconds(seconds)
        while true {
            while let entry = channel.ring?.next() { buffered(entry) }
            for vcpu in 0..<channel.vcpuCount {
                guard let request = channel.slots.take(vcpu) else { continue }
                while let entry = channel.ring?.next() { buffered(entry) }
                let data = request.kind == .invalidate || request.kind == .timeOffset ? 0 : answer(vcpu, request)
                channel.slots.complete(vcpu, data: data)
                channel.notify(vcpu)
            }
            if done() { return true }
            if ContinuousClock.now > end { return false }
            // Short, because `done` may look at guest memory, which wakes nobody.
            var descriptor = pollfd(fd: channel.waitDescriptor, events: Int16(POLLIN), revents: 0)
            _ = poll(&descriptor, 1, 2)
            _ = channel.acknowledge()
        }
    }
}

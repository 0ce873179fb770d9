import Host

/// A server that a case made, with the emulator's end of its channel.
final class TestServer {
    let id: ServerID
    let channel: any SharedChannel
    /// Requests and posted writes that came, in the order in which they were taken.
    var requests: [Seen] = []
    var posted: [BufferedEntry] = []

    /// A synchronous request and the vCPU that waits for it.
    struct Seen: Equatable {
        var vcpu: Int
        var request: IORequest
        /// How many posted writes had been taken before.
        var after: Int
    }

    init(id: ServerID, channel: any SharedChannel) {
        self.id = id
        self.channel = channel
    }

    /// Takes what is posted.
    func drain() {
        while let entry = channel.ring?.next() { posted.append(entry) }
    }

    /// Takes and answers whatever waits. True when there was a request.
    func serve(_ answer: (TestServer, Int, IORequest) -> UInt64) -> Bool {
        _ = channel.acknowledge()
        drain()
        var any = false
        for vcpu in 0..<channel.vcpuCount {
            guard let request = channel.slots.take(vcpu) else { continue }
            drain()
            // Xen sends these to everybody when it pleases.
            let housekeeping = request.kind == .invalidate || request.kind == .timeOffset
            if !housekeeping { requests.append(Seen(vcpu: vcpu, request: request, after: posted.count)) }
            let data = housekeeping ? 0 : answer(self, vcpu, request)
            channel.slots.complete(vcpu, data: data)
            channel.notify(vcpu)
            any = true
        }
        return any
    }

    /// The requests that came, without who waits for them.
    var asked: [IORequest] { requests.map(\.request) }
}

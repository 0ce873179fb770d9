import Host

/// Answering what waits in a server that nobody serves any more.
enum Drain {
    /// Answers every READY or INPROCESS slot (reads get all-ones, writes are dropped), then notifies. The owner must be
    /// dead: only then can its event channels be bound. Answering on a disabled server frees the vCPU
    /// (seen on Xen 4.17); destroying it would not.
    static func answerAll(_ channel: any SharedChannel) throws(HostError) {
        try channel.bind()
        for vcpu in 0..<channel.vcpuCount {
            switch channel.slots.state(vcpu) {
            case .ready:
                guard let request = channel.slots.take(vcpu) else { continue }
                answer(channel, vcpu, request)
            case .inProcess:
                answer(channel, vcpu, channel.slots.copy(vcpu))
            case .responseReady:
                // It had answered, but perhaps died before it could tell.
                channel.notify(vcpu)
            case .some(.none), nil:
                continue
            }
        }
    }

    private static func answer(_ channel: any SharedChannel, _ vcpu: Int, _ request: IORequest) {
        if channel.slots.complete(vcpu, data: request.unservedAnswer) { channel.notify(vcpu) }
    }
}

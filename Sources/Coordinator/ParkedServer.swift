import Host
import Platform

/// Serves an ioreq server in the place of an emulator that is dead and has no successor yet: reads get all-ones, writes are dropped,
/// INVALIDATE is answered, the ring is emptied. No vCPU waits for a process that may never come.
///
/// It holds the server's channel, which on Xen one process alone can have: whoever made this lets go of it before a successor is told to start.
final class ParkedServer {
    private let loop: EventLoop
    private let channel: any SharedChannel
    private let memory: (any GuestMemory)?
    /// Requests and posted writes that were answered or dropped.
    private(set) var answered: UInt64 = 0

    /// The server's slots, for who waits until they are empty.
    var source: any SharedChannel { channel }

    /// Binds the channel of a server that is enabled and whose emulator is dead, and answers what waits there.
    /// - Throws: HostError when somebody still has the channel.
    init(loop: EventLoop, host: any Host, server: ServerID) throws(HostError) {
        self.loop = loop
        channel = try host.openChannel(server)
        memory = try? host.guestMemory()
        try channel.bind()
        do {
            try loop.watch(channel.waitDescriptor, for: .readable) { [weak self] _ in
                guard let self else { return }
                _ = self.channel.acknowledge()
                self.pump()
            }
        } catch {
            throw HostError("serve", "\(server) in the place of its emulator", .failed(error.code), detail: "\(error)")
        }
        for vcpu in 0..<channel.vcpuCount where channel.slots.state(vcpu) == .responseReady {
            // It had answered, but perhaps died before it could tell.
            channel.notify(vcpu)
        }
        pump()
    }

    deinit { loop.forget(channel.waitDescriptor) }

    /// Answers everything that waits.
    func pump() {
        drainRing()
        for vcpu in 0..<channel.vcpuCount {
            _ = channel.slots.repair(vcpu)
            let state = channel.slots.state(vcpu)
            guard state == .ready || state == .inProcess else { continue }
            let request = channel.slots.copy(vcpu)
            let isInvalidation = request.kind == .invalidate
            if isInvalidation { memory?.invalidate() }
            guard channel.slots.answerUntaken(vcpu, data: isInvalidation ? request.data : request.unservedAnswer) else { continue }
            answered &+= 1
            channel.notify(vcpu)
        }
    }

    /// Bounded: what is posted meanwhile rings again.
    private func drainRing() {
        guard let ring = channel.ring else { return }
        for _ in 0..<BufferedRing.capacity {
            guard ring.next() != nil else { return }
            answered &+= 1
        }
    }
}

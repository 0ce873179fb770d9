import Glibc
import Host
import LocalHost
import Platform
import Synchronization
import TestTools
import Testing

@Suite("Several vCPUs at once")
struct ConcurrencyTests {
    private final class Flag: Sendable { let raised = Atomic<Bool>(false) }

    /// An emulator on a thread of its own: answers port reads with the port, the vCPU and the data that was last written by it.
    private func serve(_ channel: sending any SharedChannel, until stop: Flag) throws {
        let box = Handed(channel)
        try TestThread {
            let channel = box.channel
            var latest = [UInt64](repeating: 0, count: channel.vcpuCount)
            while !stop.raised.load(ordering: .acquiring) {
                _ = channel.acknowledge()
                for vcpu in 0..<channel.vcpuCount {
                    guard let request = channel.slots.take(vcpu) else { continue }
                    if request.direction == .write { latest[vcpu] = request.data }
                    channel.slots.complete(vcpu, data: latest[vcpu])
                    channel.notify(vcpu)
                }
                var wait = pollfd(fd: channel.waitDescriptor, events: Int16(POLLIN), revents: 0)
                _ = poll(&wait, 1, 200)
            }
        }.detach()
    }

    /// Hands a channel to the one thread that uses it from then on.
    private struct Handed: @unchecked Sendable {
        let channel: any SharedChannel
        init(_ channel: any SharedChannel) { self.channel = channel }
    }

    @Test("eight vCPUs on one server each get their own answers, spinning or not", arguments: [0, 500])
    func oneServer(spins: Int) throws {
        let guest = try Guest(vcpus: 8)
        let stop = Flag()
        defer { stop.raised.store(true, ordering: .releasing) }
        let server = try guest.server([try Guest.ports(0x100, 8)])
        try serve(server.channel, until: stop)
        let runs = try (0..<8).map { index in
            let vcpu = try guest.vcpu(index, spins: spins)
            return try guest.start { () throws(GuestError) -> Int in
                var wrong = 0
                for round in 0..<400 as Range<UInt64> {
                    let value = round << 8 | UInt64(index)
                    try vcpu.write(port: 0x100, size: 4, value: value)
                    if try vcpu.read(port: 0x104, size: 4) != value { wrong += 1 }
                }
                return wrong
            }
        }
        for run in runs { #expect(try run.value() == 0) }
    }

    @Test("vCPUs go on while servers come, go and change their ranges")
    func changes() throws {
        let guest = try Guest(vcpus: 2)
        let stop = Flag()
        defer { stop.raised.store(true, ordering: .releasing) }
        let steady = try guest.server([try Guest.ports(0x100, 8)])
        try serve(steady.channel, until: stop)
        let runs = try (0..<2).map { index in
            let vcpu = try guest.vcpu(index)
            return try guest.start { () throws(GuestError) -> Int in
                var wrong = 0
                for round in 0..<1000 as Range<UInt64> {
                    try vcpu.write(port: 0x100, size: 2, value: round)
                    if try vcpu.read(port: 0x102, size: 2) != round { wrong += 1 }
                    // Nobody's, whatever comes and goes beside it.
                    if try vcpu.read(port: 0x300, size: 1) != 0xff { wrong += 1 }
                }
                return wrong
            }
        }
        while !runs.allSatisfy(\.isDone) {
            let id = try guest.host.createServer(ring: true)
            for port in 0..<8 as Range<UInt16> { try guest.host.map(try Guest.ports(0x200 + port * 4, 2), to: id) }
            try guest.host.setServer(id, enabled: true)
            try guest.host.unmap(try Guest.ports(0x204, 1), from: id)
            try guest.host.setServer(id, enabled: false)
            try guest.host.destroyServer(id)
        }
        for run in runs { #expect(try run.value() == 0) }
    }
}

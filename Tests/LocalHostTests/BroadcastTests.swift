import Host
import LocalHost
import Testing

@Suite("What Xen sends to everybody")
struct BroadcastTests {
    @Test("INVALIDATE stands in the slots of every enabled server at once, and the vCPU waits for each")
    func invalidate() throws {
        let guest = try Guest()
        let servers = [try guest.server([]), try guest.server([], ring: true), try guest.server([])]
        let disabled = try guest.host.createServer(ring: true)
        let unasked = try guest.host.openChannel(disabled)
        let vcpu = try guest.vcpu(1)
        let sent = try guest.start { () throws(GuestError) in try vcpu.invalidate() }
        for server in servers { try guest.waitForRequest(server.channel, 1) }
        #expect(unasked.slots.state(1) == IORequest.State.none)
        for server in servers {
            #expect(sent.staysPending)
            let request = try #require(server.channel.slots.take(1))
            #expect(request == IORequest(kind: .invalidate, direction: .write, address: 0, data: .max, size: 4, count: 0))
            server.channel.slots.complete(1, data: 0)
            server.channel.notify(1)
        }
        try sent.value()
    }

    @Test("INVALIDATE leaves out a server whose slot is in disorder")
    func disorder() throws {
        let guest = try Guest()
        let broken = try guest.server([])
        broken.channel.slots.force(0, rawState: IORequest.State.inProcess.rawValue)
        let whole = try guest.server([])
        let vcpu = try guest.vcpu()
        let sent = try guest.start { () throws(GuestError) in try vcpu.invalidate() }
        try guest.serve(whole.channel, until: sent) { _, _ in 0 }
        try sent.value()
        #expect(guest.host.crashReason == nil)
    }

    @Test("TIMEOFFSET takes two places in the ring of every enabled server that has one, and does not wait")
    func timeOffset() throws {
        let guest = try Guest()
        let first = try guest.server([], ring: true)
        let second = try guest.server([])
        let third = try guest.server([], ring: true)
        try guest.host.setServer(third.id, enabled: false)
        try guest.vcpu().timeOffset(-3600)
        #expect(first.channel.ring?.waiting == 2)
        #expect(first.channel.acknowledge())
        #expect(
            first.channel.ring?.next()
                == BufferedEntry(type: 7, direction: .write, size: 8, address: 0, data: UInt64(bitPattern: -3600)))
        #expect(second.channel.ring == nil)
        #expect(third.channel.ring?.waiting == 0)
    }
}

import Glibc
import Host
import LocalHost
import TestTools
import Testing

@Suite("The guest's end")
struct CrashTests {
    /// Has a vCPU read a port and the emulator do `mistake` to its slot.
    /// - Parameter mistake: gets the channel, and can ask whether the read has ended.
    private func outcome(_ mistake: (_ channel: any SharedChannel, _ isOver: () -> Bool) -> Void) throws -> (Guest, Result<UInt64, any Error>) {
        let guest = try Guest()
        let (_, channel) = try guest.server([try Guest.ports(0x100, 4)])
        let vcpu = try guest.vcpu()
        let read = try guest.start { () throws(GuestError) in try vcpu.read(port: 0x100, size: 1) }
        try guest.waitForRequest(channel)
        mistake(channel) { read.isDone }
        return (guest, Result { try read.value() })
    }

    @Test("a slot that goes back from INPROCESS to READY crashes the domain, once Xen has seen both")
    func backwards() throws {
        let (guest, result) = try outcome { channel, isOver in
            // The vCPU must have looked at both, and nobody can see when it has: one after the other until it has noticed.
            var isTaken = false
            _ = Waiting.until {
                if isTaken { channel.slots.force(0, rawState: IORequest.State.ready.rawValue) } else { _ = channel.slots.take(0) }
                isTaken.toggle()
                channel.notify(0)
                return isOver()
            }
        }
        #expect(throws: GuestError.self) { try result.get() }
        #expect(guest.host.crashReason?.contains("2 -> 1") == true, "\(guest.host.crashReason ?? "none")")
    }

    @Test("a state that there is not crashes the domain", arguments: 4..<16)
    func unknown(_ state: Int) throws {
        let (guest, result) = try outcome { channel, _ in
            channel.slots.force(0, rawState: UInt8(state))
            channel.notify(0)
        }
        #expect(throws: GuestError.self) { try result.get() }
        #expect(guest.host.crashReason?.contains("weird state \(state)") == true)
    }

    @Test("after a crash every access fails with the reason, and the host goes on taking requests until the domain is destroyed")
    func afterwards() throws {
        let guest = try Guest()
        let (id, _) = try guest.server([try Guest.ports(0x100, 4)])
        guest.host.crash("for a test")
        guest.host.crash("for another one")
        let vcpu = try guest.vcpu()
        #expect(throws: GuestError.crashed("for a test")) { try vcpu.read(port: 0x100, size: 1) }
        #expect(throws: GuestError.crashed("for a test")) { try vcpu.write(port: 0x900, size: 1, value: 1) }
        #expect(throws: GuestError.crashed("for a test")) { try vcpu.invalidate() }
        try guest.host.setServer(id, enabled: false)
        try guest.host.destroyServer(id)
        guest.host.destroyDomain()
        #expect(throws: HostError.self) { try guest.host.createServer(ring: false) }
        do throws(HostError) { try guest.host.setINTx(device: 1, pin: 0, asserted: true) } catch { #expect(error.reason == .noSuchDomain) }
    }

    @Test("a crash frees the vCPUs that wait for answers")
    func freed() throws {
        let guest = try Guest(vcpus: 3)
        let (_, channel) = try guest.server([try Guest.ports(0x100, 4)])
        let reads = try (0..<3).map { index in
            let vcpu = try guest.vcpu(index)
            return try guest.start { () throws(GuestError) in try vcpu.read(port: 0x100, size: 1) }
        }
        for index in 0..<3 { try guest.waitForRequest(channel, index) }
        guest.host.crash("for a test")
        for read in reads { #expect(throws: GuestError.crashed("for a test")) { try read.value() } }
    }

    @Test("a slot that is not NONE when the vCPU needs it crashes the domain for a port, and faults for memory")
    func occupied() throws {
        let guest = try Guest()
        let (_, channel) = try guest.server([try Guest.ports(0x100, 4), try Guest.memory(0xfee_0000, 0x1000)])
        channel.slots.force(0, rawState: IORequest.State.responseReady.rawValue)
        let vcpu = try guest.vcpu()
        #expect { try vcpu.readMemory(GuestAddress(0xfee_0000), size: 4) } throws: { error in
            if case .fault = error as? GuestError { true } else { false }
        }
        #expect(guest.host.crashReason == nil)
        #expect(throws: GuestError.self) { try vcpu.read(port: 0x100, size: 1) }
        #expect(guest.host.crashReason?.contains("bad state 3") == true)
    }

    @Test("an event channel number that the emulator changed crashes the domain at the next port access")
    func eventChannel() throws {
        let guest = try Guest()
        let (_, channel) = try guest.server([try Guest.ports(0x100, 4)])
        channel.slots.setRemotePort(0, 0xdead)
        let vcpu = try guest.vcpu()
        #expect(throws: GuestError.self) { try vcpu.write(port: 0x100, size: 1, value: 0) }
        #expect(guest.host.crashReason?.contains("event channel") == true)
    }

    @Test("a vCPU whose server is destroyed stays blocked, whatever is written to its slot, until the domain is destroyed")
    func orphaned() throws {
        let guest = try Guest()
        let (id, channel) = try guest.server([try Guest.ports(0x100, 4)])
        let vcpu = try guest.vcpu()
        let read = try guest.start { () throws(GuestError) in try vcpu.read(port: 0x100, size: 1) }
        try guest.waitForRequest(channel)
        try guest.host.destroyServer(id)
        _ = channel.slots.take(0)
        channel.slots.complete(0, data: 0x12)
        channel.notify(0)
        #expect(read.staysPending)
        guest.host.destroyDomain()
        #expect(throws: GuestError.destroyed) { try read.value() }
    }

    @Test("a vCPU whose server is destroyed goes on with 0 when a later server in its place is notified")
    func rescued() throws {
        let guest = try Guest()
        let (id, channel) = try guest.server([try Guest.ports(0x100, 4)])
        let vcpu = try guest.vcpu()
        let read = try guest.start { () throws(GuestError) in try vcpu.read(port: 0x100, size: 1) }
        try guest.waitForRequest(channel)
        try guest.host.destroyServer(id)
        // The first one in its place goes away without a word.
        let silent = try guest.host.createServer(ring: false)
        try guest.host.destroyServer(silent)
        #expect(read.staysPending)
        let (throwAway, rescue) = try guest.server([])
        #expect(read.staysPending)
        rescue.notify(0)
        try guest.host.destroyServer(throwAway)
        #expect(try read.value() == 0)
        #expect(guest.host.crashReason == nil)
    }

    @Test("accesses that no instruction makes fault", arguments: [(0, 1), (3, 1), (16, 1), (4, 0)] as [(UInt32, UInt32)])
    func impossible(_ shape: (size: UInt32, count: UInt32)) throws {
        let guest = try Guest()
        let vcpu = try guest.vcpu()
        #expect { try vcpu.perform(IORequest(kind: .portIO, direction: .read, address: 0x10, size: shape.size, count: shape.count)) } throws: { error in
            if case .fault = error as? GuestError { true } else { false }
        }
        #expect(try vcpu.perform(IORequest(kind: .copy, direction: .read, address: .max - 1, size: 4)) == 0xffff_ffff)
        #expect(try vcpu.perform(IORequest(kind: .portIO, direction: .read, address: .max, size: 4)) == 0xffff_ffff)
    }
}

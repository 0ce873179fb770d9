import ControlProtocol
import Host
import LocalHost
import Testing

@Suite("The PCI function of a device in its own process")
struct PCITests {
    private let slot = "00:1e.0"

    /// A guest with one Scratch at a known place, both BARs where the test wants them.
    private func withFunction(_ body: (Guest, LocalVCPU, PCIAddress) throws -> Void) throws {
        try withGuest([Built.scratch("scratch", ["pci": slot])]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let function = try #require(PCIAddress(parsing: slot))
            let vcpu = try guest.vcpu()
            try vcpu.configWrite(function, register: 0x10, size: 4, value: 0xc000)
            try vcpu.configWrite(function, register: 0x14, size: 4, value: 0xf000_0000)
            try vcpu.configWrite(function, register: 0x04, size: 2, value: 3)
            try body(guest, vcpu, function)
        }
    }

    private let ports = Place(space: .ports, base: 0xc000, identity: Place.scratch)
    private let memory = Place(space: .memory, base: 0xf000_0000, identity: Place.scratch)

    @Test("configuration space says what it is, in every size, through ports 0xcf8 and 0xcfc")
    func identity() throws {
        try withFunction { guest, vcpu, function in
            #expect(try vcpu.configRead(function, register: 0, size: 4) == 0x5c7a_1234)
            #expect(try vcpu.configRead(function, register: 2, size: 2) == 0x5c7a)
            #expect(try vcpu.configRead(function, register: 3, size: 1) == 0x5c)
            #expect(try vcpu.configRead(function, register: 0x09, size: 1) == 0)
            #expect(try vcpu.configRead(function, register: 0x0b, size: 1) == 0xff)
            #expect(try vcpu.configRead(function, register: 0x2c, size: 4) == 0x0001_1234)
            #expect(try vcpu.configRead(function, register: 0x3d, size: 1) == 1)
            let other = try #require(PCIAddress(device: 0x1d))
            #expect(try vcpu.configRead(other, register: 0, size: 4) == 0xffff_ffff, "nobody's function")
            try vcpu.configWrite(function, register: 0, size: 4, value: 0)
            #expect(try vcpu.configRead(function, register: 0, size: 4) == 0x5c7a_1234, "read-only")
        }
    }

    @Test("the registers behind both BARs are those at the fixed windows")
    func behindBARs() throws {
        try withFunction { guest, vcpu, function in
            for place in [ports, memory] {
                try RegisterFile.check(vcpu, place)
                try RegisterFile.checkStrings(vcpu, place, guest.host.memory)
            }
            try ports.write(vcpu, 0, 4, 0x600d_cafe)
            #expect(try memory.read(vcpu, 0, 4) == 0x600d_cafe)
            #expect(try Place.fixed[0].read(vcpu, 0, 4) == 0x600d_cafe)
        }
    }

    @Test("sizing a BAR gives its length and moves nothing")
    func sizing() throws {
        try withFunction { guest, vcpu, function in
            for (register, mask) in [(UInt8(0x10), UInt64(0xffff_ffe1)), (0x14, 0xffff_f000)] {
                let before = try vcpu.configRead(function, register: register, size: 4)
                try vcpu.configWrite(function, register: register, size: 4, value: 0xffff_ffff)
                #expect(try vcpu.configRead(function, register: register, size: 4) == mask)
                try vcpu.configWrite(function, register: register, size: 4, value: before)
            }
            #expect(try ports.read(vcpu, 0x10, 4) == Place.scratch)
            #expect(try memory.read(vcpu, 0x10, 4) == Place.scratch)
        }
    }

    @Test("a BAR that moves takes its registers along, and the coordinator knows at once")
    func moving() throws {
        try withFunction { guest, vcpu, function in
            for round in 0..<UInt64(20 * thorough) {
                let base = 0xf100_0000 + round % 7 * 0x10_0000
                try vcpu.configWrite(function, register: 0x14, size: 4, value: base)
                let place = Place(space: .memory, base: base, identity: Place.scratch)
                #expect(try place.read(vcpu, 0x10, 4) == Place.scratch)
                #expect(try memory.read(vcpu, 0x10, 4) == 0xffff_ffff, "the old place is nobody's")
                #expect(try guest.emulator("scratch").claims.contains { $0.range == "MMIO \(Hex.string(base))-\(Hex.string(base + 0xfff))" })
            }
        }
    }

    @Test("a function whose decoding is off keeps its configuration and loses its windows")
    func decodingOff() throws {
        try withFunction { guest, vcpu, function in
            try vcpu.configWrite(function, register: 0x04, size: 2, value: 2)
            #expect(try ports.read(vcpu, 0x10, 4) == 0xffff_ffff)
            #expect(try memory.read(vcpu, 0x10, 4) == Place.scratch)
            try vcpu.configWrite(function, register: 0x04, size: 2, value: 0)
            #expect(try memory.read(vcpu, 0x10, 4) == 0xffff_ffff)
            #expect(try vcpu.configRead(function, register: 0x10, size: 4) == 0xc001)
            try vcpu.configWrite(function, register: 0x04, size: 2, value: 3)
            #expect(try ports.read(vcpu, 0x10, 4) == Place.scratch)
            #expect(try memory.read(vcpu, 0x10, 4) == Place.scratch)
        }
    }

    @Test("a BAR moved onto another emulator's range is not decoded there")
    func ontoAnother() throws {
        try withGuest([Built.scratch("scratch", ["pci": slot]), Built.cScratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let function = try #require(PCIAddress(parsing: slot))
            let vcpu = try guest.vcpu()
            try vcpu.configWrite(function, register: 0x14, size: 4, value: 0xfed9_0000)
            try vcpu.configWrite(function, register: 0x04, size: 2, value: 2)
            #expect(try vcpu.readMemory(GuestAddress(0xfed9_0010), size: 4) == Place.c)
            try vcpu.configWrite(function, register: 0x14, size: 4, value: 0xf000_0000)
            #expect(try memory.read(vcpu, 0x10, 4) == Place.scratch)
        }
    }

    @Test("INTx rises and falls at the host")
    func lineInterrupt() throws {
        try withFunction { guest, vcpu, function in
            try ports.write(vcpu, 0x1c, 4, 1)
            try eventually("INTA is asserted") { guest.host.interrupts.intx(device: function.device, pin: 0) }
            #expect(try ports.read(vcpu, 0x1c, 4) == 1)
            try memory.write(vcpu, 0x1c, 4, 0)
            try eventually("INTA is deasserted") { !guest.host.interrupts.intx(device: function.device, pin: 0) }
            #expect(try ports.read(vcpu, 0x1c, 4) == 0)
        }
    }

    @Test("a message carries all 64 bits of its address")
    func messageInterrupt() throws {
        try withFunction { guest, vcpu, function in
            let capability = UInt8(truncatingIfNeeded: try vcpu.configRead(function, register: 0x34, size: 1))
            #expect(try vcpu.configRead(function, register: capability, size: 1) == 5)
            try vcpu.configWrite(function, register: capability + 4, size: 4, value: 0xfee0_1000)
            try vcpu.configWrite(function, register: capability + 8, size: 4, value: 0x0000_0100)
            try vcpu.configWrite(function, register: capability + 12, size: 2, value: 0x0041)
            try vcpu.configWrite(function, register: capability + 2, size: 2, value: 1)
            try ports.write(vcpu, 0x1c, 4, 2)
            try eventually("the message is there") { guest.host.interrupts.messageCount > 0 }
            #expect(guest.host.interrupts.messages == [.init(address: 0x100_fee0_1000, data: 0x41)])
        }
    }

    @Test("a device that goes while it asserts its interrupt leaves no line asserted", arguments: [false, true])
    func noLineIsLeft(killed: Bool) throws {
        try withGuest([Built.test("asserts")]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("both lines are asserted") { guest.host.interrupts.intx(device: 31, pin: 0) && guest.host.interrupts.isa(5) }
            if killed { try guest.crash("test") } else { #expect(try guest.ask(.detach(name: "test")) == .done("emulator 'test' was detached")) }
            try eventually("both lines are deasserted") { !guest.host.interrupts.intx(device: 31, pin: 0) && !guest.host.interrupts.isa(5) }
        }
    }

    @Test("two devices that want one slot: the error names both")
    func slotClash() throws {
        var first = Built.scratch("first")
        var second = Built.scratch("second", ["ports": "0x800", "mmio": "0xfedb0000"])
        first.pciSlot = slot
        second.pciSlot = slot
        try withGuest([first, second]) { (guest: Guest) throws in
            let reasons = try guest.start()
            #expect(reasons.count == 1)
            let reason = reasons.joined()
            #expect(reason.contains("emulator 'first'") && reason.contains("emulator 'second'") && reason.contains("PCI 0000:00:1e.0"))
        }
    }

    @Test("a slot that QEMU has is refused, and the error says what is there")
    func slotOfQEMU() throws {
        var scratch = Built.scratch()
        scratch.pciSlot = "00:02.0"
        let taken = try #require(PCIAddress(parsing: "00:02.0"))
        try withGuest([scratch], before: { $0.noteQEMU(.pci(taken), label: "VGA") }) { (guest: Guest) throws in
            let reason = try guest.start().joined()
            #expect(reason.contains("QEMU has PCI 0000:00:02.0 (VGA)"))
        }
    }
}

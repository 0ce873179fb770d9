import EmulatorProtocol
import Host
import LocalHost
import Platform
import Specification
import Testing
import Unplug

@testable import Coordinator

extension Guest {
    static var platformPlace: PCIAddress? { PCIAddress(device: 2) }

    /// The platform device in front of the guest, as when QEMU has one.
    @discardableResult
    func presentPlatform(_ device: PlatformDevice = .init(id: 0x0001_5853, classAndRevision: 0xff80_0001, subsystem: 0x0001_5853, interruptPin: 1)) throws -> PCIAddress {
        let place = try #require(Self.platformPlace)
        let trouble: String? = try onLoop {
            $0.noteQEMU(.pci(place), label: "xen-platform")
            do { try $0.present(SavedPlatform(address: place, device: device)) } catch { return "\(error)" }
            return nil
        }
        #expect(trouble == nil)
        return place
    }
}

@Suite("The platform device in front of a guest")
struct PlatformTests {
    private static func place(_ vcpu: LocalVCPU, _ function: PCIAddress, ports: UInt64, memory: UInt64 = 0) throws {
        try vcpu.configWrite(function, register: 0x10, size: 4, value: ports)
        try vcpu.configWrite(function, register: 0x14, size: 4, value: memory)
        try vcpu.configWrite(function, register: 4, size: 2, value: 3)
    }

    @Test("A write to its ports at +4 removes disks and NICs of every emulator before it completes, one at +8 either", arguments: [4, 8])
    func unplug(offset: UInt16) throws {
        let emulators = [Built.plug("disk", "ide-disk"), Built.plug("net", "nic", ports: 0x650), Built.plug("fast", "nvme", ports: 0x660)]
        try withGuest(emulators) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let (vcpu, function) = (try guest.vcpu(), try guest.presentPlatform())
            #expect(try vcpu.configRead(function, register: 0, size: 4) == 0x0001_5853)
            #expect(try vcpu.read(port: 0xc104, size: 1) == 0xff)
            try Self.place(vcpu, function, ports: 0xc100, memory: 0xf200_0000)
            #expect(try vcpu.read(port: 0xc100, size: 1) == 0)
            try vcpu.write(port: 0xc100 + offset, size: 4, value: 1)
            #expect(try vcpu.read(port: 0x640, size: 1) == 0xff)
            #expect(try vcpu.read(port: 0x650, size: 1) == (offset == 4 ? 0xff : 0x50), "a disk's write leaves NICs alone")
            if offset == 8 { try vcpu.write(port: 0xc108, size: 1, value: 2) }
            #expect(try vcpu.read(port: 0x650, size: 1) == 0xff && vcpu.read(port: 0x660, size: 1) == 0x50)
            #expect(try guest.unplug.failures == 0 && guest.unplug.entries.map(\.devices) == [["disk"], ["net"]])
            #expect(try guest.status.interpositions.contains { $0.emulator == "(coordinator)" && $0.range.contains("00:02.0") })
        }
    }

    @Test("Its ranges follow the BARs; its memory reads as zeros")
    func follows() throws {
        try withGuest([]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let (vcpu, function) = (try guest.vcpu(), try guest.presentPlatform())
            try Self.place(vcpu, function, ports: 0xc100, memory: 0xf200_0000)
            let first = GuestAddress(0xf200_0000), end = GuestAddress(0xf2ff_fffc)
            #expect(try vcpu.readMemory(first, size: 4) == 0 && vcpu.readMemory(end, size: 4) == 0 && vcpu.readMemory(GuestAddress(0xf300_0000), size: 4) == 0xffff_ffff)
            try vcpu.writeMemory(first, size: 8, value: 1)
            #expect(try vcpu.readMemory(first, size: 8) == 0)
            try Self.place(vcpu, function, ports: 0xc300, memory: 0xe000_0000)
            #expect(try vcpu.read(port: 0xc100, size: 1) == 0xff && vcpu.read(port: 0xc300, size: 1) == 0)
            #expect(try vcpu.readMemory(first, size: 4) == 0xffff_ffff && vcpu.readMemory(GuestAddress(0xe000_0000), size: 4) == 0)
            try vcpu.configWrite(function, register: 4, size: 1, value: 0)
            #expect(try vcpu.read(port: 0xc300, size: 1) == 0xff && vcpu.readMemory(GuestAddress(0xe000_0000), size: 4) == 0xffff_ffff)
        }
    }

    @Test("A BAR that the guest puts over an emulator's ports stays unmapped, until it is put elsewhere")
    func clash() throws {
        try withGuest([Built.plug("net", "nic", ports: 0x640)]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let (vcpu, function) = (try guest.vcpu(), try guest.presentPlatform())
            try Self.place(vcpu, function, ports: 0x600)
            #expect(try vcpu.read(port: 0x640, size: 1) == 0x50 && vcpu.read(port: 0x600, size: 1) == 0xff)
            #expect(try guest.log.contains { $0.contains("Xen platform device BAR0 stays unmapped") })
            try vcpu.configWrite(function, register: 0x10, size: 4, value: 0x700)
            #expect(try vcpu.read(port: 0x700, size: 1) == 0)
        }
    }

    @Test("A restored guest has it where it was, from the first access on")
    func restored() throws {
        var device = PlatformDevice(id: 0x0002_5853, classAndRevision: 0xff80_0002, subsystem: 0x0002_5853, interruptPin: 1)
        device.writeConfiguration(0x10, size: 4, value: 0xc100)
        device.writeConfiguration(4, size: 2, value: 3)
        let saved = device
        try withGuest([Built.plug("net", "nic")]) { (guest: Guest) throws in
            let function = try guest.presentPlatform(saved)
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            #expect(try vcpu.configRead(function, register: 0, size: 4) == 0x0002_5853)
            try vcpu.write(port: 0xc108, size: 4, value: 2)
            #expect(try vcpu.read(port: 0x640, size: 1) == 0xff)
            #expect(try guest.onLoop { $0.platform } == SavedPlatform(address: function, device: saved))
        }
    }
}

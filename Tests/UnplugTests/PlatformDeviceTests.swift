import Host
import SeededNumbers
import Testing

@testable import Unplug

@Suite("The Xen platform device")
struct PlatformDeviceTests {
    private let device = PlatformDevice(id: 0x0001_5853, classAndRevision: 0xff80_0001, subsystem: 0x0001_5853, interruptPin: 1)

    @Test("It looks as QEMU's own does before the guest has touched it")
    func identity() {
        #expect(device.readConfiguration(0, size: 4) == 0x0001_5853 && device.readConfiguration(8, size: 4) == 0xff80_0001)
        #expect(device.readConfiguration(0x10, size: 4) == 1 && device.readConfiguration(0x14, size: 4) == 8)
        #expect(device.readConfiguration(0x3d, size: 1) == 1 && device.readConfiguration(0x2e, size: 2) == 1)
        #expect(device.readConfiguration(0x3f, size: 4) == 0 && device.readConfiguration(0x100, size: 4) == 0)
        #expect(device.firstPort == nil && device.memoryBase == nil)
    }

    @Test("A guest sizes its BARs, places them, and has them where decoding is on")
    func bars() {
        var device = device
        for (register, size) in [(0x10, UInt32(0xffff_ff01)), (0x14, 0xff00_0008), (0x18, 0), (0x30, 0)] {
            device.writeConfiguration(register, size: 4, value: .max)
            #expect(device.readConfiguration(register, size: 4) == size)
        }
        device.writeConfiguration(4, size: 2, value: 3)
        #expect(device.firstPort == nil && device.memoryBase == nil, "they are being sized")
        device.writeConfiguration(0x10, size: 4, value: 0xc0a7)
        device.writeConfiguration(0x14, size: 4, value: 0xf2ab_cdef)
        #expect(device.firstPort == 0xc000 && device.memoryBase == 0xf200_0000)
        device.writeConfiguration(0x12, size: 1, value: 1)
        #expect(device.firstPort == nil, "no port is beyond 0xffff")
        device.writeConfiguration(0x12, size: 1, value: 0)
        device.writeConfiguration(4, size: 1, value: 0)
        #expect(device.firstPort == nil && device.memoryBase == nil)
    }

    @Test("Its header is taken over as it was, and one that no such device can have is not")
    func header() throws {
        var device = device
        device.writeConfiguration(4, size: 2, value: 0x407)
        device.writeConfiguration(0x10, size: 4, value: 0xc100)
        device.writeConfiguration(0x3c, size: 1, value: 11)
        #expect(PlatformDevice(header: device.header) == device)
        #expect(PlatformDevice(header: Array(device.header.dropLast())) == nil)
        for (place, value) in [(0, UInt8(0x86)), (6, 0x10), (0x0e, 0x80), (0x10, 0x00), (0x18, 1), (0x34, 0x40)] {
            var other = device.header
            other[place] = value
            #expect(PlatformDevice(header: other) == nil, "byte \(place)")
        }
    }

    @Test("As it is saved it is read back; what is of another length, another place or another device is not")
    func saved() throws {
        let saved = SavedPlatform(address: try #require(PCIAddress(device: 2)), device: device)
        #expect(saved.bytes.count == 72 && SavedPlatform(bytes: saved.bytes) == saved)
        #expect(SavedPlatform(bytes: saved.bytes + [0]) == nil && SavedPlatform(bytes: []) == nil)
        // A register's offset, another bus, another segment, no vendor.
        for place in [0, 5, 6, 8] {
            var other = saved.bytes
            other[place] ^= 1
            #expect(SavedPlatform(bytes: other) == nil, "byte \(place)")
        }
    }

    @Test("Whatever is written to its configuration space, it stays the device it is, and no BAR leaves its place")
    func fuzz() {
        var (device, numbers) = (device, SplitMix(state: 0x5853))
        for _ in 0..<20_000 {
            device.writeConfiguration(Int.random(in: 0...80, using: &numbers), size: [1, 2, 4].randomElement(using: &numbers) ?? 1, value: UInt32(truncatingIfNeeded: numbers.next()))
            #expect(device.readConfiguration(0, size: 4) == 0x0001_5853 && PlatformDevice(header: device.header) == device)
            if let port = device.firstPort { #expect(port >= 0x100 && port & 0xff == 0) }
            if let base = device.memoryBase { #expect(base & 0xff_ffff == 0 && base > 0 && base < 0xff00_0000) }
        }
    }
}

@Suite("The platform device's ports")
struct PlatformWindowTests {
    @Test("What SUSE's old drivers write there names the same classes as the unplug ports", arguments: [
        (4, 4, 1, [.disks, .nics]), (4, 1, 1, [.disks, .nics]), (8, 4, 1, .disks), (8, 4, 2, .nics), (8, 1, 2, .nics),
    ] as [(Int, Int, UInt32, UnplugMask)])
    func unplug(offset: Int, size: Int, value: UInt32, mask: UnplugMask) {
        var ports = UnplugPorts()
        #expect(ports.writeWindow(offset, size: size, value: value) == .unplug(mask))
    }

    @Test("Values without a meaning do nothing", arguments: [(4, 2), (4, 0), (4, 0x100), (1, 1), (9, 1), (12, 1), (0x40, 0x0a0a_0a0a)] as [(Int, UInt32)])
    func nothing(offset: Int, value: UInt32) {
        var ports = UnplugPorts()
        #expect(ports.writeWindow(offset, size: 4, value: value) == .none)
        #expect(ports == UnplugPorts())
    }

    @Test("Its first byte is the ROM's lock, and all else reads as all-ones")
    func flags() {
        var ports = UnplugPorts()
        #expect(ports.writeWindow(0, size: 1, value: 1) == .lockROM(true))
        #expect(ports.readWindow(0, size: 1) == 1 && ports.readWindow(0, size: 2) == 0xff01 && ports.readWindow(0, size: 4) == 0xffff_ff01)
        #expect(ports.readWindow(4, size: 4) == 0xffff_ffff && ports.readWindow(255, size: 1) == 0xff)
    }

    @Test("At 8 a byte that names no devices is one of a log line, and nowhere else")
    func log() {
        var ports = UnplugPorts()
        for byte in "ol".utf8 { #expect(ports.writeWindow(8, size: 1, value: UInt32(byte)) == .none) }
        for place in [1, 7, 9, 0x20] { #expect(ports.writeWindow(place, size: 1, value: 0x21) == .none) }
        #expect(ports.write(port: 0x12, size: 1, value: 0x64) == .none)
        #expect(ports.writeWindow(8, size: 4, value: 0x2121_210a) == .line("old"))
    }
}

import EmulatorProtocol
import Host
import Testing

@testable import EmulatorKit
@testable import demux_scratch

@Suite("Scratch, served")
struct ScratchTests {
    private func scratch(_ options: [String: String] = [:]) throws -> Harness<Scratch> {
        try Harness(Scratch.self, FakeCoordinator(options: options))
    }

    @Test("its memory keeps bytes, words and double words")
    func memory() throws {
        let guest = try scratch()
        guest.write(port: 0x500, 0x1122_3344, size: 4)
        guest.write(port: 0x501, 0xaa, size: 1)
        #expect(guest.read(port: 0x500, size: 4) == 0x1122_aa44)
        #expect(guest.read(port: 0x502, size: 2) == 0x1122)
    }

    @Test("its registers do what the register file says")
    func registers() throws {
        let guest = try scratch()
        #expect(guest.read(port: 0x510, size: 4) == 0x5452_4353)
        guest.write(port: 0x510, 0, size: 4)
        #expect(guest.read(port: 0x510, size: 4) == 0x5452_4353)
        guest.write(port: 0x514, 0xffff_ffff, size: 4)
        guest.write(port: 0x514, 3, size: 1)
        #expect(guest.read(port: 0x514, size: 4) == 2)
        guest.write(port: 0x518, 0x1ff, size: 2)
        #expect(guest.read(port: 0x518, size: 1) == 0xff)
        #expect(guest.read(port: 0x518, size: 4) == 0x200)
        #expect(guest.read(port: 0x519, size: 1) == 0xff)
        guest.write(port: 0x51a, 7, size: 1)
        #expect(guest.read(port: 0x518, size: 4) == 0x201)
    }

    @Test("ports, MMIO and BARs show the same registers and the same memory")
    func windows() throws {
        let guest = try scratch()
        guest.write(port: 0x504, 0xcafe, size: 2)
        #expect(guest.read(memory: 0xfed8_0004, size: 2) == 0xcafe)
        guest.write(config: 0x14, 0xf000_0000)
        guest.write(config: 0x10, 0xc000)
        guest.write(config: 0x04, 3, size: 2)
        #expect(guest.read(memory: 0xf000_0004, size: 2) == 0xcafe)
        #expect(guest.read(port: 0xc004, size: 2) == 0xcafe)
        guest.write(memory: 0xf000_0ff8, 0x0123_4567_89ab_cdef, size: 8)
        #expect(guest.read(memory: 0xfed8_0ff8, size: 8) == 0x0123_4567_89ab_cdef)
        #expect(guest.read(memory: 0xfed8_0020, size: 4) == 0xffff_ffff)
        #expect(guest.read(memory: 0xfed8_00ff, size: 1) == 0xff)
    }

    @Test("its interrupt register drives the line and sends messages")
    func interrupts() throws {
        let guest = try scratch()
        let address = try #require(PCIAddress(device: 5))
        _ = guest.coordinator.takeReceived()
        guest.write(port: 0x51c, 1, size: 4)
        #expect(guest.coordinator.takeReceived() == [.intx(INTx(function: address, pin: 0, asserted: true))])
        #expect(guest.read(port: 0x51c, size: 4) == 1)
        #expect(guest.read(config: 0x06, size: 2) == 0x18)
        guest.write(port: 0x51c, 0, size: 4)
        #expect(guest.coordinator.takeReceived() == [.intx(INTx(function: address, pin: 0, asserted: false))])
        // MSI: address and data, then the enable bit.
        #expect(guest.read(config: 0x34, size: 1) == 0x40)
        #expect(guest.read(config: 0x40, size: 4) == 0x0080_0005)
        guest.write(port: 0x51c, 2, size: 4)
        #expect(guest.coordinator.takeReceived().isEmpty)
        guest.write(config: 0x44, 0xfee0_1000)
        guest.write(config: 0x48, 0x12)
        guest.write(config: 0x4c, 0x4041, size: 2)
        guest.write(config: 0x42, 1, size: 2)
        guest.write(port: 0x51c, 2, size: 4)
        #expect(guest.coordinator.takeReceived() == [.msi(MSI(address: 0x12_fee0_1000, data: 0x4041))])
    }

    @Test("without a PCI function its interrupt register does nothing")
    func withoutFunction() throws {
        let guest = try scratch(["pci": "no", "ports": "0x5000", "mmio": "0xfee80000"])
        _ = guest.coordinator.takeReceived()
        guest.write(port: 0x501c, 1, size: 4)
        #expect(guest.coordinator.takeReceived().isEmpty)
        guest.write(memory: 0xfee8_0000, 5)
        #expect(guest.read(port: 0x5000, size: 4) == 5)
        #expect(guest.read(port: 0x500, size: 4) == 0xffff_ffff)
    }
}

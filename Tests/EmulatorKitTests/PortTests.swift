import Host
import Testing

@testable import EmulatorKit
@testable import demux_scratch

@Suite("Scratch, served")
struct ScratchTests {
    private func scratch(_ options: [String: String] = [:]) throws -> Harness<Scratch> {
        try Harness(Scratch.self, FakeCoordinator(options: options))
    }

    @Test("Its memory keeps bytes, words and double words")
    func memory() throws {
        let guest = try scratch()
        guest.write(port: 0x500, 0x1122_3344, size: 4)
        guest.write(port: 0x501, 0xaa, size: 1)
        #expect(guest.read(port: 0x500, size: 4) == 0x1122_aa44)
        #expect(guest.read(port: 0x502, size: 2) == 0x1122)
    }

    @Test("Ports, MMIO and BARs show the same registers")
    func windows() throws {
        let guest = try scratch()
        guest.write(port: 0x504, 0xcafe, size: 2)
        #expect(guest.read(memory: 0xfed8_0004, size: 2) == 0xcafe)
        guest.write(config: 0x14, 0xf000_0000)
        guest.write(config: 0x10, 0xc000)
        guest.write(config: 0x04, 3, size: 2)
        #expect(guest.read(memory: 0xf000_0004, size: 2) == 0xcafe)
        #expect(guest.read(port: 0xc004, size: 2) == 0xcafe)
    }
}

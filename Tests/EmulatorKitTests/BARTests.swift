import EmulatorProtocol
import Host
import Testing

@testable import EmulatorKit

/// A function with every kind of BAR, and the one device of these tests.
private struct Function: Emulator {
    static let name = "function"
    let function: PCIFunction
    var moves: [Probe.Moved] = []

    init(_ setup: inout Setup) throws(SetupError) {
        var description = PCIDescription(vendor: 0x1234, device: 0x5678, classCode: 0x01_0802, revision: 3, subsystem: 0xabcd, label: "disk")
        description.bars = [0: .ports(8), 1: .memory(4096), 2: .memory64(1 << 16), 4: .memory(256, prefetchable: true, claimed: false)]
        description.romSize = 1 << 16
        description.interruptPin = .b
        description.messageInterrupts = .init(wide: false, maskable: true, vectors: 4)
        description.capabilities = [.init(id: 0x09, bytes: [6, 0xaa, 0xbb, 0xcc], writable: [0, 0xff, 0x0f])]
        function = try setup.add(description, slot: "00:05.0")
    }

    mutating func read(_ access: Access) -> UInt64 {
        for bar in 0..<6 where access.window == function.bar(bar) { return UInt64(bar) << 4 | UInt64(access.offset & 0xf) }
        return access.window == function.rom ? 0x55 : access.allOnes
    }

    mutating func moved(_ window: Window, to address: UInt64?, _ context: borrowing Context) {
        moves.append(Probe.Moved(window: window, address: address))
    }
}

/// A VGA has its ports where IBM put them, and no BAR for them.
private struct Card: Emulator {
    static let name = "card"

    init(_ setup: inout Setup) throws(SetupError) {
        let description = PCIDescription(vendor: 0x1234, device: 0x1111, classCode: 0x03_0000, label: "card")
        _ = try setup.add(description, slot: "00:05.0")
    }
}

@Suite("A PCI function")
struct BARTests {
    @Test("of a VGA lets firmware switch its ports on, although no BAR has any")
    func legacyPorts() throws {
        let guest = try Harness(Card.self, FakeCoordinator())
        guest.write(config: 0x04, 0x0007, size: 2)
        #expect(guest.read(config: 0x04, size: 2) == 0x0007)
    }

    private func function() throws -> Harness<Function> {
        let guest = try Harness(Function.self, FakeCoordinator())
        _ = guest.coordinator.takeReceived()
        return guest
    }

    private func memory(_ first: UInt64, _ length: UInt64) -> IORange? { MMIORange(first: GuestAddress(first), length: length).map(IORange.memory) }

    @Test("shows its identity, at every offset and size")
    func identity() throws {
        let guest = try function()
        #expect(guest.read(config: 0x00) == 0x5678_1234)
        #expect(guest.read(config: 0x08) == 0x0108_0203)
        #expect(guest.read(config: 0x2c) == 0xabcd_1234)
        #expect(guest.read(config: 0x0a, size: 2) == 0x0108)
        #expect(guest.read(config: 0x01, size: 1) == 0x12)
        #expect(guest.read(config: 0x01, size: 4) == 0x0056_7812)
        #expect(guest.read(config: 0x3c, size: 2) == 0x0200)
        #expect(guest.read(config: 0xfe, size: 4) == 0xffff_0000)
        guest.write(config: 0x00, 0)
        #expect(guest.read(config: 0x00) == 0x5678_1234)
        guest.write(config: 0x3c, 0x0b, size: 1)
        #expect(guest.read(config: 0x3c, size: 1) == 0x0b)
    }

    @Test("tells the size of each BAR when all-ones are written, and claims nothing by that")
    func sizing() throws {
        let guest = try function()
        let expected: [(UInt64, UInt64)] = [
            (0x10, 0xffff_fff9), (0x14, 0xffff_f000), (0x18, 0xffff_000c), (0x1c, 0xffff_ffff), (0x20, 0xffff_ff08), (0x24, 0), (0x30, 0xffff_0001),
        ]
        for (register, mask) in expected {
            guest.write(config: register, 0xffff_ffff)
            #expect(guest.read(config: register) == mask)
        }
        // Decoding left on while sizing, as Linux does for host bridges.
        guest.write(config: 0x04, 3, size: 2)
        #expect(guest.coordinator.claims.isEmpty)
    }

    @Test("claims its BARs when decoding is switched on, and gives them back when it is switched off")
    func decoding() throws {
        let guest = try function()
        guest.write(config: 0x10, 0xc100)
        guest.write(config: 0x14, 0xf100_0000)
        guest.write(config: 0x18, 0x8000_0000)
        guest.write(config: 0x1c, 0x12)
        #expect(guest.coordinator.claims.isEmpty)
        guest.write(config: 0x04, 1, size: 2)
        #expect(Array(guest.coordinator.claims.values) == [PortRange(first: 0xc100, count: 8).map(IORange.ports)])
        guest.write(config: 0x04, 7, size: 2)
        #expect(Set(guest.coordinator.claims.values) == [
            try #require(PortRange(first: 0xc100, count: 8).map(IORange.ports)), try #require(memory(0xf100_0000, 4096)),
            try #require(memory(0x12_8000_0000, 1 << 16)),
        ])
        #expect(guest.read(port: 0xc103) == 0x03)
        #expect(guest.read(memory: 0xf100_0ff4) == 0x14)
        #expect(guest.read(memory: 0x12_8000_0008, size: 8) == 0x28)
        guest.write(config: 0x04, 0, size: 2)
        #expect(guest.coordinator.claims.isEmpty)
        #expect(guest.read(port: 0xc103) == 0xff)
    }

    @Test("moves a claim with its BAR, and asks for nothing when the address did not change")
    func moving() throws {
        let guest = try function()
        guest.write(config: 0x14, 0xf100_0000)
        guest.write(config: 0x04, 2, size: 2)
        _ = guest.coordinator.takeReceived()
        guest.write(config: 0x14, 0xf100_0000)
        guest.write(config: 0x04, 6, size: 2)
        #expect(guest.coordinator.takeReceived().isEmpty)
        guest.write(config: 0x14, 0xf200_0000)
        #expect(Array(guest.coordinator.claims.values) == [memory(0xf200_0000, 4096)])
        #expect(guest.read(memory: 0xf100_0000) == 0xffff_ffff)
        #expect(guest.read(memory: 0xf200_0004) == 0x14)
        // A BAR over the old place of another part of itself: given back before it is asked for.
        guest.write(config: 0x14, 0xf200_1000)
        #expect(Array(guest.coordinator.claims.values) == [memory(0xf200_1000, 4096)])
    }

    @Test("completes the guest's write only when the coordinator has answered, and serves others meanwhile")
    func waits() throws {
        let guest = try function()
        guest.write(config: 0x14, 0xf100_0000)
        guest.coordinator.answersAtOnce = false
        #expect(guest.write(config: 0x04, 2, size: 2) == nil)
        // Another vCPU reads the same function, writes it, and an INVALIDATE comes.
        #expect(guest.ask(IORequest(kind: .pciConfig, direction: .read, address: 5 << 35, size: 2), vcpu: 1) == 0x1234)
        #expect(guest.write(config: 0x14, 0xf300_0000, vcpu: 1) == nil)
        #expect(guest.ask(IORequest(kind: .invalidate, direction: .write, address: 0, size: 0, count: 0), vcpu: 2) != nil)
        for _ in 0..<6 {
            guest.coordinator.answerAll()
            guest.turn()
        }
        #expect(guest.coordinator.slots.collect(0) != nil)
        #expect(guest.coordinator.slots.collect(1) != nil)
        #expect(Array(guest.coordinator.claims.values) == [memory(0xf300_0000, 4096)])
        #expect(guest.emulator.moves.last == Probe.Moved(window: guest.emulator.function.bar(1), address: 0xf300_0000))
    }

    @Test("leaves a refused BAR unmapped, says who has the place, and asks again when the guest moves it")
    func refusal() throws {
        let guest = try function()
        guest.coordinator.refused = [try #require(memory(0xf100_0000, 0x1000))]
        guest.write(config: 0x14, 0xf100_0000)
        #expect(guest.write(config: 0x04, 2, size: 2) != nil)
        #expect(guest.coordinator.claims.isEmpty)
        #expect(guest.coordinator.logLines.contains { $0.contains("BAR 1") && $0.contains("somebody") })
        #expect(guest.read(memory: 0xf100_0000) == 0xffff_ffff)
        _ = guest.coordinator.takeReceived()
        // Not asked again for every write of the function.
        guest.write(config: 0x3c, 5, size: 1)
        #expect(guest.coordinator.takeReceived().isEmpty)
        guest.write(config: 0x14, 0xf200_0000)
        #expect(guest.read(memory: 0xf200_0000) == 0x10)
        // Back to a place that has become free.
        guest.coordinator.refused = []
        guest.write(config: 0x14, 0xf100_0000)
        #expect(guest.read(memory: 0xf100_0000) == 0x10)
    }

    @Test("decodes its ROM only when the ROM's own bit is set too")
    func rom() throws {
        let guest = try function()
        guest.write(config: 0x04, 2, size: 2)
        guest.write(config: 0x30, 0xf206_0000)
        #expect(guest.coordinator.claims.isEmpty)
        guest.write(config: 0x30, 0xf206_0001)
        #expect(guest.read(memory: 0xf206_1000, size: 1) == 0x55)
        guest.write(config: 0x30, 0)
        #expect(guest.coordinator.claims.isEmpty)
    }

    @Test("tells the device of a BAR that is not claimed, without asking anybody")
    func unclaimed() throws {
        let guest = try function()
        guest.write(config: 0x20, 0xf400_0000)
        guest.write(config: 0x04, 2, size: 2)
        guest.write(config: 0x04, 0, size: 2)
        let window = guest.emulator.function.bar(4)
        #expect(guest.emulator.moves == [.init(window: window, address: 0xf400_0000), .init(window: window, address: nil)])
        #expect(guest.coordinator.takeReceived().isEmpty)
    }

    @Test("drives its line by status, interrupt-disable and MSI enable")
    func line() throws {
        let guest = try function()
        let address = try #require(PCIAddress(device: 5))
        func levels() -> [Bool] {
            guest.coordinator.takeReceived().compactMap { if case .intx(let line) = $0 { line.asserted } else { nil } }
        }
        Context(core: guest.core).setInterrupt(guest.emulator.function, asserted: true)
        Context(core: guest.core).setInterrupt(guest.emulator.function, asserted: true)
        guest.turn()
        #expect(guest.coordinator.takeReceived() == [.intx(INTx(function: address, pin: 1, asserted: true))])
        guest.write(config: 0x04, 0x400, size: 2)
        #expect(levels() == [false])
        #expect(guest.read(config: 0x06, size: 2) == 0x18)
        guest.write(config: 0x04, 0, size: 2)
        #expect(levels() == [true])
        guest.write(config: 0x42, 1, size: 2)
        #expect(levels() == [false])
        Context(core: guest.core).setInterrupt(guest.emulator.function, asserted: false)
        guest.turn()
        #expect(levels() == [])
        #expect(guest.read(config: 0x06, size: 2) == 0x10)
    }

    @Test("sends messages by vector, keeps masked ones pending, and sends them when they are unmasked")
    func messages() throws {
        let guest = try function()
        let function = guest.emulator.function
        func send(_ vector: Int) -> Bool { Context(core: guest.core).sendMessage(function, vector: vector) }
        #expect(!send(0))
        guest.write(config: 0x44, 0xfee0_0003)
        guest.write(config: 0x48, 0x4147, size: 2)
        // Four vectors asked for, two granted.
        guest.write(config: 0x42, 0x11, size: 2)
        #expect(guest.read(config: 0x44) == 0xfee0_0000)
        #expect(send(3))
        guest.turn()
        #expect(guest.coordinator.takeReceived() == [.msi(MSI(address: 0xfee0_0000, data: 0x4147))])
        guest.write(config: 0x4c, 1)
        #expect(!send(0))
        #expect(guest.read(config: 0x50) == 1)
        guest.write(config: 0x4c, 0)
        #expect(guest.coordinator.takeReceived() == [.msi(MSI(address: 0xfee0_0000, data: 0x4146))])
        #expect(guest.read(config: 0x50) == 0)
        #expect(!send(9))
    }

    @Test("chains its capabilities and lets the guest change only what is writable")
    func capabilities() throws {
        let guest = try function()
        let own = try #require(guest.read(config: 0x41, size: 1))
        #expect(guest.read(config: own) == 0xaa06_0009)
        guest.write(config: own + 2, 0xffff_ffff)
        #expect(guest.read(config: own + 2) == 0xccbf_ff06)
    }

    @Test("lets no vCPU wait when the coordinator goes away in the middle of a move")
    func coordinatorGone() throws {
        let coordinator = try FakeCoordinator()
        coordinator.mode = .direct
        let guest = try Harness(Function.self, coordinator)
        guest.write(config: 0x14, 0xf100_0000)
        guest.coordinator.answersAtOnce = false
        #expect(guest.write(config: 0x04, 2, size: 2) == nil)
        guest.coordinator.close()
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) != nil)
        #expect(guest.write(config: 0x14, 0xf200_0000) != nil)
        #expect(guest.read(config: 0x00) == 0x5678_1234)
    }
}

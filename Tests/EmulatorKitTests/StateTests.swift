import EmulatorProtocol
import Host
import Platform
import SeededNumbers
import Testing

@testable import EmulatorKit

@Suite("State that outlives the process")
struct StateTests {
    private let length: Int

    init() throws { length = try KitState.wanted(deviceLength: Screen.stateLength) }

    private func coordinator(after other: FakeCoordinator? = nil) throws -> FakeCoordinator {
        let coordinator = try FakeCoordinator()
        coordinator.state = (try FakeCoordinator.SharedBox(length: length), true)
        if let other { coordinator.inherit(from: other) }
        return coordinator
    }

    @Test("is asked for in hello, with what the device can do, and is fresh at first")
    func hello() throws {
        let guest = try Harness(Screen.self, coordinator())
        #expect(guest.coordinator.hello?.state == length)
        #expect(guest.coordinator.hello?.capabilities == ["data-pointer", "release", "observe", "adopted", "surface", "input"])
        let state = guest.emulator.state
        #expect(state.isFresh && state.isKept && state.length == 64)
        #expect((0..<64).allSatisfy { state.bytes.load(fromByteOffset: $0, as: UInt8.self) == 0 })
    }

    @Test("is not asked for by a device that has none: it begins anew")
    func none() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        #expect(guest.coordinator.hello?.state == nil)
    }

    @Test("without a coordinator that keeps it, the device has some all the same")
    func unkept() throws {
        let guest = try Harness(Screen.self, FakeCoordinator())
        #expect(guest.emulator.state.isFresh && !guest.emulator.state.isKept)
        guest.emulator.state.bytes.storeBytes(of: 7, as: UInt64.self)
    }

    @Test("a successor finds its registers, its BARs claimed and shown again, and is told before the first request")
    func successor() throws {
        let first = try Harness(Screen.self, coordinator())
        first.write(config: 0x10, 0xf000_0000)
        first.write(config: 0x18, 0xfeb0_0000)
        first.write(config: 0x3c, 0x0b, size: 1)
        first.write(config: 0x04, 7, size: 2)
        first.emulator.state.bytes.storeBytes(of: 0x1122_3344, as: UInt32.self)
        first.emulator.state.commit()
        first.emulator.memory.bytes.storeBytes(of: 0xaabb, toByteOffset: 0x5000, as: UInt16.self)
        #expect(first.coordinator.regions["video memory"]?.place == 0xf000_0000)

        let heir = try coordinator(after: first.coordinator)
        let second = try Harness(Screen.self, heir) { coordinator in
            // Waits already when the server is enabled.
            #expect(coordinator.slots.submit(0, IORequest(kind: .copy, direction: .read, address: 0xfeb0_0010, size: 4)))
        }
        #expect(second.emulator.memory.isAdopted)
        #expect(second.emulator.memory.address == 0xf000_0000)
        #expect(second.emulator.memory.bytes.load(fromByteOffset: 0x5000, as: UInt16.self) == 0xaabb)
        #expect(!second.emulator.state.isFresh)
        #expect(second.emulator.state.bytes.load(as: UInt32.self) == 0x1122_3344)
        let function = second.emulator.function
        #expect(
            second.emulator.takeMoves() == [.init(window: function.bar(0), address: 0xf000_0000), .init(window: function.bar(2), address: 0xfeb0_0000)])
        #expect(coordinator(heir, claims: 0xfeb0_0000, 4096))
        #expect(heir.slots.collect(0) == 0x77)
        #expect(second.read(config: 0x04, size: 2) == 7)
        #expect(second.read(config: 0x10) == 0xf000_0008)
        #expect(second.read(config: 0x3c, size: 1) == 0x0b)
        #expect(second.read(memory: 0xfeb0_0000) == 0x77)
    }

    private func coordinator(_ coordinator: FakeCoordinator, claims first: UInt64, _ length: UInt64) -> Bool {
        coordinator.claims.values.contains { $0 == MMIORange(first: GuestAddress(first), length: length).map(IORange.memory) }
    }

    @Test("a successor whose place was taken meanwhile starts all the same, with that BAR unmapped")
    func refused() throws {
        let first = try Harness(Screen.self, coordinator())
        first.write(config: 0x10, 0xf000_0000)
        first.write(config: 0x18, 0xfeb0_0000)
        first.write(config: 0x04, 2, size: 2)
        let heir = try coordinator(after: first.coordinator)
        heir.refusedPlaces = [0xf000_0000]
        heir.refused = [try #require(MMIORange(first: GuestAddress(0xfeb0_0000), length: 1).map(IORange.memory))]
        let second = try Harness(Screen.self, heir)
        #expect(second.emulator.moves.isEmpty)
        #expect(second.read(config: 0x18) == 0xfeb0_0000)
        heir.refusedPlaces = []
        second.write(config: 0x04, 0, size: 2)
        second.write(config: 0x04, 2, size: 2)
        #expect(heir.regions["video memory"]?.place == 0xf000_0000)
    }

    @Test("a region that a predecessor without state showed is nowhere again, as the BAR is")
    func forgotten() throws {
        let first = try Harness(Screen.self, FakeCoordinator())
        first.write(config: 0x10, 0xf000_0000)
        first.write(config: 0x04, 2, size: 2)
        let heir = try FakeCoordinator()
        heir.inherit(from: first.coordinator)
        let second = try Harness(Screen.self, heir)
        #expect(second.emulator.memory.isAdopted && second.emulator.memory.address == nil)
        #expect(heir.regions["video memory"]?.place == nil)
        #expect(second.emulator.moves.isEmpty)
        second.write(config: 0x10, 0xe000_0000)
        second.write(config: 0x04, 2, size: 2)
        #expect(heir.regions["video memory"]?.place == 0xe000_0000)
    }

    @Test("pending messages and the guest's masks are there again; what the device asserted is not")
    func messages() throws {
        let first = try Harness(Screen.self, coordinator())
        let place = try #require(first.read(config: 0x34, size: 1))
        first.write(config: place + 4, 0xfee0_0000)
        first.write(config: place + 8, 0x41, size: 2)
        first.write(config: place + 12, 0b0010)
        first.write(config: place + 2, 0x21, size: 2)
        let context = Context(core: first.core)
        let sent = context.sendMessage(first.emulator.function, vector: 1)
        #expect(!sent)
        context.setInterrupt(first.emulator.function, asserted: true)

        let heir = try coordinator(after: first.coordinator)
        let second = try Harness(Screen.self, heir)
        #expect(second.read(config: place + 16) == 0b0010)
        #expect((second.read(config: 0x06, size: 2) ?? 0xff) & 8 == 0)
        _ = heir.takeReceived()
        second.write(config: place + 12, 0)
        #expect(heir.takeReceived().contains(.msi(MSI(address: 0xfee0_0000, data: 0x41))))
    }

    @Test("what another program, another layout, or one that died while it set itself up has left counts as nothing")
    func strangers() throws {
        let first = try Harness(Screen.self, coordinator())
        first.write(config: 0x10, 0xf000_0000)
        let box = try #require(first.coordinator.state?.memory)
        // Magic, layout, begun to serve, the name.
        for offset in [0, 8, 12, 33] {
            let kept = box.base.load(fromByteOffset: offset, as: UInt8.self)
            box.base.storeBytes(of: kept ^ 0x55, toByteOffset: offset, as: UInt8.self)
            let copy = try FakeCoordinator.SharedBox(length: length)
            copy.base.copyMemory(from: box.base, byteCount: length)
            box.base.storeBytes(of: kept, toByteOffset: offset, as: UInt8.self)
            let heir = try FakeCoordinator()
            heir.state = (copy, false)
            let second = try Harness(Screen.self, heir)
            #expect(second.emulator.state.isFresh, "byte \(offset)")
            #expect(second.read(config: 0x10) == 8)
        }
    }

    @Test("200 states full of rubbish: none traps, and the guest finds the device it is")
    func rubbish() throws {
        var random = SplitMix(state: 0x5eed_0003)
        for round in 0..<200 {
            let heir = try coordinator()
            let box = try #require(heir.state?.memory)
            let model = try Harness(Screen.self, coordinator())
            box.base.copyMemory(from: try #require(model.coordinator.state?.memory).base, byteCount: length)
            heir.state = (box, false)
            // Fifty changes each, in the kit's records above all.
            for _ in 0..<50 {
                let offset = round & 1 == 0 ? 256 + Int(random.next() % 2048) : 1024 + 256 + Int(random.next() % 128)
                box.base.storeBytes(of: UInt8(truncatingIfNeeded: random.next()), toByteOffset: offset, as: UInt8.self)
            }
            let guest = try Harness(Screen.self, heir)
            #expect(guest.read(config: 0x00) == 0x1111_1234)
            #expect(guest.read(config: 0x08) == 0x0300_0002)
            guest.write(config: 0x04, 0, size: 2)
            guest.write(config: 0x10, 0xf000_0000)
            guest.write(config: 0x04, 2, size: 2)
            #expect(heir.regions["video memory"]?.place == 0xf000_0000)
        }
    }

    @Test("a region that is not sealed, or has another size, is refused")
    func wrong() throws {
        let short = try FakeCoordinator()
        short.state = (try FakeCoordinator.SharedBox(length: 4096), true)
        do {
            _ = try Harness(Screen.self, short)
            Issue.record("it started")
        } catch let error as SetupError {
            #expect("\(error)".contains("the state region"))
        }
    }
}


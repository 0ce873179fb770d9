import EmulatorProtocol
import Host
import Testing

@testable import EmulatorKit

/// A function with an MSI-X table in its BAR, whose device sends the vector that is written to it.
struct Messenger: Emulator, ~Copyable {
    static let name = "messenger"
    static var stateLength: Int { 16 }

    let function: PCIFunction
    private(set) var seen: [Int] = []
    private(set) var sent: [Bool] = []

    init(_ setup: inout Setup) throws(SetupError) {
        let pending = try setup.number("pending", default: 0x800)
        let vectors = try setup.number("vectors", default: 4)
        var description = PCIDescription(vendor: 0x1234, device: 1, classCode: 0xff0000, label: "messenger")
        description.bars = [0: .memory(0x1000)]
        description.interruptPin = .a
        description.messageInterrupts = .init()
        description.messageTable = .init(vectors: Int(vectors), bar: 0, tableOffset: 0x400, pendingOffset: Int(pending))
        function = try setup.add(description, slot: "5")
    }

    mutating func read(_ access: Access) -> UInt64 {
        seen.append(access.offset)
        return 0x77
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        seen.append(access.offset)
        sent.append(context.sendMessage(function, vector: Int(value)))
        return .done
    }

    mutating func event(_ event: Event, _ context: borrowing Context) {
        if event == .resumed { context.setInterrupt(function, asserted: true) }
    }
}

@Suite("MSI-X")
struct MessageTableTests {
    private static let base: UInt64 = 0xe100_0000
    private static let table = base + 0x400

    /// Where the capability is: after MSI's.
    private func capability(_ guest: Harness<Messenger>) throws -> UInt64 {
        let first = try #require(guest.read(config: 0x34, size: 1))
        let second = try #require(guest.read(config: first + 1, size: 1))
        #expect(guest.read(config: second, size: 1) == 0x11)
        return second
    }

    private func start(_ coordinator: FakeCoordinator) throws -> Harness<Messenger> {
        let guest = try Harness(Messenger.self, coordinator)
        guest.write(config: 0x10, Self.base)
        guest.write(config: 0x04, 0x6, size: 2)
        return guest
    }

    private func messages(_ guest: Harness<Messenger>) -> [MSI] {
        guest.coordinator.takeReceived().compactMap { if case .msi(let message) = $0 { message } else { nil } }
    }

    /// Gives a vector a message.
    private func set(_ guest: Harness<Messenger>, _ vector: UInt64, _ address: UInt64, _ data: UInt64, masked: UInt64 = 0) {
        let entry = Self.table + vector * 16
        guest.write(memory: entry, address, size: 8)
        guest.write(memory: entry + 8, data)
        guest.write(memory: entry + 12, masked)
    }

    @Test("the guest finds the table, masked as after a reset, and the device never sees it accessed")
    func layout() throws {
        let guest = try start(FakeCoordinator())
        let place = try capability(guest)
        #expect(guest.read(config: place + 2, size: 2) == 3)
        #expect(guest.read(config: place + 4) == 0x400 && guest.read(config: place + 8) == 0x800)
        #expect(guest.read(memory: Self.table + 12) == 1 && guest.read(memory: Self.table + 60) == 1)
        set(guest, 1, 0x1_fee0_1003, 0x1_0041, masked: 0xffff_fffe)
        #expect(guest.read(memory: Self.table + 16, size: 8) == 0x1_fee0_1000)
        #expect(guest.read(memory: Self.table + 24, size: 8) == 0x1_0041)
        // Parts of words, and the pending bits, cannot be written.
        guest.write(memory: Self.table + 24, 0xff, size: 1)
        #expect(guest.read(memory: Self.table + 24) == 0x1_0041)
        #expect(guest.read(memory: Self.table + 24, size: 2) == 0xffff)
        guest.write(memory: Self.base + 0x800, 0xff)
        #expect(guest.read(memory: Self.base + 0x800, size: 8) == 0)
        var seen = guest.emulator.seen
        #expect(seen == [])
        // Beside the table it is the device's.
        #expect(guest.read(memory: Self.table + 64) == 0x77 && guest.read(memory: Self.table - 4) == 0x77)
        seen = guest.emulator.seen
        #expect(seen == [0x440, 0x3fc])
    }

    @Test("a message is sent as its entry says; one that is masked waits for its unmasking")
    func sending() throws {
        let guest = try start(FakeCoordinator())
        let place = try capability(guest)
        set(guest, 0, 0xfee0_0000, 0x41)
        set(guest, 2, 0xfee0_2000, 0x43, masked: 1)
        guest.write(memory: Self.base, 0)
        #expect(messages(guest) == [])
        guest.write(config: place + 2, 0x8000, size: 2)
        guest.write(memory: Self.base, 0)
        guest.write(memory: Self.base, 2)
        guest.write(memory: Self.base, 7)
        #expect(messages(guest) == [MSI(address: 0xfee0_0000, data: 0x41)])
        #expect(guest.read(memory: Self.base + 0x800) == 4)
        guest.write(memory: Self.table + 2 * 16 + 12, 0)
        #expect(messages(guest) == [MSI(address: 0xfee0_2000, data: 0x43)])
        #expect(guest.read(memory: Self.base + 0x800) == 0)
        // The mask of all.
        guest.write(config: place + 2, 0xc000, size: 2)
        guest.write(memory: Self.base, 0)
        guest.write(memory: Self.base, 2)
        #expect(messages(guest) == [])
        guest.write(config: place + 2, 0x8000, size: 2)
        #expect(messages(guest) == [MSI(address: 0xfee0_0000, data: 0x41), MSI(address: 0xfee0_2000, data: 0x43)])
        let sent = guest.emulator.sent
        #expect(sent == [false, true, false, false, false, false])
    }

    @Test("a message that names one of Xen's event channels is not masked here")
    func eventChannels() throws {
        let guest = try start(FakeCoordinator())
        let place = try capability(guest)
        set(guest, 3, 0x100_fee1_7000, 0x4300, masked: 1)
        guest.write(config: place + 2, 0x8000, size: 2)
        guest.write(memory: Self.base, 3)
        // Nobody has filled this one in.
        guest.write(memory: Self.base, 1)
        #expect(messages(guest) == [MSI(address: 0x100_fee1_7000, data: 0x4300)])
    }

    @Test("with messages enabled the line stays low")
    func line() throws {
        let guest = try start(FakeCoordinator())
        let place = try capability(guest)
        guest.write(config: place + 2, 0x8000, size: 2)
        _ = guest.coordinator.takeReceived()
        guest.coordinator.send(Packet(.pause, id: 1))
        guest.turn()
        guest.coordinator.send(Packet(.resume, id: 2))
        guest.turn()
        #expect(!guest.coordinator.takeReceived().contains { if case .intx = $0 { true } else { false } })
        guest.write(config: place + 2, 0, size: 2)
        #expect(guest.coordinator.takeReceived().contains { if case .intx = $0 { true } else { false } })
    }

    @Test("a successor sends what its predecessor would have")
    func succession() throws {
        let coordinator = try FakeCoordinator()
        coordinator.state = (try FakeCoordinator.SharedBox(length: try KitState.wanted(deviceLength: Messenger.stateLength)), true)
        let first = try start(coordinator)
        let place = try capability(first)
        set(first, 1, 0xfee0_1000, 0x55, masked: 1)
        first.write(config: place + 2, 0x8000, size: 2)
        first.write(memory: Self.base, 1)
        let other = try FakeCoordinator()
        other.inherit(from: coordinator)
        let second = try Harness(Messenger.self, other)
        #expect(second.read(memory: Self.base + 0x800) == 2)
        second.write(memory: Self.table + 16 + 12, 0)
        #expect(messages(second) == [MSI(address: 0xfee0_1000, data: 0x55)])
    }

    @Test("a table that does not fit its BAR, or has too many vectors, is refused", arguments: [["pending": "0xffc"], ["pending": "0x410"], ["vectors": "17"]])
    func wrongTables(options: [String: String]) throws {
        let coordinator = try FakeCoordinator(options: options)
        #expect(throws: SetupError.self) { try Harness(Messenger.self, coordinator) }
    }
}

import EmulatorProtocol
import Host
import Platform
import SeededNumbers
import Testing

@testable import EmulatorKit
@testable import demux_scratch

@Suite("What an emulator tells of its requests")
struct ObservationTests {
    private struct Observed {
        let coordinator: FakeCoordinator
        let guest: Harness<Scratch>
        let page: ObservationPage
        let reader: ObservationReader

        init(slowMilliseconds: Int? = nil) throws {
            coordinator = try FakeCoordinator()
            let memory = try FakeCoordinator.SharedBox(length: ObservationPage.length)
            coordinator.observation = memory
            coordinator.slowMilliseconds = slowMilliseconds
            guest = try Harness(Scratch.self, coordinator)
            page = ObservationPage(base: memory.base)
            reader = ObservationReader(try memory.memory.descriptor.duplicate())
        }

        func count(_ range: IORange?) -> UInt64? { reader.snapshot()?.windows.first { $0.range == range }?.latencies.count }
    }

    private var ports: IORange { get throws { .ports(try #require(PortRange(first: 0x500, last: 0x51f))) } }

    @Test("each window has a histogram of its own, and what belongs to none has another")
    func windows() throws {
        let observed = try Observed()
        for _ in 0..<5 { _ = observed.guest.read(port: 0x500) }
        for _ in 0..<3 { _ = observed.guest.write(memory: 0xfed8_0000, 1) }
        for _ in 0..<2 { _ = observed.guest.read(config: 0) }
        _ = observed.guest.ask(IORequest(kind: .invalidate, direction: .write, address: 0, size: 0, count: 0))
        _ = observed.guest.read(port: 0x900)
        #expect(observed.count(try ports) == 5)
        #expect(observed.count(.pci(try #require(PCIAddress(device: 5)))) == 2)
        #expect(observed.count(nil) == 2)
        #expect(observed.reader.snapshot()?.total.count == 12)
    }

    @Test("the ring is written only while somebody traces")
    func tracing() throws {
        let observed = try Observed()
        _ = observed.guest.write(port: 0x500, 1, size: 4)
        observed.page.setTracing(true)
        _ = observed.guest.write(port: 0x504, 0x1234, size: 2, vcpu: 2)
        _ = observed.guest.read(port: 0x504, size: 2)
        observed.page.setTracing(false)
        _ = observed.guest.write(port: 0x508, 1, size: 4)
        let entries = observed.reader.takeTraces().entries
        #expect(entries.map(\.address) == [0x504, 0x504] && entries.map(\.value) == [0x1234, 0x1234])
        #expect(entries.map(\.slot) == [2, 0] && entries.map(\.direction) == [.write, .read] && entries.map(\.size) == [2, 2])
        #expect(zip(entries, entries.dropFirst()).allSatisfy { $0.time <= $1.time })
    }

    @Test("a posted write is traced without a vCPU")
    func posted() throws {
        let observed = try Observed()
        observed.page.setTracing(true)
        let ring = try #require(observed.coordinator.ring)
        let type = IORequest.Kind.portIO.rawValue
        #expect(ring.post(BufferedEntry(type: type, direction: .write, size: 4, address: 0x500, data: 77)))
        observed.coordinator.ringKick()
        observed.guest.turn()
        let entries = observed.reader.takeTraces().entries
        #expect(entries.count == 1 && entries.first?.slot == nil && entries.first?.value == 77)
    }

    @Test("a slot's sequence counts what was taken from it, and no other slot's")
    func sequences() throws {
        let observed = try Observed()
        for _ in 0..<4 { _ = observed.guest.read(port: 0x500, vcpu: 3) }
        #expect(observed.coordinator.counters.taken(3) == 4 && observed.coordinator.counters.taken(2) == 0)
    }

    @Test("a request that takes long is worth a line that programs can tell from others")
    func slow() throws {
        let observed = try Observed(slowMilliseconds: 1)
        let taken = observed.guest.core.pointee.slots.submit(0, IORequest(kind: .portIO, direction: .read, address: 0x500, size: 1))
        #expect(taken)
        // As if it had been taken long ago: two ticks are less than a millisecond on any clock.
        observed.guest.core.pointee.begin(0, try #require(observed.guest.core.pointee.slots.take(0)))
        observed.guest.core.pointee.work[0].begun = 0
        observed.guest.core.pointee.runnable.insert(0)
        observed.guest.turn()
        let logs = observed.coordinator.received.compactMap { if case .log(let log) = $0.body { log } else { nil } }
        #expect(logs.contains { $0.event == "slow" && $0.message.contains("a port read of 1 bytes at 0x500 on vCPU 0") })
    }

    @Test("an answer that a predecessor had committed and not given counts from when it was found, not from when the machine was started")
    func inherited() throws {
        let world = try DeathTests.World()
        let first = try world.start(.later)
        #expect(first.core.pointee.slots.submit(0, IORequest(kind: .portIO, direction: .write, address: Accountant.ports, data: 5, size: 4)))
        var random = SplitMix(state: 1)
        var left: DeathTests.World?
        first.core.pointee.atPoint = { point in
            if point == .committed, left == nil { left = try? DeathTests.World(after: world, &random) }
        }
        world.pages.kick.ring()
        first.turn()
        let death = try #require(left)
        let coordinator = try FakeCoordinator(vcpus: ScriptedGuest.vcpus, on: death.pages)
        coordinator.state = (death.state, false)
        let memory = try FakeCoordinator.SharedBox(length: ObservationPage.length)
        coordinator.observation = memory
        let second = try Harness(Accountant.self, coordinator)
        second.turn()
        let total = try #require(ObservationReader(try memory.memory.descriptor.duplicate()).snapshot()).total
        #expect(total.count == 1)
        // Either clock began with the machine, or before it.
        #expect(total.longest < Double(EventLoop.now()) / 2)
    }

    @Test("memory of a length that is not known is left alone, and the emulator serves")
    func otherLength() throws {
        let coordinator = try FakeCoordinator()
        coordinator.observation = try FakeCoordinator.SharedBox(length: 4096)
        let guest = try Harness(Scratch.self, coordinator)
        #expect(guest.read(port: 0x500) != nil)
    }
}

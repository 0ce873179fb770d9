import CAllocations
import Host
import Testing

@testable import EmulatorKit
@testable import demux_scratch

@Suite("The way of a request")
struct AllocationTests {
    @Test("allocates nothing: ports, MMIO, configuration space, repetitions, the ring and INVALIDATE; with the state committed or not", arguments: [false, true])
    func none(isKept: Bool) throws {
        let coordinator = try FakeCoordinator()
        if isKept { coordinator.state = (try FakeCoordinator.SharedBox(length: try KitState.wanted(deviceLength: Scratch.stateLength)), true) }
        try count(coordinator)
    }

    @Test("allocates nothing while it is observed and traced")
    func observed() throws {
        let coordinator = try FakeCoordinator()
        let memory = try FakeCoordinator.SharedBox(length: ObservationPage.length)
        coordinator.observation = memory
        ObservationPage(base: memory.base).setTracing(true)
        try count(coordinator)
        let reader = ObservationReader(try memory.memory.descriptor.duplicate())
        #expect((reader.snapshot()?.total.count ?? 0) > 0)
    }

    private func count(_ coordinator: FakeCoordinator) throws {
        let guest = try Harness(Scratch.self, coordinator)
        let ring = try #require(coordinator.ring)
        let buffer = FakeCoordinator.ramBase + 0x800
        let requests = [
            IORequest(kind: .portIO, direction: .read, address: 0x514, size: 4),
            IORequest(kind: .portIO, direction: .write, address: 0x500, data: 1, size: 2),
            IORequest(kind: .copy, direction: .read, address: 0xfed8_0100, size: 8),
            IORequest(kind: .copy, direction: .write, address: 0xfed8_0100, data: 5, size: 4, count: 100),
            IORequest(kind: .pciConfig, direction: .read, address: 5 << 35, size: 4),
            IORequest(kind: .pciConfig, direction: .write, address: 5 << 35 | 0x3c, data: 7, size: 1),
            IORequest(kind: .portIO, direction: .read, address: 0x518, data: buffer, size: 4, count: 1000, dataIsPointer: true),
            IORequest(kind: .copy, direction: .write, address: 0xfed8_0100, data: buffer, size: 1, count: 3000, dataIsPointer: true),
            IORequest(kind: .invalidate, direction: .write, address: 0, size: 0, count: 0),
        ]
        var allocations: UInt64 = 0
        func serveAll() -> Int {
            var answered = 0
            for request in requests {
                _ = ring.post(BufferedEntry(type: 7, direction: .write, size: 8, address: 0, data: 1))
                guard coordinator.slots.submit(1, request) else { return -1 }
                coordinator.ringKick()
                let before = demux_allocations()
                guest.turnOnce()
                allocations += demux_allocations() - before
                if coordinator.slots.collect(1) != nil { answered += 1 }
            }
            return answered
        }
        #expect(serveAll() == requests.count)
        allocations = 0
        var answered = 0
        for _ in 0..<100 { answered += serveAll() }
        #expect(allocations == 0)
        #expect(answered == 100 * requests.count)
    }
}

import CIoreq
import Host
import SeededNumbers
import Testing

@testable import EmulatorKit
@testable import demux_scratch

@Suite("A hostile guest")
struct FuzzTests {
    /// A value that is more often near something than anywhere.
    private func pick(_ random: inout SplitMix, near places: [UInt64]) -> UInt64 {
        switch random.next() % 4 {
        case 0: random.next()
        case 1: random.next() % 0x2_0000
        default: places[Int(random.next() % UInt64(places.count))] &+ random.next() % 64 &- 16
        }
    }

    private func request(_ random: inout SplitMix, near places: [UInt64]) -> IORequest {
        let sizes: [UInt32] = [1, 2, 4, 8, 0, 3, 16, .max]
        let counts: [UInt32] = [1, 1, 1, 2, 3, 0, 64, 5000, .max]
        var request = IORequest(
            kind: .portIO, direction: random.next() % 2 == 0 ? .read : .write, address: pick(&random, near: places), data: pick(&random, near: places),
            size: sizes[Int(random.next() % 8 % (random.next() % 4 == 0 ? 8 : 4))], count: counts[Int(random.next() % 9)],
            dataIsPointer: random.next() % 3 == 0, backwards: random.next() % 3 == 0)
        request.type = [0, 1, 2, 7, 8, 0, 1, 2, 1, 0, UInt8(truncatingIfNeeded: random.next())][Int(random.next() % 11)]
        return request
    }

    @Test("100,000 random requests and ring contents are all answered, and nothing traps")
    func everything() throws {
        let coordinator = try FakeCoordinator(vcpus: 8)
        let guest = try Harness(Scratch.self, coordinator)
        let config = UInt64(5) << 35
        let places: [UInt64] = [
            0x500, 0xc000, 0xfed8_0000, 0xfed8_0ff0, 0xf000_0000, config, config + 0x04, config + 0x10, config + 0x14, config + 0x40,
            FakeCoordinator.ramBase, FakeCoordinator.ramBase + 0x7000, 0x100_0000, 0xa0000, .max,
        ]
        var random = SplitMix(state: 0x5eed)
        var served = 0
        while served < 100_000 {
            if random.next() % 3 == 0, let ring = coordinator.ring {
                for _ in 0..<random.next() % 8 {
                    _ = ring.post(
                        BufferedEntry(
                            type: UInt8(truncatingIfNeeded: random.next() % 10), direction: random.next() % 8 == 0 ? .read : .write,
                            size: [1, 2, 4, 8][Int(random.next() % 4)], address: random.next(), data: random.next()))
                }
                if random.next() % 50 == 0 { ring.reset(read: UInt32(truncatingIfNeeded: random.next()), write: UInt32(truncatingIfNeeded: random.next())) }
                if random.next() % 10 == 0 { ring.reset() }
            }
            var asked: [Int] = []
            for vcpu in 0..<8 where random.next() % 2 == 0 {
                guard coordinator.slots.submit(vcpu, request(&random, near: places)) else {
                    Issue.record("slot \(vcpu) is not free")
                    return
                }
                asked.append(vcpu)
            }
            coordinator.ringKick()
            guest.turn(3)
            for vcpu in asked {
                // A BAR that moves takes some rounds with the coordinator.
                var rounds = 0
                while coordinator.slots.rawState(vcpu) != 3, rounds < 20 {
                    guest.turn(1)
                    rounds += 1
                }
                guard coordinator.slots.collect(vcpu) != nil else {
                    Issue.record("slot \(vcpu) was not answered: \(coordinator.slots.copy(vcpu))")
                    return
                }
            }
            served += asked.count
            _ = coordinator.takeReceived()
        }
        #expect(coordinator.counters.read(.requests) == UInt64(served))
    }

    @Test("slots in states that are none, of vCPUs that are not there, are left alone")
    func wildStates() throws {
        let guest = try Harness(Scratch.self, FakeCoordinator(vcpus: 2))
        var random = SplitMix(state: 11)
        for _ in 0..<2000 {
            for slot in 0..<128 { guest.coordinator.slots.force(slot, rawState: UInt8(truncatingIfNeeded: random.next()) & 0xf) }
            guest.coordinator.slots.force(0, rawState: 1)
            guest.coordinator.ringKick()
            guest.turn(1)
            #expect(guest.coordinator.slots.rawState(0) == 3)
        }
    }
}

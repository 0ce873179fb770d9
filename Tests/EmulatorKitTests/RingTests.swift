import Host
import Testing

@testable import EmulatorKit

@Suite("The buffered ring")
struct RingTests {
    private func post(_ guest: Harness<Probe>, _ offset: UInt64, _ data: UInt64, size: UInt32 = 1) -> Bool {
        guest.coordinator.ring?.post(BufferedEntry(type: 1, direction: .write, size: size, address: Probe.lowBase + offset, data: data)) ?? false
    }

    @Test("what was posted before a request is carried out before it")
    func order() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        for index in 0..<300 { #expect(post(guest, UInt64(index), UInt64(index & 0xff))) }
        _ = guest.read(memory: Probe.lowBase + 0x100, size: 1)
        let seen = guest.emulator.takeSeen()
        #expect(seen.count == 301)
        #expect(seen.dropLast().map(\.offset) == Array(0..<300))
        #expect(seen.last?.write == false)
        #expect(guest.coordinator.counters.read(.buffered) == 300)
    }

    @Test("entries of 8 bytes are joined, and a posted write cannot wait")
    func wide() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        guest.emulator.defers = { _ in true }
        #expect(post(guest, 8, 0x0123_4567_89ab_cdef, size: 8))
        #expect(post(guest, 1, 0x11))
        guest.coordinator.ringKick()
        guest.turn()
        #expect(guest.emulator.takeSeen().map(\.value) == [0x0123_4567_89ab_cdef, 0x11])
    }

    @Test("a change of the clock arrives from the ring and from a slot")
    func timeOffset() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        let back = UInt64(bitPattern: -3600)
        #expect(guest.coordinator.ring?.post(BufferedEntry(type: 7, direction: .write, size: 8, address: 0, data: back)) == true)
        _ = guest.ask(IORequest(kind: .timeOffset, direction: .write, address: 0, data: 60, size: 8))
        #expect(guest.emulator.timeOffsets == [-3600, 60])
        #expect(guest.coordinator.counters.read(.timeOffsets) == 2)
    }

    @Test("posted reads, unknown types and unclaimed addresses are dropped and counted")
    func malformed() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        let ring = try #require(guest.coordinator.ring)
        #expect(ring.post(BufferedEntry(type: 1, direction: .read, size: 1, address: Probe.lowBase, data: 1)))
        #expect(ring.post(BufferedEntry(type: 77, direction: .write, size: 1, address: Probe.lowBase, data: 1)))
        #expect(ring.post(BufferedEntry(type: 1, direction: .write, size: 1, address: 0x10, data: 1)))
        guest.coordinator.ringKick()
        guest.turn()
        #expect(guest.emulator.takeSeen().isEmpty)
        #expect(guest.coordinator.counters.read(.malformed) == 3)
        #expect(ring.waiting == 0)
    }

    @Test("pointers that the protocol does not allow count as an empty ring")
    func wildPointers() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        guest.coordinator.ring?.reset(read: 5, write: 4000)
        #expect(guest.read(port: Probe.portBase) == 1)
        #expect(guest.coordinator.counters.read(.malformed) > 0)
    }
}

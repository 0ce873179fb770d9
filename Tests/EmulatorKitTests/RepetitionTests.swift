import EmulatorProtocol
import Host
import Testing

@testable import EmulatorKit

@Suite("Repeated accesses")
struct RepetitionTests {
    private let base = FakeCoordinator.ramBase

    private func probe(memory: Bool = true) throws -> Harness<Probe> { try Harness(Probe.self, FakeCoordinator(memory: memory)) }

    private func outs(_ address: UInt64, size: UInt32, count: UInt32, backwards: Bool = false) -> IORequest {
        IORequest(kind: .portIO, direction: .write, address: Probe.portBase, data: address, size: size, count: count, dataIsPointer: true, backwards: backwards)
    }

    @Test("rep outs takes its words from guest memory, across pages, upwards")
    func outsUp() throws {
        let guest = try probe()
        let ram = try #require(guest.coordinator.ram)
        for index in 0..<3000 { ram.storeBytes(of: UInt16(index), toByteOffset: 0xffe + index * 2, as: UInt16.self) }
        let request = outs(base + 0xffe, size: 2, count: 3000)
        #expect(guest.ask(request) == request.data)
        #expect(guest.emulator.takeSeen().map(\.value) == (0..<3000).map { UInt64($0) })
    }

    @Test("rep outs takes its words downwards when the direction flag is set")
    func outsDown() throws {
        let guest = try probe()
        let ram = try #require(guest.coordinator.ram)
        for index in 0..<2500 { ram.storeBytes(of: UInt32(index), toByteOffset: 4 * index, as: UInt32.self) }
        _ = guest.ask(outs(base + 4 * 2499, size: 4, count: 2500, backwards: true))
        #expect(guest.emulator.takeSeen().map(\.value) == (0..<2500).reversed().map { UInt64($0) })
    }

    @Test("rep ins puts its words into guest memory, both ways, and nothing beside them", arguments: [false, true])
    func ins(backwards: Bool) throws {
        let guest = try probe()
        let ram = try #require(guest.coordinator.ram)
        ram.initializeMemory(as: UInt8.self, repeating: 0xee, count: FakeCoordinator.ramLength)
        let count = 2100
        let first = base + 0xffe
        let start = backwards ? first + UInt64(count - 1) * 2 : first
        let request = IORequest(
            kind: .portIO, direction: .read, address: Probe.portBase, data: start, size: 2, count: UInt32(count), dataIsPointer: true, backwards: backwards)
        #expect(guest.ask(request) == start)
        let got = (0..<count).map { ram.loadUnaligned(fromByteOffset: 0xffe + $0 * 2, as: UInt16.self) }
        let expected = (1...count).map { UInt16($0) }
        #expect(got == (backwards ? expected.reversed() : expected))
        #expect(ram.load(fromByteOffset: 0xffd, as: UInt8.self) == 0xee)
        #expect(ram.load(fromByteOffset: 0xffe + count * 2, as: UInt8.self) == 0xee)
    }

    @Test("a copy to MMIO steps the window's address with the buffer's, both ways", arguments: [false, true])
    func copy(backwards: Bool) throws {
        let guest = try probe()
        let ram = try #require(guest.coordinator.ram)
        for index in 0..<1024 { ram.storeBytes(of: UInt64(index), toByteOffset: 8 * index, as: UInt64.self) }
        let last: UInt64 = 8 * 1023
        _ = guest.ask(
            IORequest(
                kind: .copy, direction: .write, address: Probe.memoryBase + (backwards ? last : 0), data: base + (backwards ? last : 0), size: 8,
                count: 1024, dataIsPointer: true, backwards: backwards))
        let seen = guest.emulator.takeSeen()
        #expect(seen.count == 1024)
        #expect(seen.allSatisfy { $0.offset == Int($0.value) * 8 })
        #expect(seen.first?.value == (backwards ? 1023 : 0))
    }

    @Test("rep stos writes one value many times, stepping the address")
    func stos() throws {
        let guest = try probe()
        let request = IORequest(kind: .copy, direction: .write, address: Probe.memoryBase + 16, data: 0x20, size: 2, count: 2000)
        #expect(guest.ask(request) == 0x20)
        let seen = guest.emulator.takeSeen()
        #expect(seen.map(\.offset) == (0..<2000).map { 16 + $0 * 2 })
        #expect(seen.allSatisfy { $0.value == 0x20 })
    }

    @Test("a repetition that runs off its claim answers the rest with all-ones")
    func runsOff() throws {
        let guest = try probe()
        let ram = try #require(guest.coordinator.ram)
        _ = guest.ask(
            IORequest(
                kind: .copy, direction: .read, address: Probe.memoryBase + 0x10000 - 8, data: base, size: 4, count: 4, dataIsPointer: true))
        #expect((0..<4).map { ram.load(fromByteOffset: $0 * 4, as: UInt32.self) } == [1, 2, 0xffff_ffff, 0xffff_ffff])
        #expect(guest.coordinator.counters.read(.malformed) == 1)
    }

    @Test("a buffer outside RAM reads as all-ones, and its request is answered")
    func outsideRAM() throws {
        let guest = try probe()
        for address: UInt64 in [0, 0x2000_0000, .max - 3, base - 8] {
            _ = guest.ask(outs(address, size: 4, count: 2))
            #expect(guest.emulator.takeSeen().first?.value == 0xffff_ffff)
        }
        // Half in RAM: the first word lies before it.
        let ram = try #require(guest.coordinator.ram)
        ram.storeBytes(of: 0x1234_5678, as: UInt32.self)
        _ = guest.ask(outs(base - 4, size: 4, count: 2))
        #expect(guest.emulator.takeSeen().map(\.value) == [0xffff_ffff, 0x1234_5678])
    }

    @Test("without access to guest memory a buffer is refused and the guest goes on")
    func withoutMemory() throws {
        let guest = try probe(memory: false)
        #expect(guest.ask(outs(base, size: 4, count: 2)) == base)
        #expect(guest.emulator.takeSeen().isEmpty)
        #expect(guest.coordinator.counters.read(.malformed) == 1)
    }

    @Test("what no claim covers, a size that is none and an absurd count are answered with all-ones", arguments: [
        IORequest(kind: .portIO, direction: .read, address: 0x9999, size: 4),
        IORequest(kind: .portIO, direction: .read, address: Probe.portBase + 6, size: 4),
        IORequest(kind: .portIO, direction: .read, address: 0x1_0000_0700, size: 4),
        IORequest(kind: .portIO, direction: .read, address: Probe.portBase, size: 4, count: 0),
        IORequest(kind: .portIO, direction: .read, address: Probe.portBase, size: 4, count: .max),
        IORequest(kind: .copy, direction: .read, address: .max - 2, size: 4),
        IORequest(kind: .pciConfig, direction: .read, address: 9 << 35, size: 4),
    ])
    func refused(request: IORequest) throws {
        let guest = try probe()
        #expect(guest.ask(request) == 0xffff_ffff)
        #expect(guest.emulator.takeSeen().isEmpty)
    }

    @Test("a port access of 3 or 8 bytes and an unknown type are answered and counted")
    func badSizes() throws {
        let guest = try probe()
        #expect(guest.ask(IORequest(kind: .portIO, direction: .read, address: Probe.portBase, size: 3)) != nil)
        #expect(guest.ask(IORequest(kind: .portIO, direction: .read, address: Probe.portBase, size: 8)) == .max)
        var odd = IORequest(kind: .portIO, direction: .read, address: Probe.portBase, size: 1)
        odd.type = 99
        #expect(guest.ask(odd) == 0xff)
        #expect(guest.coordinator.counters.read(.malformed) == 3)
        #expect(guest.coordinator.logLines.count == 3)
    }

    @Test("complaints are logged at a limited rate")
    func limitedLog() throws {
        let guest = try probe()
        for _ in 0..<500 { _ = guest.read(port: 0x1) }
        #expect(guest.coordinator.counters.read(.malformed) == 500)
        #expect(guest.coordinator.logLines.count < 100)
    }

    @Test("two vCPUs that never stop asking do not keep the coordinator waiting")
    func coordinatorIsHeard() throws {
        let guest = try probe()
        // Every repetition after the first lies outside the claim; a new request comes before the other vCPU's is done.
        let request = IORequest(kind: .copy, direction: .write, address: Probe.memoryBase + 0xfffc, data: 1, size: 4, count: 65_536)
        let slots = guest.coordinator.slots
        for slot in 0...1 { guest.submit(slot, request) }
        guest.emulator.defers = { _ in true }
        guest.emulator.beforeLater = { context, token in
            for slot in 0...1 where slots.collect(slot) != nil { _ = slots.submit(slot, request) }
            context.complete(token)
        }
        guest.coordinator.send(Packet(.pause, id: 70))
        guest.turn(100)
        #expect(guest.coordinator.answered(70) == .ok(Reply()))
    }

    @Test("an INVALIDATE is answered in the middle of another vCPU's long repetition")
    func fairness() throws {
        let guest = try probe()
        guest.submit(0, IORequest(kind: .portIO, direction: .write, address: Probe.portBase, data: 1, size: 1, count: 60_000))
        // The other vCPU's request comes while the first is being carried out; some slices later it has its answer.
        guest.emulator.defers = { $0 == 5000 || $0 == 8000 }
        let slots = guest.coordinator.slots
        var answeredInBetween = false
        guest.emulator.beforeLater = { context, token in
            answeredInBetween = slots.state(1) == .responseReady
            _ = slots.submit(1, IORequest(kind: .invalidate, direction: .write, address: 0, size: 0, count: 0))
            context.complete(token)
        }
        guest.turn()
        #expect(answeredInBetween)
        #expect(guest.emulator.takeSeen().count == 60_000)
        #expect(slots.collect(1) != nil)
        #expect(slots.collect(0) != nil)
        #expect(guest.coordinator.counters.read(.invalidations) == 1)
    }
}

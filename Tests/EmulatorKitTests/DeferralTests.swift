import EmulatorProtocol
import Glibc
import Host
import Platform
import TestTools
import Testing

@testable import EmulatorKit

@Suite("Answers that come later")
struct DeferralTests {
    private func probe() throws -> Harness<Probe> { try Harness(Probe.self, FakeCoordinator()) }

    /// Completes from outside a handler, as an event would.
    private func complete(_ guest: Harness<Probe>, _ token: Token, _ value: UInt64) -> Bool {
        guest.core.pointee.complete(token, value)
    }

    @Test("while one vCPU waits, every other one and INVALIDATE are served")
    func othersGoOn() throws {
        let guest = try probe()
        guest.emulator.defers = { $0 == 0 }
        #expect(guest.read(port: Probe.portBase, vcpu: 2) == nil)
        #expect(guest.read(port: Probe.portBase, vcpu: 1) == 2)
        #expect(guest.ask(IORequest(kind: .invalidate, direction: .write, address: 0, size: 0, count: 0), vcpu: 3) != nil)
        #expect(guest.coordinator.slots.state(2) == .inProcess)
        let token = try #require(guest.emulator.tokens.first)
        #expect(complete(guest, token, 0x1234))
        guest.turn()
        #expect(guest.coordinator.slots.collect(2) == 0x34)
        #expect(guest.coordinator.counters.read(.deferred) == 1)
    }

    @Test("a token answers once, and a later request of the same vCPU not at all")
    func tokensAreForOneAnswer() throws {
        let guest = try probe()
        guest.emulator.defers = { $0 < 2 }
        #expect(guest.read(port: Probe.portBase) == nil)
        let first = try #require(guest.emulator.tokens.first)
        #expect(complete(guest, first, 1))
        #expect(!complete(guest, first, 2))
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) == 1)
        #expect(guest.read(port: Probe.portBase) == nil)
        #expect(!complete(guest, first, 3))
        let second = try #require(guest.emulator.tokens.last)
        #expect(complete(guest, second, 4))
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) == 4)
    }

    @Test("an answer given inside the handler that says later counts")
    func early() throws {
        let guest = try probe()
        guest.emulator.defers = { _ in true }
        guest.emulator.beforeLater = { context, token in
            context.complete(token, 0x77)
            context.complete(token, 0x78)
        }
        #expect(guest.read(port: Probe.portBase) == 0x77)
    }

    @Test("in the middle of a repetition the rest waits too, and nothing is done twice", arguments: [false, true])
    func middleOfRepetition(backwards: Bool) throws {
        let guest = try probe()
        let ram = try #require(guest.coordinator.ram)
        let count = 2000
        guest.emulator.defers = { $0 == 3 || $0 == 1500 || $0 == 1999 }
        let start = FakeCoordinator.ramBase + (backwards ? UInt64(count - 1) * 4 : 0)
        guest.submit(
            0,
            IORequest(
                kind: .portIO, direction: .read, address: Probe.portBase, data: start, size: 4, count: UInt32(count), dataIsPointer: true,
                backwards: backwards))
        for (step, position) in [3, 1500, 1999].enumerated() {
            guest.turn()
            #expect(guest.coordinator.slots.collect(0) == nil)
            #expect(guest.emulator.tokens.count == step + 1)
            #expect(guest.read(port: Probe.portBase + 1, vcpu: 1) != nil)
            let token = try #require(guest.emulator.tokens.last)
            #expect(complete(guest, token, UInt64(0xf000_0000 + position)))
            // The read between shifted the numbers that the device counts.
            guest.emulator.defers = { $0 == UInt64([1501, 2001, 5000][step]) }
        }
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) == start)
        let got = (0..<count).map { ram.load(fromByteOffset: (backwards ? count - 1 - $0 : $0) * 4, as: UInt32.self) }
        #expect(got[3] == 0xf000_0003)
        #expect(got[1500] == 0xf000_05dc)
        #expect(got[1999] == 0xf000_07cf)
        #expect(guest.emulator.takeSeen().filter { $0.offset == 0 }.count == count)
    }

    @Test("a deadline and a watched descriptor can answer")
    func events() throws {
        let guest = try probe()
        guest.emulator.defers = { _ in true }
        let doorbell = try EventFD()
        let raw = doorbell.descriptor.raw
        let core = guest.core
        let watched = Context(core: core).watch(raw)
        #expect(watched)
        guest.emulator.beforeLater = { context, _ in _ = context.wake(after: .milliseconds(1)) }
        var tokens: [Token] = []
        guest.emulator.onEvent = { event, context in
            if case .readable(let descriptor) = event { _ = EventFD.clear(descriptor) }
            if let token = tokens.popLast() { context.complete(token, 0x55) }
        }
        guest.submit(0, IORequest(kind: .portIO, direction: .read, address: Probe.portBase, size: 1))
        guest.turn(1)
        tokens = guest.emulator.tokens
        let answered = waitUntil {
            guest.turn(1)
            return guest.coordinator.slots.state(0) == .responseReady
        }
        #expect(answered)
        #expect(guest.coordinator.slots.collect(0) == 0x55)

        guest.emulator.beforeLater = { _, _ in }
        #expect(guest.read(port: Probe.portBase) == nil)
        tokens = [try #require(guest.emulator.tokens.last)]
        doorbell.ring()
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) == 0x55)
        Context(core: core).forget(raw)
    }

    @Test("a pause is answered only once deferred requests are finished, and new ones wait for the resume")
    func pause() throws {
        let guest = try probe()
        guest.emulator.defers = { $0 == 0 }
        #expect(guest.read(port: Probe.portBase, vcpu: 0) == nil)
        guest.coordinator.send(Packet(.pause, id: 50))
        guest.turn()
        #expect(guest.coordinator.answered(50) == nil)
        #expect(guest.read(port: Probe.portBase, vcpu: 1) == nil)
        #expect(complete(guest, try #require(guest.emulator.tokens.first), 9))
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) == 9)
        #expect(guest.coordinator.answered(50) == .ok(Reply()))
        #expect(guest.emulator.events == [.paused])
        #expect(guest.coordinator.slots.state(1) == .ready)
        guest.coordinator.send(Packet(.resume, id: 51))
        guest.turn()
        #expect(guest.coordinator.answered(51) == .ok(Reply()))
        #expect(guest.emulator.events == [.paused, .resumed])
        #expect(guest.coordinator.slots.collect(1) == 2)
    }
}

/// Turns until something is so; see `Waiting`.
func waitUntil(_ condition: () -> Bool) -> Bool { Waiting.until(condition) }

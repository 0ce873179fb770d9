import EmulatorProtocol
import Host
import Platform
import SeededNumbers
import Testing

@testable import EmulatorKit

@Suite("The control connection")
struct ControlTests {
    @Test("hello, claims, ready and start come in the protocol's order")
    func order() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        let types = guest.coordinator.received.map(\.body.type)
        #expect(types == ["hello", "memory", "claim", "claim", "claim", "ready", "ok"])
        #expect(guest.coordinator.answered(1000) == .ok(Reply()))
    }

    @Test("requests that were there before the start are served, those of a dead predecessor too")
    func takeOver() throws {
        let guest = try Harness(Probe.self, FakeCoordinator()) { coordinator in
            _ = coordinator.slots.submit(0, IORequest(kind: .portIO, direction: .read, address: Probe.portBase, size: 1))
            _ = coordinator.slots.submit(3, IORequest(kind: .portIO, direction: .write, address: Probe.portBase, data: 9, size: 1))
            coordinator.slots.force(3, rawState: 2)
        }
        #expect(guest.coordinator.slots.collect(0) != nil)
        #expect(guest.coordinator.slots.collect(3) == 9)
        #expect(guest.emulator.takeSeen().count == 2)
    }

    @Test("an answer that the host was never told of is told again at the start")
    func untold() throws {
        let guest = try Harness(Probe.self, FakeCoordinator()) { coordinator in
            coordinator.slots.force(2, rawState: 3)
            _ = coordinator.takeDone()
        }
        #expect(guest.coordinator.takeDone())
        #expect(guest.emulator.takeSeen().isEmpty)
    }

    @Test("a quit waits for what was taken, also for a deferred answer")
    func quitFinishes() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        guest.emulator.defers = { $0 == 0 }
        #expect(guest.read(port: Probe.portBase) == nil)
        guest.coordinator.send(Packet(.quit, id: 65))
        guest.turn()
        #expect(guest.coordinator.answered(65) == nil)
        #expect(guest.read(port: Probe.portBase, vcpu: 1) == nil)
        let token = try #require(guest.emulator.tokens.first)
        let completed = guest.core.pointee.complete(token, 3)
        #expect(completed)
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) == 3)
        #expect(guest.coordinator.answered(65) == .ok(Reply()))
        #expect(guest.coordinator.slots.state(1) == .ready)
    }

    @Test("one that is told to release finishes what it has, and leaves the slots and the doorbell to another until it is told to resume")
    func released() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        guest.emulator.defers = { $0 == 0 }
        #expect(guest.read(port: Probe.portBase) == nil)
        guest.coordinator.send(Packet(.release, id: 66))
        guest.turn()
        #expect(guest.coordinator.answered(66) == nil)
        let token = try #require(guest.emulator.tokens.first)
        let completed = guest.core.pointee.complete(token, 3)
        #expect(completed)
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) == 3)
        #expect(guest.coordinator.answered(66) == .ok(Reply()))
        guest.emulator.defers = { _ in false }
        #expect(guest.read(port: Probe.portBase, vcpu: 1) == nil)
        #expect(guest.coordinator.isKicked, "it has not taken another's ring")
        guest.coordinator.send(Packet(.resume, id: 67))
        guest.turn()
        #expect(guest.coordinator.answered(67) == .ok(Reply()))
        #expect(guest.coordinator.slots.collect(1) != nil)
    }

    @Test("one that has paused already releases when it is told so, and can be told to quit then")
    func releasedAfterPause() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        for (message, id) in [(Message.pause, UInt32(70)), (.release, 71), (.release, 72)] {
            guest.coordinator.send(Packet(message, id: id))
            guest.turn()
            #expect(guest.coordinator.answered(id) == .ok(Reply()))
        }
        #expect(guest.read(port: Probe.portBase) == nil)
        #expect(guest.coordinator.isKicked)
        guest.coordinator.send(Packet(.quit, id: 73))
        guest.turn()
        #expect(guest.coordinator.answered(73) == .ok(Reply()))
        #expect(guest.coordinator.slots.state(0) == .ready)
    }

    @Test("a device that has nothing to unplug refuses to be asked, and says nothing of it in hello")
    func nothingToUnplug() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        guest.coordinator.send(Packet(.unplug(Unplug(classes: [.nic])), id: 70))
        guest.turn()
        guard case .error(let refusal) = guest.coordinator.answered(70) else { return #expect(Bool(false), "it was not refused") }
        #expect(refusal.code == .unsupported && guest.coordinator.hello?.unplug == nil)
    }

    @Test("broken answers are not answered")
    func brokenAnswers() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        _ = guest.coordinator.takeReceived()
        guest.coordinator.sendRaw(Array(#"{"type":"error","re":1}"#.utf8))
        guest.coordinator.sendRaw(Array(#"{"type":"ok","re":"x"}"#.utf8))
        guest.turn()
        #expect(guest.coordinator.takeReceived() == [])
    }

    @Test("a slot whose vCPU was added later is served")
    func addedVCPU() throws {
        let guest = try Harness(Probe.self, FakeCoordinator(vcpus: 1))
        #expect(guest.read(port: Probe.portBase, vcpu: 5) == nil)
        guest.coordinator.send(Packet(.vcpu(VCPUChange(vcpu: 5, change: .added)), id: 60))
        guest.turn()
        #expect(guest.coordinator.slots.collect(5) == 1)
    }

    @Test("a refused claim names the owner and ends the start")
    func refusedClaim() throws {
        let coordinator = try FakeCoordinator()
        coordinator.refused = [try #require(PortRange(first: 0x700, count: 1).map(IORange.ports))]
        do {
            _ = try Harness(Probe.self, coordinator)
            Issue.record("it started")
        } catch let error as SetupError {
            #expect("\(error)" == "could not claim ports 0x700-0x707 as 'ports': it is taken (somebody has ports 0x0-0xffff)")
        }
    }

    @Test("an option that is not known, or does not fit, is refused with what there is", arguments: [
        (["flog": "yes"], "it has: flag, number"), (["flag": "maybe"], "write yes or no"), (["number": "11"], "from 0x0 to 0xa"),
        (["number": "-1"], "write it as 0x500 or 1280"),
    ])
    func badOption(options: [String: String], expected: String) throws {
        do {
            _ = try Harness(Probe.self, FakeCoordinator(options: options))
            Issue.record("it started")
        } catch let error as SetupError {
            #expect("\(error)".contains(expected))
        }
    }

    @Test("vcpu, dirty-logging and quit are answered, what it is not asked is refused")
    func requests() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        guest.coordinator.send(Packet(.vcpu(VCPUChange(vcpu: 2, change: .gone)), id: 60))
        guest.coordinator.send(Packet(.vcpu(VCPUChange(vcpu: 999, change: .added)), id: 61))
        guest.coordinator.send(Packet(.dirtyLogging(DirtyLogging(on: true)), id: 62))
        guest.coordinator.send(Packet(.hello(Hello(name: "x", modes: [])), id: 63))
        guest.coordinator.sendRaw(Array(#"{"type":"save","id":64}"#.utf8))
        guest.coordinator.sendRaw(Array(#"{"type":"pause","id":"x"}"#.utf8))
        guest.turn()
        #expect(guest.coordinator.answered(60) == .ok(Reply()))
        #expect(guest.coordinator.answered(62) == .ok(Reply()))
        for (id, code) in [(61, Refusal.Code.invalid), (63, .unsupported), (64, .unsupported)] as [(UInt32, Refusal.Code)] {
            guard case .error(let refusal) = guest.coordinator.answered(id) else {
                Issue.record("request \(id) was not refused")
                continue
            }
            #expect(refusal.code == code)
        }
        guest.coordinator.send(Packet(.quit, id: 65))
        guest.turn()
        #expect(guest.coordinator.answered(65) == .ok(Reply()))
        #expect(guest.emulator.events == [.stopping])
        #expect(guest.isStopped)
    }

    @Test("pages that are written while dirty logging is on are reported")
    func dirtyLogging() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        guest.coordinator.send(Packet(.dirtyLogging(DirtyLogging(on: true)), id: 62))
        guest.turn()
        _ = guest.coordinator.takeReceived()
        let buffer = FakeCoordinator.ramBase + 0xffe
        _ = guest.ask(
            IORequest(kind: .portIO, direction: .read, address: Probe.portBase, data: buffer, size: 2, count: 2, dataIsPointer: true))
        #expect(guest.coordinator.takeReceived() == [.modified(Modified(gfn: GFN(0x10), count: 2))])
    }

    @Test("an isolated one ends when its coordinator is gone for good, once it has answered what it had taken")
    func isolatedOrphan() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        #expect(guest.read(port: Probe.portBase) == 1)
        guest.coordinator.close()
        guest.turn()
        #expect(guest.isStopped)
    }

    @Test("a direct one goes on serving without its coordinator, and a loop without work does not spin on the closed socket")
    func orphan() throws {
        let coordinator = try FakeCoordinator()
        coordinator.mode = .direct
        let guest = try Harness(Probe.self, coordinator)
        guest.coordinator.close()
        #expect(guest.read(port: Probe.portBase) == 1)
        #expect(guest.read(port: Probe.portBase) == 2)
        let wakeups = guest.coordinator.counters.read(.wakeups)
        guest.turn(10)
        #expect(guest.coordinator.counters.read(.wakeups) == wakeups)
        #expect(guest.control.isClosed)
    }

    @Test("10,000 packets of garbage end in refusals, never in a trap")
    func garbage() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        var random = SplitMix(state: 7)
        let words = ["pause", "resume", "vcpu", "quit ", "ok", "error", "start", "dirty-logging", "attach", "claim"]
        for round in 0..<10_000 {
            let type = words[Int(random.next() % UInt64(words.count))]
            let id = random.next() % 3 == 0 ? "\(random.next() % 20)" : "\(random.next())"
            let key = random.next() % 2 == 0 ? "id" : "re"
            let text = random.next() % 4 == 0
                // Never empty: an empty packet means that the socket was closed.
                ? String(decoding: (0...Int(random.next() % 90)).map { _ in UInt8(truncatingIfNeeded: random.next()) }, as: UTF8.self)
                : #"{"type":"\#(type)","\#(key)":\#(id),"vcpu":\#(Int64(bitPattern: random.next())),"change":"gone","on":true}"#
            guest.coordinator.sendRaw(Array(text.utf8))
            if round % 20 == 0 { guest.turn(1) }
        }
        guest.coordinator.send(Packet(.resume, id: 4_000_000_000))
        guest.turn()
        #expect(guest.read(port: Probe.portBase) != nil)
    }
}


import ControlProtocol
import Glibc
import Host
import LocalHost
import Platform
import Specification
import Synchronization
import TestTools
import Testing

extension Guest {
    /// Kills an emulator's process as a crash would.
    func crash(_ name: String) throws {
        let pid = try emulator(name).pid
        try #require(pid > 1)
        #expect(Glibc.kill(pid, SIGKILL) == 0)
    }

    /// vCPUs that read without pause; each gives how many reads got the wanted value and how many something else than all-ones.
    func hammer(vcpus: Range<Int>, _ place: Place, until stop: Flag) throws -> [Promise<String?>] {
        try vcpus.map { index in
            let vcpu = try vcpu(index)
            return onThread {
                while !stop.raised {
                    do {
                        let value = try place.read(vcpu, 0x10, 4)
                        stop.count(value == place.identity)
                        if value != place.identity && value != 0xffff_ffff { return "vCPU \(index) read \(Hex.string(value))" }
                    } catch { return "vCPU \(index): \(error)" }
                }
                return nil
            }
        }
    }
}

final class Flag: Sendable {
    private let flag = Atomic<Bool>(false)
    private let right = Atomic<Int>(0)
    private let ones = Atomic<Int>(0)
    var raised: Bool { flag.load(ordering: .relaxed) }
    func raise() { flag.store(true, ordering: .relaxed) }
    func count(_ isRight: Bool) {
        if isRight { right.add(1, ordering: .relaxed) } else { ones.add(1, ordering: .relaxed) }
    }
    var rightOnes: Int { right.load(ordering: .relaxed) }
    var allOnes: Int { ones.load(ordering: .relaxed) }
}

@Suite("Emulators that do not start")
struct StartFailureTests {
    /// Starts one emulator that cannot, and gives the reason.
    private func reason(_ emulator: EmulatorSpecification) throws -> String {
        var found = ""
        try withGuest([emulator]) { (guest: Guest) throws in
            let reasons = try guest.start()
            #expect(reasons.count == 1)
            found = reasons.joined()
        }
        return found
    }

    @Test("a program that is missing is named")
    func missing() throws {
        let text = try reason(EmulatorSpecification(name: "gone", program: "/nowhere/at-all"))
        #expect(text.contains("emulator 'gone'") && text.contains("/nowhere/at-all") && text.contains("No such file"))
    }

    @Test("a program that exits at its start is told by its status")
    func exits() throws { #expect(try reason(Built.test("exit", "7")).contains("exited with status 7 before it was ready")) }

    @Test(
        "an emulator that dies on its way up is told by its signal",
        arguments: ["spawned", "attached", "claimed", "ready", "told to start"])
    func dies(state: String) throws { #expect(try reason(Built.test("die", state)).contains("was killed by signal 9")) }

    @Test("one that never says hello, ready or that it has started is told apart", arguments: [("silent", "never said hello"), ("never-ready", "never ready"), ("never-starts", "never answered 'start'")])
    func tooLate(mode: String, words: String) throws {
        let text = try reason(Built.test(mode, readyWithin: 6000))
        #expect(text.contains(words) && text.contains("6000 ms"))
    }

    @Test("garbage instead of hello is answered, and the emulator has its time all the same")
    func garbage() throws { #expect(try reason(Built.test("garbage", readyWithin: 1500)).contains("never said hello")) }

    @Test("a message before hello is refused")
    func claimFirst() throws { #expect(try reason(Built.test("claim-first", readyWithin: 1500)).contains("never said hello")) }

    @Test("a connection that closes before ready is the reason")
    func closes() throws { #expect(try reason(Built.test("close")).contains("closed its connection before it was ready")) }

    @Test("a protocol version that is not spoken here is the reason")
    func old() throws { #expect(try reason(Built.test("old")).contains("this coordinator speaks version 1")) }

    @Test("an emulator that can only be attached directly has nothing to attach to without Xen")
    func directOnly() throws { #expect(try reason(Built.test("direct-only")).contains("the emulator offers")) }

    @Test("an emulator that refuses to start is heard")
    func refuses() throws { #expect(try reason(Built.test("refuse-start")).contains("not today")) }

    @Test("an option that the device does not know is told")
    func option() throws {
        #expect(try reason(Built.scratch("scratch", ["prots": "0x500"])).contains("exited with status 1"))
    }

    @Test("two emulators that want one range: the error names both and both ranges")
    func clash() throws {
        // The same program twice: whoever comes second is refused the ports.
        try withGuest([Built.scratch("one"), Built.scratch("two", ["ports": "0x510", "mmio": "0xfeda0000"])]) { (guest: Guest) throws in
            let reasons = try guest.start()
            #expect(reasons.count == 1)
            let text = reasons.joined()
            #expect(text.contains("emulator 'one'") && text.contains("emulator 'two'"))
            #expect(text.contains("ports 0x500-0x51f") && text.contains("ports 0x510-0x52f"))
        }
    }

    @Test("a range of QEMU's is refused, and what to do is said")
    func clashWithQEMU() throws {
        let range = try #require(PortRange(first: 0x510, last: 0x51b))
        try withGuest([Built.scratch()], before: { $0.noteQEMU(.ports(range), label: "fw_cfg") }) { (guest: Guest) throws in
            let text = try guest.start().joined()
            #expect(text.contains("QEMU has ports 0x510-0x51b (fw_cfg)") && text.contains("'interpose'"))
        }
    }

    @Test("a declared interposition over QEMU is allowed, serves and is shown")
    func interposition() throws {
        let range = try #require(PortRange(first: 0x510, last: 0x51b))
        var scratch = Built.scratch()
        scratch.interpose = ["ports 0x500-0x51f"]
        try withGuest([scratch], before: { $0.noteQEMU(.ports(range), label: "fw_cfg") }) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.status.interpositions == [Interposition(emulator: "scratch", range: "ports 0x500-0x51f", over: "ports 0x510-0x51b (fw_cfg)")])
            #expect(try guest.vcpu().read(port: 0x510, size: 4) == Place.scratch)
        }
    }

    @Test("more emulators than a domain has servers: the coordinator does not begin")
    func tooMany() throws {
        let many = (0..<8).map { Built.scratch("e\($0)") }
        let error = #expect(throws: HostError.self) { try Guest(many) }
        #expect(error?.reason == .noFreeServer)
    }
}

@Suite("Emulators that go wrong while they serve")
struct ServingFailureTests {
    private let place = Place.fixed[0]

    /// A scratch device that nobody starts again: it has state, so that by itself a successor would go on with it.
    private static var mortal: EmulatorSpecification {
        var specification = Built.scratch()
        specification.restart = .never
        return specification
    }

    @Test("an emulator killed under load leaves no vCPU waiting, and its place reads all-ones", arguments: [false, true])
    func killed(throughRelay: Bool) throws {
        try withGuest([Self.mortal, Built.cScratch()], vcpus: 3, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let stop = Flag()
            let runs = try guest.hammer(vcpus: 0..<3, place, until: stop)
            try eventually("the load is on") { stop.rightOnes > 100 }
            try guest.crash("scratch")
            try eventually("reads give all-ones") { stop.allOnes > 100 }
            stop.raise()
            for run in runs { #expect(try run.get("a vCPU") == nil) }
            #expect(try guest.emulator("scratch").state.contains("killed by signal 9"))
            #expect(try guest.vcpu().read(port: 0x550, size: 4) == Place.c, "the other one goes on")
        }
    }

    @Test("an emulator that dies with an access in its hand does not keep the vCPU", arguments: [false, true])
    func diesServing(throughRelay: Bool) throws {
        try withGuest([Built.test("die", "serving")], plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            let read = onThread { try? vcpu.read(port: 0x704, size: 2) }
            #expect(try read.get("the vCPU") == 0xffff)
        }
    }

    @Test("a dead emulator can be attached again under its name")
    func attachedAgain() throws {
        try withGuest([Self.mortal]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.crash("scratch")
            try eventually("its end is seen") { try guest.emulator("scratch").state.hasPrefix("ended") }
            #expect(try guest.attach(Built.scratch()) == .done("emulator 'scratch' serves"))
            try RegisterFile.check(try guest.vcpu(), place)
        }
    }

    @Test("an emulator that never answers holds its vCPU, nobody else, and detach frees it", arguments: [[], ["pointers"]])
    func holds(words: [String]) throws {
        var test = Built.test("hold")
        test.arguments += words
        try withGuest([test, Built.scratch()], vcpus: 2) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let held = try guest.vcpu(1)
            let read = onThread { try? held.read(port: 0x700, size: 1) }
            try eventually("the access is taken") { try guest.isHeld(server: "test", vcpu: 1, relayed: words.isEmpty) }
            try RegisterFile.check(try guest.vcpu(0), place)
            #expect(try guest.ask(.detach(name: "test")) == .done("emulator 'test' was detached"))
            #expect(try read.get("the vCPU that was held") == 0xff)
        }
    }

    @Test("INVALIDATE is answered while another vCPU's access waits, late answers arrive, and are counted", arguments: [false, true])
    func invalidate(throughRelay: Bool) throws {
        try withGuest([Built.test("late")], vcpus: 2, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let waiting = try guest.vcpu(1)
            let read = onThread { try? waiting.read(port: 0x620, size: 4) }
            let vcpu = try guest.vcpu(0)
            try eventually("the read is deferred") { try vcpu.read(port: 0x621, size: 1) == 1 }
            let sent = onThread { (try? vcpu.invalidate()) != nil }
            #expect(try sent.get("INVALIDATE"))
            try vcpu.write(port: 0x620, size: 4, value: 0x1234_5678)
            #expect(try read.get("the deferred read") == 0x1234_5678)
            let counters = try guest.emulator("test").counters
            #expect(counters["deferred"] == 1)
            #expect((counters["portReads"] ?? 0) >= 2 && counters["portWrites"] == 1)
        }
    }

    @Test("an emulator that answers what nobody asked reaches no further than its own relay")
    func hostile() throws {
        try withGuest([Built.test("hostile"), Built.scratch()], vcpus: 2, plain: true) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let stop = Flag()
            let victim = try guest.vcpu(1)
            let run = onThread { () -> Bool in
                while !stop.raised { guard (try? victim.read(port: 0x700, size: 4)) != nil else { return false } }
                return true
            }
            let vcpu = try guest.vcpu(0)
            for _ in 0..<200 * thorough { #expect(try place.read(vcpu, 0x10, 4) == Place.scratch) }
            #expect(try guest.ask(.detach(name: "test")) == .done("emulator 'test' was detached"))
            stop.raise()
            #expect(try run.get("the vCPU of the hostile emulator"))
            #expect(guest.host.crashReason == nil)
        }
    }

    @Test("an emulator that makes its doorbells wait, full and empty, holds up nobody but itself", arguments: [true, false])
    func doorbells(throughRelay: Bool) throws {
        try withGuest([Built.test("doorbells"), Built.scratch()], vcpus: 2, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let stop = Flag()
            let victim = try guest.vcpu(1)
            let run = onThread { () -> Bool in
                while !stop.raised { guard (try? victim.read(port: 0x700, size: 1)) != nil else { return false } }
                return true
            }
            let vcpu = try guest.vcpu(0)
            for _ in 0..<200 * thorough {
                #expect(try place.read(vcpu, 0x10, 4) == Place.scratch)
                // A relay's doorbells are the coordinator's; LocalHost's own vCPU rings the others itself.
                #expect(try guest.emulator("scratch").state == "serving")
            }
            // Only a successor could free a vCPU that waits for room in LocalHost's own doorbell.
            stop.raise()
            if throughRelay { #expect(try run.get("the vCPU of the hostile emulator")) }
            #expect(try guest.ask(.detach(name: "test")) == .done("emulator 'test' was detached"))
            #expect(guest.host.crashReason == nil)
        }
    }

    @Test("an emulator that takes requests out of its slots gives its guest all-ones, as on Xen, and can be taken away")
    func steals() throws {
        try withGuest([Built.test("steal")], plain: true) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            let read = onThread { try? vcpu.read(port: 0x700, size: 4) }
            #expect(try read.get("the vCPU") == 0xffff_ffff)
            #expect(try guest.emulator("test").faults?["invalid-slot-state"] == 1)
            #expect(try guest.ask(.detach(name: "test")) == .done("emulator 'test' was detached"))
        }
    }

    @Test("an emulator that floods its socket with lines holds up neither the coordinator nor the log")
    func floods() throws {
        try withGuest([Built.test("floods"), Built.scratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            for _ in 0..<20 { #expect(try guest.status.emulators.count == 2) }
            #expect(try guest.log.allSatisfy { !$0.contains("\u{1b}") })
            #expect(try guest.ask(.detach(name: "test")) == .done("emulator 'test' was detached"))
        }
    }

    @Test("an emulator that reads nothing is no longer listened to, and the coordinator goes on")
    func readsNothing() throws {
        try withGuest([Built.test("reads-nothing"), Built.scratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("it is given up") { try guest.log.contains { $0.contains("does not read what it is sent") } }
            try RegisterFile.check(try guest.vcpu(), place)
            #expect(try guest.ask(.detach(name: "test")) == .done("emulator 'test' was detached"))
        }
    }

    @Test("an emulator that hears neither quit nor SIGTERM is killed in the end")
    func deaf() throws {
        try withGuest([Built.test("deaf")]) { (guest: Guest) throws in #expect(try guest.start() == []) }
    }

    @Test("what a dead emulator's child claims on its connection is not heard")
    func heir() throws {
        let folder = try TemporaryFolder()
        let sign = folder.path + "/sign"
        try #require(mkfifo(sign, 0o600) == 0)
        try withGuest([Built.test("heir", sign)]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("its end is seen") { try guest.emulator("test").state.hasPrefix("ended") }
            // The child goes on when its FIFO has a writer, and holds its own end for as long as it lives.
            var writer: CInt = -1
            try eventually("the child waits") {
                writer = open(sign, O_WRONLY | O_NONBLOCK | O_CLOEXEC)
                return writer >= 0
            }
            let held = OwnedDescriptor(adopting: writer)
            #expect(Waiting.forEvent(on: held.raw), "the child has claimed and ended")
            // A question that the coordinator answers after whatever came before it.
            #expect(try guest.attach(Built.scratch()) == .done("emulator 'scratch' serves"))
            #expect(try guest.emulator("test").claims.map(\.range) == ["ports 0x700-0x70f"])
        }
    }

    @Test("an emulator's claims are limited, and status still fits its packet")
    func greedy() throws {
        try withGuest([Built.test("greedy")]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.emulator("test").claims.count == 768)
            guard case .status(let status) = try guest.ask(.status) else {
                Issue.record("no status")
                return
            }
            #expect(status.emulators.first?.claims.last?.range == "…")
        }
    }

    @Test("thousands of random packets of an exporter later the coordinator and the display still serve", arguments: [1, 2])
    func exporterFuzz(seed: Int) throws {
        let vnc = VNCSpecification(
            program: Built.program("demux-test-emulator"), arguments: ["fuzz-exporter", "\(seed)", "\(1500 * thorough)"], readyWithinMilliseconds: 60_000)
        try withGuest([], display: Built.screen("input"), vnc: vnc) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("the fuzz is over") { try guest.status.vnc?.statistics == ["done": 1] }
            let status = try #require(try guest.status.vnc)
            #expect(status.clients.isEmpty)
            try guest.setScreen(8, 9)
            #expect(try guest.screen(8) == 9)
            #expect(try guest.emulator("vnc").state == "serving" && guest.emulator("vnc").restarts == nil)
        }
    }

    @Test("thousands of random packets later the coordinator still serves", arguments: [1, 2])
    func fuzz(seed: Int) throws {
        try withGuest([Built.test("fuzz", "\(seed)", "\(1500 * thorough)"), Built.scratch("scratch", ["ports": "0x500", "mmio": "0xfed80000"])]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("the fuzz is over") {
                let test = try guest.emulator("test")
                return test.counters["malformed"] == 1 || test.state.hasPrefix("ended")
            }
            try RegisterFile.check(try guest.vcpu(), place)
            #expect(try guest.emulator("test").state == "serving")
            #expect(try guest.ask(.detach(name: "test")) == .done("emulator 'test' was detached"))
        }
    }
}

extension Guest {
    /// Whether the access of a vCPU has reached an emulator that will not answer it.
    func isHeld(server name: String, vcpu: Int, relayed: Bool) throws -> Bool {
        let number = try #require(try emulator(name).server)
        let id = try #require(ServerID(number))
        let channel = try host.openChannel(id)
        // The slots are a view into the channel's page.
        return withExtendedLifetime(channel) { channel.slots.state(vcpu) == .inProcess }
    }
}

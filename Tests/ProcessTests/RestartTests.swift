import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Platform
import Specification
import Testing

@testable import Coordinator

@Suite("Processes that die and come back")
struct RestartTests {
    @Test("the exporter killed: the same port, the same password, the display goes on, and who came in between is served")
    func exporterKilled() throws {
        var vnc = Built.exporter(listen: [.tcp(host: "127.0.0.1", first: 0, last: 0)])
        vnc.passwordRequired = true
        vnc.password = "first"
        try withGuest([], display: Built.screen(), vnc: vnc) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.setMode(640, 480)
            try guest.setScreen(0, 0x10203)
            let display = try guest.emulator("display").pid
            let port = try #require(try guest.onLoop { $0.vncInformation }).service
            #expect(try guest.view("password") == "first never")
            #expect(try guest.command { $0.setVNCPassword("second", $1) } == nil)
            #expect(try guest.command { $0.expireVNCPassword(at: "4102444800", $1) } == nil)
            #expect(try guest.view("password") == "second 4102444800")
            let first = try guest.view("pid")
            _ = try guest.view("viewers 2")
            try eventually("the display knows") { try guest.screen(20) == 2 }

            try guest.crash("vnc")
            try eventually("the display hears that nothing is wanted") { try guest.screen(20) == 0 }
            let waiting = try tcp(port)
            #expect(try Guest.view("pid", on: waiting) != first, "who connects in between waits in the coordinator's socket")
            try eventually("it has its surface") { try guest.view("surface") == "640x480 10203" }
            try eventually("and its password's expiry") { try guest.view("password") == "second 4102444800" }
            try eventually("it is known as one reader") { try guest.screen(16) == 1 }
            #expect(try guest.onLoop { $0.vncInformation }?.service == port)
            let status = try guest.emulator("vnc")
            #expect(status.restarts == 1 && status.state == "serving" && status.mode == "exporter" && status.server == nil)
            #expect(try guest.emulator("display").pid == display)
            let log = try guest.log.joined(separator: "\n")
            #expect(log.contains("emulator 'vnc' was killed by signal 9") && log.contains("emulator 'vnc' is back (restart 1)"))
        }
    }

    @Test("the display killed: its state, its memory, its server and its claims are its successor's, and viewers keep the last picture", arguments: [false, true])
    func displayKilled(input: Bool) throws {
        let host = Keeping()
        let display = input ? Built.screen("region", "input") : Built.screen("region")
        try withGuest([Built.scratch()], display: display, vnc: Built.exporter(), wrapped: host.wrap) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.screen(36) == 1, "a fresh state")
            try guest.setMode(640, 480)
            try guest.setScreen(0, 0x777777)
            try guest.setScreen(8, 0xcafe)
            try guest.setScreen(28, 0xbeef)
            let before = try guest.emulator("display")
            let exporter = try guest.view("pid")
            let region = try #require(host.keeper).kept
            #expect(region.count == 1 && region.first?.gfn == GFN(0xf_0000))

            for round in 1...3 {
                try guest.crash("display")
                try eventually("another one serves") { try guest.emulator("display").restarts == round && guest.emulator("display").state == "serving" }
                #expect(try guest.screen(36) == 0 && guest.screen(8) == 0xcafe && guest.screen(28) == 0xbeef)
                #expect(try guest.view("surface") == "640x480 777777", "until the new one makes another")
                try eventually("it knows the reader") { try guest.screen(16) == 1 }
            }
            let after = try guest.emulator("display")
            #expect(after.server == before.server && after.claims == before.claims && after.pid != before.pid)
            #expect(try #require(host.keeper).kept.map(\.number) == region.map(\.number))
            try guest.setMode(800, 600)
            try eventually("a new picture") { try guest.view("surface").hasPrefix("800x600") }
            #expect(try guest.view("pid") == exporter, "viewers were not dropped")
            #expect(try guest.vcpu().read(port: 0x510, size: 4) == Place.scratch)
            if input {
                _ = try guest.view("key 5 down")
                try eventually("keys reach the new one") { try guest.screen(24) == 11 }
            }
        }
        #expect(try #require(host.keeper).kept.isEmpty, "the guest's end releases the region")
    }

    @Test("a display killed over and over under load never keeps a vCPU, and what it knew is never wrong", arguments: [false, true])
    func underLoad(throughRelay: Bool) throws {
        var display = Built.screen()
        display.mode = throughRelay ? .isolated : nil
        try withGuest([Built.scratch()], vcpus: 3, plain: throughRelay, display: display) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.setScreen(8, 0x1234_5678)
            let stop = Flag()
            let runs = try (0..<3).map { index in
                let vcpu = try guest.vcpu(index)
                return onThread { () -> String? in
                    while !stop.raised {
                        do {
                            let value = try vcpu.read(port: 0x748, size: 4)
                            stop.count(value == 0x1234_5678)
                            if value != 0x1234_5678 && value != 0xffff_ffff { return Hex.string(value) }
                        } catch { return "\(error)" }
                    }
                    return nil
                }
            }
            for round in 1...4 {
                let right = stop.rightOnes
                try eventually("it serves") { stop.rightOnes > right + 50 }
                try guest.crash("display")
                try eventually("it is back") { try guest.emulator("display").restarts == round }
            }
            let right = stop.rightOnes
            try eventually("it serves again") { stop.rightOnes > right + 50 }
            stop.raise()
            for run in runs { #expect(try run.get("a vCPU") == nil) }
        }
    }

    @Test("one that dies too often is parked, said so, and can be put back by hand with what it knew")
    func parked() throws {
        try withGuest([], display: Built.screen(), vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.setScreen(8, 77)
            let server = try guest.emulator("display").server
            try guest.onLoop { coordinator in
                guard let holdings = try? coordinator.context.holdings(of: "display") else { return }
                for _ in 0..<10 { _ = holdings.backoff.next(now: EventLoop.now(), for: Built.screen()) }
            }
            try guest.crash("display")
            try eventually("it is parked") { try guest.emulator("display").state == "parked: was killed by signal 9 (Killed)" }
            #expect(try guest.log.contains { $0.contains("emulator 'display' is parked: it died more than 10 times within a minute") })
            #expect(try guest.screen(8) == 0xffff_ffff)
            #expect(try guest.emulator("display").claims.count == 1, "its claims are kept for it")
            #expect(try guest.attach(Built.screen()) == .done("emulator 'display' serves"))
            #expect(try guest.screen(8) == 77 && guest.emulator("display").server == server)
        }
    }

    /// As after as many deaths as there may be.
    private func exhaust(_ guest: Guest, _ name: String, retry: Duration? = nil) throws {
        try guest.onLoop { coordinator in
            guard let holdings = try? coordinator.context.holdings(of: name) else { return }
            if let retry { holdings.lateRetry.first = retry }
            for _ in 0..<10 { _ = holdings.backoff.next(now: EventLoop.now(), for: Built.screen()) }
        }
    }

    @Test("an exporter that died too often is parked, and comes back by the command that the log names")
    func exporterParked() throws {
        try withGuest([], vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try exhaust(guest, "vnc", retry: .seconds(1000))
            try guest.crash("vnc")
            try eventually("it is parked") { try guest.emulator("vnc").state == "parked: was killed by signal 9 (Killed)" }
            #expect(try guest.log.contains { $0.contains("emulator 'vnc' is parked") && $0.contains("or at once by 'demux restart 7 vnc'") })
            #expect(try guest.ask(.restart(name: "vnc")) == .done("emulator 'vnc' serves"))
            #expect(try guest.emulator("vnc").state == "serving" && guest.view("pid") != "")
        }
    }

    @Test("an exporter that died too often comes back by itself")
    func exporterComesBack() throws {
        try withGuest([], vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let first = try guest.emulator("vnc").pid
            try exhaust(guest, "vnc", retry: .milliseconds(1))
            try guest.crash("vnc")
            try eventually("another serves") { try guest.emulator("vnc").pid != first && guest.emulator("vnc").state == "serving" }
            #expect(try guest.log.contains { $0.contains("emulator 'vnc' is parked") })
        }
    }

    @Test("every emulator that has ended comes back by the command that the log names, and one that serves is not ended without need")
    func restartCommand() throws {
        try withGuest([Built.scratch()], display: Built.screen()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.setScreen(8, 77)
            try exhaust(guest, "display")
            try guest.crash("display")
            try eventually("it is parked") { try guest.emulator("display").state.hasPrefix("parked") }
            #expect(try guest.log.contains { $0.contains("'demux restart 7 display' starts it") })
            #expect(try guest.ask(.restart(name: "display")) == .done("emulator 'display' serves"))
            #expect(try guest.screen(8) == 77, "with what it knew")
            let pid = try guest.emulator("display").pid
            guard case .done = try guest.ask(.restart(name: "display")) else { return #expect(Bool(false), "one that serves") }
            try eventually("another serves") { try guest.emulator("display").pid != pid && guest.emulator("display").state == "serving" }
            guard case .failed(let reason) = try guest.ask(.restart(name: "nobody")) else { return #expect(Bool(false), "one that is not there") }
            #expect(reason.contains("it has: display, scratch"))
        }
        try withGuest([Built.screen("stateless")]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            guard case .failed(let reason) = try guest.ask(.restart(name: "display")) else { return #expect(Bool(false), "it would lose what it knows") }
            #expect(reason.contains("'demux detach' it"))
            try guest.crash("display")
            try eventually("it is said") { try guest.log.contains { $0.contains("'demux restart 7 display' starts it anew") } }
            #expect(try guest.ask(.restart(name: "display")) == .done("emulator 'display' serves"))
        }
    }

    @Test("one that keeps nothing, one that exits in order and one that shall not are not started again")
    func notRestarted() throws {
        var quiet = Built.screen("stateless")
        quiet.name = "stateless"
        for emulator in [quiet, Built.screen(restart: .never)] {
            try withGuest([emulator]) { (guest: Guest) throws in
                #expect(try guest.start() == [])
                try guest.crash(emulator.name)
                try eventually("it has ended") { try guest.emulator(emulator.name).state.hasPrefix("ended: was killed") }
                #expect(try guest.log.allSatisfy { !$0.contains("is started again") })
            }
        }
    }

    @Test("one that shall be started again although it keeps nothing is")
    func restartedAnyway() throws {
        var scratch = Built.scratch()
        scratch.restart = .onFailure
        try withGuest([scratch]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let server = try guest.emulator("scratch").server
            try guest.crash("scratch")
            try eventually("it is back") { try guest.emulator("scratch").restarts == 1 }
            #expect(try guest.emulator("scratch").server == server)
            try RegisterFile.check(try guest.vcpu(), Place.fixed[0])
        }
    }

    @Test("one that is taken away while it waits to be started again is gone, and so is what was kept for it")
    func detachedWhileWaiting() throws {
        let host = Keeping()
        try withGuest([], display: Built.screen("region"), wrapped: host.wrap) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.setScreen(8, 5)
            try guest.onLoop { coordinator in
                // The next wait is of five seconds.
                guard let holdings = try? coordinator.context.holdings(of: "display") else { return }
                for _ in 0..<9 { _ = holdings.backoff.next(now: EventLoop.now(), for: Built.screen()) }
            }
            try guest.crash("display")
            try eventually("it waits") { try guest.emulator("display").state.hasPrefix("restarting") }
            #expect(try guest.ask(.detach(name: "display")) == .done("emulator 'display' was detached"))
            #expect(try guest.status.emulators.isEmpty && (host.keeper?.kept.isEmpty ?? false))
            #expect(try guest.attach(Built.screen("region")) == .done("emulator 'display' serves"))
            #expect(try guest.screen(36) == 1 && guest.screen(8) == 0, "it begins afresh")
        }
    }

    @Test("an exporter that dies as soon as it serves is tried again and again, and the guest does not care")
    func exporterDies() throws {
        try withGuest([Built.scratch()], vnc: Built.exporter("dies")) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("it was tried three times") { try (guest.emulator("vnc").restarts ?? 0) >= 3 }
            try RegisterFile.check(try guest.vcpu(), Place.fixed[0])
        }
    }

    @Test("an exporter that hears nothing is replaced once its socket is full")
    func deafExporter() throws {
        try withGuest([], display: Built.screen(), vnc: Built.exporter("deaf")) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("it is replaced") {
                _ = try guest.onLoop { coordinator in for _ in 0..<64 { coordinator.disconnectVNC { _ in } } }
                return try (guest.emulator("vnc").restarts ?? 0) >= 1
            }
            #expect(try guest.screen(36) == 1)
        }
    }
}

/// Keeps hold of the host that the coordinator sees.
final class Keeping: @unchecked Sendable {
    // Sendable: set once, before the guest's thread starts.
    private(set) var keeper: RegionKeeper?
    func wrap(_ local: LocalHost) -> any Host {
        let made = RegionKeeper(local)
        keeper = made
        return made
    }
}

extension Guest {
    /// Carries a command out on the loop and waits for its answer.
    func command(_ body: @escaping @Sendable (Coordinator, @escaping (Refusal?) -> Void) -> Void) throws -> String? {
        let promise = Promise<String?>()
        try onLoop { coordinator in body(coordinator) { promise.fulfil($0.map { "\($0)" }) } }
        return try promise.get("the answer to a command")
    }
}

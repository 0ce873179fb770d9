import ControlProtocol
import Glibc
import Host
import LocalHost
import Platform
import SeededNumbers
import Specification
import TestTools
import Testing

@testable import Coordinator

extension Built {
    /// The emulator whose state has versions.
    static func versioned(_ version: Int, accepts: String = "1,2", _ fault: String? = nil) -> EmulatorSpecification {
        var emulator = tough("versioned")
        emulator.program = program("demux-test-emulator")
        emulator.arguments = ["versioned", "\(version)", accepts] + (fault.map { [$0] } ?? [])
        return emulator
    }

    static func change(to version: Int, accepts: String = "1,2", _ fault: String? = nil, within milliseconds: Int? = nil) -> ProgramChange {
        let wanted = versioned(version, accepts: accepts, fault)
        return ProgramChange(program: wanted.program, arguments: wanted.arguments, successorWithinMilliseconds: milliseconds)
    }
}

@Suite("A program in another one's place")
struct ReplacementTests {
    static let ways = [false, true]

    private func isDone(_ reply: ControlReply) -> Bool { if case .done = reply { true } else { false } }
    private func failure(_ reply: ControlReply) -> String { if case .failed(let reason) = reply { reason } else { "it was replaced" } }

    /// Runs something while two vCPUs count, and looks that nothing was wrong.
    private func underLoad(
        _ emulator: EmulatorSpecification = Built.versioned(1), throughRelay: Bool = false, _ body: (Guest, CounterLoad) throws -> Void
    ) throws {
        try withGuest([emulator], vcpus: 3, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let load = try CounterLoad(guest, vcpus: 2)
            try load.go(on: 10)
            try body(guest, load)
            try load.go(on: 10)
            let (troubles, _) = try load.stop()
            #expect(troubles == [])
            let sum = try guest.vcpu().read(port: 0x514, size: 4)
            #expect(sum == UInt64(truncatingIfNeeded: load.count) & 0xffff_ffff, "\(load.count) were written")
            #expect(try guest.emulator("versioned").parked == nil)
        }
    }

    @Test("to and fro between two builds under load: no value is wrong, and the guest sees a pause", arguments: ways)
    func toAndFro(throughRelay: Bool) throws {
        let rounds = thorough > 1 ? 100 : 10
        try underLoad(throughRelay: throughRelay) { guest, load in
            let claims = try guest.emulator("versioned").claims
            var pauses: [Int] = []
            for round in 0..<rounds {
                let reply = try guest.ask(.replace(name: "versioned", change: Built.change(to: round % 2 == 0 ? 2 : 1)))
                guard case .done(let text) = reply else {
                    Issue.record("\(reply)")
                    return
                }
                pauses.append(text.split(separator: " ").compactMap { Int($0) }.last ?? -1)
                try load.go(on: 5)
                #expect(try guest.vcpu(2).read(port: 0x510, size: 4) == (round % 2 == 0 ? 2 : 1), "the other build serves")
            }
            let status = try guest.emulator("versioned")
            #expect(status.replacements == rounds && status.restarts == nil && status.claims == claims)
            let sorted = pauses.sorted()
            print("\(rounds) replacements\(throughRelay ? " through the relay" : ""): pauses of \(sorted[0]) to \(sorted[rounds - 1]) µs, half of them within \(sorted[rounds / 2]) µs")
        }
    }

    @Test("a program that does not accept the state's version is refused, and the old one never stops", arguments: ways)
    func version(throughRelay: Bool) throws {
        try underLoad(throughRelay: throughRelay) { guest, _ in
            let pid = try guest.process("versioned").pid
            let reason = failure(try guest.ask(.replace(name: "versioned", change: Built.change(to: 3, accepts: "3"))))
            #expect(reason.contains("goes on as it was") && reason.contains("version 1, which this program does not accept"))
            #expect(try guest.process("versioned") == (pid, true))
        }
    }

    @Test(
        "one that fails on its way leaves the old one its claims, its state and the guest",
        arguments: [("gives-up", false), ("gives-up", true), ("dies", false), ("dies", true), ("more", false), ("more", true), ("slow", false), ("slow", true)])
    func fails(fault: String, throughRelay: Bool) throws {
        try underLoad(throughRelay: throughRelay) { guest, load in
            let before = try guest.emulator("versioned")
            let reason = failure(try guest.ask(.replace(name: "versioned", change: Built.change(to: 2, fault, within: fault == "slow" ? 200 : nil))))
            #expect(reason.contains("goes on as it was"), "\(reason)")
            try load.go(on: 10)
            let after = try guest.emulator("versioned")
            #expect(after.pid == before.pid && after.state == "serving" && after.claims == before.claims && after.program == before.program)
            // And it can still be replaced.
            #expect(isDone(try guest.ask(.replace(name: "versioned", change: Built.change(to: 2)))))
        }
    }

    @Test(
        "one with another state, none, or other claims is refused in words that say what differs, and the guest keeps its device",
        arguments: [
            ("stateless", "which this program would not go on from"), ("larger", "bytes; use a program with as many"), ("fewer", "has ports 0x500-0x51f there, and serves"), ("none", "it does not claim ports 0x500-0x51f (registers)"),
            ("elsewhere", "has ports 0x500-0x51f there, and serves"), ("besides", "it claims besides ports 0x520-0x523 (besides)"),
        ], ways)
    func differs(program: (fault: String, words: String), throughRelay: Bool) throws {
        try underLoad(throughRelay: throughRelay) { guest, load in
            let before = try guest.emulator("versioned")
            let reason = failure(try guest.ask(.replace(name: "versioned", change: Built.change(to: 2, program.fault))))
            #expect(reason.contains("goes on as it was") && reason.contains(program.words), "\(reason)")
            try load.go(on: 10)
            let after = try guest.emulator("versioned")
            #expect(after.pid == before.pid && after.state == "serving" && after.claims == before.claims)
        }
    }

    @Test("a state where there was none is refused as well")
    func stateFromNowhere() throws {
        var stateless = Built.versioned(1, "stateless")
        stateless.restart = .never
        try withGuest([stateless]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let pid = try guest.process("versioned").pid
            let reason = failure(try guest.ask(.replace(name: "versioned", change: Built.change(to: 1))))
            #expect(reason.contains("the one that serves keeps none"), "\(reason)")
            #expect(try guest.process("versioned") == (pid, true))
        }
    }

    @Test("one that dies of the first request is followed by the old program", arguments: ways)
    func poisoned(throughRelay: Bool) throws {
        try underLoad(throughRelay: throughRelay) { guest, load in
            let reply = try guest.ask(.replace(name: "versioned", change: Built.change(to: 1, "poisoned")))
            // Both vCPUs wait in the server when it is told to start, so that it cannot say that it serves.
            #expect(failure(reply).contains("the old program is started again"))
            try load.go(on: 10)
            #expect(try guest.emulator("versioned").program == Built.versioned(1).program && guest.emulator("versioned").restarts == 1)
        }
    }

    @Test("while it is under way the old one can die, and somebody serves all the same", arguments: ways)
    func oldDies(throughRelay: Bool) throws {
        try underLoad(throughRelay: throughRelay) { guest, load in
            var dice = SplitMix(state: 11)
            for _ in 0..<5 * thorough {
                let connection = try ControlConnection(guest.folder.path + "/7/control.sock")
                let pid = try guest.process("versioned").pid
                try connection.socket.send(ControlCodec.encode(ControlRequest.replace(name: "versioned", change: Built.change(to: 2))))
                RandomMoment.pass(upTo: 20_000, &dice)
                _ = kill(pid, SIGKILL)
                _ = try connection.receive()
                try guest.successor(of: pid, "versioned")
                try load.go(on: 5)
            }
        }
    }

    @Test("an old one that is stopped is not replaced, and goes on when it can")
    func stopped() throws {
        try underLoad { guest, load in
            let pid = try guest.process("versioned").pid
            _ = kill(pid, SIGSTOP)
            let reason = failure(try guest.ask(.replace(name: "versioned", change: Built.change(to: 2, within: 100))))
            #expect(reason.contains("has not finished what it had taken within 100 ms"), "\(reason)")
            _ = kill(pid, SIGCONT)
            try load.go(on: 10)
            #expect(try guest.process("versioned") == (pid, true))
        }
    }

    @Test("one that is taken away while it is being replaced is gone, and so is the other")
    func detached() throws {
        try withGuest([Built.versioned(1)]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let connection = try ControlConnection(guest.folder.path + "/7/control.sock")
            try connection.socket.send(ControlCodec.encode(ControlRequest.replace(name: "versioned", change: Built.change(to: 2, "slow"))))
            try eventually("the old one stands still") { try guest.emulator("versioned").state == "paused" }
            #expect(try guest.ask(.detach(name: "versioned")) == .done("emulator 'versioned' was detached"))
            #expect(failure(try connection.receive()).contains("taken away"))
            #expect(try guest.status.emulators.isEmpty)
        }
    }

    @Test("only one that serves is replaced, by one at a time")
    func refused() throws {
        try withGuest([Built.versioned(1)], vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(failure(try guest.ask(.replace(name: "nobody", change: Built.change(to: 2)))).contains("no emulator 'nobody'"))
            #expect(failure(try guest.ask(.replace(name: "vnc", change: Built.change(to: 2)))).contains("is an exporter"))
            #expect(failure(try guest.ask(.replace(name: "versioned", change: ProgramChange(program: "/nowhere/at-all")))).contains("/nowhere/at-all"))
            let connection = try ControlConnection(guest.folder.path + "/7/control.sock")
            try connection.socket.send(ControlCodec.encode(ControlRequest.replace(name: "versioned", change: Built.change(to: 2, "slow"))))
            try eventually("the old one stands still") { try guest.emulator("versioned").state == "paused" }
            let again = failure(try guest.ask(.replace(name: "versioned", change: Built.change(to: 2))))
            #expect(again.contains("only one that serves") || again.contains("already"))
        }
    }
}

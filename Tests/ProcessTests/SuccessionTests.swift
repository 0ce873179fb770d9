import ControlProtocol
import Glibc
import Host
import LocalHost
import Platform
import Specification
import Testing

@testable import Coordinator

extension Guest {
    /// The process that an emulator has now, and whether it serves.
    func process(_ name: String) throws -> (pid: pid_t, serves: Bool) {
        try onLoop { coordinator in
            guard let session = coordinator.sessions.first(where: { $0.name == name }) else { return (0, false) }
            return (session.process?.pid ?? 0, session.state == .serving)
        }
    }

    /// Waits until an emulator serves in another process than this one.
    @discardableResult
    func successor(of pid: pid_t, _ name: String = "scratch") throws -> pid_t {
        var now: pid_t = 0
        try eventually("a successor of \(name) serves") {
            let process = try process(name)
            now = process.pid
            return process.serves && now != pid
        }
        return now
    }
}

extension Built {
    /// Scratch that is started again at once, however often it dies, and whose accesses wait for as long as that takes.
    static func tough(_ name: String = "scratch") -> EmulatorSpecification {
        var scratch = scratch(name)
        scratch.restart = .onFailure
        scratch.restartLimit = 100_000
        scratch.restartDelayMilliseconds = 0
        scratch.successorWithinMilliseconds = 60_000
        return scratch
    }
}

@Suite("A dead emulator's successor")
struct SuccessionTests {
    /// LocalHost's own pages, and a relay's as on Xen.
    static let ways = [false, true]

    @Test("killed at random moments under load: every value is right, no write is lost or doubled, nothing hangs", arguments: ways)
    func killed(throughRelay: Bool) throws {
        let kills = thorough > 1 ? 5000 : 50
        try withGuest([Built.tough()], vcpus: 2, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let load = try CounterLoad(guest, vcpus: 2)
            try load.go(on: 10)
            var dice = Dice(throughRelay ? 7 : 5)
            var pid = try guest.process("scratch").pid
            for _ in 0..<kills {
                // Now and then a successor that has not got to serve.
                if dice.below(5) > 0 { try guest.successor(of: 0) }
                usleep(UInt32(dice.below(3000)))
                pid = try guest.process("scratch").pid
                try #require(pid > 1)
                _ = kill(pid, SIGKILL)
            }
            try guest.successor(of: pid)
            try load.go(on: 10)
            let (troubles, longest) = try load.stop()
            #expect(troubles == [])
            let sum = try guest.vcpu().read(port: 0x514, size: 4)
            #expect(sum == UInt64(truncatingIfNeeded: load.count) & 0xffff_ffff, "\(load.count) were written")
            #expect(try guest.emulator("scratch").parked == nil)
            print("\(kills) kills\(throughRelay ? " through the relay" : ""), \(load.count) rounds, the longest of three accesses \(longest / 1000) µs")
        }
    }
}

import ControlProtocol
import Dispatch
import Glibc
import Host
import LocalHost
import Platform
import SeededNumbers
import Specification
import TestTools
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
            var dice = SplitMix(state: throughRelay ? 7 : 5)
            var pid = try guest.process("scratch").pid
            for _ in 0..<kills {
                // Now and then a successor that has not got to serve.
                if dice.next() % 5 > 0 { try guest.successor(of: 0) }
                RandomMoment.pass(upTo: 3000, &dice)
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

    @Test("one that hangs and is then killed loses nothing", arguments: ways)
    func stopped(throughRelay: Bool) throws {
        try withGuest([Built.tough()], vcpus: 2, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let load = try CounterLoad(guest, vcpus: 2)
            var dice = SplitMix(state: 3)
            for _ in 0..<5 * thorough {
                try load.go(on: 5)
                let pid = try guest.process("scratch").pid
                _ = kill(pid, SIGSTOP)
                RandomMoment.pass(upTo: 5000, &dice)
                _ = kill(pid, SIGKILL)
                try guest.successor(of: pid)
            }
            try finish(guest, load)
        }
    }

    @Test("a successor that fails three times on its way up is followed by one that does not", arguments: ways)
    func failsThrice(throughRelay: Bool) throws {
        let folder = try TemporaryFolder()
        try folder.write("4\n", to: "left")
        // The first one serves at once; after it three fail, each in another way.
        let script = """
            #!/bin/sh
            left=$(cat \(folder.path)/left)
            echo $((left - 1)) > \(folder.path)/left
            case $left in
            3) exit 7 ;;
            2) kill -9 $$ ;;
            1) exec \(Built.program("demux-test-emulator")) close ;;
            *) exec \(Built.program("demux-scratch")) ;;
            esac

            """
        var scratch = Built.tough()
        scratch.program = try folder.write(script, to: "scratch", mode: 0o755)
        try withGuest([scratch], vcpus: 2, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let load = try CounterLoad(guest, vcpus: 2)
            try load.go(on: 10)
            _ = kill(try guest.process("scratch").pid, SIGKILL)
            try eventually("somebody serves") { try guest.emulator("scratch").restarts == 1 }
            try load.go(on: 10)
            try finish(guest, load)
            #expect(try guest.log.filter { $0.contains("did not start") }.count == 3)
        }
    }

    @Test("a program that from then on exits at once is given up, and the guest does not wait for it", arguments: ways)
    func exitsAtOnce(throughRelay: Bool) throws {
        let folder = try TemporaryFolder()
        var scratch = Built.tough()
        scratch.restartLimit = 10
        scratch.program = try folder.write("#!/bin/sh\n[ -e \(folder.path)/bad ] && exit 0\nexec \(Built.program("demux-scratch"))\n", to: "scratch", mode: 0o755)
        try withGuest([scratch], vcpus: 2, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let load = try CounterLoad(guest, vcpus: 2, parking: true)
            try load.go(on: 10)
            try folder.write("", to: "bad")
            _ = kill(try guest.process("scratch").pid, SIGKILL)
            try eventually("it is given up") { try guest.emulator("scratch").state.hasPrefix("parked: did not start") }
            let ones = load.allOnes
            try load.go(on: 100)
            #expect(load.allOnes > ones)
            #expect(try load.stop().troubles == [])
            #expect(try guest.log.contains { $0.contains("is parked: it died more than 10 times within a minute") })
            // By hand, with a program that works, it goes on with what it knew.
            #expect(try guest.vcpu().read(port: 0x514, size: 4) == 0xffff_ffff)
            var good = Built.tough()
            good.mode = throughRelay ? .isolated : nil
            #expect(try guest.attach(good) == .done("emulator 'scratch' serves"))
            #expect(try guest.vcpu().read(port: 0x514, size: 4) != 0xffff_ffff)
        }
    }

    @Test("without a successor in time the coordinator answers, says so, and hands over to the one that comes", arguments: ways)
    func parked(throughRelay: Bool) throws {
        let folder = try TemporaryFolder()
        var scratch = Built.tough()
        scratch.successorWithinMilliseconds = 20
        // Each one after the first waits for leave to begin.
        scratch.program = try folder.write(
            "#!/bin/sh\nwhile [ ! -e \(folder.path)/go ]; do sleep 0.01; done\nexec \(Built.program("demux-scratch"))\n", to: "scratch", mode: 0o755)
        try folder.write("", to: "go")
        try withGuest([scratch], vcpus: 3, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let load = try CounterLoad(guest, vcpus: 2, parking: true)
            for round in 1...3 {
                let ones = load.allOnes
                try load.go(on: 10)
                #expect(try guest.vcpu(2).read(port: 0x510, size: 4) == Place.scratch, "it serves")
                unlink(folder.path + "/go")
                _ = kill(try guest.process("scratch").pid, SIGKILL)
                try eventually("the coordinator answers") { load.allOnes > ones + 10 }
                try guest.vcpu(2).invalidate()
                let status = try guest.emulator("scratch")
                #expect(status.state == "parked: starting" && (status.parked ?? 0) > 0 && status.claims.count == 3)
                try folder.write("", to: "go")
                try eventually("it is back") { try guest.emulator("scratch").restarts == round }
            }
            try load.go(on: 10)
            #expect(try load.stop().troubles == [])
            #expect(try guest.log.contains { $0.contains("the coordinator answers in its place") })
        }
    }

    @Test("posted writes that no process had carried out are its successor's, none twice", arguments: ways)
    func posted(throughRelay: Bool) throws {
        var scratch = Built.tough()
        scratch.options = ["mmio": "0xa0000"]
        try withGuest([scratch], plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            let total = 300 * thorough
            // Writes to the legacy window are posted: the vCPU does not wait, and a sum shows each. It goes on by sixteen with each death.
            let deaths = DispatchSemaphore(value: 0)
            deaths.signal()
            let run = onThread { () -> Bool in
                for number in 0..<total {
                    guard (try? vcpu.writeMemory(GuestAddress(0xa0014), size: 4, value: 1)) != nil else { return false }
                    if number % 16 == 0 { deaths.wait() }
                }
                return true
            }
            var dice = SplitMix(state: 9)
            while !run.isFulfilled {
                let pid = try guest.successor(of: 0)
                RandomMoment.pass(upTo: 2000, &dice)
                _ = kill(pid, SIGKILL)
                deaths.signal()
                try guest.successor(of: pid)
            }
            #expect(try run.get("the vCPU"))
            #expect(try vcpu.readMemory(GuestAddress(0xa0014), size: 4) == UInt64(total))
        }
    }

    private func finish(_ guest: Guest, _ load: CounterLoad, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let (troubles, _) = try load.stop()
        #expect(troubles == [], sourceLocation: sourceLocation)
        #expect(try guest.vcpu().read(port: 0x514, size: 4) == UInt64(truncatingIfNeeded: load.count) & 0xffff_ffff, sourceLocation: sourceLocation)
        #expect(try guest.emulator("scratch").parked == nil, sourceLocation: sourceLocation)
    }
}

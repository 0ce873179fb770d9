import ControlProtocol
import Glibc
import Host
import LocalHost
import Platform
import Specification
import TestTools
import Testing
import Watch

@testable import Coordinator

/// The built watchdog with guests that have an emulator which stops, as real processes.
@Suite("Emulators that hang")
struct WatchdogTests {
    private func scratch(_ policy: HungPolicy?, restart: RestartPolicy? = nil) -> EmulatorSpecification {
        var emulator = Built.scratch()
        emulator.restart = restart
        emulator.whenHung = policy
        emulator.hungAfterMilliseconds = 1000
        return emulator
    }

    /// Makes an access that nobody answers: its emulator was stopped.
    private func stop(_ guest: Guest, _ name: String = "scratch") throws -> (pid: pid_t, access: Promise<Bool>) {
        let pid = try guest.emulator(name).pid
        #expect(kill(pid, SIGSTOP) == 0)
        let vcpu = try guest.vcpu()
        return (pid, onThread { (try? vcpu.write(port: 0x500, size: 4, value: 0x77)) != nil })
    }

    @Test("a stopped emulator is found, named with its request, killed, and another takes its place", arguments: [false, true])
    func restarted(relayed: Bool) throws {
        try withGuest([scratch(nil, restart: .onFailure)], plain: relayed, watchdog: true) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let stopped = try stop(guest)
            try eventually("another process serves") {
                let now = try guest.emulator("scratch")
                return now.pid != stopped.pid && now.state == "serving" && now.restarts == 1
            }
            let log = try guest.log.joined(separator: "\n")
            #expect(log.contains("emulator 'scratch' hangs: a port write of 4 bytes at 0x500 on slot 0 has waited for"), "\(log)")
            #expect(log.contains("was killed by signal 9"))
            _ = try stopped.access.get("the access that hung")
        }
    }

    @Test("with 'report' it is only said, in log and status, and taken back when it goes on")
    func reported() throws {
        try withGuest([scratch(.report, restart: .onFailure)], watchdog: true) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let stopped = try stop(guest)
            try eventually("it is said") { try guest.emulator("scratch").state.hasPrefix("hung: a port write of 4 bytes at 0x500 for ") }
            #expect(try guest.emulator("scratch").hung?.slot == 0)
            #expect(kill(stopped.pid, SIGCONT) == 0)
            _ = try stopped.access.get("the access that hung")
            try eventually("it is taken back") { try guest.emulator("scratch").state == "serving" }
            #expect(try guest.emulator("scratch").pid == stopped.pid)
        }
    }

    @Test("an emulator that nobody restarts is reported")
    func byDefault() throws {
        try withGuest([scratch(nil, restart: .never)], watchdog: true) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let stopped = try stop(guest)
            try eventually("it is said") { try guest.emulator("scratch").hung != nil }
            #expect(kill(stopped.pid, SIGCONT) == 0)
            _ = try stopped.access.get("the access that hung")
        }
    }

    private func exporter(_ policy: HungPolicy?) -> VNCSpecification {
        var exporter = Built.exporter()
        exporter.whenHung = policy
        exporter.hungAfterMilliseconds = 1000
        return exporter
    }

    @Test("a stopped VNC server is found when somebody asks for the status, killed, and another takes its place")
    func exporterRestarted() throws {
        try withGuest([], vnc: exporter(nil)) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let first = try guest.emulator("vnc").pid
            #expect(kill(first, SIGSTOP) == 0)
            _ = try guest.ask(.status)
            try eventually("another process serves") {
                let now = try guest.emulator("vnc")
                return now.pid != first && now.state == "serving" && now.restarts == 1
            }
            #expect(try guest.log.joined(separator: "\n").contains("emulator 'vnc' hangs: a question of the coordinator has waited for 1 s; it is killed"))
        }
    }

    @Test("while a viewer is connected nobody has to ask")
    func exporterWithViewer() throws {
        try withGuest([], vnc: exporter(.report)) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.view("status") == "ok")
            try eventually("its viewer is known") { try guest.status.vnc?.clients.count == 1 }
            let pid = try guest.emulator("vnc").pid
            #expect(kill(pid, SIGSTOP) == 0)
            try eventually("it is said") { try guest.emulator("vnc").state.hasPrefix("hung: a question of the coordinator for ") }
            #expect(try guest.emulator("vnc").hung?.slot == nil)
            #expect(kill(pid, SIGCONT) == 0)
            try eventually("it is taken back") { try guest.emulator("vnc").state == "serving" }
            #expect(try guest.emulator("vnc").pid == pid)
        }
    }

    @Test("a watchdog that is killed is started again, and is told again who serves")
    func watchdogKilled() throws {
        try withGuest([scratch(.report, restart: .onFailure)], watchdog: true) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            func watchdog() throws -> pid_t? {
                guard let socket = try? MessageSocket(connectingTo: WatchSocket.path(base: guest.folder.path)) else { return nil }
                return try UnixSocket.peer(of: socket.descriptor.raw).pid
            }
            try eventually("there is a watchdog") { try watchdog() != nil }
            let first = try #require(try watchdog())
            #expect(kill(first, SIGKILL) == 0)
            try eventually("there is another") { try watchdog().map { $0 != first } ?? false }
            let stopped = try stop(guest)
            try eventually("it is said") { try guest.emulator("scratch").hung != nil }
            #expect(kill(stopped.pid, SIGCONT) == 0)
            _ = try stopped.access.get("the access that hung")
        }
    }

    @Test("whoever can read the run directory cannot keep the watchdog away by locking it")
    func lockedByOthers() throws {
        var raw: CInt = -1
        defer { close(raw) }
        try withGuest([scratch(.report)], watchdog: true, before: { coordinator in
            raw = open(String(coordinator.settings.directory.dropLast(2)), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            #expect(flock(raw, LOCK_EX | LOCK_NB) == 0)
        }) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("there is a watchdog") { access(WatchSocket.path(base: guest.folder.path), F_OK) == 0 }
        }
    }

    @Test("the watchdog ends with the last guest, and leaves no socket")
    func ends() throws {
        let folder: TemporaryFolder
        do {
            let guest = try Guest([scratch(nil)], watchdog: true)
            folder = guest.folder
            #expect(try guest.start() == [])
            try eventually("there is a watchdog") { access(folder.path + "/watchdog.sock", F_OK) == 0 }
            try guest.end()
        }
        try eventually("it is gone") { access(folder.path + "/watchdog.sock", F_OK) != 0 }
    }
}

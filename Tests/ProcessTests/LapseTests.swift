import ControlProtocol
import Glibc
import Host
import LocalHost
import Platform
import Specification
import TestTools
import Testing

@testable import Coordinator

/// Emulators that make one mistake with their slots: no vCPU waits for ever because of it, and the log says what the mistake was.
@Suite("Emulators that leave a slot as nobody should")
struct LapseTests {
    private func emulator(_ lapse: String, relayed: Bool, reformedBy path: String? = nil) -> EmulatorSpecification {
        var emulator = Built.test("lapse")
        emulator.arguments += [lapse] + (relayed ? [] : ["pointers"]) + (path.map { [$0] } ?? [])
        emulator.restart = path == nil ? .never : .onFailure
        emulator.hungAfterMilliseconds = 1000
        // Whoever comes answers, however busy the machine is: nobody else does in its place.
        emulator.successorWithinMilliseconds = 60_000
        return emulator
    }

    private func read(_ guest: Guest) throws -> Promise<UInt64?> {
        let vcpu = try guest.vcpu()
        return onThread { try? vcpu.read(port: 0x700, size: 1) }
    }

    @Test("an answer that nobody rang for arrives, and log and status say so", arguments: [true, false])
    func forgottenBell(relayed: Bool) throws {
        try withGuest([emulator("forgets", relayed: relayed)], plain: relayed) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            // An answer that comes while a vCPU still spins for it needs no ring, and is none that was forgotten.
            try eventually("they are counted") {
                #expect(try read(guest).get("the access that nobody rang for") == 0x5a)
                return (try guest.emulator("test").faults?["forgotten-bell"] ?? 0) >= 3
            }
            let lines = try guest.log.filter { $0.contains("emulator 'test': it has answered on slot 0 without ringing") }
            #expect(!lines.isEmpty && lines.count < 3, "one is told at once, the others in ten seconds at the earliest: \(lines)")
            #expect(try guest.emulator("test").state == "serving")
        }
    }

    @Test("behind a relay a slot in a state that is none gives the guest all-ones where nobody restarts the emulator", arguments: ["seven", "seven-rings"])
    func noState(lapse: String) throws {
        try withGuest([emulator(lapse, relayed: true)], plain: true) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try read(guest).get("the access whose slot is in no state") == 0xff)
            #expect(try guest.emulator("test").faults?["invalid-slot-state"] == 1)
            #expect(try guest.log.contains { $0.contains("it has left slot 0 with state 7, which is none: a port read of 1 bytes at 0x700") })
        }
    }

    @Test("and where somebody does, its process is ended, and its successor answers", arguments: ["seven", "seven-rings"])
    func noStateRestarted(lapse: String) throws {
        let folder = try TemporaryFolder()
        try withGuest([emulator(lapse, relayed: true, reformedBy: folder.path + "/reformed")], plain: true) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try read(guest).get("the access whose slot was in no state") == 0x5a)
            #expect(try guest.emulator("test").restarts == 1)
        }
    }

    @Test("on the host's own pages it ends the guest with words, as Xen does, and no vCPU waits", arguments: ["seven", "seven-rings"])
    func noStateOnHostPages(lapse: String) throws {
        try withGuest([emulator(lapse, relayed: false)]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try read(guest).get("the access whose slot is in no state") == nil)
            #expect(guest.host.crashReason?.contains("weird state 7") == true, "\(guest.host.crashReason ?? "it runs")")
        }
    }

    @Test(
        "a request that stays in its slot, rung for or not, is found by the watchdog, and the successor answers it", arguments: ["keeps", "rings"], [true, false])
    func neverAnswered(lapse: String, relayed: Bool) throws {
        let folder = try TemporaryFolder()
        try withGuest([emulator(lapse, relayed: relayed, reformedBy: folder.path + "/reformed")], plain: relayed, watchdog: true) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try read(guest).get("the access that was not answered") == 0x5a)
            #expect(try guest.log.contains { $0.contains("emulator 'test' hangs: a port read of 1 bytes at 0x700 on slot 0 has waited for") })
        }
    }

    @Test("a message that is none, of no known type, or a broken answer is told once and counted each time")
    func gibberish() throws {
        try withGuest([Built.test("gibberish")]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("they are counted") { try guest.emulator("test").faults?["malformed-message"] == 4 }
            let lines = try guest.log.filter { $0.contains("emulator 'test': it sent a message that is malformed or of an unknown type") }
            #expect(lines.count == 1, "\(lines)")
            #expect(try guest.emulator("test").state == "serving")
        }
    }

    @Test("what is no request on the control socket is refused, told and counted")
    func noRequest() throws {
        try withGuest([]) { (guest: Guest) throws in
            let connection = try ControlConnection(guest.folder.path + "/7/control.sock")
            for text in ["rubbish", "{\"teleport\":{}}"] {
                try connection.socket.send(Array(text.utf8))
                guard case .failed = try connection.receive() else {
                    Issue.record("it was taken for a request")
                    return
                }
            }
            #expect(try guest.status.faults == ["malformed-message": 2])
            #expect(try guest.log.count { $0.contains("the control socket: process \(getpid()) sent what is no request") } == 1)
        }
    }
}

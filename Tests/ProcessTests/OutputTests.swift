import ControlProtocol
import Glibc
import Platform
import Testing

@testable import Coordinator

@Suite("What emulators write to standard output and error")
struct OutputTests {
    @Test("it is in the guest's log under the emulator's name, escaped, and what comes too fast is left out")
    func logged() throws {
        try withGuest([Built.test("speaks")]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            try vcpu.write(port: 0x700, size: 4, value: 1)
            try eventually("both lines are there") { try guest.log.contains { $0.hasSuffix("info test: 2026-01-01T00:00:00+0000 info demux: forged\\x1b[2J") } }
            #expect(try guest.log.contains { $0.hasSuffix("info test: heard") })
            try vcpu.write(port: 0x700, size: 4, value: 2)
            #expect(try guest.log.count < 1000)
            #expect(try guest.emulator("test").state == "serving")
        }
    }

    @Test("what one writes right before it dies is not lost, and stands before its end")
    func lastWords() throws {
        try withGuest([Built.test("speaks")]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.vcpu().write(port: 0x700, size: 4, value: 3)
            try eventually("its end is known") { try guest.emulator("test").state.hasPrefix("ended") }
            let log = try guest.log
            let words = try #require(log.firstIndex { $0.hasSuffix("test: last words without an end") })
            let end = try #require(log.firstIndex { $0.contains("'test' was killed by signal 9") })
            #expect(words < end)
        }
    }

    @Test("of a program that ends without a word to the coordinator, its last line is the reason")
    func reason() throws {
        let shell = Built.shell("echo one; echo the disk is missing >&2; exit 3")
        try withGuest([shell]) { (guest: Guest) throws in
            #expect(try guest.start().joined().hasSuffix("it exited with status 3 before it was ready: the disk is missing"))
        }
    }
}

import EmulatorProtocol
import Glibc
import Host
import Testing

@testable import EmulatorKit
@testable import demux_debug

@Suite("Debug, served")
struct DebugTests {
    private func print(_ guest: Harness<Debug>, _ text: String, port: UInt64 = 0x402) {
        for byte in text.utf8 { guest.write(port: port, UInt64(byte)) }
    }

    private func lines(_ guest: Harness<Debug>) -> [String] {
        guest.coordinator.takeReceived().compactMap { if case .log(let log) = $0, log.level == .guest { log.message } else { nil } }
    }

    @Test("a read of either port says that somebody listens")
    func presence() throws {
        let guest = try Harness(Debug.self, FakeCoordinator())
        #expect(guest.read(port: 0xe9) == 0xe9)
        #expect(guest.read(port: 0x402) == 0xe9)
    }

    @Test("each line becomes one message, each port has its own line")
    func perPort() throws {
        let guest = try Harness(Debug.self, FakeCoordinator())
        for byte in "ab\r\n".utf8 {
            guest.write(port: 0x402, UInt64(byte))
            guest.write(port: 0xe9, UInt64(byte))
        }
        #expect(lines(guest) == ["ab", "ab"])
    }

    @Test("what could change a terminal is written out, and a long line is cut")
    func escapes() throws {
        let guest = try Harness(Debug.self, FakeCoordinator())
        print(guest, "\u{1b}[31m\\ \u{7}\n")
        #expect(lines(guest) == ["\\x1b[31m\\\\ \\x07"])
        print(guest, String(repeating: "x", count: 300) + "\n")
        #expect(lines(guest).map(\.count) == [256, 44])
    }

    @Test("a line without an end comes out after a while, and when the emulator stops")
    func flushes() throws {
        let guest = try Harness(Debug.self, FakeCoordinator())
        print(guest, "PASS")
        #expect(lines(guest) == [])
        #expect(waitUntil {
            guest.turn(1)
            return guest.coordinator.logLines == ["PASS"]
        })
        _ = lines(guest)
        print(guest, "half")
        guest.coordinator.send(Packet(.quit, id: 9))
        guest.turn()
        #expect(lines(guest) == ["half"])
    }

    @Test("a guest that prints without pause cannot flood the log")
    func flood() throws {
        let guest = try Harness(Debug.self, FakeCoordinator())
        let bytes = FakeCoordinator.ramBase
        guest.coordinator.ram?.initializeMemory(as: UInt8.self, repeating: 0x0a, count: FakeCoordinator.ramLength)
        for _ in 0..<20 {
            _ = guest.ask(IORequest(kind: .portIO, direction: .write, address: 0x402, data: bytes, size: 1, count: 4096, dataIsPointer: true))
        }
        // A thousand at once, a hundred a second afterwards: far fewer than the 80,000 printed, however slow the machine.
        #expect(lines(guest).count < 20_000)
    }

    @Test("lines are appended to the file, up to its limit")
    func file() throws {
        let path = "/tmp/demux-debug-test-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        defer { unlink(path) }
        do {
            let guest = try Harness(Debug.self, FakeCoordinator(options: ["file": path, "limit": "4096", "ports": "0x402"]))
            print(guest, "first\n")
            for _ in 0..<30 { print(guest, String(repeating: "y", count: 200) + "\n") }
            #expect(guest.coordinator.logLines.contains { $0.contains("takes no more") })
        }
        let text = try #require(contents(path))
        #expect(text.hasPrefix("first\nyyy"))
        #expect(text.hasSuffix("y\n(the log is full)\n"))
        #expect(text.utf8.count < 4200)
    }

    @Test("a file that cannot be opened, and ports that are none, end the start with what to do")
    func badOptions() throws {
        #expect(throws: SetupError.self) { try Harness(Debug.self, FakeCoordinator(options: ["file": "/nowhere/x"])) }
        #expect(throws: SetupError.self) { try Harness(Debug.self, FakeCoordinator(options: ["ports": "0xe9,zz"])) }
    }

    private func contents(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let bytes = [UInt8](unsafeUninitializedCapacity: 65536) { buffer, count in
            count = max(0, Glibc.read(descriptor, buffer.baseAddress, buffer.count))
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

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
        let guest = try Harness(Debug.self, FakeCoordinator(options: ["flush-after": "1"]))
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

    /// A coordinator that keeps the state, a new one or a predecessor's.
    private func keeper(after other: FakeCoordinator? = nil) throws -> FakeCoordinator {
        let coordinator = try FakeCoordinator()
        coordinator.state = (try FakeCoordinator.SharedBox(length: try KitState.wanted(deviceLength: Debug.stateLength)), true)
        if let other { coordinator.inherit(from: other) }
        return coordinator
    }

    @Test("a line that was begun is finished by a successor, whole, and a pause does not cut it")
    func successor() throws {
        let first = try Harness(Debug.self, keeper())
        print(first, "ker")
        first.coordinator.send(Packet(.pause, id: 8))
        first.turn()
        // For its replacement, or because the guest was saved.
        first.coordinator.send(Packet(.quit, id: 9))
        first.turn()
        #expect(lines(first) == [])
        let second = try Harness(Debug.self, keeper(after: first.coordinator))
        print(second, "nel: panic\nnext\n")
        #expect(lines(second) == ["kernel: panic", "next"])
    }

    @Test("a state of rubbish gives lines of a line's length, and traps nowhere")
    func rubbish() throws {
        let coordinator = try keeper()
        let guest = try Harness(Debug.self, coordinator)
        print(guest, "x")
        let box = try #require(coordinator.state?.memory)
        for seed in UInt8(1)...64 {
            let heir = try keeper(after: coordinator)
            for place in 0..<box.memory.length where place % 7 == Int(seed) % 7 { (box.base + place).storeBytes(of: seed &* 37 &+ UInt8(place & 0x7f), as: UInt8.self) }
            let second = try Harness(Debug.self, heir)
            print(second, "\n")
            #expect(lines(second).allSatisfy { $0.utf8.count <= 4 * Line.longest })
        }
    }

    @Test("a guest that prints slowly is not cut short: what counts is when it has added nothing for long")
    func slowly() {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Debug.stateLength, alignment: 16)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: Debug.stateLength)
        defer { memory.deallocate() }
        let state = StateRegion(bytes: memory, length: Debug.stateLength, isFresh: true, isKept: true, version: 1)
        var line = Line(state, place: 15, port: 0x402, now: 0)
        for (time, byte) in "slow\u{1b}".utf8.enumerated() {
            let isWhole = line.append(byte, now: UInt64(time) * 900_000_000)
            #expect(!isWhole && line.lastByte == UInt64(time) * 900_000_000)
        }
        // Another port's line does not go on with it; the same one's does.
        var again = Line(state, place: 15, port: 0x402, now: 0)
        let text = again.take()
        #expect(text == "slow\\x1b")
        _ = line.append(0x41, now: 0)
        #expect(Line(state, place: 15, port: 0xe9, now: 0).isEmpty)
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

import EmulatorProtocol
import Glibc
import Host
import Platform
import Testing

/// The built programs themselves, as a coordinator starts them.
@Suite("A real process")
struct StartTests {
    static func program(_ name: String) throws -> String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let length = readlink("/proc/self/exe", &buffer, buffer.count - 1)
        let path = String(decoding: buffer.prefix(max(length, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let folder = try #require(path.lastIndex(of: "/").map { path[...$0] })
        return folder + name
    }

    private func exit(of child: ChildProcess) -> ChildProcess.Exit? { child.wait(limit: .seconds(30)) }

    /// What the guest gets, once the process has answered.
    private func ask(_ coordinator: FakeCoordinator, _ request: IORequest, vcpu: Int = 0) -> UInt64? {
        guard coordinator.slots.submit(vcpu, request) else { return nil }
        coordinator.ringKick()
        var data: UInt64?
        _ = waitUntil {
            data = coordinator.slots.collect(vcpu)
            return data != nil
        }
        return data
    }

    static func start(_ name: String, _ coordinator: FakeCoordinator) throws -> ChildProcess {
        let child = try ChildProcess(
            program: try Self.program(name), arguments: [], environment: ["DEMUX_SOCKET": "3"],
            inherited: [ChildProcess.Inherited(ours: coordinator.theirs, theirs: 3)])
        close(coordinator.theirs)
        coordinator.serveSetup()
        return child
    }

    @Test("serves, sleeps, serves again, and ends with 0 when it is told to")
    func wholeLife() throws {
        let coordinator = try FakeCoordinator()
        let child = try Self.start("demux-scratch", coordinator)
        #expect(ask(coordinator, IORequest(kind: .portIO, direction: .read, address: 0x510, size: 4)) == 0x5452_4353)
        for round in 0..<1000 {
            _ = ask(coordinator, IORequest(kind: .portIO, direction: .write, address: 0x514, data: UInt64(round), size: 4), vcpu: round & 3)
            if round % 300 == 0 { usleep(2000) }
        }
        #expect(ask(coordinator, IORequest(kind: .portIO, direction: .read, address: 0x514, size: 4)) == 499_500)
        #expect(coordinator.counters.read(.requests) == 1002)
        coordinator.send(Packet(.quit, id: 7))
        #expect(exit(of: child) == .status(0))
        coordinator.read()
        #expect(coordinator.answered(7) == .ok(Reply()))
    }

    @Test("has no wake-ups while nothing happens")
    func idle() throws {
        let coordinator = try FakeCoordinator()
        let child = try Self.start("demux-example", coordinator)
        _ = ask(coordinator, IORequest(kind: .portIO, direction: .read, address: 0x603, size: 1))
        func switches() -> String? {
            let path = "/proc/\(child.pid)/status"
            guard let file = fopen(path, "r") else { return nil }
            defer { fclose(file) }
            var line = [CChar](repeating: 0, count: 256)
            while fgets(&line, 256, file) != nil {
                let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                if text.hasPrefix("voluntary_ctxt_switches") { return text }
            }
            return nil
        }
        // Whatever the last request stirred up settles first; then two looks a while apart find the same number.
        #expect(waitUntil {
            let before = switches()
            usleep(300_000)
            return before != nil && before == switches()
        })
        child.signal(SIGTERM)
        _ = exit(of: child)
    }

    @Test("started by hand it says how it is meant to be started, and exits with 2")
    func byHand() throws {
        let child = try ChildProcess(program: try Self.program("demux-example"), arguments: [], environment: [:])
        #expect(exit(of: child) == .status(2))
    }

    @Test("with a socket that is none, or a coordinator that goes away before the start, it exits with 1")
    func failures() throws {
        let child = try ChildProcess(program: try Self.program("demux-example"), arguments: [], environment: ["DEMUX_SOCKET": "77"])
        #expect(exit(of: child) == .status(1))
        let coordinator = try FakeCoordinator()
        let second = try ChildProcess(
            program: try Self.program("demux-example"), arguments: [], environment: ["DEMUX_SOCKET": "3"],
            inherited: [ChildProcess.Inherited(ours: coordinator.theirs, theirs: 3)])
        close(coordinator.theirs)
        coordinator.close()
        #expect(exit(of: second) == .status(1))
    }
}

import CLinux
import EmulatorProtocol
import Glibc
import Host
import Platform
import TestTools
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
        while true {
            if let data = coordinator.slots.collect(vcpu) { return data }
            guard Waiting.forEvent(on: coordinator.pages.done.descriptor.raw) else { return nil }
            coordinator.pages.done.clear()
        }
    }

    /// Whether a process waits for something, as its state in /proc says.
    private static func isAsleep(_ pid: pid_t) -> Bool {
        guard let file = try? Files.open("/proc/\(pid)/stat"), let bytes = try? Files.readAll(file.raw, limit: 4096, what: "a process's state") else { return false }
        // Behind the name, which may hold anything.
        return String(decoding: bytes, as: UTF8.self).split(separator: ")").last?.hasPrefix(" S") == true
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
            if round % 300 == 0 { #expect(Waiting.until { Self.isAsleep(child.pid) }) }
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
        // Whatever the last request stirred up settles first; then it is in a ppoll without a limit, from which only a descriptor wakes it. (The file
        // has the call's number and its arguments.)
        #expect(Waiting.until {
            guard let file = try? Files.open("/proc/\(child.pid)/syscall"), let bytes = try? Files.readAll(file.raw, limit: 4096, what: "a process's call") else {
                return false
            }
            let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
            return words.count > 3 && words[0] == "\(SYS_ppoll)" && words[3] == "0x0"
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

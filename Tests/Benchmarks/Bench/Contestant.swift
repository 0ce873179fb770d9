import Coordinator
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Logging
import Platform
import Specification

/// Where the servers under test have their registers and memory, and what a guest's RAM holds for the string operations.
enum Layout {
    static let ports: UInt16 = 0x500
    static let window: UInt64 = 0xfed8_0000
    /// Memory in the window begins there.
    static let windowMemory: UInt64 = 0x100
    static let buffer = GuestAddress(0x10000)
    static let ram: UInt64 = 2 << 20
}

/// A server in another process, and the guest's end of its page.
protocol Contestant: AnyObject {
    var guest: GuestEnd { get }
    var pid: pid_t { get }
    func end()
}

extension LocalHost {
    /// A guest for one contestant, with a buffer of known bytes in its RAM.
    static func forBenchmark() throws -> LocalHost {
        guard let domain = DomainID(1) else { throw BenchError("there is no domain 1") }
        let host = try LocalHost(domain: domain, vcpus: 1, memoryBytes: Layout.ram)
        var bytes = [UInt8](repeating: 0, count: 4096)
        for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: index &* 7) }
        guard bytes.withUnsafeBytes({ host.memory.write(Layout.buffer, from: $0) }) else { throw BenchError("the guest's RAM could not be written") }
        return host
    }
}

/// The Swift emulator as it always runs: a process that a coordinator has started.
final class SwiftContestant: Contestant {
    let guest: GuestEnd
    let pid: pid_t
    private let loop: EventLoop
    private let host: LocalHost
    private let coordinator: Coordinator

    /// - Parameters:
    ///   - program: demux-scratch's path.
    ///   - environment: what its process gets beside this one's.
    ///   - observes: whether it counts latencies, as it does outside benchmarks.
    init(program: String, environment: [String: String], observes: Bool = true) throws {
        loop = try EventLoop()
        host = try LocalHost.forBenchmark()
        var logger = Logger(label: "bench")
        logger.logLevel = .critical
        let emulator = EmulatorSpecification(name: "scratch", program: program, options: ["pci": "no"], readyWithinMilliseconds: 60_000)
        var settings = Coordinator.Settings(guestName: "bench", hostKind: "local", directory: "")
        settings.observes = observes
        coordinator = try Coordinator(
            loop: loop, host: host, specification: GuestSpecification(source: "bench", emulators: [emulator]), settings: settings, logger: logger)
        for (key, value) in environment { setenv(key, value, 1) }
        defer { for key in environment.keys { unsetenv(key) } }
        try coordinator.reserveServers()
        var failure: [String]? = []
        coordinator.startEmulators { [loop] reasons in
            failure = reasons
            loop.stop()
        }
        try loop.run()
        if let failure { throw BenchError("\(program) did not start: \(failure.joined(separator: "; "))") }
        guard let status = coordinator.status.emulators.first, let number = status.server, let server = ServerID(Int(number)) else {
            throw BenchError("\(program) has no ioreq server")
        }
        pid = status.pid
        guest = try GuestEnd(host.attachmentDescriptors(of: server))
    }

    /// Has it trace every request.
    func trace() { coordinator.setTracing(true) }

    func end() {
        coordinator.shutDown { [loop] in loop.stop() }
        try? loop.run()
        host.destroyDomain()
    }
}

/// The bare C loop on a page and doorbells of the same kind.
final class CContestant: Contestant {
    let guest: GuestEnd
    var pid: pid_t { child.pid }
    private let child: ChildProcess
    private let host: LocalHost

    init(program: String, spinMicroseconds: Int) throws {
        host = try LocalHost.forBenchmark()
        let server = try host.createServer(ring: false)
        try host.setServer(server, enabled: true)
        guest = try GuestEnd(host.attachmentDescriptors(of: server))
        let page = try host.attachmentDescriptors(of: server)
        let ram = try host.sharedMemory()
        // Doubled above the numbers that the child gets them under, so that none is overwritten before it was copied.
        let ours = try (page.raw + ram.descriptors.raw).map { raw -> OwnedBox in
            let copy = fcntl(raw, F_DUPFD_CLOEXEC, 64)
            guard copy >= 0 else { throw SystemError("duplicate", "descriptor \(raw)") }
            return OwnedBox(copy)
        }
        guard let ramDescriptor = ours.last, ours.count >= 4 else { throw BenchError("the host gave too few descriptors") }
        // The doorbells' mode belongs to the open file: the loop's read must not wait, as Swift's does not.
        var inherited = (0..<3).map { ChildProcess.Inherited(ours: ours[$0].raw, theirs: CInt(3 + $0)) }
        inherited.append(ChildProcess.Inherited(ours: ramDescriptor.raw, theirs: 6))
        child = try ChildProcess(
            program: program,
            arguments: ["\(Layout.ports)", "\(Layout.window)", "\(spinMicroseconds)", "1", "\(Layout.ram)"],
            inherited: inherited)
        withExtendedLifetime(ours) {}
    }

    func end() {
        child.signal(SIGTERM)
        _ = child.wait(limit: .seconds(10))
        host.destroyDomain()
    }
}

private final class OwnedBox {
    private let owned: OwnedDescriptor
    init(_ raw: CInt) { owned = OwnedDescriptor(adopting: raw) }
    var raw: CInt { owned.raw }
}

struct BenchError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

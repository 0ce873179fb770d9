import ControlProtocol
import Coordinator
import Dispatch
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Logging
import Platform
import Specification
import Synchronization
import TestTools
import Testing

/// What only keeps a test that hangs from hanging for ever; never a measure of anything.
let patience = Duration.seconds(90)

/// More of everything in a full run.
let thorough = ChildProcess.currentEnvironment()["DEMUX_TEST_FULL"] == "1" ? 10 : 1

/// The programs that were built beside the tests.
enum Built {
    /// One that was not built is reported by whoever tries to start it.
    static func program(_ name: String) -> String { (folder ?? "") + "/" + name }

    private static let folder: String? = {
        guard let tests = realpath("/proc/self/exe", nil) else { return nil }
        defer { free(tests) }
        let path = String(cString: tests)
        return path.lastIndex(of: "/").map { String(path[..<$0]) }
    }()

    static func scratch(_ name: String = "scratch", _ options: [String: String] = [:]) -> EmulatorSpecification {
        EmulatorSpecification(name: name, program: program("demux-scratch"), options: options, readyWithinMilliseconds: 60_000)
    }
    static func cScratch(_ name: String = "c", _ options: [String: String] = [:]) -> EmulatorSpecification {
        EmulatorSpecification(name: name, program: program("demux-c-scratch"), options: options, readyWithinMilliseconds: 60_000)
    }
    static func debug() -> EmulatorSpecification {
        EmulatorSpecification(name: "debug", program: program("demux-debug"), readyWithinMilliseconds: 60_000)
    }
    /// A shell's command in an emulator's place.
    static func shell(_ script: String) -> EmulatorSpecification {
        EmulatorSpecification(name: "test", program: "/bin/sh", arguments: ["-c", script], readyWithinMilliseconds: 60_000)
    }
    /// The emulator that does what its arguments say.
    static func test(_ arguments: String..., readyWithin milliseconds: Int = 60_000) -> EmulatorSpecification {
        EmulatorSpecification(
            name: "test", program: program("demux-test-emulator"), arguments: arguments, readyWithinMilliseconds: milliseconds)
    }
}

/// A value that comes from another thread.
final class Promise<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let arrived = DispatchSemaphore(value: 0)

    /// Whether it has come.
    var isFulfilled: Bool { value.withLock { $0 != nil } }

    func fulfil(_ value: Value) {
        self.value.withLock { $0 = value }
        arrived.signal()
    }

    /// Waits for it; a test that waits in vain fails.
    func get(_ what: String, sourceLocation: SourceLocation = #_sourceLocation) throws -> Value {
        let limit = DispatchTime.now() + .nanoseconds(Int(patience.clampedNanoseconds))
        let inTime = arrived.wait(timeout: limit) == .success
        let found = try #require(inTime ? value.withLock { $0 } : nil, "hangs: \(what)", sourceLocation: sourceLocation)
        arrived.signal()
        return found
    }
}

private final class Work {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
}

/// Runs something on a thread of its own, as a vCPU does.
func onThread<Value: Sendable>(_ body: @escaping @Sendable () -> Value) -> Promise<Value> {
    let promise = Promise<Value>()
    let work = Unmanaged.passRetained(Work { promise.fulfil(body()) })
    var thread = pthread_t()
    let code = pthread_create(&thread, nil, { pointer in
        if let pointer { Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue().body() }
        return nil
    }, work.toOpaque())
    if code == 0 { pthread_detach(thread) } else { work.release() }
    return promise
}

/// Waits until something is true that another process or thread makes true.
func eventually(_ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () throws -> Bool) throws {
    let became = try Waiting.until(within: patience, condition)
    try #require(became, "never: \(what)", sourceLocation: sourceLocation)
}

/// A guest on LocalHost with the real coordinator, its loop on a thread of its own, and emulators as real processes.
final class Guest: @unchecked Sendable {
    // Sendable: the coordinator and its loop are touched on the loop's thread only.
    let host: LocalHost
    let coordinator: Coordinator
    let folder: TemporaryFolder
    private let loop: EventLoop
    private let bell: EventFD
    private let jobs = Mutex<[@Sendable (Coordinator) -> Void]>([])
    private let ended = Mutex<Promise<Void>?>(nil)
    private let pids = Mutex<Set<pid_t>>([])

    /// - Parameter plain: hides that LocalHost can hand out its pages, so that isolated emulators get a relay, as on Xen.
    /// - Parameter wrapped: the host as the coordinator sees it.
    init(
        _ emulators: [EmulatorSpecification], vcpus: Int = 1, plain: Bool = false, display: EmulatorSpecification? = nil, vnc: VNCSpecification? = nil,
        unplug: UnplugSpecification = UnplugSpecification(), wrapped: ((LocalHost) -> any Host)? = nil, watchdog: Bool = false,
        before: (Coordinator) -> Void = { _ in }
    ) throws {
        folder = try TemporaryFolder()
        loop = try EventLoop()
        bell = try EventFD()
        let domain = try #require(DomainID(7))
        host = try LocalHost(domain: domain, vcpus: vcpus, memoryBytes: 4 << 20)
        var emulators = emulators
        if plain { for index in emulators.indices { emulators[index].mode = .isolated } }
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let seen: any Host
        if let wrapped { seen = wrapped(host) } else if plain { seen = PlainHost(host) } else { seen = host }
        coordinator = try Coordinator(
            loop: loop, host: seen,
            specification: GuestSpecification(source: "test", emulators: emulators, display: display, vnc: vnc, unplug: unplug),
            settings: .init(
                guestName: "test", hostKind: "local", directory: folder.path + "/7", watchdog: watchdog ? Built.program("demux-watchdog") : nil),
            logger: logger)
        before(coordinator)
        try coordinator.reserveServers()
        try coordinator.openControl()
        try loop.watch(bell.descriptor.raw, for: .readable) { [unowned self] _ in
            self.bell.clear()
            let work = self.jobs.withLock { jobs in
                defer { jobs = [] }
                return jobs
            }
            for job in work { job(self.coordinator) }
        }
        ended.withLock { $0 = onThread { [self] in try? loop.run() } }
    }

    /// Does something on the coordinator's thread and waits for it.
    @discardableResult
    func onLoop<Value: Sendable>(_ body: @escaping @Sendable (Coordinator) -> Value) throws -> Value {
        let promise = Promise<Value>()
        jobs.withLock { $0.append { promise.fulfil(body($0)) } }
        bell.ring()
        return try promise.get("the coordinator's loop")
    }

    /// Starts the specification's emulators; the reasons why not, empty when all serve.
    func start() throws -> [String] {
        let promise = Promise<[String]>()
        try onLoop { $0.startEmulators { promise.fulfil($0 ?? []) } }
        let reasons = try promise.get("the start of the emulators")
        _ = try status
        return reasons
    }

    /// The coordinator's own account.
    var status: GuestStatus {
        get throws {
            let status = try onLoop { $0.status }
            pids.withLock { $0.formUnion(status.emulators.map(\.pid)) }
            return status
        }
    }

    func emulator(_ name: String) throws -> EmulatorStatus {
        let all = try status.emulators
        return try #require(all.first { $0.name == name })
    }

    var log: [String] { get throws { try onLoop { $0.logBook.last(2000) } } }

    /// Asks by the control socket, as the `demux` command does.
    func ask(_ request: ControlRequest) throws -> ControlReply { try ControlConnection(folder.path + "/7/control.sock").ask(request) }

    func attach(_ emulator: EmulatorSpecification) throws -> ControlReply { try ask(.attach(emulator)) }

    func vcpu(_ index: Int = 0) throws -> LocalVCPU {
        let id = try #require(VCPUID(index))
        return try #require(host.vcpu(id))
    }

    /// Another coordinator for the same folder, as a second `demux run` would have.
    static func secondCoordinator(of first: Coordinator) throws -> Coordinator {
        let domain = try #require(DomainID(7))
        return try Coordinator(
            loop: first.loop, host: try LocalHost(domain: domain), specification: first.specification, settings: first.settings,
            logger: Logger(label: "second"))
    }

    /// Ends all in order, and looks that no process is left.
    func end(sourceLocation: SourceLocation = #_sourceLocation) throws {
        guard let thread = ended.withLock({ $0 }) else { return }
        // Killed only when the coordinator has not ended them.
        defer { Leftovers.end(pids.withLock { $0 }) }
        _ = try status
        let done = Promise<Void>()
        try onLoop { [self] coordinator in
            coordinator.shutDown { [self] in
                done.fulfil(())
                loop.stop()
            }
        }
        try done.get("the coordinator's shutDown", sourceLocation: sourceLocation)
        try thread.get("the coordinator's thread", sourceLocation: sourceLocation)
        let left = pids.withLock { $0 }.filter { kill($0, 0) == 0 }
        #expect(left.isEmpty, "processes are left", sourceLocation: sourceLocation)
        #expect(access(folder.path + "/7", F_OK) != 0, "the run directory is left", sourceLocation: sourceLocation)
        host.destroyDomain()
    }
}

/// Runs a guest for the time of a test and ends it in order, whatever the test does.
func withGuest(
    _ emulators: [EmulatorSpecification], vcpus: Int = 1, plain: Bool = false, display: EmulatorSpecification? = nil, vnc: VNCSpecification? = nil,
        unplug: UnplugSpecification = UnplugSpecification(), wrapped: ((LocalHost) -> any Host)? = nil, watchdog: Bool = false,
    before: (Coordinator) -> Void = { _ in }, sourceLocation: SourceLocation = #_sourceLocation, _ body: (Guest) throws -> Void
) throws {
    let guest = try Guest(emulators, vcpus: vcpus, plain: plain, display: display, vnc: vnc, unplug: unplug, wrapped: wrapped, watchdog: watchdog, before: before)
    do {
        try body(guest)
    } catch {
        // The test has failed; what its guest still says helps to see why.
        let log = (try? guest.log.suffix(12).joined(separator: "\n")) ?? ""
        Issue.record("\(error)\n\(log)", sourceLocation: sourceLocation)
    }
    try guest.end(sourceLocation: sourceLocation)
}

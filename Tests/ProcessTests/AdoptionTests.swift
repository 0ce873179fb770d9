import ControlProtocol
import Coordinator
import EmulatorProtocol
import Glibc
import Host
import Keeping
import LocalHost
import Logging
import Platform
import SeededNumbers
import Specification
import Synchronization
import TestTools
import Testing

/// What a keeper does, in the test's own process: it goes on when a coordinator is dropped.
private final class HeldDescriptors: @unchecked Sendable {
    // Sendable: behind the lock.
    private let held = Mutex<[String: [CInt]]>([:])

    deinit { for (_, descriptors) in held.withLock({ $0 }) { for raw in descriptors { close(raw) } } }

    func keep(_ descriptors: [CInt], _ name: String) {
        let copies = descriptors.map { dup($0) }
        let old = held.withLock { $0.updateValue(copies, forKey: name) }
        for raw in old ?? [] { close(raw) }
    }

    func drop(_ name: String) {
        let gone = held.withLock { held in
            let names = held.keys.filter { $0 == name || name.hasSuffix("/") && $0.hasPrefix(name) }
            return names.flatMap { held.removeValue(forKey: $0) ?? [] }
        }
        for raw in gone { close(raw) }
    }

    /// Duplicates, as a successor would get them.
    var all: [String: [CInt]] { held.withLock { $0.mapValues { $0.map { dup($0) } } } }
}

/// One coordinator's view of it. After its death it holds and drops nothing any more, whatever its coordinator's end does.
private final class TestKeeper: DescriptorKeeper {
    private let store: HeldDescriptors
    private var found: [String: DescriptorBag] = [:]
    var isDead = false

    init(_ store: HeldDescriptors) {
        self.store = store
        for (name, descriptors) in store.all {
            let bag = DescriptorBag()
            for raw in descriptors { bag.add(OwnedDescriptor(adopting: raw)) }
            found[name] = bag
        }
    }

    func keep(_ descriptors: [CInt], as name: String) { if !isDead { store.keep(descriptors, name) } }
    func drop(_ name: String) { if !isDead { store.drop(name) } }
    func take(_ name: String) -> DescriptorBag? { found.removeValue(forKey: name) }
    var untaken: [String] { found.keys.sorted() }
    func exit(of pid: pid_t) -> ChildProcess.Exit? {
        var status: CInt = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
        return status & 0x7f == 0 ? .status(status >> 8 & 0xff) : .signal(status & 0x7f)
    }
    func ready() {}
}

/// On LocalHost servers outlive a coordinator as long as the test's host does.
private final class LastingHost: PlainHost, AdoptingHost {
    func adoptServer(_ server: ServerID) throws(HostError) {}
    func adoptRegion(_ region: HostRegion) {}
}

/// A guest whose coordinators are dropped as if they had been killed, each on a thread of its own.
private final class LastingGuest: @unchecked Sendable {
    // Sendable: a life is touched on its own thread only.
    private final class Life: @unchecked Sendable {
        let loop: EventLoop
        let keeper: TestKeeper
        let bell: EventFD
        var coordinator: Coordinator?
        let jobs = Mutex<[@Sendable (Coordinator) -> Void]>([])
        let thread = Mutex<Promise<Void>?>(nil)
        init(_ store: HeldDescriptors) throws {
            loop = try EventLoop()
            keeper = TestKeeper(store)
            bell = try EventFD()
        }
    }

    let host: LocalHost
    let folder: TemporaryFolder
    private let seen: LastingHost
    private let specification: GuestSpecification
    private let store = HeldDescriptors()
    private let life = Mutex<Life?>(nil)
    private let lives = Mutex(0)
    private let pids = Mutex<Set<pid_t>>([])

    init(_ emulators: [EmulatorSpecification]) throws {
        folder = try TemporaryFolder()
        let domain = try #require(DomainID(7))
        host = try LocalHost(domain: domain, vcpus: 2, memoryBytes: 4 << 20)
        seen = LastingHost(host)
        // The host hides its pages, as Xen's are hidden.
        specification = GuestSpecification(
            source: "test",
            emulators: emulators.map {
                var emulator = $0
                emulator.mode = .isolated
                return emulator
            })
        try begin()
    }

    /// Another coordinator; all but the first take over.
    func begin() throws {
        let next = try Life(store)
        let before = lives.withLock { count in
            defer { count += 1 }
            return count
        }
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        let coordinator = try Coordinator(
            loop: next.loop, host: seen, specification: specification,
            settings: .init(guestName: "test", hostKind: "local", directory: folder.path + "/7"), logger: logger)
        next.coordinator = coordinator
        if before == 0 {
            try coordinator.recordFor(next.keeper)
            coordinator.record()
            try coordinator.reserveServers()
            try coordinator.openControl()
        } else {
            try coordinator.adopt(try Inheritance(next.keeper), predecessors: before)
            coordinator.record()
        }
        try next.loop.watch(next.bell.descriptor.raw, for: .readable) { [unowned next] _ in
            next.bell.clear()
            let work = next.jobs.withLock { jobs in
                defer { jobs = [] }
                return jobs
            }
            for job in work { if let coordinator = next.coordinator { job(coordinator) } }
        }
        life.withLock { $0 = next }
        next.thread.withLock { $0 = onThread { try? next.loop.run() } }
    }

    @discardableResult
    func onLoop<Value: Sendable>(_ body: @escaping @Sendable (Coordinator) -> Value) throws -> Value {
        let now = try #require(life.withLock { $0 })
        let promise = Promise<Value>()
        now.jobs.withLock { $0.append { promise.fulfil(body($0)) } }
        now.bell.ring()
        return try promise.get("the coordinator's loop")
    }

    func start() throws -> [String] {
        let promise = Promise<[String]>()
        try onLoop { $0.startEmulators { promise.fulfil($0 ?? []) } }
        let reasons = try promise.get("the start of the emulators")
        _ = try status
        return reasons
    }

    /// A test that failed midway leaves nothing that runs.
    deinit {
        if life.withLock({ $0 != nil }) { try? end() }
        Leftovers.end(pids.withLock { $0 })
    }

    func vcpu() throws -> LocalVCPU {
        let id = try #require(VCPUID(0))
        return try #require(host.vcpu(id))
    }

    var status: GuestStatus {
        get throws {
            let status = try onLoop { $0.status }
            pids.withLock { $0.formUnion(status.emulators.map(\.pid)) }
            return status
        }
    }

    /// The process of the only emulator.
    var lastPID: pid_t? { pids.withLock { $0.first } }

    /// The coordinator stops between two of its handlers, and does nothing more.
    func crash() throws {
        let now = try #require(life.withLock { $0 })
        try onLoop { _ in
            now.keeper.isDead = true
            now.loop.stop()
        }
        let thread = try #require(now.thread.withLock { $0 })
        try thread.get("the coordinator's thread")
        now.coordinator = nil
        life.withLock { $0 = nil }
    }

    func end() throws {
        let now = try #require(life.withLock { $0 })
        let done = Promise<Void>()
        try onLoop { coordinator in
            coordinator.shutDown {
                done.fulfil(())
                now.loop.stop()
            }
        }
        try done.get("the coordinator's shutDown")
        let thread = try #require(now.thread.withLock { $0 })
        try thread.get("the coordinator's thread")
        life.withLock { $0 = nil }
        #expect(access(folder.path + "/7", F_OK) != 0, "the run directory is left")
        host.destroyDomain()
    }
}

@Suite("A coordinator that takes a running guest over")
struct AdoptionTests {
    /// Adds to an emulator's SUM and reads it back, until told to stop; gives what was added, and what was wrong.
    private static func load(_ guest: LastingGuest, _ vcpu: LocalVCPU, _ port: UInt16, _ stop: Promise<Void>) -> Promise<(UInt64, String?)> {
        onThread {
            var sum: UInt64 = 0
            do {
                while !stop.isFulfilled {
                    let step = sum % 7 + 1
                    try vcpu.write(port: port, size: 4, value: step)
                    sum += step
                    let read = try vcpu.read(port: port, size: 4)
                    if read != sum & 0xffff_ffff { return (sum, "SUM was \(read), not \(sum)") }
                }
            } catch { return (sum, "\(error)") }
            return (sum, nil)
        }
    }

    @Test("Through a relay no write is lost or doubled while coordinators come and go, and every read is right")
    func relay() throws {
        let guest = try LastingGuest([Built.cScratch()])
        #expect(try guest.start() == [])
        let claims = try guest.status.emulators.map(\.claims)
        let pid = try #require(try guest.status.emulators.first?.pid)
        let stop = Promise<Void>()
        let vcpu = try guest.vcpu()
        let result = Self.load(guest, vcpu, 0x554, stop)
        var random = SplitMix(state: 96)
        for _ in 0..<(20 * thorough) {
            RandomMoment.pass(upTo: 3000, &random)
            try guest.crash()
            try guest.begin()
        }
        stop.fulfil(())
        let (sum, wrong) = try result.get("the guest")
        #expect(wrong == nil)
        #expect(sum > 0)
        let status = try guest.status
        #expect(status.adoptions == 20 * thorough)
        #expect(status.emulators.first?.pid == pid)
        #expect(status.emulators.map(\.claims) == claims)
        try guest.end()
    }

    @Test("An emulator that dies while there is no coordinator is found dead by the next one")
    func diesMeanwhile() throws {
        let guest = try LastingGuest([Built.cScratch()])
        #expect(try guest.start() == [])
        let pid = try #require(try guest.status.emulators.first?.pid)
        try guest.crash()
        kill(pid, SIGKILL)
        try guest.begin()
        try eventually("its death is noticed") { try guest.status.emulators.first?.state.hasPrefix("ended: was killed by signal 9") == true }
        // Without state it has no successor, and its ports are nobody's.
        let vcpu = try guest.vcpu()
        #expect(try vcpu.read(port: 0x550, size: 4) == 0xffff_ffff)
        try guest.end()
    }

    @Test("One that has state is started again by the coordinator that finds it dead, with the state that it left")
    func succeeds() throws {
        var scratch = Built.scratch("scratch", ["pci": "no"])
        // The read below waits for the successor, however long that takes.
        scratch.successorWithinMilliseconds = 60_000
        let guest = try LastingGuest([scratch])
        #expect(try guest.start() == [])
        let vcpu = try guest.vcpu()
        try vcpu.write(port: 0x500, size: 4, value: 0x1234_5678)
        let pid = try #require(try guest.status.emulators.first?.pid)
        try guest.crash()
        kill(pid, SIGKILL)
        try guest.begin()
        #expect(try vcpu.read(port: 0x500, size: 4) == 0x1234_5678)
        try eventually("it is back") { try guest.status.emulators.first?.restarts == 1 }
        try guest.end()
    }

    @Test("An emulator that was attached later is taken over like the others, and one can be attached and detached afterwards")
    func attached() throws {
        let guest = try LastingGuest([Built.cScratch()])
        #expect(try guest.start() == [])
        func ask(_ request: ControlRequest) throws -> ControlReply { try ControlConnection(guest.folder.path + "/7/control.sock").ask(request) }
        guard case .done = try ask(.attach(Built.cScratch("second", ["ports": "0x600", "mmio": "0xfeda0000"]))) else { return #expect(Bool(false), "not attached") }
        try guest.crash()
        try guest.begin()
        #expect(try guest.status.emulators.map(\.state) == ["serving", "serving"])
        guard case .done = try ask(.detach(name: "second")) else { return #expect(Bool(false), "not detached") }
        guard case .done = try ask(.attach(Built.cScratch("third", ["ports": "0x600", "mmio": "0xfeda0000"]))) else { return #expect(Bool(false), "not attached") }
        let vcpu = try guest.vcpu()
        #expect(try vcpu.read(port: 0x610, size: 4) == Place.c)
        try guest.end()
    }

    @Test("An emulator that makes the shared doorbells block holds up no coordinator that takes over")
    func doorbells() throws {
        let guest = try LastingGuest([Built.test("doorbells")])
        #expect(try guest.start() == [])
        let vcpu = try guest.vcpu()
        for _ in 0..<3 {
            // After the first access it has filled one and emptied the other.
            #expect(try vcpu.read(port: 0x700, size: 1) == 0x5a)
            try guest.crash()
            // On a thread of its own: one that hangs does not hang the test.
            let began = onThread { () -> String? in
                do { try guest.begin() } catch { return "\(error)" }
                return nil
            }
            #expect(try began.get("the takeover") == nil)
        }
        #expect(try vcpu.read(port: 0x700, size: 1) == 0x5a)
        try guest.end()
    }

    @Test("What an emulator writes while there is no coordinator is in the next one's log, and it lives")
    func output() throws {
        let guest = try LastingGuest([Built.test("speaks")])
        #expect(try guest.start() == [])
        let vcpu = try guest.vcpu()
        for value in UInt64(10)..<13 {
            try guest.crash()
            // Its slot is a relay's, which has gone: it is answered when the next one has come.
            let pid = try #require(guest.lastPID)
            let pipe = OwnedDescriptor(adopting: open("/proc/\(pid)/fd/1", O_WRONLY | O_CLOEXEC))
            let line = Array("said meanwhile \(value)\n".utf8)
            #expect(write(pipe.raw, line, line.count) == line.count)
            try guest.begin()
            try vcpu.write(port: 0x700, size: 4, value: value)
            try eventually("both are there") {
                let log = try guest.onLoop { $0.logBook.last(2000) }
                return log.contains { $0.hasSuffix("test: said meanwhile \(value)") } && log.contains { $0.hasSuffix("test: said \(value)") }
            }
        }
        #expect(try guest.status.emulators.first?.state == "serving")
        try guest.end()
    }
}

import Host
import Platform
import Synchronization

/// Xen's ioreq semantics in one process: for tests, development and the demo.
///
/// The control plane may be used by any thread, each vCPU by one of its own, all at once. What Xen 4.17 does is the model
/// (xen/common/ioreq.c, xen/arch/x86/hvm); the host conformance suite holds both against each other.
public final class LocalHost: IsolatingHost, @unchecked Sendable {
    // Sendable: everything that changes is inside a mutex or atomic.
    public let domain: DomainID
    /// The guest's RAM.
    public let memory: LocalMemory
    /// What was done to the guest's interrupt lines.
    public let interrupts = Interrupts()
    private let vcpus: Int
    private let end: EventFD
    let table = Mutex(ServerTable())
    let orphans = Orphans()
    let unrung: UnrungAnswers
    private let answered = Atomic<Int>(0)
    /// Requests that emulators have answered in a slot; posted writes are not among them.
    public var answeredRequests: Int { answered.load(ordering: .relaxed) }
    func noteAnswer() { answered.add(1, ordering: .relaxed) }
    /// See GuestAddressSpace.
    let space = Mutex<(any GuestAddressSpace)?>(nil)

    private struct Life {
        var destroyed = false
        var crash: String?
    }
    private let life = Mutex(Life())
    /// Whether the guest can make no access any more: looked at before each, without the lock.
    private let over = Atomic<Bool>(false)

    /// - Parameters:
    ///   - vcpus: 1 to 128; values beyond are brought within.
    ///   - memoryBytes: RAM, at least 2 MiB and at most 1 TiB.
    /// - Throws: when the pages or the RAM cannot be made.
    public init(domain: DomainID, vcpus: Int = 1, memoryBytes: UInt64 = 16 << 20) throws(SystemError) {
        self.domain = domain
        self.vcpus = min(max(vcpus, 1), VCPUID.limit)
        memory = try LocalMemory(length: memoryBytes)
        end = try EventFD()
        unrung = try UnrungAnswers()
    }

    // MARK: servers

    public func vcpuCount() throws(HostError) -> Int { vcpus }

    public func createServer(ring: Bool) throws(HostError) -> ServerID {
        let operation = "create"
        let subject = "an ioreq server of \(domain)"
        try exists(operation, subject)
        let outcome: Result<ServerID, HostError> = table.withLock { table in
            guard let id = table.lowestFree else {
                return .failure(
                    HostError(
                        operation, subject, .noFreeServer, detail: "it has \(ServerID.limit) already",
                        remedy: "destroy one, or let isolated emulators share one"))
            }
            // As Xen does, the ring's channel comes right after vCPU 0's.
            let numbers = table.allocatePorts(vcpus + (ring ? 1 : 0))
            var ports = numbers
            let ringPort = ring ? ports.remove(at: 1) : nil
            do throws(SystemError) {
                table.insert(try LocalServer(id: id, ports: ports, ringPort: ringPort, end: end.descriptor.raw))
                return .success(id)
            } catch {
                table.freePorts(numbers)
                return .failure(Self.failed(operation, subject, error))
            }
        }
        let id = try outcome.get()
        orphans.look()
        return id
    }

    public func destroyServer(_ id: ServerID) throws(HostError) {
        let server: LocalServer = try change(id, "destroy") { table, server in
            server.enabled = false
            table.remove(server)
            return server
        }
        // Whoever waits for an answer waits on, without a server. See Orphans.
        server.destroyed.store(true, ordering: .releasing)
        server.answers.wake()
    }

    public func setServer(_ id: ServerID, enabled: Bool) throws(HostError) {
        try change(id, enabled ? "enable" : "disable") { _, server in
            guard server.enabled != enabled else { return }
            server.enabled = enabled
            // Disabling leaves the slots as they are: who waits in one is still answered.
            if enabled { for (vcpu, port) in server.ports.enumerated() { server.slots.setRemotePort(vcpu, port) } }
        }
    }

    // MARK: ranges

    public func map(_ range: IORange, to id: ServerID) throws(HostError) {
        let outcome: HostError.Reason? = try change(id, "map \(range) to") { _, server in
            Self.withSet(server, range) { set, numbers in
                if set.overlaps(numbers) { return .rangeOverlap }
                return set.insert(numbers) ? nil : .tooManyRanges
            }
        }
        switch outcome {
        case nil: return
        case .rangeOverlap:
            throw HostError("map", "\(range) to \(id)", .rangeOverlap, detail: "it overlaps a range that this server has", remedy: "unmap that one first")
        default:
            throw HostError(
                "map", "\(range) to \(id)", .tooManyRanges, detail: "the server has \(RangeSet.limit) separate ranges of that kind already",
                remedy: "claim larger or adjacent ranges")
        }
    }

    public func unmap(_ range: IORange, from id: ServerID) throws(HostError) {
        let outcome: HostError.Reason? = try change(id, "unmap \(range) from") { _, server in
            Self.withSet(server, range) { set, numbers in
                guard set.contains(numbers) else { return .noSuchRange }
                return set.remove(numbers) ? nil : .failed(Self.outOfMemory)
            }
        }
        switch outcome {
        case nil: return
        case .noSuchRange:
            throw HostError("unmap", "\(range) from \(id)", .noSuchRange, detail: "the server does not have all of it", remedy: "unmap what was mapped, whole or in parts")
        case .some(let reason):
            throw HostError(
                "unmap", "\(range) from \(id)", reason, detail: "what is left would be more than \(RangeSet.limit) separate ranges",
                remedy: "unmap from an edge, or unmap another range first")
        }
    }

    /// ENOMEM: what Xen says when a range set has no room for one more.
    private static let outOfMemory: CInt = 12

    private static func withSet<Value>(_ server: LocalServer, _ range: IORange, _ body: (inout RangeSet, ClosedRange<UInt64>) -> Value) -> Value {
        switch range {
        case .ports(let ports): return body(&server.portRanges, UInt64(ports.first)...UInt64(ports.last))
        case .memory(let memory): return body(&server.memoryRanges, memory.first.rawValue...memory.last.rawValue)
        case .pci(let address):
            let number = address.requestAddress >> 32
            return body(&server.functions, number...number)
        }
    }

    // MARK: what emulators are given

    public func openChannel(_ id: ServerID) throws(HostError) -> any SharedChannel {
        let server = try change(id, "open the channel of") { _, server in server }
        do throws(SystemError) { return try server.channel(vcpus: vcpus) } catch { throw Self.failed("open the channel of", "\(id)", error) }
    }

    public func attachmentDescriptors(of id: ServerID) throws(HostError) -> DescriptorBag {
        let server = try change(id, "hand out the pages of") { _, server in server }
        do throws(SystemError) {
            let bag = DescriptorBag()
            bag.add(try server.slotMemory.descriptor.duplicate())
            bag.add(try server.kick.descriptor.duplicate())
            bag.add(try server.done.descriptor.duplicate())
            if let ring = try server.duplicateRing() { bag.add(ring) }
            return bag
        } catch {
            throw Self.failed("hand out the pages of", "\(id)", error)
        }
    }

    public func sharedMemory() throws(HostError) -> SharedGuestMemory {
        do throws(SystemError) { return try memory.shared() } catch { throw Self.failed("share", "the guest's RAM", error) }
    }

    public func guestMemory() throws(HostError) -> any GuestMemory { memory }

    public func crashGuest(_ reason: String) throws(HostError) {
        try exists("crash", "\(domain)")
        crash(reason)
    }

    // MARK: interrupts

    public func setINTx(device: UInt8, pin: UInt8, asserted: Bool) throws(HostError) {
        let subject = "INTx pin \(pin) of PCI device \(device)"
        try exists("drive", subject)
        guard device < 32, pin < 4 else { throw HostError("drive", subject, .invalid, detail: "there are devices 0 to 31 with pins 0 to 3") }
        interrupts.set(device: device, pin: pin, asserted: asserted)
    }

    public func setISAInterrupt(_ line: UInt8, asserted: Bool) throws(HostError) {
        try exists("drive", "ISA interrupt \(line)")
        guard line < 16 else { throw HostError("drive", "ISA interrupt \(line)", .invalid, detail: "there are 0 to 15") }
        interrupts.set(isa: line, asserted: asserted)
    }

    public func injectMSI(address: UInt64, data: UInt32) throws(HostError) {
        let subject = "a message of \(Hex.string(data)) to \(Hex.string(address))"
        try exists("send", subject)
        // hvm_inject_msi and vmsi_deliver: without a vector it is meant for a pirq (address bits 63..40 and the destination); Xen
        // delivers fixed and lowest-priority messages only.
        if data & 0xff == 0 {
            let pirq = (address >> 32 & 0xffff_ff00) | (address >> 12 & 0xff)
            guard pirq > 0, pirq <= UInt64(Int32.max) else {
                throw HostError("send", subject, .failed(Self.outOfRange), detail: "it names neither a vector nor a pirq", remedy: "program the function's MSI first")
            }
        } else if data >> 8 & 7 > 1 {
            throw HostError("send", subject, .invalid, detail: "its delivery mode \(data >> 8 & 7) is neither fixed nor lowest priority")
        }
        interrupts.send(Interrupts.Message(address: address, data: data))
    }

    /// ERANGE.
    private static let outOfRange: CInt = 34

    // MARK: the guest's life

    /// A vCPU, to be used by one thread at a time; nil when the guest has none of that number.
    public func vcpu(_ id: VCPUID) -> LocalVCPU? { id.index < vcpus ? LocalVCPU(host: self, index: id.index) : nil }

    /// Ends the domain: every vCPU that waits gets an error, and so does every later access and every request to the host.
    public func destroyDomain() {
        life.withLock { $0.destroyed = true }
        finish()
    }

    /// Crashes the domain, as Xen does when an emulator makes a move that is not allowed. It goes on existing until it is
    /// destroyed, so that the host still takes requests, but the guest makes no access any more.
    public func crash(_ reason: String) {
        life.withLock { if $0.crash == nil { $0.crash = reason } }
        finish()
    }

    /// Why the domain crashed; nil while it has not.
    public var crashReason: String? { life.withLock { $0.crash } }

    private func finish() {
        over.store(true, ordering: .releasing)
        end.ring()
        orphans.look()
    }

    /// Whether the guest has crashed or is destroyed.
    var isOver: Bool { over.load(ordering: .acquiring) }

    /// Throws when the guest has crashed or is destroyed.
    func checkRunning() throws(GuestError) {
        if isOver { throw ending }
    }

    /// Why the guest can make no access any more.
    var ending: GuestError { life.withLock { life in life.crash.map(GuestError.crashed) ?? .destroyed } }

    // MARK: parts

    func exists(_ operation: String, _ subject: String) throws(HostError) {
        guard life.withLock({ !$0.destroyed }) else {
            throw HostError(operation, subject, .noSuchDomain, detail: "\(domain) was destroyed")
        }
    }

    /// Does something with a server under the table's lock.
    private func change<Value>(_ id: ServerID, _ operation: String, _ body: (inout ServerTable, LocalServer) -> Value) throws(HostError) -> Value {
        try exists(operation, "\(id)")
        let value: Value? = table.withLock { table in
            guard let server = table[id] else { return nil }
            return body(&table, server)
        }
        guard let value else { throw HostError(operation, "\(id)", .noSuchServer, detail: "\(domain) has no such server", remedy: "it may have been destroyed") }
        return value
    }

    static func failed(_ operation: String, _ subject: String, _ error: SystemError) -> HostError {
        HostError(operation, subject, .failed(error.code), detail: "\(error)", remedy: error.remedy)
    }
}

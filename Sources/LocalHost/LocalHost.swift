import Glibc
import Host
import Platform
import Synchronization

/// Xen's ioreq semantics in one process: for tests, development and the demo.
///
/// The control plane may be used by one thread, each vCPU by one of its own, all at once. What Xen does is the model
/// (xen/common/ioreq.c, xen/arch/x86/hvm/ioreq.c); the host conformance suite holds both against each other.
public final class LocalHost: IsolatingHost, @unchecked Sendable {
    // Sendable: everything that changes is inside the two mutexes.
    public let domain: DomainID
    public let memory: LocalMemory
    private let vcpus: Int
    private let end: EventFD
    private let endDescriptor: CInt

    private struct Table {
        var servers: [LocalServer?] = Array(repeating: nil, count: ServerID.limit)
        /// The last 4-byte write to port 0xcf8: one a domain.
        var cf8: UInt32 = 0
    }
    private let table = Mutex(Table())

    private struct Condition {
        var ended = false
        var crash: String?
        var intx: [Int: Bool] = [:]
        var isa: [UInt8: Bool] = [:]
        var msi: [(address: UInt64, data: UInt32)] = []
    }
    private let condition = Mutex(Condition())

    /// - Parameters:
    ///   - vcpus: 1 to 128.
    ///   - memoryBytes: RAM, at least 2 MiB.
    public init(domain: DomainID, vcpus: Int = 1, memoryBytes: UInt64 = 16 << 20) throws(SystemError) {
        self.domain = domain
        self.vcpus = min(max(vcpus, 1), VCPUID.limit)
        memory = try LocalMemory(length: memoryBytes)
        end = try EventFD()
        endDescriptor = end.descriptor.raw
    }

    // MARK: the control plane

    public func vcpuCount() throws(HostError) -> Int { vcpus }

    public func createServer(ring: Bool) throws(HostError) -> ServerID {
        try alive("create", "an ioreq server")
        guard let free = table.withLock({ table in table.servers.firstIndex { $0 == nil } }), let id = ServerID(free) else {
            throw HostError(
                "create", "an ioreq server of \(domain)", .noFreeServer, detail: "all \(ServerID.limit) are taken",
                remedy: "destroy one, or let isolated emulators share one")
        }
        do {
            let server = try LocalServer(id: id, ring: ring, end: endDescriptor)
            table.withLock { $0.servers[free] = server }
        } catch {
            throw Self.failed("create", "an ioreq server", error)
        }
        return id
    }

    public func destroyServer(_ id: ServerID) throws(HostError) {
        _ = try server(id, "destroy")
        table.withLock { $0.servers[Int(id.rawValue)] = nil }
    }

    public func setServer(_ id: ServerID, enabled: Bool) throws(HostError) {
        let server = try server(id, enabled ? "enable" : "disable")
        table.withLock { _ in server.enabled = enabled }
        if enabled { for vcpu in 0..<vcpus { server.slots.setRemotePort(vcpu, UInt32(id.rawValue) * 256 + UInt32(vcpu) + 1) } }
    }

    public func map(_ range: IORange, to id: ServerID) throws(HostError) {
        let server = try server(id, "give a range to")
        enum Outcome { case done, overlap, many }
        let outcome: Outcome = table.withLock { _ in
            Self.withSet(server, range) { set, numbers in
                if set.overlaps(numbers) { return .overlap }
                return set.insert(numbers) ? .done : .many
            }
        }
        switch outcome {
        case .done: return
        case .overlap:
            throw HostError("map", "\(range) to \(id)", .rangeOverlap, detail: "it overlaps a range that this server has", remedy: "unmap that one first")
        case .many:
            throw HostError(
                "map", "\(range) to \(id)", .tooManyRanges, detail: "the server has \(RangeSet.limit) ranges of this type",
                remedy: "join neighbouring ranges, or use another server")
        }
    }

    public func unmap(_ range: IORange, from id: ServerID) throws(HostError) {
        let server = try server(id, "take a range from")
        let done: Bool = table.withLock { _ in
            Self.withSet(server, range) { set, numbers in set.contains(numbers) && set.remove(numbers) }
        }
        guard done else { throw HostError("unmap", "\(range) from \(id)", .noSuchRange, detail: "the server does not have all of it") }
    }

    public func openChannel(_ id: ServerID) throws(HostError) -> any SharedChannel {
        let server = try server(id, "open")
        do { return ChannelBox(try server.channel(vcpus: vcpus)) } catch { throw Self.failed("open", "\(id)", error) }
    }

    public func attachmentDescriptors(of id: ServerID) throws(HostError) -> DescriptorBag {
        let server = try server(id, "hand out")
        do {
            return try server.descriptors()
        } catch {
            throw Self.failed("hand out", "\(id)", error)
        }
    }

    public func sharedMemory() throws(HostError) -> SharedGuestMemory {
        do { return try memory.shared() } catch { throw Self.failed("share", "the guest's RAM", error) }
    }

    public func guestMemory() throws(HostError) -> any GuestMemory { memory }

    public func setINTx(device: UInt8, pin: UInt8, asserted: Bool) throws(HostError) {
        guard device < 32, pin < 4 else {
            throw HostError("set", "INTx \(pin) of device \(device)", .invalid, detail: "there are devices 0 to 31 with pins 0 to 3")
        }
        condition.withLock { $0.intx[Int(device) * 4 + Int(pin)] = asserted }
    }

    public func setISAInterrupt(_ line: UInt8, asserted: Bool) throws(HostError) {
        guard line < 16 else { throw HostError("set", "ISA interrupt \(line)", .invalid, detail: "there are 0 to 15") }
        condition.withLock { $0.isa[line] = asserted }
    }

    public func injectMSI(address: UInt64, data: UInt32) throws(HostError) {
        // The last 1024 are kept for whoever looks.
        condition.withLock {
            if $0.msi.count >= 1024 { $0.msi.removeFirst(512) }
            $0.msi.append((address, data))
        }
    }

    // MARK: what tests look at

    public func intxLevel(device: UInt8, pin: UInt8) -> Bool { condition.withLock { $0.intx[Int(device) * 4 + Int(pin)] ?? false } }
    public func isaLevel(_ line: UInt8) -> Bool { condition.withLock { $0.isa[line] ?? false } }
    public var messages: [(address: UInt64, data: UInt32)] { condition.withLock { $0.msi } }
    /// Why the domain crashed; nil while it has not.
    public var crashReason: String? { condition.withLock { $0.crash } }

    // MARK: the guest's side

    /// A vCPU, to be used by one thread at a time; nil when the guest has none of that number.
    public func vcpu(_ id: VCPUID) -> LocalVCPU? { id.index < vcpus ? LocalVCPU(host: self, index: id.index) : nil }

    /// Ends the domain: every vCPU that waits, and every later access, gets an error.
    public func destroyDomain() {
        condition.withLock { $0.ended = true }
        end.ring()
    }

    /// What Xen does when an emulator makes a move that is not allowed.
    func crash(_ reason: String) {
        condition.withLock {
            if $0.crash == nil { $0.crash = reason }
            $0.ended = true
        }
        end.ring()
    }

    func checkRunning() throws(GuestEnded) {
        let (ended, crash) = condition.withLock { ($0.ended, $0.crash) }
        if ended { throw GuestEnded(crash: crash) }
    }

    var ended: GuestEnded { GuestEnded(crash: crashReason) }

    /// The server that gets an access, and the request as it will be in the slot: the highest enabled id in whose ranges all of
    /// it lies. A write to port 0xcf8 is noted first.
    func route(_ request: IORequest) -> (LocalServer, IORequest)? {
        table.withLock { table -> (LocalServer, IORequest)? in
            var routed = request
            let span: ClosedRange<UInt64>
            let type: IORequest.Kind
            switch request.kind {
            case .portIO:
                if request.address == 0xcf8, request.direction == .write, request.size == 4, !request.dataIsPointer {
                    table.cf8 = UInt32(truncatingIfNeeded: request.data)
                }
                if request.address & ~3 == 0xcfc, table.cf8 & 0x8000_0000 != 0 {
                    let function = UInt64(table.cf8 >> 8 & 0xffff)
                    routed.type = IORequest.Kind.pciConfig.rawValue
                    routed.address = function << 32 | UInt64(table.cf8 & 0xfc) | request.address & 3
                    span = function...function
                    type = .pciConfig
                } else {
                    span = request.address...(request.address &+ UInt64(request.size) &- 1)
                    type = .portIO
                }
            case .copy:
                guard let bytes = request.memorySpan else { return nil }
                span = bytes
                type = .copy
            default: return nil
            }
            for server in table.servers.reversed() {
                guard let server, server.enabled, server.owns(span, type) else { continue }
                return (server, routed)
            }
            return nil
        }
    }

    var enabledServers: [LocalServer] { table.withLock { table in table.servers.compactMap { $0 }.filter(\.enabled) } }

    // MARK: parts

    private func alive(_ operation: String, _ subject: String) throws(HostError) {
        guard condition.withLock({ !$0.ended }) else {
            throw HostError(operation, "\(subject) of \(domain)", .noSuchDomain, detail: "the domain is gone")
        }
    }

    private func server(_ id: ServerID, _ operation: String) throws(HostError) -> LocalServer {
        try alive(operation, "\(id)")
        guard let server = table.withLock({ $0.servers[Int(id.rawValue)] }) else {
            throw HostError(operation, "\(id) of \(domain)", .noSuchServer, detail: "there is none")
        }
        return server
    }

    private static func withSet<Result>(_ server: LocalServer, _ range: IORange, _ body: (inout RangeSet, ClosedRange<UInt64>) -> Result) -> Result {
        switch range {
        case .ports(let ports): body(&server.ports, UInt64(ports.first)...UInt64(ports.last))
        case .memory(let memory): body(&server.memory, memory.first.rawValue...memory.last.rawValue)
        case .pci(let address):
            body(&server.functions, (address.requestAddress >> 32)...(address.requestAddress >> 32))
        }
    }

    private static func failed(_ operation: String, _ subject: String, _ error: SystemError) -> HostError {
        HostError(operation, subject, .failed(error.code), detail: "\(error)")
    }
}

/// The guest is no longer there: destroyed, or crashed by an emulator's move.
public struct GuestEnded: Error, Equatable, CustomStringConvertible {
    /// Why it crashed; nil when it was destroyed.
    public let crash: String?
    public var description: String { crash.map { "the guest crashed: \($0)" } ?? "the guest was destroyed" }
}

extension IORequest {
    /// The bytes that a memory access touches, first to last over all repetitions; nil when there are none or they wrap.
    var memorySpan: ClosedRange<UInt64>? {
        let each = UInt64(size)
        guard count > 0, each > 0 else { return nil }
        let before = UInt64(count - 1) * each
        if backwards {
            let (first, under) = address.subtractingReportingOverflow(before)
            let (last, over) = address.addingReportingOverflow(each - 1)
            return under || over ? nil : first...last
        }
        let (last, over) = address.addingReportingOverflow(before + each - 1)
        return over ? nil : address...last
    }
}

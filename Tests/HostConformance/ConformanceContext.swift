import Glibc
import Host

/// What a case works with: the host, the guest, and servers that go away with the case.
public final class ConformanceContext {
    let host: any Host
    let driver: any GuestDriver
    let environment: ConformanceEnvironment
    private var made: [TestServer] = []
    private var bare: [ServerID] = []
    /// vCPUs whose access has not been seen to end.
    private var underWay: Set<Int> = []

    public init(host: any Host, driver: any GuestDriver, environment: ConformanceEnvironment) {
        self.host = host
        self.driver = driver
        self.environment = environment
    }

    // MARK: servers

    /// A server without a channel, which the case may destroy itself.
    func createBare(ring: Bool = false) throws(HostError) -> ServerID {
        let id = try host.createServer(ring: ring)
        bare.append(id)
        return id
    }

    func destroyBare(_ id: ServerID) throws(HostError) {
        try host.destroyServer(id)
        bare.removeAll { $0 == id }
    }

    /// A server with these ranges, enabled and bound unless told otherwise.
    func server(_ ranges: [IORange], ring: Bool = false, enabled: Bool = true) throws(HostError) -> TestServer {
        let id = try host.createServer(ring: ring)
        bare.append(id)
        let server = TestServer(id: id, channel: try host.openChannel(id))
        bare.removeAll { $0 == id }
        made.append(server)
        for range in ranges { try host.map(range, to: id) }
        if enabled { try enable(server) }
        return server
    }

    func enable(_ server: TestServer) throws(HostError) {
        try host.setServer(server.id, enabled: true)
        try server.channel.bind()
    }

    /// Takes a server away in the safe order: disable, answer what waits, destroy.
    func retire(_ server: TestServer) throws(HostError) {
        made.removeAll { $0 === server }
        try host.setServer(server.id, enabled: false)
        for vcpu in 0..<server.channel.vcpuCount {
            switch server.channel.slots.state(vcpu) {
            case .ready: if server.channel.slots.take(vcpu) == nil { continue }
            case .inProcess: break
            default: continue
            }
            server.channel.slots.complete(vcpu, data: .max)
            server.channel.notify(vcpu)
        }
        try host.destroyServer(server.id)
    }

    /// Destroys a server without draining it.
    func destroy(_ server: TestServer) throws(HostError) {
        made.removeAll { $0 === server }
        try host.destroyServer(server.id)
    }

    /// Takes everything away that the case left: called by the suite.
    func cleanUp() {
        for server in made { try? retire(server) }
        for id in bare { try? host.destroyServer(id) }
        made = []
        bare = []
        // A case that failed may have left accesses behind; answered or not, they should be over before the next one begins.
        for _ in 0..<2500 where !underWay.isEmpty {
            underWay = underWay.filter { driver.outcome(of: $0) == nil }
            if !underWay.isEmpty { giveTime() }
        }
        underWay = []
    }

    // MARK: the guest's accesses

    func start(_ access: GuestAccess, on vcpu: Int = 0) throws(ConformanceFailure) {
        guard driver.start(access, on: vcpu) else {
            throw ConformanceFailure("\(access)", expected: "vCPU \(vcpu) to be free", found: "an access under way")
        }
        underWay.insert(vcpu)
    }

    /// How a vCPU's access ended; nil while it is under way.
    func outcome(of vcpu: Int) -> GuestOutcome? {
        let outcome = driver.outcome(of: vcpu)
        if outcome != nil { underWay.remove(vcpu) }
        return outcome
    }

    /// Serves `servers` until the accesses of all `vcpus` have ended, and gives what they read.
    func finish(
        _ vcpus: [Int], serving servers: [TestServer], _ answer: (TestServer, Int, IORequest) -> UInt64
    ) throws(ConformanceFailure) -> [UInt64] {
        var values: [Int: UInt64] = [:]
        try wait(for: "the guest's access to end", serving: servers, answer) { () throws(ConformanceFailure) in
            for vcpu in vcpus where values[vcpu] == nil {
                switch outcome(of: vcpu) {
                case nil: continue
                case .done(let value): values[vcpu] = value
                case .refused: throw ConformanceFailure("the driver", expected: "to make the access", found: "a refusal")
                case .crashed(let reason): throw ConformanceFailure("the guest", expected: "to live on", found: reason)
                }
            }
            return values.count == vcpus.count
        }
        for server in servers { server.drain() }
        return vcpus.map { values[$0] ?? 0 }
    }

    /// Makes one access on one vCPU while these servers are served, and gives what it read.
    func access(
        _ access: GuestAccess, on vcpu: Int = 0, serving servers: [TestServer],
        _ answer: (TestServer, Int, IORequest) -> UInt64 = { _, _, _ in 0 }
    ) throws(ConformanceFailure) -> UInt64 {
        try start(access, on: vcpu)
        return try finish([vcpu], serving: servers, answer).first ?? 0
    }

    /// Waits for something that the guest or Xen brings about, serving meanwhile.
    func wait(
        for what: String, serving servers: [TestServer] = [], _ answer: (TestServer, Int, IORequest) -> UInt64 = { _, _, _ in 0 },
        until condition: () throws(ConformanceFailure) -> Bool
    ) throws(ConformanceFailure) {
        let end = ContinuousClock.now + environment.patience
        while true {
            var any = false
            for server in servers where server.serve(answer) { any = true }
            if try condition() { return }
            if any { continue }
            if ContinuousClock.now > end {
                throw ConformanceFailure("waiting for \(what)", expected: "it within \(environment.patience)", found: "nothing")
            }
            var descriptors = servers.map { pollfd(fd: $0.channel.waitDescriptor, events: Int16(POLLIN), revents: 0) }
            if let done = driver.waitDescriptor { descriptors.append(pollfd(fd: done, events: Int16(POLLIN), revents: 0)) }
            // A driver without a descriptor shows the end of an access in guest memory only, which wakes nobody. The pages of a
            // server that is not served here wake nobody either.
            _ = poll(&descriptors, nfds_t(descriptors.count), driver.waitDescriptor == nil ? 1 : 20)
        }
    }

    /// Waits until a vCPU's request stands in a server's slot, without taking it.
    func waitForRequest(of vcpu: Int, in server: TestServer) throws(ConformanceFailure) {
        try wait(for: "vCPU \(vcpu)'s request in \(server.id)") { server.channel.slots.state(vcpu) == .ready }
    }

    /// Waits for a vCPU's request and takes it, for a case that answers by hand.
    func take(_ vcpu: Int, from server: TestServer) throws(ConformanceFailure) -> IORequest {
        try waitForRequest(of: vcpu, in: server)
        guard let request = server.channel.slots.take(vcpu) else {
            throw ConformanceFailure("vCPU \(vcpu)'s slot", expected: "READY", found: "\(server.channel.slots.rawState(vcpu))")
        }
        return request
    }

    /// Answers what `take` gave.
    func answer(_ vcpu: Int, in server: TestServer, _ data: UInt64) {
        server.channel.slots.complete(vcpu, data: data)
        server.channel.notify(vcpu)
    }

    /// Expects that a vCPU still waits, after having given it time to be wrong.
    func expectWaiting(_ vcpu: Int, _ why: String) throws(ConformanceFailure) {
        for _ in 0..<20 {
            giveTime()
            if let outcome = outcome(of: vcpu) {
                throw ConformanceFailure(why, expected: "vCPU \(vcpu) to wait", found: "\(outcome)")
            }
        }
    }

    /// Two milliseconds, or less when the driver can tell that an access has ended: nothing signals that it has not.
    private func giveTime() {
        var entry = pollfd(fd: driver.waitDescriptor ?? -1, events: Int16(POLLIN), revents: 0)
        _ = poll(&entry, 1, 2)
    }

    // MARK: guest memory

    func fill(_ address: UInt64, _ bytes: [UInt8]) throws(ConformanceFailure) {
        guard bytes.withUnsafeBytes({ driver.memory.write(GuestAddress(address), from: $0) }) else {
            throw ConformanceFailure("the environment", expected: "RAM at \(Hex.string(address))", found: "none")
        }
    }

    func bytes(_ address: UInt64, _ count: Int) throws(ConformanceFailure) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        guard bytes.withUnsafeMutableBytes({ driver.memory.read(GuestAddress(address), into: $0) }) else {
            throw ConformanceFailure("the environment", expected: "RAM at \(Hex.string(address))", found: "none")
        }
        return bytes
    }

    /// Bytes that tell places apart.
    static func pattern(_ count: Int, seed: UInt8 = 1) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ Int(seed)) } }

    /// The little-endian value of some bytes.
    static func value(_ bytes: some Collection<UInt8>) -> UInt64 { bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }

    // MARK: addresses

    func port(_ offset: Int) -> UInt64 { UInt64(environment.firstPort) + UInt64(offset) }
    func memory(_ offset: Int) -> UInt64 { environment.firstMemory + UInt64(offset) }
    func buffer(_ offset: Int) -> UInt64 { environment.buffers + UInt64(offset) }

    func ports(_ offset: Int, _ count: Int) throws(ConformanceFailure) -> IORange {
        guard let range = PortRange(first: UInt16(truncatingIfNeeded: port(offset)), count: count) else {
            throw ConformanceFailure("the environment", expected: "256 free ports", found: "\(environment.firstPort)")
        }
        return .ports(range)
    }

    func mmio(_ offset: Int, _ length: Int) throws(ConformanceFailure) -> IORange { try bytes(memory(offset), length) }
    func window(_ offset: Int, _ length: Int) throws(ConformanceFailure) -> IORange { try bytes(environment.window + UInt64(offset), length) }

    private func bytes(_ first: UInt64, _ length: Int) throws(ConformanceFailure) -> IORange {
        guard let range = MMIORange(first: GuestAddress(first), length: UInt64(length)) else {
            throw ConformanceFailure("the environment", expected: "free addresses", found: Hex.string(first))
        }
        return .memory(range)
    }

    func pci(function: UInt8 = 0) throws(ConformanceFailure) -> PCIAddress {
        guard let address = PCIAddress(device: environment.pciDevice, function: function) else {
            throw ConformanceFailure("the environment", expected: "a PCI device 0 to 31", found: "\(environment.pciDevice)")
        }
        return address
    }

    /// What goes to CF8 for a register of a function of the free device, with the enable bit.
    func cf8(function: UInt8 = 0, register: UInt64) -> UInt64 {
        0x8000_0000 | UInt64(environment.pciDevice) << 11 | UInt64(function) << 8 | register
    }

    // MARK: expectations

    func expect<Value: Equatable>(_ what: String, _ found: Value, _ expected: Value) throws(ConformanceFailure) {
        guard found == expected else { throw ConformanceFailure(what, expected: Self.show(expected), found: Self.show(found)) }
    }

    /// Expects a refusal with this reason.
    func refused(_ what: String, _ reason: HostError.Reason, _ body: () throws(HostError) -> Void) throws(ConformanceFailure) {
        do throws(HostError) { try body() } catch {
            guard error.reason == reason else { throw ConformanceFailure(what, expected: "\(reason)", found: "\(error.reason) (\(error))") }
            return
        }
        throw ConformanceFailure(what, expected: "a refusal (\(reason))", found: "no refusal")
    }

    private static func show(_ value: some Any) -> String {
        if let number = value as? UInt64 { return Hex.string(number) }
        if let requests = value as? [IORequest] { return "[" + requests.map(describe).joined(separator: ", ") + "]" }
        if let entries = value as? [BufferedEntry] {
            return "[" + entries.map { "\($0.direction) \($0.size) at \(Hex.string($0.address)) \(Hex.string($0.data))" }.joined(separator: ", ") + "]"
        }
        return "\(value)"
    }

    private static func describe(_ request: IORequest) -> String {
        let kind = request.kind.map { "\($0)" } ?? "type \(request.type)"
        return "\(kind) \(request.direction) \(request.count)x\(request.size) at \(Hex.string(request.address))"
            + " \(request.dataIsPointer ? "buffer" : "data") \(Hex.string(request.data))\(request.backwards ? " down" : "")"
    }
}

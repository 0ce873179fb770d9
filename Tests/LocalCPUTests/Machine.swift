import Glibc
import Host
import LocalCPU
import LocalHost
import Platform
import Synchronization
import TestTools
import Testing

/// Whether guest code runs here, found out once by running some.
enum KVM {
    static let obstacle: String? = {
        do {
            guard let domain = DomainID(1), let id = VCPUID(0) else { return "no guest can be named" }
            let host = try LocalHost(domain: domain, memoryBytes: 2 << 20)
            let machine = try KVMMachine(for: host, interruptController: false)
            _ = host.memory.store(GuestAddress(0x1000), value: 0xf4, size: 1)
            let cpu = try KVMCPU(id, of: host, on: machine)
            try cpu.start(segment: 0x100, offset: 0)
            let end = cpu.run()
            return end == .halted ? nil : "a vCPU that is to halt did not: \(end)"
        } catch {
            return "\(error)"
        }
    }()

    /// For `.enabled(if:)`: says once why tests are left out.
    static let runs: Bool = {
        guard let obstacle else { return true }
        StandardError.line("KVM's tests are left out, because guest code does not run here: \(obstacle)")
        return false
    }()
}

/// A guest with a program in real mode at 0x1000:0, and servers whose requests the test answers.
final class Machine {
    let host: LocalHost
    let kvm: KVMMachine
    let cpu: KVMCPU
    private var channels: [any SharedChannel] = []
    private(set) var requests: [IORequest] = []
    private(set) var posted: [BufferedEntry] = []

    init(interruptController: Bool = false, memoryBytes: UInt64 = 4 << 20) throws {
        host = try LocalHost(domain: try #require(DomainID(9)), memoryBytes: memoryBytes)
        kvm = try KVMMachine(for: host, interruptController: interruptController)
        cpu = try KVMCPU(try #require(VCPUID(0)), of: host, on: kvm)
    }

    func load(_ program: [UInt8], at address: UInt64 = 0x10000) throws {
        #expect(write(address, program))
        try cpu.start(segment: 0x1000, offset: 0)
    }

    func serve(_ ranges: [IORange], ring: Bool = false) throws {
        let id = try host.createServer(ring: ring)
        let channel = try host.openChannel(id)
        for range in ranges { try host.map(range, to: id) }
        try host.setServer(id, enabled: true)
        try channel.bind()
        channels.append(channel)
    }

    func write(_ address: UInt64, _ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { host.memory.write(GuestAddress(address), from: $0) }
    }

    func bytes(_ address: UInt64, _ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        _ = bytes.withUnsafeMutableBytes { host.memory.read(GuestAddress(address), into: $0) }
        return bytes
    }

    /// Runs the vCPU on a thread of its own, and answers, until it ends.
    func run(until done: ((Machine) -> Bool)? = nil, answering answer: (IORequest) -> UInt64 = { _ in 0 }) throws -> KVMCPU.End {
        let ended = Ended(try EventFD())
        let cpu = self.cpu
        try TestThread {
            let end = cpu.run()
            ended.end.withLock { $0 = end }
            ended.bell.ring()
        }.detach()
        for _ in 0..<60_000 {
            for channel in channels {
                _ = channel.acknowledge()
                while let entry = channel.ring?.next() { posted.append(entry) }
                while let request = channel.slots.take(0) {
                    requests.append(request)
                    channel.slots.complete(0, data: answer(request))
                    channel.notify(0)
                }
            }
            if let done, done(self) { cpu.stop() }
            if let end = ended.end.withLock({ $0 }) { return end }
            var waits = channels.map { pollfd(fd: $0.waitDescriptor, events: Int16(POLLIN), revents: 0) }
            waits.append(pollfd(fd: ended.bell.descriptor.raw, events: Int16(POLLIN), revents: 0))
            _ = poll(&waits, nfds_t(waits.count), done == nil ? 1000 : 5)
        }
        cpu.stop()
        throw Hang()
    }

    private final class Ended: Sendable {
        let bell: EventFD
        let end = Mutex<KVMCPU.End?>(nil)
        init(_ bell: consuming EventFD) { self.bell = bell }
    }
}

/// A guard against hanging, nothing that is measured.
struct Hang: Error {}

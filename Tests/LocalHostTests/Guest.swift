import Glibc
import Host
import LocalHost
import Platform
import Synchronization
import TestTools
import Testing

/// What most tests here need: a host, and a way to have a vCPU do something meanwhile.
struct Guest {
    let host: LocalHost

    init(vcpus: Int = 2, memoryBytes: UInt64 = 4 << 20) throws {
        host = try LocalHost(domain: try #require(DomainID(9)), vcpus: vcpus, memoryBytes: memoryBytes)
    }

    func vcpu(_ index: Int = 0, spins: Int = 0) throws -> LocalVCPU {
        let id = try #require(VCPUID(index))
        var vcpu = try #require(host.vcpu(id))
        vcpu.spins = spins
        return vcpu
    }

    static func ports(_ first: UInt16, _ count: Int) throws -> IORange { .ports(try #require(PortRange(first: first, count: count))) }
    static func memory(_ first: UInt64, _ length: UInt64) throws -> IORange {
        .memory(try #require(MMIORange(first: GuestAddress(first), length: length)))
    }

    /// A server with these ranges, enabled.
    func server(_ ranges: [IORange], ring: Bool = false) throws -> (id: ServerID, channel: any SharedChannel) {
        let id = try host.createServer(ring: ring)
        let channel = try host.openChannel(id)
        for range in ranges { try host.map(range, to: id) }
        try host.setServer(id, enabled: true)
        try channel.bind()
        return (id, channel)
    }

    /// Runs something on a thread of its own, as a vCPU blocks its thread.
    func start<Value: Sendable>(_ body: @escaping @Sendable () throws(GuestError) -> Value) throws -> Pending<Value> {
        let pending = try Pending<Value>()
        try TestThread { pending.finish(Result(catching: body)) }.detach()
        return pending
    }

    /// Waits until a vCPU's slot is READY. Only guards against hanging.
    func waitForRequest(_ channel: any SharedChannel, _ vcpu: Int = 0) throws {
        while channel.slots.state(vcpu) != .ready {
            guard Waiting.forEvent(on: channel.waitDescriptor) else { throw Hang() }
            _ = channel.acknowledge()
        }
    }

    /// Serves until `pending` is done.
    func serve<Value>(_ channel: any SharedChannel, until pending: Pending<Value>, _ answer: (Int, IORequest) -> UInt64) throws {
        for _ in 0..<60_000 {
            _ = channel.acknowledge()
            for vcpu in 0..<channel.vcpuCount {
                guard let request = channel.slots.take(vcpu) else { continue }
                channel.slots.complete(vcpu, data: answer(vcpu, request))
                channel.notify(vcpu)
            }
            if pending.isDone { return }
            var wait = [pollfd(fd: channel.waitDescriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: pending.descriptor, events: Int16(POLLIN), revents: 0)]
            _ = poll(&wait, 2, 1000)
        }
        throw Hang()
    }
}

struct Hang: Error {}

/// What a thread will have done.
final class Pending<Value: Sendable>: Sendable {
    private let done: EventFD
    private let outcome = Mutex<Result<Value, GuestError>?>(nil)

    init() throws(SystemError) { done = try EventFD() }

    var descriptor: CInt { done.descriptor.raw }
    var isDone: Bool { outcome.withLock { $0 != nil } }

    func finish(_ result: Result<Value, GuestError>) {
        outcome.withLock { $0 = result }
        done.ring()
    }

    /// The outcome; waits for it, with a guard against hanging.
    func value() throws -> Value {
        var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&wait, 1, 60_000)
        guard let result = outcome.withLock({ $0 }) else { throw Hang() }
        return try result.get()
    }

    /// Whether it is still under way after some time in which it could have gone wrong.
    var staysPending: Bool {
        var wait = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&wait, 1, 30) == 0
    }
}

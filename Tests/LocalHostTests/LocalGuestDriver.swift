import Glibc
import Host
import HostConformance
import LocalHost
import Platform
import Synchronization
import TestTools

/// Plays the guest on LocalHost: a thread for each vCPU, which makes one access after the other.
final class LocalGuestDriver: GuestDriver {
    private let host: LocalHost
    private let vcpus: [Worker]
    private let finished: Bell

    /// A doorbell that lives as long as anybody may ring it.
    private final class Bell: Sendable {
        let event: EventFD
        init() throws(SystemError) { event = try EventFD() }
    }

    /// One vCPU's thread. It ends with the driver.
    private final class Worker: Sendable {
        enum State: Sendable {
            case idle
            case busy
            case ended(GuestOutcome)
        }
        let vcpu: LocalVCPU
        let command: EventFD
        let finished: Bell
        let next = Mutex<GuestAccess?>(nil)
        let state = Mutex<State>(.idle)
        let stop = Atomic<Bool>(false)

        init(vcpu: LocalVCPU, finished: Bell) throws {
            self.vcpu = vcpu
            self.finished = finished
            command = try EventFD()
        }

        func run() {
            while !stop.load(ordering: .acquiring) {
                var wait = pollfd(fd: command.descriptor.raw, events: Int16(POLLIN), revents: 0)
                _ = poll(&wait, 1, -1)
                command.clear()
                let access = next.withLock { next in
                    defer { next = nil }
                    return next
                }
                guard let access else { continue }
                let outcome = LocalGuestDriver.perform(access, on: vcpu)
                state.withLock { $0 = .ended(outcome) }
                finished.event.ring()
            }
        }
    }

    init(_ host: LocalHost, spins: Int = 2000) throws {
        self.host = host
        finished = try Bell()
        var workers: [Worker] = []
        for index in 0..<(try host.vcpuCount()) {
            guard let id = VCPUID(index), var vcpu = host.vcpu(id) else { continue }
            vcpu.spins = spins
            workers.append(try Worker(vcpu: vcpu, finished: finished))
        }
        vcpus = workers
        for worker in workers { try TestThread { worker.run() }.detach() }
    }

    deinit {
        // Threads that wait for an answer end with the domain, the others at once.
        host.destroyDomain()
        for worker in vcpus {
            worker.stop.store(true, ordering: .releasing)
            worker.command.ring()
        }
    }

    var vcpuCount: Int { vcpus.count }
    var memory: any GuestMemory { host.memory }
    var waitDescriptor: CInt? { finished.event.descriptor.raw }

    func start(_ access: GuestAccess, on vcpu: Int) -> Bool {
        guard vcpus.indices.contains(vcpu) else { return false }
        let free = vcpus[vcpu].state.withLock { state in
            if case .busy = state { return false }
            state = .busy
            return true
        }
        guard free else { return false }
        vcpus[vcpu].next.withLock { $0 = access }
        vcpus[vcpu].command.ring()
        return true
    }

    func outcome(of vcpu: Int) -> GuestOutcome? {
        finished.event.clear()
        guard vcpus.indices.contains(vcpu) else { return nil }
        return vcpus[vcpu].state.withLock { state in
            guard case .ended(let outcome) = state else { return nil }
            state = .idle
            return outcome
        }
    }

    private static func perform(_ access: GuestAccess, on vcpu: LocalVCPU) -> GuestOutcome {
        do throws(GuestError) {
            let port = UInt16(truncatingIfNeeded: access.address)
            let address = GuestAddress(access.address)
            let buffer = GuestAddress(access.buffer)
            let (size, count, backwards) = (access.size, access.count, access.backwards)
            switch access.operation {
            case .portRead: return .done(try vcpu.read(port: port, size: size))
            case .portWrite: try vcpu.write(port: port, size: size, value: access.value)
            case .repIns: try vcpu.readString(port: port, size: size, count: count, into: buffer, backwards: backwards)
            case .repOuts: try vcpu.writeString(port: port, size: size, count: count, from: buffer, backwards: backwards)
            case .memoryRead: return .done(try vcpu.readMemory(address, size: size))
            case .memoryWrite: try vcpu.writeMemory(address, size: size, value: access.value)
            case .repMovsOut: try vcpu.move(from: buffer, to: address, size: size, count: count, backwards: backwards)
            case .repMovsIn: try vcpu.move(from: address, to: buffer, size: size, count: count, backwards: backwards)
            case .repStos: try vcpu.fill(address, value: access.value, size: size, count: count, backwards: backwards)
            case .pciRead:
                try vcpu.write(port: 0xcf8, size: 4, value: access.address & ~3)
                return .done(try vcpu.read(port: 0xcfc + UInt16(access.address & 3), size: size))
            case .repMovsBetween:
                try vcpu.move(from: address, to: GuestAddress(access.value), size: size, count: count, backwards: backwards)
            case .pciWrite:
                try vcpu.write(port: 0xcf8, size: 4, value: access.address & ~3)
                try vcpu.write(port: 0xcfc + UInt16(access.address & 3), size: size, value: access.value)
            }
            return .done(0)
        } catch {
            return .crashed("\(error)")
        }
    }
}

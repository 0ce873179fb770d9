import CKVM
import Glibc
import Host
import LocalHost
import Platform
import Synchronization

/// One vCPU of a `KVMMachine`: runs the guest's own code, and makes a request of everything that KVM does not do itself.
///
/// One thread runs it. A string instruction at a port comes from KVM as its elements, the buffer already read or to be filled by KVM,
/// so that it becomes as many plain requests, where Xen makes one of it with a pointer.
public final class KVMCPU: @unchecked Sendable {
    // Sendable: `run` is one thread's at a time; `stop` touches an atomic byte, and the thread's identity under a lock.

    /// Why a vCPU no longer runs.
    public enum End: Equatable, Sendable, CustomStringConvertible {
        /// It was told to.
        case stopped
        /// HLT, on a machine without interrupt controllers.
        case halted
        /// A triple fault, or the guest asked for it.
        case shutdown
        /// The guest is over, or an access of its was not possible.
        case guest(GuestError)
        /// KVM cannot go on; why.
        case failed(String)

        public var description: String {
            switch self {
            case .stopped: "it was told to stop"
            case .halted: "it halted, and there are no interrupts"
            case .shutdown: "it shut down (a triple fault, or its own wish)"
            case .guest(let error): "\(error)"
            case .failed(let reason): reason
            }
        }
    }

    private let machine: KVMMachine
    private let vcpu: LocalVCPU
    private let index: Int
    private let descriptor: OwnedDescriptor
    private let mapping: Mapping
    private let page: UnsafeMutablePointer<kvm_run>

    private struct Running {
        var thread: pthread_t?
        var isStopped = false
    }
    private let running = Mutex(Running())

    /// Interrupts KVM_RUN; nothing else in these programs uses it.
    private static let signal = SIGUSR1
    private static let interruption: Bool = demux_kvm_install_interruption(signal) == 0

    /// Makes a vCPU that stands at its reset.
    /// - Parameters:
    ///   - host: whose devices serve it.
    ///   - id: one of the host's vCPUs.
    /// - Throws: SystemError when there is no such vCPU or KVM refuses.
    public init(_ id: VCPUID, of host: LocalHost, on machine: KVMMachine) throws(SystemError) {
        guard let vcpu = host.vcpu(id) else { throw SystemError("create", "\(id)", reason: "the guest has none of that number") }
        guard Self.interruption else { throw SystemError("handle", "signal \(Self.signal)") }
        self.machine = machine
        self.vcpu = vcpu
        index = id.index
        descriptor = try machine.createVCPU(id.index)
        mapping = try Mapping(descriptor: descriptor.raw, length: machine.runLength, what: "the page of \(id)")
        // Sound: KVM says that its page has this layout, and `runLength` is at least its size.
        page = mapping.base.assumingMemoryBound(to: kvm_run.self)
    }

    // MARK: registers

    /// Has it begin in real mode at `segment`:`offset`, interrupts off.
    ///
    /// A processor begins at 0xfffffff0, a ROM below 4 GiB; here the same ROM's copy below 1 MiB is RAM, as Xen's hvmloader leaves it:
    /// 0xf000:0xfff0 is its reset vector.
    public func start(segment: UInt16 = 0xf000, offset: UInt16 = 0xfff0) throws(SystemError) {
        var system = kvm_sregs()
        guard demux_kvm_get_system_registers(descriptor.raw, &system) == 0 else { throw SystemError("read", "the registers of vCPU \(index)") }
        system.cs.base = UInt64(segment) << 4
        system.cs.selector = segment
        guard demux_kvm_set_system_registers(descriptor.raw, &system) == 0 else { throw SystemError("set", "the registers of vCPU \(index)") }
        var registers = kvm_regs()
        registers.rip = UInt64(offset)
        registers.rflags = 2
        guard demux_kvm_set_registers(descriptor.raw, &registers) == 0 else { throw SystemError("set", "the registers of vCPU \(index)") }
    }

    /// Where it is: the code segment's base and the instruction pointer, for messages. Not while it runs.
    public var place: (base: UInt64, instruction: UInt64) {
        var system = kvm_sregs()
        var registers = kvm_regs()
        _ = demux_kvm_get_system_registers(descriptor.raw, &system)
        _ = demux_kvm_get_registers(descriptor.raw, &registers)
        return (system.cs.base, registers.rip)
    }

    /// The general register AX…, for tests: rax, rbx, rcx, rdx. Not while it runs.
    var general: (a: UInt64, b: UInt64, c: UInt64, d: UInt64) {
        var registers = kvm_regs()
        _ = demux_kvm_get_registers(descriptor.raw, &registers)
        return (registers.rax, registers.rbx, registers.rcx, registers.rdx)
    }

    // MARK: running

    /// Runs the guest's code on the calling thread until it ends.
    public func run() -> End {
        _ = demux_kvm_allow_interruption(Self.signal)
        let mayRun = running.withLock { running in
            running.thread = pthread_self()
            return !running.isStopped
        }
        defer { running.withLock { $0.thread = nil } }
        guard mayRun else { return .stopped }
        do throws(GuestError) {
            while true { if let end = try step() { return end } }
        } catch {
            return .guest(error)
        }
    }

    /// Has `run` return soon, and never run again. An access that waits for its answer is waited for: `LocalHost.destroyDomain` ends that too.
    public func stop() {
        running.withLock { running in
            running.isStopped = true
            demux_kvm_set_immediate_exit(page, 1)
            if let thread = running.thread { pthread_kill(thread, Self.signal) }
        }
    }

    /// Runs to the next exit and serves it.
    private func step() throws(GuestError) -> End? {
        if demux_kvm_run(descriptor.raw) != 0 {
            let code = errno
            guard code == EINTR || code == EAGAIN else { return failure(SystemError("run", "vCPU \(index)", code: code).description) }
            return running.withLock { $0.isStopped } ? .stopped : nil
        }
        switch CInt(bitPattern: demux_kvm_exit_reason(page)) {
        case KVM_EXIT_IO: try ports()
        case KVM_EXIT_MMIO: try memory()
        case KVM_EXIT_HLT: return .halted
        case KVM_EXIT_SHUTDOWN: return .shutdown
        case KVM_EXIT_SYSTEM_EVENT: return .shutdown
        case KVM_EXIT_INTR, KVM_EXIT_IRQ_WINDOW_OPEN: break
        case KVM_EXIT_FAIL_ENTRY:
            return failure("the processor refuses vCPU \(index)'s state, for reason \(Hex.string(demux_kvm_entry_failure(page)))")
        case KVM_EXIT_INTERNAL_ERROR:
            // Suberror 1: an instruction that KVM would have to emulate and cannot.
            return failure("KVM cannot go on with vCPU \(index): internal error \(demux_kvm_suberror(page))")
        case let reason: return failure("KVM left vCPU \(index) for reason \(reason), which is not known here")
        }
        return nil
    }

    private func failure(_ reason: String) -> End {
        let place = place
        return .failed("\(reason), at code \(Hex.string(place.base)) + \(Hex.string(place.instruction))")
    }

    /// `in`, `out` and their string forms.
    private func ports() throws(GuestError) {
        let exit = demux_kvm_port_exit(page)
        let size = Int(exit.size)
        let length = size * Int(exit.count)
        guard exit.data_offset <= UInt64(mapping.length), length <= mapping.length - Int(exit.data_offset) else {
            throw .fault("KVM's data of port \(Hex.string(exit.port)) lie outside its page")
        }
        // Sound: within the page, by the check above.
        var data = UnsafeMutableRawBufferPointer(start: mapping.base + Int(exit.data_offset), count: length)[...]
        while !data.isEmpty {
            let element = UnsafeMutableRawBufferPointer(rebasing: data.prefix(size))
            if exit.is_write != 0 {
                try vcpu.write(port: exit.port, size: UInt32(size), value: Self.load(element))
            } else {
                Self.store(try vcpu.read(port: exit.port, size: UInt32(size)), element)
            }
            data = data.dropFirst(size)
        }
    }

    /// A load or store where there is no RAM. KVM has taken it apart at pages' ends, into at most 8 bytes, of any number.
    private func memory() throws(GuestError) {
        let exit = demux_kvm_memory_exit(page)
        guard exit.length <= 8 else { throw .fault("KVM's access at \(Hex.string(exit.address)) has \(exit.length) bytes") }
        var data = UnsafeMutableRawBufferPointer(start: exit.data, count: Int(exit.length))[...]
        var address = GuestAddress(exit.address)
        while !data.isEmpty {
            var size = 8
            while size > data.count { size >>= 1 }
            let piece = UnsafeMutableRawBufferPointer(rebasing: data.prefix(size))
            if exit.is_write != 0 {
                try vcpu.writeMemory(address, size: UInt32(size), value: Self.load(piece))
            } else {
                Self.store(try vcpu.readMemory(address, size: UInt32(size)), piece)
            }
            data = data.dropFirst(size)
            address = address.advanced(by: Int64(size))
        }
    }

    /// Little-endian bytes.
    private static func load(_ bytes: UnsafeMutableRawBufferPointer) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func store(_ value: UInt64, _ bytes: UnsafeMutableRawBufferPointer) {
        for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: value >> (UInt64(index) * 8)) }
    }
}

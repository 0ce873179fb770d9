import Glibc
import Host
import LocalCPU
import LocalHost
import Platform
import Specification
import Synchronization

/// What the vCPUs of a guest without Xen do: run the guest's own code on KVM, or make the accesses that a script says.
final class GuestProgram {
    /// What became of the program once every vCPU had ended.
    struct Outcome {
        var vcpus: Int
        /// Requests that emulators were asked to serve.
        var accesses: Int
        /// Values that were read and compared.
        var checked: Int
        /// vCPUs that read a wrong value or lost the guest under them.
        var mistakes: Int
        /// Whether the vCPUs ended because they were told to.
        var wasStopped: Bool
    }

    /// What one vCPU came to.
    private struct Part {
        var accesses = 0
        var checked = 0
        var mistake: String?
    }

    /// What the vCPUs' threads share with the loop's.
    private final class Shared: Sendable {
        /// Looked at between two rounds.
        let stopping = Atomic<Bool>(false)
        let accesses = Atomic<Int>(0)
        let checked = Atomic<Int>(0)
        let mistakes = Atomic<Int>(0)
        /// The vCPUs that run the guest's own code.
        let cpus = Mutex<[KVMCPU]>([])

        func stop() {
            stopping.store(true, ordering: .relaxed)
            for cpu in cpus.withLock({ $0 }) { cpu.stop() }
        }
    }

    private let shared = Shared()
    private let finished: OwnedDescriptor
    private let loop: EventLoop
    private var isStopped = false

    /// A program that is ready to start.
    struct Prepared {
        fileprivate let first: First?
        /// How the first vCPU is played, for the log; empty when there is nothing to say.
        let engine: String
    }

    /// Who plays the first vCPU of "display-demo".
    fileprivate enum First {
        case cpu(KVMCPU)
        case script
    }

    /// Makes what a program needs; nil for the one that does nothing. To be called before the first emulator starts, because a real CPU has to be
    /// there before the memory of devices is.
    /// - Throws: SystemError when there is no such program, or the engine that it wants cannot be had.
    static func prepare(_ guest: LocalGuest, host: LocalHost) throws(SystemError) -> Prepared? {
        switch guest.program {
        case "idle": return nil
        case "demo": return Prepared(first: nil, engine: "")
        case "display-demo":
            let (cpu, engine) = try Self.firstCPU(guest, host)
            return Prepared(first: cpu.map(First.cpu) ?? .script, engine: engine)
        default:
            throw SystemError("start", "guest program '\(guest.program)'", reason: "there is none of that name", remedy: "use 'idle', 'demo' or 'display-demo'")
        }
    }

    /// The vCPU that runs the guest's own code; nil when the script is to play it.
    private static func firstCPU(_ guest: LocalGuest, _ host: LocalHost) throws(SystemError) -> (KVMCPU?, String) {
        guard guest.engine != .script else { return (nil, "a script plays the guest's first vCPU") }
        guard let firmware = guest.firmware else { return (nil, "a script plays the guest's first vCPU: the specification names no firmware") }
        do throws(SystemError) { return (try LocalFirmware.boot(firmware, on: host), "the guest's first vCPU runs its own code on KVM") } catch {
            guard guest.engine == .auto else { throw error }
            return (nil, "a script plays the guest's first vCPU: \(error)")
        }
    }

    /// Starts a program.
    /// - Parameter ended: called on the loop once every vCPU has ended: by itself, which is a mistake of the devices', or after `stop`.
    init(_ prepared: Prepared, host: LocalHost, loop: EventLoop, ended: @escaping (Outcome) -> Void) throws(SystemError) {
        self.loop = loop
        let first = prepared.first
        let shared = shared
        let (readEnd, writeEnd) = try Files.pipe()
        finished = OwnedDescriptor(adopting: readEnd)
        let count = (try? host.vcpuCount()) ?? 1
        var started = 0
        for index in 0..<count {
            guard let id = VCPUID(index), let vcpu = host.vcpu(id) else { continue }
            let body: @Sendable () -> Part
            switch index == 0 ? first : nil {
            case .cpu(let cpu):
                shared.cpus.withLock { $0.append(cpu) }
                body = { Self.run(cpu) }
            case .script: body = { Self.display(vcpu, shared) }
            case nil:
                let isSilent = first != nil
                body = { Self.check(vcpu, index, isSilent: isSilent, shared) }
            }
            let runs = Self.spawn {
                let part = body()
                if let mistake = part.mistake {
                    StandardError.line("demux: guest vCPU \(index): \(mistake)")
                    shared.mistakes.add(1, ordering: .relaxed)
                    // One wrong value ends the guest: the others have nothing to add.
                    shared.stop()
                }
                shared.accesses.add(part.accesses, ordering: .relaxed)
                shared.checked.add(part.checked, ordering: .relaxed)
                var byte: UInt8 = 1
                _ = write(writeEnd, &byte, 1)
            }
            if runs { started += 1 }
        }
        var left = started
        try loop.watch(readEnd, for: .readable) { [unowned self] _ in
            var bytes = [UInt8](repeating: 0, count: 128)
            left -= max(0, read(readEnd, &bytes, bytes.count))
            guard left <= 0 else { return }
            loop.forget(readEnd)
            close(writeEnd)
            ended(
                Outcome(
                    // Not every access of a display's guest has somebody who serves it, and those that are posted are not answered.
                    vcpus: started, accesses: first == nil ? shared.accesses.load(ordering: .relaxed) : host.answeredRequests,
                    checked: shared.checked.load(ordering: .relaxed), mistakes: shared.mistakes.load(ordering: .relaxed), wasStopped: self.isStopped))
        }
    }

    // MARK: what a vCPU does

    private static func run(_ cpu: KVMCPU) -> Part {
        let end = cpu.run()
        return Part(mistake: end == .stopped ? nil : "\(end)")
    }

    private static func check(_ vcpu: LocalVCPU, _ index: Int, isSilent: Bool, _ shared: Shared) -> Part {
        var script = DemoScript(vcpu: vcpu, index: index, isSilent: isSilent)
        let mistake = script.run { shared.stopping.load(ordering: .relaxed) }
        return Part(accesses: script.accesses, checked: script.checked, mistake: mistake)
    }

    private static func display(_ vcpu: LocalVCPU, _ shared: Shared) -> Part {
        var script = DisplayScript(vcpu: vcpu)
        return Part(mistake: script.run { shared.stopping.load(ordering: .relaxed) })
    }

    /// Has the vCPUs end after their present round. One whose access nobody answers ends when the guest is destroyed.
    func stop() {
        isStopped = true
        shared.stop()
    }

    /// Takes no more notice of the vCPUs: `ended` is not called any more.
    func abandon() { loop.forget(finished.raw) }

    private final class Work {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Runs `body` on a thread of its own; false when there could be none.
    private static func spawn(_ body: @escaping @Sendable () -> Void) -> Bool {
        var thread = pthread_t()
        let work = Unmanaged.passRetained(Work(body))
        let code = pthread_create(&thread, nil, { pointer in
            guard let pointer else { return nil }
            Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue().body()
            return nil
        }, work.toOpaque())
        if code != 0 {
            work.release()
            return false
        }
        pthread_detach(thread)
        return true
    }
}

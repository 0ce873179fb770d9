import Glibc
import Host
import LocalHost
import Platform
import Synchronization

/// What the vCPUs of a guest without Xen do: there is no CPU yet that would run the guest's own code, so a script makes its accesses.
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

    /// What the vCPUs' threads share with the loop's.
    private final class Shared: Sendable {
        /// Looked at between two rounds.
        let stopping = Atomic<Bool>(false)
        let accesses = Atomic<Int>(0)
        let checked = Atomic<Int>(0)
        let mistakes = Atomic<Int>(0)
    }

    private let shared = Shared()
    private let finished: OwnedDescriptor
    private let loop: EventLoop
    private var isStopped = false

    /// Starts a program by its name; nil for the one that does nothing.
    /// - Parameter ended: called on the loop once every vCPU has ended: by itself, which is a mistake of the devices', or after `stop`.
    static func start(
        _ name: String, host: LocalHost, loop: EventLoop, ended: @escaping (Outcome) -> Void
    ) throws(SystemError) -> GuestProgram? {
        switch name {
        case "idle": return nil
        case "demo": return try GuestProgram(host: host, loop: loop, ended: ended)
        default:
            throw SystemError("start", "guest program '\(name)'", reason: "there is none of that name", remedy: "use 'idle' or 'demo'")
        }
    }

    private init(host: LocalHost, loop: EventLoop, ended: @escaping (Outcome) -> Void) throws(SystemError) {
        self.loop = loop
        let shared = shared
        let (readEnd, writeEnd) = try Files.pipe()
        finished = OwnedDescriptor(adopting: readEnd)
        let count = (try? host.vcpuCount()) ?? 1
        var started = 0
        for index in 0..<count {
            guard let id = VCPUID(index), let vcpu = host.vcpu(id) else { continue }
            let runs = Self.spawn {
                var script = DemoScript(vcpu: vcpu, index: index)
                if let mistake = script.run(until: { shared.stopping.load(ordering: .relaxed) }) {
                    StandardError.line("demux: guest vCPU \(index): \(mistake)")
                    shared.mistakes.add(1, ordering: .relaxed)
                    // One wrong value ends the guest: the others have nothing to add.
                    shared.stopping.store(true, ordering: .relaxed)
                }
                shared.accesses.add(script.accesses, ordering: .relaxed)
                shared.checked.add(script.checked, ordering: .relaxed)
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
                    vcpus: started, accesses: shared.accesses.load(ordering: .relaxed), checked: shared.checked.load(ordering: .relaxed),
                    mistakes: shared.mistakes.load(ordering: .relaxed), wasStopped: self.isStopped))
        }
    }

    /// Has the vCPUs end after their present round. One whose access nobody answers ends when the guest is destroyed.
    func stop() {
        isStopped = true
        shared.stopping.store(true, ordering: .relaxed)
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

import Glibc
import Host
import LocalHost
import Platform
import Synchronization

/// What the vCPUs of a guest without Xen do: there is no CPU yet that would run the guest's own code, so a script makes its accesses.
final class GuestProgram {
    /// Set by `stop`, looked at between two accesses.
    private let stopping: StopFlag
    private let threads: [pthread_t]
    private let finished: OwnedDescriptor
    private let loop: EventLoop

    private final class StopFlag: Sendable {
        let raised = Atomic<Bool>(false)
        let mistakes = Atomic<Int>(0)
    }

    /// Starts a program by its name.
    /// - Parameter ended: called on the loop once every vCPU has ended by itself: nil when every value was right, otherwise what was wrong.
    static func start(
        _ name: String, host: LocalHost, loop: EventLoop, ended: @escaping (String?) -> Void
    ) throws(SystemError) -> GuestProgram? {
        switch name {
        case "idle": return nil
        case "demo": return try GuestProgram(host: host, loop: loop, ended: ended)
        default:
            throw SystemError("start", "guest program '\(name)'", reason: "there is none of that name", remedy: "use 'idle' or 'demo'")
        }
    }

    private init(host: LocalHost, loop: EventLoop, ended: @escaping (String?) -> Void) throws(SystemError) {
        self.loop = loop
        let flag = StopFlag()
        stopping = flag
        let (readEnd, writeEnd) = try Files.pipe()
        finished = OwnedDescriptor(adopting: readEnd)
        let count = (try? host.vcpuCount()) ?? 1
        var started: [pthread_t] = []
        for index in 0..<count {
            guard let id = VCPUID(index), let vcpu = host.vcpu(id) else { continue }
            if let thread = Self.spawn({
                if let mistake = DemoScript(vcpu: vcpu, index: index).run(until: { flag.raised.load(ordering: .relaxed) }) {
                    StandardError.line("demux: guest vCPU \(index): \(mistake)")
                    flag.mistakes.add(1, ordering: .relaxed)
                }
                var byte: UInt8 = 1
                _ = write(writeEnd, &byte, 1)
            }) {
                started.append(thread)
            }
        }
        threads = started
        var left = started.count
        try loop.watch(readEnd, for: .readable) { _ in
            var bytes = [UInt8](repeating: 0, count: 128)
            left -= max(0, read(readEnd, &bytes, bytes.count))
            guard left <= 0 else { return }
            loop.forget(readEnd)
            let mistakes = flag.mistakes.load(ordering: .relaxed)
            ended(mistakes == 0 ? nil : "\(mistakes) of the guest's vCPUs read a wrong value")
        }
    }

    /// Ends the vCPUs; the guest must be freed from its last access by whoever serves it, or by its destruction.
    func stop() {
        stopping.raised.store(true, ordering: .relaxed)
        loop.forget(finished.raw)
    }

    private final class Work { let body: @Sendable () -> Void; init(_ body: @escaping @Sendable () -> Void) { self.body = body } }

    private static func spawn(_ body: @escaping @Sendable () -> Void) -> pthread_t? {
        var thread = pthread_t()
        let work = Unmanaged.passRetained(Work(body))
        let code = pthread_create(&thread, nil, { pointer in
            guard let pointer else { return nil }
            Unmanaged<Work>.fromOpaque(pointer).takeRetainedValue().body()
            return nil
        }, work.toOpaque())
        if code != 0 {
            work.release()
            return nil
        }
        pthread_detach(thread)
        return thread
    }
}

/// The demo's accesses: each value that is written is read back and compared, and a line is printed now and then.
struct DemoScript {
    let vcpu: LocalVCPU
    let index: Int
    /// Where the demo's specification puts its register files: the Swift Scratch's and the C device's.
    private static let portBases: [UInt16] = [0x500, 0x540]
    private static let windows: [UInt64] = [0xfed8_0000, 0xfed9_0000]

    init(vcpu: LocalVCPU, index: Int) {
        self.vcpu = vcpu
        self.index = index
    }

    /// Runs until told to stop; gives what was wrong, nil when nothing was.
    func run(until stop: () -> Bool) -> String? {
        var round: UInt64 = 0
        do {
            try say("guest: vCPU \(index) is up\n")
            while !stop() {
                round &+= 1
                for base in Self.portBases {
                    let port = base + UInt16(index % 2 * 8)
                    let value = round &* 0x9e37_79b9 & 0xffff_ffff
                    try vcpu.write(port: port, size: 4, value: value)
                    let back = try vcpu.read(port: port, size: 4)
                    guard back == value else { return "port \(Hex.string(port)) gave \(Hex.string(back)), not \(Hex.string(value))" }
                }
                for window in Self.windows {
                    let address = GuestAddress(window + 0x100 + UInt64(index % 2 * 64))
                    try vcpu.writeMemory(address, size: 8, value: round)
                    let back = try vcpu.readMemory(address, size: 8)
                    guard back == round else { return "\(address) gave \(Hex.string(back)), not \(Hex.string(round))" }
                }
                if round % 200 == 0 { try say("guest: vCPU \(index) has checked \(round * 4) values\n") }
                usleep(2000)
            }
        } catch {
            // The guest was destroyed under us: that is how it ends.
            return stop() ? nil : "\(error)"
        }
        return nil
    }

    private func say(_ text: String) throws {
        for byte in text.utf8 { try vcpu.write(port: 0xe9, size: 1, value: UInt64(byte)) }
    }
}

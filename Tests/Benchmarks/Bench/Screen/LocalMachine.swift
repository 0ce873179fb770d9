import Coordinator
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Logging
import Platform
import Specification
import Synchronization
import TestTools

/// A guest on LocalHost with demux-display, demux-vnc and demux-scratch, started by a real coordinator that runs on a thread of its own. The
/// benchmark is its vCPU.
final class LocalMachine: @unchecked Sendable {
    // Sendable: the coordinator and its loop are used on the loop's thread only, once that runs.
    static let frames: UInt64 = 0xf100_0000
    let host: LocalHost
    let width: Int
    private(set) var scratch: GuestEnd?
    private(set) var pids: [String: pid_t] = [:]
    private let folder: TemporaryFolder
    private let loop: EventLoop
    private let coordinator: Coordinator
    private let bell: EventFD
    private var thread: TestThread?
    var path: String { folder.path + "/1/vnc.sock" }

    init(bin: String, width: Int, height: Int) throws {
        folder = try TemporaryFolder()
        // The exporter becomes nobody, and everybody of this machine may start it.
        chmod(folder.path, 0o755)
        loop = try EventLoop()
        bell = try EventFD()
        host = try LocalHost.forBenchmark()
        self.width = width
        var logger = Logger(label: "bench")
        logger.logLevel = .critical
        let patient = 60_000
        let scratchEmulator = EmulatorSpecification(name: "scratch", program: bin + "/demux-scratch", options: ["pci": "no"], readyWithinMilliseconds: patient)
        let display = EmulatorSpecification(name: "display", program: bin + "/demux-display", options: ["rom": "no"], readyWithinMilliseconds: patient)
        coordinator = try Coordinator(
            loop: loop, host: host,
            specification: GuestSpecification(
                source: "bench", emulators: [scratchEmulator], display: display,
                vnc: VNCSpecification(program: bin + "/demux-vnc", websocket: false, readyWithinMilliseconds: patient)),
            settings: Coordinator.Settings(guestName: "bench", hostKind: "local", directory: folder.path + "/1"), logger: logger)
        try coordinator.reserveServers()
        try coordinator.openControl()
        var failure: [String]? = []
        coordinator.startEmulators { [loop] reasons in
            failure = reasons
            loop.stop()
        }
        try loop.run()
        if let failure { throw BenchError("LocalHost's guest did not start: \(failure.joined(separator: "; "))") }
        for status in coordinator.status.emulators {
            pids[status.name] = status.pid
            guard status.name == "scratch", let number = status.server, let server = ServerID(Int(number)) else { continue }
            scratch = try GuestEnd(host.attachmentDescriptors(of: server))
        }
        try loop.watch(bell.descriptor.raw, for: .readable) { [unowned self] _ in
            bell.clear()
            coordinator.shutDown { [loop] in loop.stop() }
        }
        thread = try TestThread { [self] in try? loop.run() }
        try setMode(width, height)
        // The display has drawn the first picture when a viewer is told of its size.
        _ = try retry("the display's mode") { try BenchViewer(path: path, encoding: 0).width == width ? true : nil }
    }

    private func vcpu() throws -> LocalVCPU {
        guard let first = VCPUID(0), let vcpu = host.vcpu(first) else { throw BenchError("there is no vCPU") }
        return vcpu
    }

    private func setMode(_ width: Int, _ height: Int) throws {
        let vcpu = try vcpu()
        for device in UInt8(0)..<32 {
            guard let function = PCIAddress(device: device), try vcpu.configRead(function, register: 0, size: 4) == 0x1111_1234 else { continue }
            try vcpu.configWrite(function, register: 0x10, size: 4, value: Self.frames)
            try vcpu.configWrite(function, register: 4, size: 2, value: 3)
        }
        for (index, value) in [(4, 0), (1, width), (2, height), (3, 32), (4, 0x41)] {
            try vcpu.write(port: 0x1ce, size: 2, value: UInt64(index))
            try vcpu.write(port: 0x1cf, size: 2, value: UInt64(value))
        }
        _ = try vcpu.read(port: 0x3da, size: 1)
        try vcpu.write(port: 0x3c0, size: 1, value: 0x20)
    }

    /// The guest writes one pixel.
    func pixel(_ x: Int, _ y: Int, colour: UInt32) throws {
        try vcpu().writeMemory(GuestAddress(Self.frames + UInt64((y * width + x) * 4)), size: 4, value: UInt64(colour))
    }

    func end() {
        bell.ring()
        thread?.join()
        host.destroyDomain()
    }
}

import ControlProtocol
import Coordinator
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Platform
import Specification
import Surface
import Synchronization
import Testing

extension Built {
    static func screen(_ words: String..., restart: RestartPolicy? = nil) -> EmulatorSpecification {
        EmulatorSpecification(
            name: "display", program: program("demux-test-emulator"), arguments: ["screen"] + words, readyWithinMilliseconds: 60_000, restart: restart)
    }

    /// One that everybody of this machine can run: exporters become nobody.
    static func exporter(_ words: String..., listen: [VNCAddress] = []) -> VNCSpecification {
        VNCSpecification(program: program("demux-test-emulator"), arguments: ["exporter"] + words, listen: listen, readyWithinMilliseconds: 60_000)
    }
}

extension Guest {
    var viewerPath: String { folder.path + "/7/vnc.sock" }

    /// Asks the test's exporter, as a viewer would.
    func view(_ line: String) throws -> String { try Self.view(line, on: UnixSocket.connectStream(viewerPath)) }

    static func view(_ line: String, on socket: consuming OwnedDescriptor) throws -> String {
        let bytes = Array(line.utf8)
        try #require(send(socket.raw, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count)
        var wait = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
        try #require(poll(&wait, 1, CInt(patience.components.seconds * 1000)) == 1, "hangs: an answer of the exporter")
        var answer = [UInt8](repeating: 0, count: 4096)
        let length = recv(socket.raw, &answer, answer.count, 0)
        return String(decoding: answer.prefix(max(0, length)), as: UTF8.self)
    }

    /// A register of the test's display, by the number that Tests/TestEmulator/Screen.swift has for it.
    func screen(_ register: UInt16) throws -> UInt32 { UInt32(truncatingIfNeeded: try vcpu().read(port: 0x740 + register, size: 4)) }

    func setScreen(_ register: UInt16, _ value: UInt32) throws { try vcpu().write(port: 0x740 + register, size: 4, value: UInt64(value)) }

    func setMode(_ width: UInt32, _ height: UInt32) throws { try setScreen(4, width << 16 | height) }
}

/// LocalHost with device memory as plain files, which can also be adopted as on Xen: enough to see what the coordinator asks for.
final class RegionKeeper: PlainHost, IsolatingHost, RegionHost, @unchecked Sendable {
    // Sendable: `kept` is guarded; the rest is as PlainHost's.
    struct Kept: Sendable {
        var number: Int
        var gfn: GFN?
        var isAdopted = false
    }
    private final class Memory: Sendable {
        let memory: SharedMemory
        init(_ length: UInt64) throws(SystemError) { memory = try SharedMemory(name: "test-region", length: Int(length)) }
    }
    private let memories = Mutex<[Int: Memory]>([:])
    private let list = Mutex<[Kept]>([])
    var kept: [Kept] { list.withLock { $0 } }

    func attachmentDescriptors(of server: ServerID) throws(HostError) -> DescriptorBag { try local.attachmentDescriptors(of: server) }
    func sharedMemory() throws(HostError) -> SharedGuestMemory { try local.sharedMemory() }

    func makeRegion(length: UInt64) throws(HostError) -> HostRegion { try add(length, at: nil, adopted: false) }
    func adoptRegion(length: UInt64, at gfn: GFN) throws(HostError) -> HostRegion { try add(length, at: gfn, adopted: true) }

    private func add(_ length: UInt64, at gfn: GFN?, adopted: Bool) throws(HostError) -> HostRegion {
        guard let memory = try? Memory(length) else { throw HostError("make", "a region", .failed(12), detail: "no memory") }
        let number = memories.withLock { memories in
            memories[memories.count + 1] = memory
            return memories.count
        }
        list.withLock { $0.append(Kept(number: number, gfn: gfn, isAdopted: adopted)) }
        return HostRegion(number: number, length: length, gfn: gfn, hasDoorbell: false)
    }

    func regionDescriptors(of region: Int) throws(HostError) -> DescriptorBag {
        let bag = DescriptorBag()
        guard let memory = memories.withLock({ $0[region] }), let copy = try? memory.memory.descriptor.duplicate() else {
            throw HostError("hand out", "region \(region)", .invalid, detail: "no such region")
        }
        bag.add(copy)
        return bag
    }

    func placeRegion(_ region: Int, at gfn: GFN?) throws(HostError) {
        list.withLock { list in for index in list.indices where list[index].number == region { list[index].gfn = gfn } }
    }
    func collectDirty(_ region: Int) throws(HostError) {}
    func removeRegion(_ region: Int) throws(HostError) { list.withLock { list in list.removeAll { $0.number == region } } }
}

/// A reader of the surface over the control socket, as `demux screenshot` is.
final class Subscriber {
    let control: ControlConnection
    private(set) var size = (width: -1, height: -1)
    private(set) var bag = DescriptorBag()

    init(_ guest: Guest) throws {
        control = try ControlConnection(guest.folder.path + "/7/control.sock")
        try control.socket.send(ControlCodec.encode(ControlRequest.surface))
        try next()
    }

    /// The next surface.
    func next() throws {
        var wait = pollfd(fd: control.socket.descriptor.raw, events: Int16(POLLIN), revents: 0)
        try #require(poll(&wait, 1, CInt(patience.components.seconds * 1000)) == 1, "hangs: a surface on the control socket")
        guard case .message(let bytes, let bag) = try control.socket.receive() else { throw ControlConnection.Closed() }
        let reply = try ControlCodec.decode(ControlReply.self, from: bytes)
        guard case .surface(let width, let height) = reply else { throw Unexpected(reply: reply) }
        (size, self.bag) = ((width, height), bag)
    }

    /// The next descriptor that came along.
    func take() throws -> OwnedDescriptor {
        guard let descriptor = bag.take() else { throw ControlConnection.Closed() }
        return descriptor
    }

    struct Unexpected: Error { let reply: ControlReply }
}

/// Notes what it is given.
final class Sink: InputSink, @unchecked Sendable {
    // Sendable: guarded.
    private let list = Mutex<[InputEvent]>([])
    private let mode = Atomic<Bool>(true)
    var takesAbsolute: Bool {
        get { mode.load(ordering: .relaxed) }
        set { mode.store(newValue, ordering: .relaxed) }
    }
    var events: [InputEvent] { list.withLock { $0 } }
    func deliver(_ events: [InputEvent]) { list.withLock { $0 += events } }
}

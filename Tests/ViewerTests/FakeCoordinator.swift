import CLinux
import EmulatorProtocol
import Glibc
import Host
import Platform
import RFB
import Surface
import TestTools
import Testing

/// What only keeps a test that hangs from hanging for ever; never a measure of anything.
let patience: CInt = 60_000

/// Whether the counts that are too large for every day are wanted.
let isFull = getenv("DEMUX_TEST_FULL") != nil

struct Hangs: Error { let what: String }

/// A setting of the test run's own, from the environment.
private func setting(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

/// The coordinator and the display of one exporter: real processes, sockets and surfaces; only the guest is made up.
///
/// Belongs to the test that made it.
final class FakeCoordinator {
    let port: UInt16
    let unixPath: String
    private(set) var process: ChildProcess
    private var socket: MessageSocket
    private let options: [String: String]
    private let account: UInt32?
    private let tcp: OwnedDescriptor
    private let unix: OwnedDescriptor
    private let counters: SharedMemory
    private let page: SharedMemory
    private let frame: SurfaceDoorbell
    private let want: SurfaceDoorbell
    private let watch: SurfaceReaderWatch
    private let folder: String
    private(set) var screen: Screen?
    /// What the exporter sent, oldest first.
    private(set) var received: [Packet] = []
    private var nextID: UInt32 = 1

    /// A surface and its display's side.
    final class Screen {
        var writer: SurfaceWriter
        let memory: SharedMemory
        init(width: Int, height: Int) throws {
            memory = try SurfaceMemory.create(width: width, height: height)
            writer = try SurfaceWriter(try memory.descriptor.duplicate(), width: width, height: height)
        }
        var width: Int { writer.width }
        var height: Int { writer.height }
        var pixels: UnsafeMutablePointer<UInt32> { writer.pixels.bindMemory(to: UInt32.self, capacity: writer.width * writer.height) }
        /// The 24 bits that count.
        var colours: [UInt32] { (0..<width * height).map { pixels[$0] & 0xff_ffff } }
        func fill(seed: UInt32) {
            for y in 0..<height {
                for x in 0..<width {
                    let place = UInt32(truncatingIfNeeded: x &* 7 &+ y &* 13)
                    pixels[y * width + x] = place &* 2_654_435_761 &+ seed &* 977
                }
            }
            writer.damage(SurfaceRectangle(x: 0, y: 0, width: width, height: height))
        }
    }

    init(options: [String: String] = [:], account: UInt32? = nil) throws {
        var template = Array("/tmp/demux-view-XXXXXX".utf8CString)
        folder = try #require(mkdtemp(&template).map { String(cString: $0) })
        unixPath = folder + "/vnc"
        unix = try UnixSocket.listen(.stream, path: unixPath)
        tcp = try Self.listen()
        port = try Self.port(of: tcp.raw)
        counters = try SharedMemory(name: "counters", length: 4096)
        page = try SurfaceMemory.createReaderPage()
        frame = try SurfaceDoorbell()
        want = try SurfaceDoorbell()
        watch = try SurfaceReaderWatch(try page.descriptor.duplicate(), frame: try frame.ringing.duplicate(), want: try want.hearing.duplicate())
        self.options = options
        self.account = account
        let ends = try MessageSocket.pair()
        socket = MessageSocket(adopting: OwnedDescriptor(adopting: ends.0))
        process = try Self.launch(ends.1)
        try attach()
    }

    deinit {
        process.signal(SIGKILL)
        _ = process.wait(limit: .seconds(60))
        unlink(unixPath)
        rmdir(folder)
    }

    private static func listen() throws -> OwnedDescriptor {
        let raw = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let owned = OwnedDescriptor(adopting: raw)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        try withUnsafeMutablePointer(to: &address) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                try #require(bind(raw, $0, length) == 0 && Glibc.listen(raw, 256) == 0)
            }
        }
        return owned
    }

    private static func port(of raw: CInt) throws -> UInt16 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let found = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(raw, $0, &length) }
        }
        try #require(found == 0)
        return UInt16(bigEndian: address.sin_port)
    }

    /// The folder of a libvncserver with the address sanitiser in it, for an exporter that has it, too: see the Makefile's `viewer-address-test`.
    static let sanitizedLibraries = setting("DEMUX_TEST_VNC_LIBRARIES")

    private static func launch(_ theirs: CInt) throws -> ChildProcess {
        defer { close(theirs) }
        var environment = ChildProcess.currentEnvironment()
        environment["DEMUX_SOCKET"] = "3"
        if let sanitizedLibraries { environment["LD_LIBRARY_PATH"] = sanitizedLibraries }
        let tests = try #require(realpath("/proc/self/exe", nil).map { String(cString: $0) })
        let beside = tests[..<(tests.lastIndex(of: "/") ?? tests.endIndex)] + "/demux-vnc"
        return try ChildProcess(
            program: setting("DEMUX_TEST_VNC") ?? String(beside), arguments: [], environment: environment,
            inherited: [ChildProcess.Inherited(ours: theirs, theirs: 3)])
    }

    private func attach() throws {
        let hello = try next()
        guard case .hello(let words) = hello.body else { throw Hangs(what: "hello") }
        #expect(words.modes == [.exporter])
        let attach = Attach(
            mode: .exporter, domain: try #require(DomainID(1)), server: try #require(ServerID(0)), vcpus: 0, ring: false, name: "vnc", options: options,
            uid: account, gid: account, listeners: [Listener(host: "127.0.0.1", port: port), Listener(path: unixPath)])
        try socket.send(Packet(.attach(attach), re: hello.id).encoded(), descriptors: [counters.descriptor.raw, tcp.raw, unix.raw])
    }

    /// The exporter says that it serves. Then it gets its page.
    @discardableResult
    func start() throws -> Self {
        let ready = try wait("ready") { $0.body == .ready }
        try socket.send(Packet(.ok(Reply()), re: ready.id).encoded())
        try ask(.start)
        try ask(.surfaceReader(SurfaceReaderChange(reader: 1, change: .added)), [page.descriptor.raw, frame.hearing.raw, want.ringing.raw])
        return self
    }

    /// Kills it and starts another one with the same sockets.
    func restart() throws {
        process.signal(SIGKILL)
        try #require(process.wait(limit: .seconds(60)) != nil)
        try SurfaceMemory.resetReaderPage(page)
        received = []
        let ends = try MessageSocket.pair()
        socket = MessageSocket(adopting: OwnedDescriptor(adopting: ends.0))
        process = try Self.launch(ends.1)
        try attach()
        try start()
        if let screen { try give(screen) }
    }

    // MARK: the display

    /// Another mode, with a picture in it.
    @discardableResult
    func setMode(_ width: Int, _ height: Int, seed: UInt32 = 1) throws -> Screen {
        let next = try Screen(width: width, height: height)
        next.fill(seed: seed)
        _ = next.writer.publish()
        screen?.writer.retire()
        screen = next
        try give(next)
        SurfaceDoorbell.ring(frame.ringing.raw)
        return next
    }

    private func give(_ screen: Screen) throws {
        let readable = try screen.memory.readOnly()
        try ask(.surface(SurfaceSize(width: screen.width, height: screen.height)), [readable.raw])
    }

    func publish() {
        _ = screen?.writer.publish()
        SurfaceDoorbell.ring(frame.ringing.raw)
    }

    var viewers: UInt32 { watch.viewers }

    /// Waits until the reader's page says so.
    func waitForViewers(_ count: UInt32) throws {
        while true {
            // In this order: what changes after the look rings again.
            let isOpen = watch.clearWant()
            if watch.viewers == count { return }
            guard isOpen, Waiting.forEvent(on: watch.wantDescriptor) else { break }
        }
        throw Hangs(what: "\(count) viewers on the reader's page")
    }

    // MARK: the protocol

    func ask(_ message: Message, _ descriptors: [CInt] = []) throws {
        let id = nextID
        nextID += 1
        try socket.send(Packet(message, id: id).encoded(), descriptors: descriptors)
        let answer = try wait("the answer to \(message.type)") { $0.re == id }
        guard case .ok = answer.body else {
            Issue.record("\(message.type) was answered by \(answer.body)")
            return
        }
    }

    /// Sends what shall be refused.
    func refusal(of message: Message) throws -> Refusal? {
        let id = nextID
        nextID += 1
        try socket.send(Packet(message, id: id).encoded())
        if case .error(let refusal) = try wait("the answer to \(message.type)", { $0.re == id }).body { return refusal }
        return nil
    }

    private func next() throws -> Packet {
        var entry = pollfd(fd: socket.descriptor.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, patience) == 1 else { throw Hangs(what: "a packet of the exporter's") }
        guard case .message(let bytes, _) = try socket.receive() else { throw Hangs(what: "the exporter has closed its socket") }
        return try Packet.decoded(bytes)
    }

    /// The next packet that fits, those before it being kept in `received`.
    @discardableResult
    func wait(_ what: String, _ fits: (Packet) -> Bool) throws -> Packet {
        if let index = received.firstIndex(where: fits) { return received.remove(at: index) }
        for _ in 0..<100_000 {
            let packet = try next()
            if fits(packet) { return packet }
            received.append(packet)
        }
        throw Hangs(what: what)
    }

    func waitForStatus(_ what: String, _ fits: @escaping (VNCStatus) -> Bool) throws -> VNCStatus {
        let packet = try wait(what) { if case .vncStatus(let status) = $0.body { fits(status) } else { false } }
        guard case .vncStatus(let status) = packet.body else { throw Hangs(what: what) }
        return status
    }

    /// Collects input events until as many have come.
    func inputs(_ count: Int) throws -> [InputEvent] {
        var events: [InputEvent] = []
        while events.count < count {
            if case .input(let input) = try wait("input", { if case .input = $0.body { true } else { false } }).body { events += input.events }
        }
        return events
    }

    /// What the kernel says of the process in one of its files.
    private func account(_ name: String) throws -> String {
        let file = try Files.open("/proc/\(process.pid)/\(name)")
        return String(decoding: try Files.readAll(file.raw, limit: 1 << 20, what: name), as: UTF8.self)
    }

    /// What the process has mapped.
    var maps: String { get throws { try account("maps") } }

    /// KiB that only this process has.
    var residentMemory: Int {
        let line = (try? account("smaps_rollup"))?.split(separator: "\n").first { $0.hasPrefix("Private_Dirty:") }
        return line.flatMap { $0.split(separator: " ").dropFirst().first }.flatMap { Int($0) } ?? 0
    }
}

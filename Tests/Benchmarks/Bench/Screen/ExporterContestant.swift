import EmulatorProtocol
import Glibc
import Host
import Platform
import Surface
import Synchronization
import TestTools

/// demux-vnc as it always runs; the coordinator is played, and the surface is written by a thread of the benchmark's, 60 times a second.
final class ExporterContestant: ScreenContestant {
    let name = "Demux"
    let path: String
    private let folder: TemporaryFolder
    private let process: ChildProcess
    private let socket: MessageSocket
    private let page: SharedMemory
    private let painter: SurfacePainter
    private let thread: TestThread
    private let listener: OwnedDescriptor
    private let counters: SharedMemory
    private let frame: SurfaceDoorbell
    private let want: SurfaceDoorbell
    private let memory: SharedMemory
    private let readable: OwnedDescriptor
    private var nextID: UInt32 = 1

    init(program: String, width: Int, height: Int) throws {
        folder = try TemporaryFolder()
        path = folder.path + "/vnc"
        listener = try UnixSocket.listen(.stream, path: path)
        counters = try SharedMemory(name: "counters", length: CounterPage.length)
        page = try SurfaceMemory.createReaderPage()
        frame = try SurfaceDoorbell()
        want = try SurfaceDoorbell()
        memory = try SurfaceMemory.create(width: width, height: height)
        readable = try memory.readOnly()
        painter = SurfacePainter(
            try SurfaceWriter(try memory.descriptor.duplicate(), width: width, height: height), bell: try frame.ringing.duplicate(),
            want: try want.hearing.duplicate())
        thread = try TestThread { [painter] in painter.run() }
        let ends = try MessageSocket.pair()
        socket = MessageSocket(adopting: OwnedDescriptor(adopting: ends.0))
        let theirs = OwnedDescriptor(adopting: ends.1)
        var environment = ChildProcess.currentEnvironment()
        environment["DEMUX_SOCKET"] = "3"
        process = try ChildProcess(program: program, arguments: [], environment: environment, inherited: [.init(ours: theirs.raw, theirs: 3)])
        let hello = try wait { if case .hello = $0.body { true } else { false } }
        guard let domain = DomainID(1), let server = ServerID(0) else { throw BenchError("there is no domain 1") }
        let attach = Attach(
            mode: .exporter, domain: domain, server: server, vcpus: 0, ring: false, name: "vnc", options: ["websocket": "no"], listeners: [Listener(path: path)])
        try socket.send(Packet(.attach(attach), re: hello.id).encoded(), descriptors: [counters.descriptor.raw, listener.raw])
        let ready = try wait { $0.body == .ready }
        try socket.send(Packet(.ok(Reply()), re: ready.id).encoded())
        try ask(.start)
        try ask(.surfaceReader(SurfaceReaderChange(reader: 1, change: .added)), [page.descriptor.raw, frame.hearing.raw, want.ringing.raw])
        try ask(.surface(SurfaceSize(width: width, height: height)), [readable.raw])
    }

    private func ask(_ message: Message, _ descriptors: [CInt] = []) throws {
        let id = nextID
        nextID += 1
        try socket.send(Packet(message, id: id).encoded(), descriptors: descriptors)
        let answer = try wait { $0.re == id }
        guard case .ok = answer.body else { throw BenchError("demux-vnc answered \(message.type) with \(answer.body)") }
    }

    private func wait(_ fits: (Packet) -> Bool) throws -> Packet {
        while true {
            var entry = pollfd(fd: socket.descriptor.raw, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, 30_000) == 1, case .message(let bytes, _) = try socket.receive() else { throw BenchError("demux-vnc did not start") }
            let packet = try Packet.decoded(bytes)
            if fits(packet) { return packet }
        }
    }

    var usage: Usage { Usage(of: process.pid) }

    func paint(_ painting: Painting) {
        painter.painting.store(painting.rawValue, ordering: .relaxed)
        // Nobody else takes what it tells of itself.
        while case .message? = try? socket.receive(wait: false) {}
    }

    func end() {
        process.signal(SIGTERM)
        _ = process.wait(limit: .seconds(10))
        if process.exit == nil { process.signal(SIGKILL) }
        painter.isOver.store(true, ordering: .relaxed)
        thread.join()
    }
}

/// Draws on a surface as a display does: the pixels, what changed, the doorbell.
private final class SurfacePainter: @unchecked Sendable {
    // Sendable: all but the atomics belongs to the thread that runs it.
    let painting = Atomic<UInt8>(Painting.idle.rawValue)
    let isOver = Atomic<Bool>(false)
    private var writer: SurfaceWriter
    private var drawing: Drawing
    private let noise: [UInt32]
    private let bell: OwnedDescriptor
    private let want: OwnedDescriptor
    private var count = 0

    init(_ writer: consuming SurfaceWriter, bell: consuming OwnedDescriptor, want: consuming OwnedDescriptor) {
        drawing = Drawing(width: writer.width, height: writer.height)
        noise = drawing.noise(words: writer.width * writer.height + (1 << 20))
        self.bell = bell
        self.want = want
        self.writer = writer
        self.writer.damage(SurfaceRectangle(x: 0, y: 0, width: drawing.width, height: drawing.height))
        self.writer.publish()
    }

    func run() {
        var last = Painting.idle
        var next = EventLoop.now()
        while !isOver.load(ordering: .relaxed) {
            next &+= BenchViewer.Tick.nanoseconds
            sleep(until: next)
            if EventLoop.now() > next &+ 100_000_000 { next = EventLoop.now() }
            _ = SurfaceDoorbell.clear(want.raw)
            let now = Painting(rawValue: painting.load(ordering: .relaxed)) ?? .idle
            if now == .idle {
                last = .idle
                continue
            }
            draw(now, begins: now != last)
            last = now
            writer.publish()
            SurfaceDoorbell.ring(bell.raw)
        }
    }

    private func draw(_ painting: Painting, begins: Bool) {
        let (width, height, stride) = (writer.width, writer.height, writer.stride)
        count += 1
        switch painting {
        case .noise:
            let place = Int(drawing.random() % (1 << 20))
            noise.withUnsafeBytes { if let base = $0.baseAddress { memcpy(writer.pixels, base + place * 4, stride * height) } }
            writer.damage(SurfaceRectangle(x: 0, y: 0, width: width, height: height))
        case .scroll:
            let lines = height / 16
            if begins {
                for row in 0..<lines { put(drawing.line(), at: row * 16) }
                writer.damage(SurfaceRectangle(x: 0, y: 0, width: width, height: height))
            }
            memmove(writer.pixels, writer.pixels + 16 * stride, (lines - 1) * 16 * stride)
            // As a display does that finds what has moved.
            writer.copied(from: 0, y: 16, to: SurfaceRectangle(x: 0, y: 0, width: width, height: (lines - 1) * 16))
            put(drawing.line(), at: (lines - 1) * 16)
            writer.damage(SurfaceRectangle(x: 0, y: (lines - 1) * 16, width: width, height: 16))
        case .change:
            let square = drawing.square(count)
            for y in square.y..<square.y + 16 {
                for x in square.x..<square.x + 16 { writer.pixels.storeBytes(of: square.colour, toByteOffset: y * stride + x * 4, as: UInt32.self) }
            }
            writer.damage(SurfaceRectangle(x: square.x, y: square.y, width: 16, height: 16))
        case .idle: break
        }
    }

    private func put(_ line: [UInt32], at y: Int) {
        line.withUnsafeBytes { if let base = $0.baseAddress { memcpy(writer.pixels + y * writer.stride, base, $0.count) } }
    }
}

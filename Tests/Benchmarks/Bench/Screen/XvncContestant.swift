import Glibc
import Platform
import Synchronization
import TestTools

/// TigerVNC's Xvnc, where it is installed; a thread of the benchmark's draws as an X client, 60 times a second, from pixmaps. What the
/// server does for that is in its usage.
final class XvncContestant: ScreenContestant {
    static let program = (["/usr/bin/Xtigervnc", "/usr/bin/Xvnc"] as [String]).first { access($0, X_OK) == 0 }
    let name = "Xvnc"
    let path: String
    private let folder: TemporaryFolder
    private let process: ChildProcess
    private let painter: XPainter
    private let thread: TestThread

    init(program: String, width: Int, height: Int) throws {
        folder = try TemporaryFolder()
        path = folder.path + "/vnc"
        var ends: [CInt] = [-1, -1]
        guard pipe(&ends) == 0 else { throw SystemError("create", "a pipe") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let reading = OwnedDescriptor(adopting: ends[0])
        let writing = OwnedDescriptor(adopting: ends[1])
        let null = OwnedDescriptor(adopting: open("/dev/null", O_RDWR | O_CLOEXEC))
        process = try ChildProcess(
            program: program,
            arguments: [
                "-displayfd", "9", "-rfbport", "-1", "-rfbunixpath", path, "-SecurityTypes", "None", "-geometry", "\(width)x\(height)", "-depth", "24",
                "-nolisten", "tcp", "-br", "-ac", "-FrameRate", "60",
            ], inherited: [.init(ours: writing.raw, theirs: 9), .init(ours: null.raw, theirs: 1), .init(ours: null.raw, theirs: 2)])
        var entry = pollfd(fd: reading.raw, events: Int16(POLLIN), revents: 0)
        var text = [UInt8](repeating: 0, count: 16)
        guard poll(&entry, 1, 30_000) == 1 else { throw BenchError("Xvnc did not start") }
        let length = Glibc.read(reading.raw, &text, text.count)
        let display = String(decoding: text.prefix(max(0, length)), as: UTF8.self).filter(\.isNumber)
        painter = try XPainter(UnixSocket.connectStream("/tmp/.X11-unix/X\(display)"), width: width, height: height)
        thread = try TestThread { [painter] in painter.run() }
    }

    var usage: Usage { Usage(of: process.pid) }
    func paint(_ painting: Painting) { painter.painting.store(painting.rawValue, ordering: .relaxed) }

    func end() {
        painter.isOver.store(true, ordering: .relaxed)
        thread.join()
        process.signal(SIGTERM)
        if process.wait(limit: .seconds(10)) == nil { process.signal(SIGKILL) }
    }
}

/// As much of an X client as drawing takes.
private final class XPainter: @unchecked Sendable {
    // Sendable: all but the atomics belongs to the thread that runs it.
    let painting = Atomic<UInt8>(Painting.idle.rawValue)
    let isOver = Atomic<Bool>(false)
    private let socket: OwnedDescriptor
    private let width: Int
    private let height: Int
    private var drawing: Drawing
    private var root: UInt32 = 0
    private var base: UInt32 = 0
    private static let lines = 32
    private var graphics: UInt32 { base }
    private var noise: UInt32 { base + 1 }
    private var text: UInt32 { base + 2 }
    private var count = 0

    init(_ socket: consuming OwnedDescriptor, width: Int, height: Int) throws {
        self.socket = socket
        self.width = width
        self.height = height
        drawing = Drawing(width: width, height: height)
        try write([0x6c, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        let head = try read(8)
        guard head[0] == 1 else { throw BenchError("Xvnc lets no client in") }
        let body = try read((Int(head[6]) | Int(head[7]) << 8) * 4)
        func word(_ place: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(body[place + $1]) << UInt32(8 * $1) } }
        let vendor = Int(body[16]) | Int(body[17]) << 8
        base = word(4)
        root = word(32 + (vendor + 3) / 4 * 4 + Int(body[21]) * 8)
        // CreateGC without exposures.
        try request(55, 0, [graphics, root, 1 << 16, 0])
        for (pixmap, rows) in [(noise, height + 64), (text, Self.lines * 16)] { try request(53, 24, [pixmap, root, UInt32(width) | UInt32(rows) << 16]) }
        for row in stride(from: 0, to: height + 64, by: 16) { try put(drawing.noise(words: width * 16), noise, row) }
        for row in 0..<Self.lines { try put(drawing.line(), text, row * 16) }
    }

    private func put(_ pixels: [UInt32], _ pixmap: UInt32, _ y: Int) throws {
        try request(72, 2, [pixmap, graphics, UInt32(width) | 16 << 16, UInt32(y) << 16, 24 << 8] + pixels)
    }

    private func copy(_ from: UInt32, _ to: UInt32, fromY: Int, toY: Int, rows: Int) throws {
        try request(62, 0, [from, to, graphics, UInt32(fromY) << 16, UInt32(toY) << 16, UInt32(width) | UInt32(rows) << 16])
    }

    func run() {
        var last = Painting.idle
        var next = EventLoop.now()
        while !isOver.load(ordering: .relaxed) {
            next &+= BenchViewer.Tick.nanoseconds
            sleep(until: next)
            if EventLoop.now() > next &+ 100_000_000 { next = EventLoop.now() }
            let now = Painting(rawValue: painting.load(ordering: .relaxed)) ?? .idle
            guard (try? draw(now, begins: now != last)) != nil else { return }
            last = now
        }
    }

    private func draw(_ painting: Painting, begins: Bool) throws {
        count += 1
        let lines = height / 16
        switch painting {
        case .noise: try copy(noise, root, fromY: Int(drawing.random() % 64), toY: 0, rows: height)
        case .scroll:
            if begins { for row in 0..<lines { try copy(text, root, fromY: Int(drawing.random() % UInt32(Self.lines)) * 16, toY: row * 16, rows: 16) } }
            try copy(root, root, fromY: 16, toY: 0, rows: (lines - 1) * 16)
            try copy(text, root, fromY: Int(drawing.random() % UInt32(Self.lines)) * 16, toY: (lines - 1) * 16, rows: 16)
        case .change:
            let square = drawing.square(count)
            try request(56, 0, [graphics, 1 << 2, square.colour])
            try request(70, 0, [root, graphics, UInt32(square.x) | UInt32(square.y) << 16, 16 | 16 << 16])
        case .idle: break
        }
    }

    private func request(_ code: UInt8, _ detail: UInt8, _ words: [UInt32]) throws {
        let length = UInt32(words.count + 1)
        let all = [UInt32(code) | UInt32(detail) << 8 | length << 16] + words
        try all.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = send(socket.raw, bytes.baseAddress.map { $0 + done }, bytes.count - done, CInt(MSG_NOSIGNAL))
                guard count > 0 else { throw SystemError("write to", "Xvnc") }
                done += count
            }
        }
    }

    private func write(_ bytes: [UInt8]) throws {
        guard send(socket.raw, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count else { throw SystemError("write to", "Xvnc") }
    }

    private func read(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        guard recv(socket.raw, &bytes, count, CInt(MSG_WAITALL)) == count else { throw SystemError("read from", "Xvnc") }
        return bytes
    }
}

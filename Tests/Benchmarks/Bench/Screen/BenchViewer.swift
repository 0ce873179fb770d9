import Glibc
import Platform
import RFB

/// A viewer that asks for updates and counts what comes: it decodes only as much as is needed to find the end of a rectangle.
final class BenchViewer {
    /// What came in some time.
    struct Count {
        var updates = 0
        var bytes = 0
        var seconds = 0.0
    }
    struct Tick { static let nanoseconds: UInt64 = 1_000_000_000 / 60 }

    private(set) var width = 0
    private(set) var height = 0
    /// The pixel whose colour is looked at in raw rectangles.
    var watched = (x: 64, y: 64)
    private(set) var seen: UInt32 = 0
    private let socket: OwnedDescriptor
    private let path: String
    private var buffer = [UInt8](repeating: 0, count: 1 << 20)
    private var start = 0
    private var end = 0
    private var received = 0
    private var isAsked = false
    private var next: UInt64 = 0

    /// - Parameters:
    ///   - path: the UNIX socket of a server that lets everybody in.
    ///   - encoding: of pixels; CopyRect is taken as well.
    init(path: String, encoding: Int32) throws {
        self.path = path
        socket = try UnixSocket.connectStream(path)
        _ = try read(12)
        try write(Array("RFB 003.008\n".utf8))
        let types = try read(try read(1)[0])
        guard types.contains(1) else { throw BenchError("the server at \(path) wants a password: it offers \(types)") }
        try write([1])
        guard try read32() == 0 else { throw BenchError("the server at \(path) refuses us") }
        try write([1])
        width = try read16()
        height = try read16()
        try skip(16)
        try skip(Int(try read32()))
        try write(EncoderMessage.setPixelFormat(.native))
        // The level of compression that viewers commonly ask for; no JPEG, so that all send the same pixels.
        try write(EncoderMessage.setEncodings([encoding, Encoding.copyRect, Encoding.raw, -256 + 2]))
        try ask(incremental: false)
        _ = try update()
    }

    var descriptor: CInt { socket.raw }

    func ask(incremental: Bool = true) throws {
        try write(EncoderMessage.updateRequest(.init(incremental: incremental, x: 0, y: 0, width: UInt16(width), height: UInt16(height))))
        isAsked = true
    }

    /// Asks for an update after another for some time, at most 60 times a second.
    func run(seconds: Double) throws -> Count {
        let begin = EventLoop.now()
        let until = begin &+ UInt64(seconds * 1e9)
        var count = Count()
        let before = received
        while true {
            var now = EventLoop.now()
            if now >= until { break }
            if !isAsked {
                sleep(until: min(next, until))
                now = EventLoop.now()
                next = max(next &+ Tick.nanoseconds, now)
                try ask()
            }
            guard waitForData(until: until) else { continue }
            if try update() > 0 { count.updates += 1 }
        }
        count.bytes = received - before
        count.seconds = Double(EventLoop.now() &- begin) / 1e9
        return count
    }

    /// Takes updates until the watched pixel has this colour.
    func wait(for colour: UInt32) throws {
        let until = EventLoop.now() &+ 30_000_000_000
        while seen != colour {
            if !isAsked { try ask() }
            guard waitForData(until: until) else { throw BenchError("a pixel did not arrive within 30 seconds at the viewer of \(path): it shows \(seen), not \(colour)") }
            _ = try update()
        }
    }

    func waitForData(until time: UInt64) -> Bool {
        if start < end { return true }
        let now = EventLoop.now()
        guard time > now else { return false }
        var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, CInt(clamping: (time &- now) / 1_000_000 + 1)) == 1
    }

    // MARK: reading

    /// Reads one message; how many rectangles of pixels it had.
    func update() throws -> Int {
        guard try read(1)[0] == 0 else { throw BenchError("the server sent what is no update") }
        try skip(1)
        isAsked = false
        var rectangles = 0
        for _ in 0..<(try read16()) {
            let (x, y, w, h) = (try read16(), try read16(), try read16(), try read16())
            let encoding = Int32(truncatingIfNeeded: try read32())
            rectangles += 1
            switch encoding {
            case Encoding.raw: try raw(x, y, w, h)
            case Encoding.copyRect: try skip(4)
            case Encoding.tight: try tight(w, h)
            case Encoding.zrle: try skip(Int(try read32()))
            default: throw BenchError("the server used encoding \(encoding), which was not asked for")
            }
        }
        return rectangles
    }

    private func raw(_ x: Int, _ y: Int, _ w: Int, _ h: Int) throws {
        guard (x..<x + w).contains(watched.x), (y..<y + h).contains(watched.y) else { return try skip(w * h * 4) }
        let place = ((watched.y - y) * w + watched.x - x) * 4
        try skip(place)
        let bytes = try read(4)
        seen = UInt32(bytes[0]) | UInt32(bytes[1]) << 8 | UInt32(bytes[2]) << 16
        try skip(w * h * 4 - place - 4)
    }

    private func tight(_ w: Int, _ h: Int) throws {
        let control = try read(1)[0]
        switch control >> 4 {
        case 8: return try skip(3)
        case 9: return try skip(try compactLength())
        case 0..<8: break
        default: throw BenchError("the server sent a tight rectangle of kind \(control >> 4)")
        }
        var line = w * 3
        if control & 0x40 != 0 {
            switch try read(1)[0] {
            case 1:
                let colours = Int(try read(1)[0]) + 1
                try skip(colours * 3)
                line = colours == 2 ? (w + 7) / 8 : w
            case 0, 2: break
            case let filter: throw BenchError("the server sent a tight rectangle with filter \(filter)")
            }
        }
        try skip(line * h < 12 ? line * h : try compactLength())
    }

    private func compactLength() throws -> Int {
        var length = 0
        for shift in [0, 7, 14] {
            let byte = try read(1)[0]
            length |= Int(shift == 14 ? byte : byte & 0x7f) << shift
            if byte < 0x80 || shift == 14 { break }
        }
        return length
    }

    private func fill() throws {
        start = 0
        end = 0
        guard waitForData(until: EventLoop.now() &+ 30_000_000_000) else { throw BenchError("a server said nothing for 30 seconds") }
        let raw = socket.raw
        let count = buffer.withUnsafeMutableBytes { recv(raw, $0.baseAddress, $0.count, 0) }
        guard count > 0 else { throw BenchError("a server has closed its connection") }
        end = count
        received += count
    }

    private func skip(_ count: Int) throws {
        var rest = count
        while rest > 0 {
            if start == end { try fill() }
            let part = min(rest, end - start)
            start += part
            rest -= part
        }
    }

    private func read(_ count: some BinaryInteger) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < Int(count) {
            if start == end { try fill() }
            let part = min(Int(count) - bytes.count, end - start)
            bytes += buffer[start..<start + part]
            start += part
        }
        return bytes
    }
    private func read16() throws -> Int { try read(2).reduce(0) { $0 << 8 | Int($1) } }
    private func read32() throws -> UInt32 { try read(4).reduce(0) { $0 << 8 | UInt32($1) } }

    private func write(_ bytes: [UInt8]) throws {
        guard send(socket.raw, bytes, bytes.count, CInt(MSG_NOSIGNAL)) == bytes.count else { throw SystemError("write to", "a VNC server") }
    }
}

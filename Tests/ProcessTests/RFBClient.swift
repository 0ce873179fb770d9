import Glibc
import Platform
import Testing

/// A viewer as small as it can be: raw pixels, and what it says of keys, pointers and sizes.
final class RFBClient {
    private let socket: OwnedDescriptor
    private var held: [UInt8] = []
    private var start = 0
    private(set) var width = 0
    private(set) var height = 0
    /// 24 bits each.
    private(set) var pixels: [UInt32] = []
    private(set) var name = ""

    struct Closed: Error {}

    init(_ socket: consuming OwnedDescriptor) throws {
        self.socket = socket
        #expect(try read(12) == Array("RFB 003.008\n".utf8))
        try write(Array("RFB 003.008\n".utf8))
        let types = try read(Int(try read(1)[0]))
        try #require(types.contains(1), "it wants a password")
        try write([1])
        #expect(try number(4) == 0)
        try write([1])
        let (width, height) = (try number(2), try number(2))
        _ = try read(16)
        name = String(decoding: try read(try number(4)), as: UTF8.self)
        resize(width, height)
        // 32 bits, little-endian, 8 each.
        try write([0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])
        // Raw, DesktopSize, ExtendedDesktopSize.
        try write([2, 0, 0, 3] + Self.bytes(0, 4) + Self.bytes(-223, 4) + Self.bytes(-308, 4))
        try request(incremental: false)
    }

    private func resize(_ width: Int, _ height: Int) {
        guard width != self.width || height != self.height else { return }
        (self.width, self.height) = (width, height)
        pixels = [UInt32](repeating: 0, count: width * height)
    }

    // MARK: saying

    static func bytes(_ value: Int, _ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * (count - 1 - $0))) } }

    func request(incremental: Bool = true) throws {
        try write([3, incremental ? 1 : 0, 0, 0, 0, 0] + Self.bytes(width, 2) + Self.bytes(height, 2))
    }

    /// A key by its X keysym.
    func key(_ keysym: Int, down: Bool) throws { try write([4, down ? 1 : 0, 0, 0] + Self.bytes(keysym, 4)) }

    func pointer(_ buttons: UInt8, _ x: Int, _ y: Int) throws { try write([5, buttons] + Self.bytes(x, 2) + Self.bytes(y, 2)) }

    func setDesktopSize(_ width: Int, _ height: Int) throws {
        let size = Self.bytes(width, 2) + Self.bytes(height, 2)
        try write([251, 0] + size + [1, 0] + [0, 0, 0, 1, 0, 0, 0, 0] + size + [0, 0, 0, 0])
    }

    // MARK: seeing

    /// Reads updates, and asks for more, until the picture is this one.
    func shows(_ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () throws -> Bool) throws {
        let end = EventLoop.now() &+ patience.clampedNanoseconds
        while try !condition() {
            try #require(EventLoop.now() < end, "never seen: \(what)", sourceLocation: sourceLocation)
            if try isReadable(100) { try update() }
        }
    }

    /// Whether anything comes within so many milliseconds.
    private func isReadable(_ milliseconds: CInt) throws -> Bool {
        if start < held.count { return true }
        var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, milliseconds) == 1
    }

    /// One message; an update is answered with the next request.
    private func update() throws {
        let type = try read(1)[0]
        guard type == 0 else { throw Closed() }
        _ = try read(1)
        for _ in 0..<(try number(2)) {
            let (x, y, w, h) = (try number(2), try number(2), try number(2), try number(2))
            switch Int32(truncatingIfNeeded: try number(4)) {
            case 0:
                let bytes = try read(w * h * 4)
                try #require(x + w <= width && y + h <= height, "a rectangle outside the picture")
                for line in 0..<h {
                    for column in 0..<w {
                        let at = (line * w + column) * 4
                        pixels[(y + line) * width + x + column] = UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2]) << 16
                    }
                }
            case -223: resize(w, h)
            case -308:
                _ = try read(Int(try read(4)[0]) * 16)
                resize(w, h)
            default: throw Closed()
            }
        }
        try request()
    }

    // MARK: bytes

    private func write(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { send(socket.raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw Closed() }
            sent += count
        }
    }

    private func number(_ count: Int) throws -> Int { try read(count).reduce(0) { $0 << 8 | Int($1) } }

    private func read(_ count: Int) throws -> [UInt8] {
        while held.count - start < count {
            var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
            try #require(poll(&entry, 1, CInt(patience.components.seconds * 1000)) == 1, "hangs: bytes from the exporter")
            var buffer = [UInt8](repeating: 0, count: 1 << 18)
            let got = recv(socket.raw, &buffer, buffer.count, 0)
            guard got > 0 else { throw Closed() }
            if start > 0 {
                held.removeFirst(start)
                start = 0
            }
            held += buffer[..<got]
        }
        defer { start += count }
        return Array(held[start..<start + count])
    }
}

/// A connection to a port of this machine's.
func tcp(_ port: String) throws -> OwnedDescriptor {
    let raw = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = try #require(UInt16(port)).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let result = withUnsafePointer(to: address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
    let descriptor = OwnedDescriptor(adopting: raw)
    try #require(result == 0)
    return descriptor
}

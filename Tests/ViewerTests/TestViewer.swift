import Glibc
import Platform
import RFB
import Testing

/// A small viewer: what it shows can be compared pixel by pixel.
final class TestViewer {
    let stream: Stream
    private(set) var width = 0
    private(set) var height = 0
    private(set) var name = ""
    /// 24 bits each.
    private(set) var picture: [UInt32] = []
    private(set) var format = PixelFormat.native
    /// What the updates said beside pixels, oldest first.
    private(set) var notes: [Note] = []
    private(set) var copies = 0
    private(set) var pixelBytes = 0

    enum Note: Equatable {
        case size(Int, Int)
        case extendedSize(Int, Int, reason: Int, status: Int, screen: Int)
        case cursor(Int, Int, hotX: Int, hotY: Int)
        case extension_(Int32, x: Int)
    }

    struct Refused: Error, Equatable { let reason: String }

    static let all: [Int32] = [Encoding.copyRect, Encoding.raw, Encoding.desktopSize, Encoding.extendedDesktopSize, Encoding.richCursor]

    /// Goes through the whole handshake. `tls`: how to begin TLS for a VeNCrypt type.
    init(
        _ stream: Stream, version: String = "RFB 003.008\n", password: String? = nil, subtype: UInt32? = nil, shared: Bool = true, finish: Bool = true
    ) throws {
        var stream = stream
        let greeting = try stream.read(12)
        #expect(greeting == Handshake.greeting)
        try stream.write(Array(version.utf8))
        let isOld = version == "RFB 003.003\n"
        var type: UInt8 = 0
        if isOld {
            let number = try stream.read32()
            if number == 0 { throw Refused(reason: try Self.text(stream)) }
            type = UInt8(number)
        } else {
            let count = try stream.read(1)[0]
            if count == 0 { throw Refused(reason: try Self.text(stream)) }
            type = try stream.read(Int(count))[0]
            try stream.write([type])
        }
        if type == 19 {
            #expect(try stream.read(2) == [0, 2])
            try stream.write([0, 2])
            #expect(try stream.read(1) == [0])
            let count = try stream.read(1)[0]
            let offered = try (0..<count).map { _ in UInt32(try stream.read32()) }
            let wanted = subtype ?? offered[0]
            try stream.write((0..<4).map { UInt8(truncatingIfNeeded: wanted >> (24 - 8 * $0)) })
            guard try stream.read(1) == [1] else { throw Refused(reason: "subtype") }
            stream = try TLSStream(try stream.socket.duplicate(), anonymous: wanted == 257 || wanted == 258)
            type = wanted == 258 || wanted == 261 ? 2 : 1
        }
        self.stream = stream
        if type == 2 {
            let challenge = try stream.read(16)
            try stream.write(VNCAuthentication.answer(to: challenge, password: password ?? ""))
        }
        if type == 2 || version == "RFB 003.008\n" {
            if try stream.read32() != 0 { throw Refused(reason: version == "RFB 003.008\n" ? try Self.text(stream) : "") }
        }
        try stream.write([shared ? 1 : 0])
        if finish { try readServerInit() }
    }

    func readServerInit() throws {
        width = try stream.read16()
        height = try stream.read16()
        format = .native
        #expect(try stream.read(16) == PixelFormat.native.encoded)
        name = try Self.text(stream)
        picture = [UInt32](repeating: 0, count: width * height)
    }

    private static func text(_ stream: Stream) throws -> String { String(decoding: try stream.read(try stream.read32()), as: UTF8.self) }

    // MARK: saying

    func setEncodings(_ encodings: [Int32] = all) throws { try stream.write(EncoderMessage.setEncodings(encodings)) }

    func setFormat(_ format: PixelFormat) throws {
        self.format = format
        try stream.write(EncoderMessage.setPixelFormat(format))
    }

    func request(incremental: Bool = true) throws {
        try stream.write(EncoderMessage.updateRequest(.init(incremental: incremental, x: 0, y: 0, width: UInt16(width), height: UInt16(height))))
    }

    func key(_ keysym: UInt32, down: Bool) throws { try stream.write([4, down ? 1 : 0, 0, 0] + Self.bytes(keysym)) }

    func pointer(_ buttons: UInt8, _ x: Int, _ y: Int) throws {
        try stream.write([5, buttons, UInt8(x >> 8), UInt8(x & 255), UInt8(y >> 8), UInt8(y & 255)])
    }

    func extendedKey(_ keysym: UInt32, _ number: UInt32, down: Bool) throws { try stream.write([255, 0, 0, down ? 1 : 0] + Self.bytes(keysym) + Self.bytes(number)) }

    func setDesktopSize(_ width: Int, _ height: Int) throws {
        let size = [UInt8(width >> 8), UInt8(width & 255), UInt8(height >> 8), UInt8(height & 255)]
        try stream.write([251, 0] + size + [1, 0] + [0, 0, 0, 1, 0, 0, 0, 0] + size + [0, 0, 0, 0])
    }

    static func bytes(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) } }

    // MARK: showing

    /// Reads one update.
    func update() throws {
        let type = try stream.read(1)[0]
        guard type == 0 else { throw Hangs(what: "an update, not a message of type \(type)") }
        _ = try stream.read(1)
        for _ in 0..<(try stream.read16()) {
            let (x, y, w, h) = (try stream.read16(), try stream.read16(), try stream.read16(), try stream.read16())
            let encoding = Int32(truncatingIfNeeded: try stream.read32())
            switch encoding {
            case Encoding.raw: try raw(x, y, w, h)
            case Encoding.copyRect: copy(try stream.read16(), try stream.read16(), x, y, w, h)
            case Encoding.desktopSize:
                notes.append(.size(w, h))
                resize(w, h)
            case Encoding.extendedDesktopSize:
                let screens = try stream.read(4)[0]
                var id = 0
                for _ in 0..<screens {
                    id = try stream.read32()
                    _ = try stream.read(12)
                }
                notes.append(.extendedSize(w, h, reason: x, status: y, screen: id))
                resize(w, h)
            case Encoding.richCursor:
                _ = try stream.read(w * h * Int(format.bitsPerPixel) / 8 + (w + 7) / 8 * h)
                notes.append(.cursor(w, h, hotX: x, hotY: y))
            case Encoding.extendedKeyEvent, Encoding.pointerMotionChange: notes.append(.extension_(encoding, x: x))
            default: throw Hangs(what: "a known encoding, not \(encoding)")
            }
        }
    }

    /// Says what it can, asks for all of a screen, and reads until its picture is that.
    func see(_ screen: FakeCoordinator.Screen, with encodings: [Int32] = all, _ what: String = "the picture") throws {
        try setEncodings(encodings)
        try request(incremental: false)
        try show(screen, what)
    }

    /// Requests and reads updates until the picture is this one.
    func show(_ screen: FakeCoordinator.Screen, _ what: String = "the picture") throws {
        let wanted = screen.colours
        for _ in 0..<200 {
            if width == screen.width, height == screen.height, picture == wanted { return }
            try request()
            try update()
        }
        throw Hangs(what: what)
    }

    private func resize(_ w: Int, _ h: Int) {
        guard w != width || h != height else { return }
        (width, height) = (w, h)
        picture = [UInt32](repeating: 0, count: w * h)
    }

    private func raw(_ x: Int, _ y: Int, _ w: Int, _ h: Int) throws {
        guard x + w <= width, y + h <= height else { throw Hangs(what: "a rectangle within the picture") }
        let size = Int(format.bitsPerPixel) / 8
        let bytes = try stream.read(w * h * size)
        pixelBytes += bytes.count
        for line in 0..<h {
            for column in 0..<w {
                let at = (line * w + column) * size
                var value: UInt32 = 0
                for index in 0..<size { value |= UInt32(bytes[at + index]) << UInt32(8 * (format.bigEndian ? size - 1 - index : index)) }
                picture[(y + line) * width + x + column] = format == .native ? value & 0xff_ffff : value
            }
        }
    }

    private func copy(_ fromX: Int, _ fromY: Int, _ x: Int, _ y: Int, _ w: Int, _ h: Int) {
        copies += 1
        let old = picture
        for line in 0..<h { for column in 0..<w { picture[(y + line) * width + x + column] = old[(fromY + line) * width + fromX + column] } }
    }
}

extension FakeCoordinator {
    func viewer(
        version: String = "RFB 003.008\n", password: String? = nil, subtype: UInt32? = nil, shared: Bool = true
    ) throws -> TestViewer {
        try TestViewer(Stream(try Stream.connectTCP(port)), version: version, password: password, subtype: subtype, shared: shared)
    }

    /// Why a viewer is not let in; nil: it was.
    func reasonForRefusal(password: String? = nil, shared: Bool = true) throws -> String? {
        do {
            _ = try viewer(password: password, shared: shared)
            return nil
        } catch let refused as TestViewer.Refused {
            return refused.reason
        }
    }
}

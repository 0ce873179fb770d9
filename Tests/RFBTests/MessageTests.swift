import Testing

@testable import RFB

@Suite("Messages")
struct MessageTests {
    private func messages(_ bytes: [UInt8], cut: Int = .max) throws -> [ClientMessage] {
        var parser = ClientMessageParser()
        var result: [ClientMessage] = []
        var start = 0
        while start < bytes.count {
            let end = min(bytes.count, start + min(cut, bytes.count))
            parser.append(Array(bytes[start..<end]))
            while let message = try parser.next() { result.append(message) }
            start = end
        }
        return result
    }

    private static let everything: [UInt8] =
        [0, 0, 0, 0] + PixelFormat.native.encoded + [2, 0, 0, 2, 0, 0, 0, 7, 0xff, 0xff, 0xfe, 0xfe] + [3, 1, 0, 1, 0, 2, 0, 3, 1, 4]
        + [4, 1, 0, 0, 0, 0, 0xff, 0x0d] + [5, 3, 0, 9, 1, 0] + [6, 0, 0, 0, 0, 0, 0, 3, 65, 66, 67] + [6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe, 1, 2]
        + [251, 0, 4, 0, 3, 0, 1, 0] + [UInt8](repeating: 0, count: 16) + [255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e]

    @Test("messages are read whole, however they are cut", arguments: [1, 2, 3, 5, 17, 1000])
    func messagesReadWholeHowever(cut: Int) throws {
        #expect(try messages(Self.everything, cut: cut) == [
            .setPixelFormat(.native), .setEncodings([7, -258]), .updateRequest(.init(incremental: true, x: 1, y: 2, width: 3, height: 260)),
            .key(0xff0d, down: true), .pointer(buttons: 3, x: 9, y: 256), .setDesktopSize(width: 1024, height: 768),
            .extendedKey(keysym: 0x61, number: 0x1e, down: true),
        ])
    }

    @Test("scaling and everything else that was not offered ends the connection", arguments: [8, 15, 1, 7, 9, 10, 11, 150, 248, 250, 254] as [UInt8])
    func scalingEverythingElseWas(type: UInt8) {
        #expect(throws: ProtocolViolation.self) { try messages([type, 2, 0, 0]) }
    }

    @Test("clipboard text is skipped without being kept, and refused when it is huge")
    func clipboardTextSkippedWithout() throws {
        var parser = ClientMessageParser()
        parser.append([6, 0, 0, 0, 1, 0, 0, 0])
        #expect(try parser.next() == nil)
        let part = [UInt8](repeating: 8, count: 1 << 16)
        for _ in 0..<256 {
            parser.append(part)
            #expect(try parser.next() == nil)
        }
        parser.append([4, 0, 0, 0, 0, 0, 0, 65])
        #expect(try parser.next() == .key(65, down: false))
        for length in [[1, 0, 0, 1], [0x7f, 0xff, 0xff, 0xff], [0x80, 0, 0, 0]] as [[UInt8]] {
            #expect(throws: ProtocolViolation.self) { try messages([6, 0, 0, 0] + length) }
        }
    }

    @Test("long lists of encodings are cut down to what the encoder knows, and huge ones refused")
    func longListsEncodingsCut() throws {
        var bytes: [UInt8] = [2, 0, 0x10, 0]
        for number in 0..<4096 { bytes.append32(UInt32(bitPattern: Int32(number - 2048))) }
        guard case .setEncodings(let list)? = try messages(bytes).first else { return #expect(Bool(false), "no list") }
        #expect(list.count == 4096)
        let known = Encoding.forEncoder(list + list)
        #expect(known.count < 160 && Set(known).count == known.count)
        for refused in [2, 4, 9, -261, -259, -307, Int32(bitPattern: 0xffff_8000), Int32(bitPattern: 0xffff_8002), Int32(bitPattern: 0xc0a1_e5ce)] as [Int32] {
            #expect(!Encoding.isForEncoder(refused))
        }
        #expect(throws: ProtocolViolation.self) { try messages([2, 0, 0x10, 1]) }
    }

    @Test("pixel formats that the encoder could not serve are refused")
    func pixelFormatsEncoderCould() {
        var formats = [PixelFormat](repeating: .native, count: 8)
        formats[0].bitsPerPixel = 24
        formats[1].redMax = 0
        formats[2].greenMax = 254
        formats[3].blueShift = 25
        formats[4].redShift = 255
        formats[5].trueColour = false
        formats[6].bitsPerPixel = 16
        formats[7].bitsPerPixel = 0
        for format in formats { #expect(throws: ProtocolViolation.self) { try messages([0, 0, 0, 0] + format.encoded) } }
        let small = PixelFormat(
            bitsPerPixel: 8, depth: 6, bigEndian: true, trueColour: true, redMax: 3, greenMax: 3, blueMax: 3, redShift: 4, greenShift: 2, blueShift: 0)
        #expect(small.fault == nil)
        #expect(PixelFormat(
            bitsPerPixel: 16, depth: 16, bigEndian: false, trueColour: true, redMax: 31, greenMax: 63, blueMax: 31, redShift: 11, greenShift: 5,
            blueShift: 0).fault == nil)
        #expect(PixelFormat(
            bitsPerPixel: 8, depth: 8, bigEndian: false, trueColour: false, redMax: 0, greenMax: 0, blueMax: 0, redShift: 0, greenShift: 0, blueShift: 0)
            .fault == nil)
    }

    @Test("the end of the handshake says size, format and name")
    func endHandshakeSaysSize() {
        let bytes = ServerMessage.serverInit(width: 1024, height: 768, name: "Gäst")
        #expect(bytes == [4, 0, 3, 0] + PixelFormat.native.encoded + [0, 0, 0, 5] + Array("Gäst".utf8))
        #expect(ServerMessage.pseudoRectangle(-258, width: 640, height: 480) == [0, 0, 0, 1, 0, 0, 0, 0, 2, 0x80, 1, 0xe0, 0xff, 0xff, 0xfe, 0xfe])
    }
}

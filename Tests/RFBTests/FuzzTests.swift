import Glibc
import SeededNumbers
import Testing

@testable import RFB

@Suite("Hostile bytes")
struct FuzzTests {
    private static let rounds = getenv("DEMUX_TEST_FULL") == nil ? 3_000 : 100_000

    /// Bytes that are often nearly right.
    private func bytes(_ generator: inout SplitMix, like samples: [[UInt8]]) -> [UInt8] {
        var result = Bool.random(using: &generator) ? samples.randomElement(using: &generator) ?? [] : []
        for _ in 0..<Int.random(in: 0..<40, using: &generator) { result.append(UInt8.random(in: .min ... .max, using: &generator)) }
        for _ in 0..<Int.random(in: 0..<4, using: &generator) where !result.isEmpty {
            result[Int.random(in: 0..<result.count, using: &generator)] = UInt8.random(in: .min ... .max, using: &generator)
        }
        return result
    }

    @Test("no bytes make a handshake do anything but go on or refuse")
    func bytesMakeHandshakeDo() {
        var generator = SplitMix(state: 1)
        let samples: [[UInt8]] = [Array("RFB 003.008\n".utf8), Array("RFB 003.003\n".utf8), Array("RFB 003.008\n".utf8) + [19, 0, 2, 0, 0, 1, 5], Array("RFB 003.007\n".utf8) + [2]]
        for _ in 0..<Self.rounds {
            var handshake = Handshake(SecurityOffer(
                password: Bool.random(using: &generator), x509: Bool.random(using: &generator), anonymous: Bool.random(using: &generator)))
            var isOver = false
            for _ in 0..<4 {
                handshake.append(bytes(&generator, like: samples))
                while let action = handshake.next() {
                    #expect(!isOver)
                    switch action {
                    case .done, .refuse: isOver = true
                    case .startTLS: handshake.tlsIsUp()
                    case .verify(_, let answer):
                        #expect(answer.count == 16)
                        handshake.decide(isRight: Bool.random(using: &generator))
                    case .send(let bytes): #expect(bytes.count < 200)
                    }
                }
            }
        }
    }

    @Test("no bytes make the message parser fail, loop or keep much")
    func bytesMakeMessageParser() {
        var generator = SplitMix(state: 2)
        let samples: [[UInt8]] = [
            [0, 0, 0, 0] + PixelFormat.native.encoded, [2, 0, 0, 3], [3, 0, 0, 0, 0, 0, 4, 0, 3, 0], [4, 1, 0, 0, 0, 0, 0, 65], [5, 0, 0, 0, 0, 0],
            [6, 0, 0, 0, 0, 0, 0, 9], [251, 0, 4, 0, 3, 0, 1, 0], [255, 0, 0, 1],
        ]
        for _ in 0..<Self.rounds {
            var parser = ClientMessageParser()
            do {
                for _ in 0..<10 {
                    parser.append(bytes(&generator, like: samples))
                    while let message = try parser.next() {
                        if case .setPixelFormat(let format) = message { #expect(format.fault == nil) }
                    }
                }
            } catch { #expect(!error.description.isEmpty) }
        }
    }

    @Test("no bytes make the WebSocket side fail or loop")
    func bytesMakeWebsocketSide() {
        var generator = SplitMix(state: 3)
        let request = Array((WebSocketTests.request + "\r\n").utf8)
        for _ in 0..<Self.rounds {
            var handshake = WebSocketHandshake()
            for _ in 0..<4 { if handshake.take(bytes(&generator, like: [request, Array(request.prefix(50))])) != .incomplete { break } }
            var decoder = WebSocketDecoder()
            do {
                for _ in 0..<10 {
                    decoder.append(bytes(&generator, like: [WebSocketTests.frame(0x82, [1, 2, 3]), WebSocketTests.frame(0x89, []), [0x82, 0xfe]]))
                    while let event = try decoder.next() { if event == .close { break } }
                }
            } catch { #expect(!error.description.isEmpty) }
        }
    }

    @Test("no text makes a keymap fail, and no events leave a key down")
    func textMakesKeymapFail() {
        var generator = SplitMix(state: 4)
        let words = ["a", "Shift_L", "0x2a", "0x", "0x10", "shift", "altgr", "addupper", "include", "map", "U20AC", "U", "0x0100002b", "\n", "\n", " ", "#", "é", "255", "KP_0", "numlock"]
        for _ in 0..<Self.rounds / 30 {
            let text = (0..<200).map { _ in words.randomElement(using: &generator) ?? "" }.joined(separator: " ")
            var keyboard = Keyboard(Keymap(text: text) { _ in text })
            var down: Set<UInt16> = []
            func take(_ strokes: [KeyStroke]) { for stroke in strokes { if stroke.down { down.insert(stroke.number) } else { down.remove(stroke.number) } } }
            for _ in 0..<300 {
                let viewer = Int.random(in: 0..<3, using: &generator)
                let isDown = Bool.random(using: &generator)
                let keysym = Bool.random(using: &generator) ? UInt32.random(in: 0..<0x100, using: &generator) : UInt32.random(in: 0xff00..<0x10000, using: &generator)
                take(Int.random(in: 0..<4, using: &generator) == 0
                    ? keyboard.key(number: keysym, down: isDown, viewer: viewer) : keyboard.key(keysym, down: isDown, viewer: viewer))
            }
            for viewer in 0..<3 { take(keyboard.leave(viewer: viewer)) }
            #expect(down.isEmpty)
        }
    }
}

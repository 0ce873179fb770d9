import Testing

@testable import RFB

@Suite("WebSocket")
struct WebSocketTests {
    static let request = "GET /websockify HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

    static func frame(_ first: UInt8, _ payload: [UInt8], mask: [UInt8] = [1, 2, 3, 4], length: Int? = nil) -> [UInt8] {
        let length = length ?? payload.count
        var result = [first]
        if length < 126 { result.append(0x80 | UInt8(length)) } else {
            result.append(0x80 | 126)
            result.append16(UInt16(length))
        }
        return result + mask + payload.enumerated().map { $1 ^ mask[$0 & 3] }
    }

    private func events(_ decoder: inout WebSocketDecoder, _ bytes: [UInt8]) throws -> [WebSocketDecoder.Event] {
        decoder.append(bytes)
        var result: [WebSocketDecoder.Event] = []
        while let event = try decoder.next() { result.append(event) }
        return result
    }

    @Test("SHA-1 gives the published digests")
    func sha1GivesPublished() {
        #expect(WebSocketDigest.sha1(Array("abc".utf8)).prefix(4) == [0xa9, 0x99, 0x3e, 0x36])
        #expect(WebSocketDigest.sha1([]).prefix(4) == [0xda, 0x39, 0xa3, 0xee])
        #expect(WebSocketDigest.sha1([UInt8](repeating: UInt8(ascii: "a"), count: 1000)).prefix(4) == [0x29, 0x1e, 0x9a, 0x6c])
        #expect(WebSocketDigest.base64(Array("fooba".utf8)) == "Zm9vYmE=")
        #expect(WebSocketDigest.base64(Array("foob".utf8)) == "Zm9vYg==")
        #expect(WebSocketDigest.base64([]) == "")
    }

    @Test("the key of RFC 6455 gets the answer of RFC 6455, with or without an origin and a protocol")
    func keyRfc6455Gets() {
        for (extra, answer) in [("", ""), ("Origin: http://localhost:6080\r\nSec-WebSocket-Protocol: chat, binary\r\n", "Sec-WebSocket-Protocol: binary\r\n")] {
            var handshake = WebSocketHandshake()
            guard case .accepted(let response, let rest) = handshake.take(Array((Self.request + extra + "\r\nRFB").utf8)) else {
                Issue.record("not accepted")
                continue
            }
            let text = String(decoding: response, as: UTF8.self)
            #expect(text.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"))
            #expect(text.hasPrefix("HTTP/1.1 101 ") && text.hasSuffix("\(answer)\r\n"))
            #expect(rest == Array("RFB".utf8))
        }
    }

    @Test("a request may come byte by byte")
    func requestMayComeByte() {
        var handshake = WebSocketHandshake()
        let bytes = Array((Self.request + "\r\n").utf8)
        for byte in bytes.dropLast() { #expect(handshake.take([byte]) == .incomplete) }
        guard case .accepted = handshake.take([10]) else { return #expect(Bool(false), "not accepted") }
    }

    @Test("what is no WebSocket request is refused", arguments: [
        "POST / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n", "\r\n\r\n",
        request.replacing("13", with: "8") + "\r\n", request.replacing("dGhl", with: "d") + "\r\n", request + "Sec-WebSocket-Protocol: chat\r\n\r\n",
    ])
    func whatWebsocketRequestRefused(text: String) {
        var handshake = WebSocketHandshake()
        guard case .refused(let response, _) = handshake.take(Array(text.utf8)) else { return #expect(Bool(false), "not refused") }
        #expect(String(decoding: response, as: UTF8.self).hasPrefix("HTTP/1.1 4"))
    }

    @Test("a request without an end is refused at its limit")
    func requestWithoutEndRefused() {
        var handshake = WebSocketHandshake()
        for index in 0..<100 {
            switch handshake.take([UInt8](repeating: 65, count: 100)) {
            case .incomplete: #expect(index <= 81)
            default: return #expect(index > 80)
            }
        }
        Issue.record("never refused")
    }

    @Test("frames of any cut give the same bytes")
    func framesAnyCutGive() throws {
        let payload = (0..<300).map { UInt8(truncatingIfNeeded: $0) }
        let bytes = Self.frame(0x02, Array(payload[..<100])) + Self.frame(0x89, [1, 2]) + Self.frame(0x80, Array(payload[100...])) + Self.frame(0x88, [3, 0xe8])
        for cut in [1, 2, 3, 7, 64, 1000] {
            var decoder = WebSocketDecoder()
            var data: [UInt8] = []
            var others: [WebSocketDecoder.Event] = []
            for start in stride(from: 0, to: bytes.count, by: cut) {
                for event in try events(&decoder, Array(bytes[start..<min(start + cut, bytes.count)])) {
                    if case .data(let part) = event { data += part } else { others.append(event) }
                    if event == .close { break }
                }
                if others.contains(.close) { break }
            }
            #expect(data == payload)
            #expect(others == [.ping([1, 2]), .close])
        }
    }

    @Test("frames that break the protocol end it", arguments: [
        [0x82, 0x05], [0xc2, 0x80, 0, 0, 0, 0], [0x83, 0x80, 0, 0, 0, 0], [0x80, 0x80, 0, 0, 0, 0], [0x09, 0x80, 0, 0, 0, 0], [0x89, 0xfe, 0, 200, 0, 0, 0, 0],
        [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0],
    ] as [[UInt8]])
    func framesBreakProtocolEnd(bytes: [UInt8]) {
        var decoder = WebSocketDecoder()
        #expect(throws: ProtocolViolation.self) { try events(&decoder, bytes) }
    }

    @Test("lengths are written as short as they can be")
    func lengthsWrittenShortThey() {
        #expect(WebSocketEncoder.binaryHeader(length: 125) == [0x82, 125])
        #expect(WebSocketEncoder.binaryHeader(length: 126) == [0x82, 126, 0, 126])
        #expect(WebSocketEncoder.binaryHeader(length: 65_536) == [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0])
        #expect(WebSocketEncoder.pong([5]) == [0x8a, 1, 5])
    }
}

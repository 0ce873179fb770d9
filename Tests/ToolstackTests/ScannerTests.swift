import SeededNumbers
import Testing

@testable import Toolstack

@Suite("The scanner of a monitor's stream")
struct ScannerTests {
    private func objects(_ text: String, limit: Int = 1000, piece: Int = .max) -> [String] {
        var scanner = QMPScanner(limit: limit)
        let bytes = Array(text.utf8)
        var found: [String] = []
        var position = 0
        while position < bytes.count {
            let end = position + min(piece, bytes.count - position)
            for item in scanner.feed(bytes[position..<end]) { found.append(item.bytes.map { String(decoding: $0, as: UTF8.self) } ?? "long") }
            position = end
        }
        return found
    }

    @Test("Objects are found whole, however the stream is cut", arguments: [1, 2, 3, 7, 1000])
    func pieces(piece: Int) {
        let text = #"{"a":{"b":"}{"}} garbage {"c":"\"}"}[{"d":1}]{'e':'"'}"# + "\r\n{}"
        #expect(objects(text, piece: piece) == [#"{"a":{"b":"}{"}}"#, #"{"c":"\"}"}"#, #"{'e':'"'}"#, "{}"])
    }

    @Test("A long object is told of without its bytes, and the next one is found")
    func long() {
        let text = "{\"a\":\"" + String(repeating: "x", count: 2000) + "\"}{\"b\":1}"
        #expect(objects(text) == ["long", "{\"b\":1}"])
        #expect(objects(text, piece: 10) == ["long", "{\"b\":1}"])
    }

    @Test("What breaks off is forgotten at the byte at which QEMU gives up too")
    func recovery() {
        #expect(objects("{\"a\": \"open\n{\"b\":1}") == ["{\"b\":1}"])
        #expect(objects("}}]]{\"b\":1}") == ["{\"b\":1}"])
        var scanner = QMPScanner(limit: 100)
        #expect(scanner.feed([0x7b, 0x7b, 0xff, 0x7b, 0x7d]) == [.init(start: 3, end: 5, bytes: [0x7b, 0x7d])])
    }

    @Test("Garbage never traps it, never grows it, and never leads it astray for good")
    func fuzz() {
        var random = SplitMix(state: 0x5eed_0002)
        let alphabet = Array("{}[]\"'\\,: \n\r\tabc019".utf8) + [0x00, 0x1f, 0x7f, 0x80, 0xfe, 0xff]
        for _ in 0..<3000 {
            var scanner = QMPScanner(limit: 64)
            for _ in 0..<Int.random(in: 0...20, using: &random) {
                let chunk = (0..<Int.random(in: 0...40, using: &random)).map { _ in
                    Bool.random(using: &random) ? alphabet[Int.random(in: 0..<alphabet.count, using: &random)] : UInt8.random(in: 0...255, using: &random)
                }
                for item in scanner.feed(chunk[...]) {
                    #expect(item.end > (item.start ?? -1) && item.end <= chunk.count)
                    #expect((item.bytes?.count ?? 0) <= 64)
                    if let bytes = item.bytes { #expect(bytes.first == 0x7b) }
                    // Whatever it is, reading it as JSON must be safe too.
                    if let bytes = item.bytes { _ = JSONValue(parsing: bytes) }
                }
            }
            // 0xff is how a client brings QEMU's lexer back to the beginning; within a string the first one ends it.
            _ = scanner.feed([0xff, 0xff][...])
            #expect(scanner.feed(Array("{}".utf8)[...]).count == 1)
        }
    }

    @Test("A JSON value comes back as it went")
    func json() throws {
        let text = #"{"a":[1,-2.5,true,null,"é\n"],"b":{}}"#
        let value = try #require(JSONValue(parsing: Array(text.utf8)))
        #expect(value["a"]?.elements == [1, .number(-2.5), true, .null, "é\n"])
        #expect(String(decoding: value.encoded(), as: UTF8.self) == text)
        #expect(JSONValue(parsing: Array("{".utf8)) == nil)
        #expect(JSONValue(parsing: Array(String(repeating: "[", count: 100_000).utf8)) == nil)
    }
}

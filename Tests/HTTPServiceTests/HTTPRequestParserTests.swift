import HTTPService
import SeededNumbers
import Testing

@Suite("Requests as they come over a connection")
struct HTTPRequestParserTests {
    /// What a parser makes of bytes that come in pieces of these lengths, over and over.
    private func parse(_ bytes: [UInt8], pieces: [Int]) -> (requests: [HTTPRequest], refusal: HTTPRefusal?) {
        var parser = HTTPRequestParser()
        var requests: [HTTPRequest] = []
        var rest = bytes[...]
        var piece = 0
        while !rest.isEmpty {
            var part = rest.prefix(pieces[piece % pieces.count])
            rest = rest.dropFirst(part.count)
            piece += 1
            do {
                while let request = try parser.next(&part) { requests.append(request) }
            } catch {
                return (requests, error)
            }
        }
        return (requests, nil)
    }

    @Test("a request is its method, its path and its fields; what follows it is left")
    func whole() {
        let text = "\r\nGET /a?b HTTP/1.1\r\nHost: x\r\nACCEPT:  a, b \t\r\n\r\nHEAD / HTTP/1.0\nConnection: close\n\n"
        for pieces in [[1], [2, 3], [1000]] {
            let (requests, refusal) = parse(Array(text.utf8), pieces: pieces)
            #expect(refusal == nil)
            #expect(
                requests == [
                    HTTPRequest(method: .get, path: "/a", fields: [("host", "x"), ("accept", "a, b")]),
                    HTTPRequest(method: .head, path: "/", fields: [("connection", "close")], keepsAlive: false),
                ])
        }
    }

    @Test("rubbish, requests with rubbish in them and their pieces come to the same end however they are cut", arguments: 0..<8 as Range<UInt64>)
    func fuzz(seed: UInt64) {
        var numbers = SplitMix(state: seed)
        let whole = Array("GET /guests/7/vnc HTTP/1.1\r\nHost: localhost:6080\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n".utf8)
        let spice = Array("\r\n\r\n :\t\0/HGET10.:\u{7f}".utf8) + [0xff, 0x80]
        for _ in 0..<500 {
            var bytes = numbers.next() % 8 == 0 ? (0..<Int(numbers.next() % 200)).map { _ in UInt8(truncatingIfNeeded: numbers.next()) } : whole + whole
            for _ in 0..<numbers.next() % 4 where !bytes.isEmpty {
                let place = Int(numbers.next() % UInt64(bytes.count))
                switch numbers.next() % 3 {
                case 0: bytes[place] = spice.randomElement(using: &numbers) ?? 0
                case 1: bytes.insert(spice.randomElement(using: &numbers) ?? 0, at: place)
                default: bytes.remove(at: place)
                }
            }
            let once = parse(bytes, pieces: [bytes.count])
            let pieces = (0..<5).map { _ in 1 + Int(numbers.next() % 40) }
            let cut = parse(bytes, pieces: pieces)
            #expect(once.requests == cut.requests)
            #expect(once.refusal == cut.refusal)
            for request in once.requests {
                #expect(request.path.hasPrefix("/") && request.values("host").count <= 1)
                #expect(request.values("content-length").allSatisfy { $0.allSatisfy { $0 == "0" } })
            }
        }
    }
}

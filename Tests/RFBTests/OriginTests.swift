import SeededNumbers
import Testing

@testable import RFB

@Suite("Whose pages may connect")
struct OriginTests {
    private func status(_ headers: String, _ origins: [String] = []) -> String {
        var handshake = WebSocketHandshake(WebSocketAdmission(origins: origins.compactMap { WebSocketOrigin($0) }))
        let request = WebSocketTests.request.replacing("Host: localhost\r\n", with: headers)
        switch handshake.take(Array((request + "\r\n").utf8)) {
        case .incomplete: return "incomplete"
        case .accepted: return "101"
        case .refused(let response, _): return String(String(decoding: response, as: UTF8.self).dropFirst(9).prefix(3))
        }
    }

    @Test("pages of others are refused, whatever they call this server; programs that are no browsers are not", arguments: [
        ("Host: 127.0.0.1:5940\r\n", "101"),
        ("Host: 127.0.0.1:5940\r\nOrigin: http://127.0.0.1:6080\r\n", "101"), ("Host: [::1]:5940\r\nOrigin: http://[::1]\r\n", "101"),
        ("Host: localhost:5940\r\nOrigin: https://localhost\r\n", "101"), ("Host: LOCALHOST\r\nOrigin: http://localhost:80\r\n", "101"),
        // Hijacking.
        ("Host: 127.0.0.1:5940\r\nOrigin: http://evil.example\r\n", "403"), ("Host: 127.0.0.1:5940\r\nOrigin: null\r\n", "403"),
        ("Host: 127.0.0.1:5940\r\nOrigin: \r\n", "403"), ("Host: 127.0.0.1:5940\r\nOrigin: http://127.0.0.1.evil.example\r\n", "403"),
        ("Host: 127.0.0.1:5940\r\nOrigin: http://127.0.0.1@evil.example\r\n", "403"), ("Host: 127.0.0.1:5940\r\nOrigin: file://\r\n", "403"),
        // Rebinding: the name is the page's own, and leads here.
        ("Host: evil.example:5940\r\nOrigin: http://evil.example:5940\r\n", "403"), ("Host: localhost.evil\r\nOrigin: http://localhost.evil\r\n", "403"),
        ("Host: 2130706433\r\nOrigin: http://2130706433\r\n", "403"), ("Host: 0x7f.1\r\nOrigin: http://0x7f.1\r\n", "403"),
        // Neither is there one to believe.
        ("Origin: http://127.0.0.1\r\n", "403"), ("Host: 127.0.0.1\r\nHost: evil.example\r\nOrigin: http://127.0.0.1\r\n", "403"),
        ("Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nOrigin: http://evil.example\r\n", "403"), ("Host: 127.0.0.1:+1\r\nOrigin: http://127.0.0.1\r\n", "403"),
    ])
    func strangers(headers: String, expected: String) { #expect(status(headers) == expected) }

    @Test("an origin that is named is let in, under any name of this server, and nothing that only resembles it")
    func named() {
        let origins = ["https://console.example", "http://[::1]:6080"]
        for (origin, expected) in [
            ("https://console.example", "101"), ("https://Console.Example:443", "101"), ("http://[::1]:6080", "101"), ("http://console.example", "403"),
            ("https://console.example:8443", "403"), ("https://console.example.evil", "403"), ("https://a.console.example", "403"), ("https://console.example/", "403"),
        ] {
            #expect(status("Host: vnc.example\r\nOrigin: \(origin)\r\n", origins) == expected, "\(origin)")
        }
    }

    @Test("an origin is written in one way, and read back as itself", arguments: [
        ("HTTPS://A:443", "https://a"), ("http://a:443", "http://a:443"), ("http://10.0.0.1:80", "http://10.0.0.1"), ("http://[FE80::1]:1", "http://[fe80::1]:1"),
    ])
    func spelling(text: String, expected: String) throws {
        let origin = try #require(WebSocketOrigin(text))
        #expect(origin.description == expected && WebSocketOrigin(expected) == origin)
    }

    @Test("no header is more than an answer, however it is mixed")
    func rubbish() {
        var generator = SplitMix(state: 0x0419)
        let parts = ["http://", "https://", "Host: ", "Origin: ", "\r\n", "localhost", "[::1]", ":", "80", "]", "[", "evil.example", ",", " ", "\u{0}", "null", "ä", "@", "/"]
        for _ in 0..<20_000 {
            let text = (0..<Int.random(in: 1..<12, using: &generator)).compactMap { _ in parts.randomElement(using: &generator) }.joined()
            let found = status(text + "\r\n", ["https://console.example"])
            #expect(["101", "403", "400", "426", "incomplete"].contains(found))
            if let origin = WebSocketOrigin(text) { #expect(WebSocketOrigin(origin.description) == origin) }
        }
    }
}

@Suite("Guessing from everywhere")
struct GuessPacerTests {
    private let second: UInt64 = 1_000_000_000

    @Test("a burst is judged at once, and then one an interval, in order")
    func burst() {
        var pacer = GuessPacer()
        let now = 7 * second
        for _ in 0..<GuessPacer.burst {
            let delay = pacer.delay(now: now)
            #expect(delay == 0)
        }
        for place in 1...10 as ClosedRange<UInt64> {
            let delay = pacer.delay(now: now)
            #expect(delay == place * GuessPacer.interval)
        }
        // Half a minute later all is forgotten.
        let later = pacer.delay(now: now + 30 * second)
        #expect(later == 0)
    }

    @Test("however many guess, in an hour as many are judged as the pace allows")
    func bounded() {
        var pacer = GuessPacer()
        var judged = 0
        for tick in 0..<360_000 as Range<UInt64> {
            let now = tick * second / 100
            // Those that may go on at once; the rest would be judged later, and leave.
            if pacer.delay(now: now) == 0 { judged += 1 } else { pacer.discount() }
        }
        #expect(UInt64(judged) <= GuessPacer.burst + 3600 * second / GuessPacer.interval + 1)
    }

    @Test("right passwords are never slowed down by each other")
    func right() {
        var pacer = GuessPacer()
        for _ in 0..<1000 {
            let delay = pacer.delay(now: 5 * second)
            #expect(delay == 0)
            pacer.discount()
        }
    }
}

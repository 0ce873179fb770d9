import Glibc
import Platform
import TestTools
import Testing

@Suite("What a stranger can make demux web hold")
struct BoundsTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private static let host = "Host: localhost\r\n"

    /// Requests that are refused, and how.
    static let refused: [(status: Int, request: String)] = [
        (414, "GET /" + String(repeating: "a", count: 200 << 10)),
        (431, "GET / HTTP/1.1\r\n\(host)X: " + String(repeating: "a", count: 200 << 10)),
        (431, "GET / HTTP/1.1\r\n\(host)" + String(repeating: "X: " + String(repeating: "a", count: 4000) + "\r\n", count: 20)),
        (431, "GET / HTTP/1.1\r\n\(host)" + String(repeating: "X: a\r\n", count: 101)),
        (413, "GET / HTTP/1.1\r\n\(host)Content-Length: 5\r\n\r\nhello"),
        (413, "GET / HTTP/1.1\r\n\(host)Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n\(host)Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n\(host)Content-Length: 0\r\nContent-Length: 1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n\(host)Content-Length: x\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: evil.example\r\n\(host)\r\n"),
        (400, "GET / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n\(host)Name : value\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n\(host) folded\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n\(host)X: a\rb\r\n\r\n"),
        (400, "GET\r\n\r\n"),
        (400, "GET http://localhost/ HTTP/1.1\r\n\(host)\r\n"),
        (505, "GET / HTTP/2.0\r\n\(host)\r\n"),
        (405, "POST / HTTP/1.1\r\n\(host)Content-Length: 2\r\n\r\nhi"),
    ]

    @Test("a request that is too long, has a body or is broken is told so, and its connection closed", arguments: refused)
    func refusal(status: Int, request: String) throws {
        let server = try Server(base: folder.path)
        let browser = try Browser(server)
        browser.send(Array(request.utf8))
        #expect(try browser.answer().status == status)
        #expect(browser.isClosed)
        #expect(try Browser(server).get("/").status == 200)
    }

    @Test("a HEAD is answered as a GET, without the body")
    func head() throws {
        let browser = try Browser(Server(base: folder.path))
        browser.send(Array("HEAD / HTTP/1.1\r\n\(Self.host)\r\nGET /nothing HTTP/1.1\r\n\(Self.host)\r\n".utf8))
        let head = try browser.head()
        #expect(head.status == 200)
        #expect((head.headers["content-length"].flatMap { Int($0) } ?? 0) > 1000)
        #expect(try browser.answer().text == "there is nothing at this address\n")
    }

    @Test("requests that came together are answered one after the other")
    func together() throws {
        let browser = try Browser(Server(base: folder.path))
        let requests = 500
        browser.send(Array(String(repeating: "GET /x HTTP/1.1\r\n\(Self.host)\r\n", count: requests).utf8))
        for _ in 0..<requests { #expect(try browser.answer().status == 404) }
    }

    @Test("128 half requests keep no browser out, also one that takes its time after it connected")
    func halfRequests() throws {
        let server = try Server(base: folder.path)
        var half: [Browser] = []
        for _ in 0..<128 {
            let browser = try Browser(server)
            browser.send(Array("GET / HTTP/1.1\r\n".utf8))
            half.append(browser)
        }
        let browser = try Browser(server)
        // One more, which the server has seen when it answers: the browser before it is still there.
        #expect(try Browser(server).get("/").status == 200)
        #expect(try browser.get("/").status == 200)
        #expect(half.first?.isClosed == true)
    }

    @Test("a ping is answered although the guest shows nothing new")
    func ping() throws {
        let exporter = try EchoingExporter(domain: 7, base: folder.path)
        let browser = try Browser(Server(base: folder.path))
        #expect(try browser.upgrade("/guests/7/vnc").status == 101)
        #expect(browser.data(12).count == 12)
        browser.sendFrame(Array("are you there".utf8), opcode: 9)
        let pong = try #require(browser.frame())
        #expect(pong.opcode == 10)
        #expect(pong.payload == Array("are you there".utf8))
        withExtendedLifetime(exporter) {}
    }

    /// Frames that RFC 6455 or a bound forbids.
    static let frames: [(what: String, bytes: [UInt8])] = [
        ("2^40 bytes", [0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        ("2^63 bytes", [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
        ("no mask", [0x82, 1, 0]),
        ("a reserved bit", [0xc2, 0x81, 1, 2, 3, 4, 0]),
        ("a reserved operation", [0x83, 0x81, 1, 2, 3, 4, 0]),
        ("a reserved control operation", [0x8b, 0x80, 1, 2, 3, 4]),
        ("a ping of 126 bytes", [0x89, 0xfe, 0, 126, 1, 2, 3, 4] + [UInt8](repeating: 0, count: 126)),
        ("a ping in parts", [0x09, 0x81, 1, 2, 3, 4, 0]),
        ("a continuation of nothing", [0x80, 0x81, 1, 2, 3, 4, 0]),
        ("a message within a message", [0x02, 0x81, 1, 2, 3, 4, 0, 0x82, 0x81, 1, 2, 3, 4, 0]),
        ("text", [0x81, 0x81, 1, 2, 3, 4, 0]),
    ]

    @Test("a frame that WebSocket forbids, or that is longer than the bound, closes the connection with status 1002", arguments: frames)
    func frame(what: String, bytes: [UInt8]) throws {
        let exporter = try EchoingExporter(domain: 7, base: folder.path)
        let browser = try Browser(Server(base: folder.path))
        #expect(try browser.upgrade("/guests/7/vnc").status == 101)
        #expect(browser.data(12).count == 12)
        browser.send(bytes)
        // What came before the violation may have been answered.
        var last = browser.frame()
        while last?.opcode == 2 { last = browser.frame() }
        #expect(last?.opcode == 8)
        #expect(last?.payload == [0x03, 0xea])
        #expect(browser.isClosed)
        withExtendedLifetime(exporter) {}
    }

    @Test("a message in any number of parts reaches the exporter as it comes, with pings between")
    func parts() throws {
        let exporter = try EchoingExporter(domain: 7, base: folder.path)
        let browser = try Browser(Server(base: folder.path))
        #expect(try browser.upgrade("/guests/7/vnc").status == 101)
        #expect(browser.data(12).count == 12)
        for part in 0..<2000 {
            browser.send([part == 0 ? 0x02 : 0x00, 0x81, 0, 0, 0, 0, UInt8(truncatingIfNeeded: part)])
            if part % 500 == 499 { browser.send([0x89, 0x80, 0, 0, 0, 0]) }
        }
        var data: [UInt8] = []
        var pongs = 0
        while data.count < 2000 || pongs < 4, let frame = browser.frame() {
            if frame.opcode == 10 { pongs += 1 } else { data += frame.payload }
        }
        #expect(data == (0..<2000).map { UInt8(truncatingIfNeeded: $0) })
        #expect(pongs == 4)
        withExtendedLifetime(exporter) {}
    }
}

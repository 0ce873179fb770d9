import Glibc
import Platform
import TestTools
import Testing

@Suite("A guest in the browser")
struct ScreenTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    @Test("what a browser sends reaches the exporter, and what the exporter sends the browser, whole and in order")
    func echo() throws {
        let exporter = try EchoingExporter(domain: 7, base: folder.path)
        let server = try Server(base: folder.path)
        let browser = try Browser(server)
        let answer = try browser.upgrade("/guests/7/vnc", ["Sec-WebSocket-Protocol": "binary", "Origin": "http://127.0.0.1:\(server.port)"])
        #expect(answer.status == 101)
        // RFC 6455's own example of a key.
        #expect(answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        #expect(answer.headers["sec-websocket-protocol"] == "binary")
        #expect(browser.data(12) == Array("RFB 003.008\n".utf8))
        for length in [1, 125, 126, 65_535, 65_536, 300_000] {
            let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ length) }
            browser.sendFrame(bytes)
            #expect(browser.data(length) == bytes)
        }
        browser.sendFrame(Array("are you there".utf8), opcode: 9)
        browser.sendFrame([1])
        var opcodes: [UInt8] = []
        while opcodes.count < 2, let frame = browser.frame() {
            opcodes.append(frame.opcode)
            if frame.opcode == 10 { #expect(frame.payload == Array("are you there".utf8)) }
        }
        #expect(opcodes.sorted() == [2, 10])
        withExtendedLifetime(exporter) {}
    }

    @Test("either end that closes ends the other")
    func ends() throws {
        let exporter = try EchoingExporter(domain: 7, base: folder.path)
        let server = try Server(base: folder.path)
        let browser = try Browser(server)
        #expect(try browser.upgrade("/guests/7/vnc").status == 101)
        #expect(browser.data(12).count == 12)
        browser.sendFrame(Array("quit".utf8))
        #expect(browser.data(4) == Array("quit".utf8))
        let last = browser.frame()
        #expect(last?.opcode == 8)
        #expect(last?.payload == [3, 232])
        #expect(browser.isClosed)
        let other = try Browser(server)
        #expect(try other.upgrade("/guests/7/vnc").status == 101)
        #expect(other.data(12).count == 12)
        other.sendFrame([3, 232], opcode: 8)
        #expect(other.frame()?.opcode == 8)
        #expect(other.isClosed)
        // A text is not RFB.
        let wrong = try Browser(server)
        #expect(try wrong.upgrade("/guests/7/vnc").status == 101)
        #expect(wrong.data(12).count == 12)
        wrong.sendFrame(Array("hello".utf8), opcode: 1)
        #expect(wrong.frame()?.opcode == 8)
        withExtendedLifetime(exporter) {}
    }

    @Test("a guest without an exporter, and a request that is no WebSocket, are told so in words")
    func refusals() throws {
        let server = try Server(base: folder.path)
        let absent = try Browser(server).upgrade("/guests/7/vnc")
        #expect(absent.status == 404)
        #expect(absent.text.hasPrefix("guest 7 has no screen to show: could not connect to \(folder.path)/7/vnc.sock"))
        let exporter = try EchoingExporter(domain: 7, base: folder.path)
        #expect(try Browser(server).get("/guests/7/vnc").status == 400)
        #expect(try Browser(server).upgrade("/guests/7/vnc", ["Sec-WebSocket-Key": "short"]).status == 400)
        withExtendedLifetime(exporter) {}
    }

    @Test("no more than 32 guests are open at a time, and each that is closed makes room")
    func bound() throws {
        let exporter = try EchoingExporter(domain: 7, base: folder.path)
        let server = try Server(base: folder.path)
        var open: [Browser] = []
        for _ in 0..<32 {
            let browser = try Browser(server)
            #expect(try browser.upgrade("/guests/7/vnc").status == 101)
            open.append(browser)
        }
        #expect(try Browser(server).upgrade("/guests/7/vnc").status == 503)
        open.removeAll()
        var status = 503
        _ = try Waiting.until {
            status = try Browser(server).upgrade("/guests/7/vnc").status
            return status != 503
        }
        #expect(status == 101)
        withExtendedLifetime(exporter) {}
    }

    @Test("hundreds of silent connections and broken requests are closed, and the next browser is served")
    func silent() throws {
        let server = try Server(base: folder.path)
        var silent: [Browser] = []
        for _ in 0..<400 { silent.append(try Browser(server)) }
        // Beyond the bound the oldest are closed, and a browser that comes now is served.
        #expect(silent.prefix(200).allSatisfy { $0.isClosed })
        #expect(try Browser(server).get("/").status == 200)
        silent.removeAll()
        for broken in ["\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "\0\u{1}\u{2}\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
            let browser = try Browser(server)
            browser.send(Array(broken.utf8))
            browser.finish()
            _ = browser.take(1 << 20)
        }
        // The bound is let go of when the server has seen the others close.
        var status = 0
        _ = Waiting.until {
            status = (try? Browser(server).get("/").status) ?? 0
            return status == 200
        }
        #expect(status == 200)
        #expect(!server.hasEnded)
    }
}

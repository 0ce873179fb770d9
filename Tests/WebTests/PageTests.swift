import ControlProtocol
import Glibc
import Picture
import Platform
import Surface
import TestTools
import Testing

@Suite("demux web")
struct PageTests {
    let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    private static let status = GuestStatus(
        domain: 7, name: "web", host: "local", coordinatorPID: 100, specification: "x.yaml", vcpus: 1,
        emulators: [EmulatorStatus(name: "display", program: "demux-display", pid: 1, state: "serving", mode: "isolated", server: 7, claims: [], counters: [:])])

    private func guest(_ screen: FakeScreen?) throws -> FakeCoordinator {
        try FakeCoordinator(domain: 7, base: folder.path) { request in
            switch request {
            case .status: .reply(.status(Self.status))
            case .surface: screen.map { .screen($0) } ?? .reply(.failed("this guest has no display of Demux's"))
            default: .hangUp
            }
        }
    }

    @Test("the page needs nothing from elsewhere, and runs only what it brought")
    func page() throws {
        let server = try Server(base: folder.path)
        let browser = try Browser(server)
        var nonces: Set<String> = []
        for _ in 0..<2 {
            let answer = try browser.get("/")
            #expect(answer.status == 200)
            #expect(answer.headers["content-type"] == "text/html; charset=utf-8")
            let policy = try #require(answer.headers["content-security-policy"])
            let nonce = try #require(policy.split(separator: "'").first { $0.hasPrefix("nonce-") }).dropFirst(6)
            nonces.insert(String(nonce))
            #expect(answer.text.contains("<script nonce=\"\(nonce)\">"))
            for part in ["http:", "https:", "NONCE", " style=", " onclick="] { #expect(!answer.text.contains(part), "\(part)") }
        }
        #expect(nonces.count == 2)
        #expect(try browser.get("/nothing").status == 404)
        #expect(try browser.get("/", method: "POST").status == 405)
    }

    @Test("the list has every guest that 'demux list' has, with what can be done with it")
    func list() throws {
        let server = try Server(base: folder.path)
        #expect(try Browser(server).get("/guests.json").text == "{\"directory\":\"\(folder.path)\",\"guests\":[],\"novnc\":false}\n".dropLast())
        let guest = try guest(nil)
        try FakeCoordinator(domain: 3, base: folder.path) { _ in .silence }.end()
        let exporter = try EchoingExporter(domain: 7, base: folder.path)
        // A list may be a second old.
        var text = ""
        _ = try Waiting.until {
            text = try Browser(server).get("/guests.json").text
            return text.contains("web")
        }
        #expect(
            text == "{\"directory\":\"\(folder.path)\",\"guests\":["
                + "{\"domain\":3,\"emulators\":[],\"host\":\"\",\"name\":\"\",\"state\":\"gone (stale socket)\",\"vnc\":false},"
                + "{\"domain\":7,\"emulators\":[\"display\"],\"host\":\"local\",\"name\":\"web\",\"state\":\"running\",\"vnc\":true}],\"novnc\":false}")
        withExtendedLifetime(exporter) { guest.end() }
    }

    // MARK: - Thumbnails

    @Test("a thumbnail is the guest's picture made small, and another one when the guest draws or changes its mode")
    func thumbnail() throws {
        let screen = FakeScreen { screen, socket in
            // The reader's first wish is answered with a picture, as a display does; then a new mode follows.
            _ = Waiting.until { screen.viewers != 0 }
            screen.draw(0x00ff00)
            _ = Waiting.until { screen.viewers == 0 || screen.modeWanted }
            guard screen.modeWanted else { return }
            do {
                try screen.setMode(200, 100)
                screen.draw(0x0000ff)
                try screen.announce(on: socket)
            } catch { Issue.record(error) }
        }
        try screen.setMode(1024, 768)
        screen.draw(0xff0000)
        let guest = try guest(screen)
        let server = try Server(base: folder.path)
        let browser = try Browser(server)
        let first = try browser.get("/guests/7/thumbnail.png")
        #expect(first.status == 200)
        #expect(first.headers["content-type"] == "image/png")
        let picture = try Picture(png: first.body)
        #expect(picture.width == 400 && picture.height == 300)
        #expect(picture.pixels.allSatisfy { $0 == 0x00ff00 })
        #expect(screen.viewers == 1)
        let tag = try #require(first.headers["etag"])
        let again = try browser.get("/guests/7/thumbnail.png", ["If-None-Match": tag])
        #expect(again.status == 304)
        #expect(again.body.isEmpty)
        screen.modeWanted = true
        var next = again
        _ = try Waiting.until {
            next = try browser.get("/guests/7/thumbnail.png", ["If-None-Match": tag])
            return next.status == 200
        }
        let other = try Picture(png: next.body)
        #expect(other.width == 200 && other.height == 100)
        #expect(other.pixels.allSatisfy { $0 == 0x0000ff })
        guest.end()
    }

    @Test("when nobody asks any more, the reader goes away, and comes back with the next question")
    func patience() throws {
        let screen = FakeScreen { screen, _ in
            _ = Waiting.until { screen.viewers != 0 }
            screen.draw(0x123456)
        }
        try screen.setMode(64, 48)
        let guest = try guest(screen)
        let server = try Server(base: folder.path)
        for round in 1...2 {
            #expect(try Browser(server).get("/guests/7/thumbnail.png").status == 200)
            #expect(screen.viewers == 1)
            #expect(guest.asked.filter { $0 == .surface }.count == round)
            _ = Waiting.until { screen.viewers == 0 }
            #expect(screen.viewers == 0)
        }
        guest.end()
    }

    @Test("a guest without a display, one that shows nothing yet, and one that is not there each say so")
    func withoutPicture() throws {
        let server = try Server(base: folder.path)
        let browser = try Browser(server)
        let absent = try browser.get("/guests/7/thumbnail.png")
        #expect(absent.status == 404)
        #expect(absent.text.hasPrefix("no guest of Demux runs as domain 7"))
        let without = try guest(nil)
        let none = try browser.get("/guests/7/thumbnail.png")
        #expect(none.status == 404)
        #expect(none.text == "this guest has no display of Demux's\n")
        without.end()
        let empty = try guest(FakeScreen())
        let early = try browser.get("/guests/7/thumbnail.png")
        #expect(early.status == 503)
        #expect(early.text == "the guest has shown nothing yet\n")
        empty.end()
        for path in ["/guests/07/thumbnail.png", "/guests/x/thumbnail.png", "/guests/70000/thumbnail.png", "/guests/-1/vnc", "/guests/7", "/guests/7/other"] {
            #expect(try browser.get(path).status == 404, "\(path)")
        }
    }

    // MARK: - noVNC

    @Test("noVNC's files are served and nothing beside them; without noVNC it says what to install")
    func files() throws {
        try folder.makeFolder("novnc")
        try folder.makeFolder("novnc/core")
        try folder.write("<!doctype html>", to: "novnc/vnc.html")
        try folder.write("export default 1;", to: "novnc/core/rfb.js")
        try folder.write("secret", to: "novnc/.hidden.js")
        try folder.write("secret", to: "secret.js")
        let without = try Server(base: folder.path)
        let missing = try Browser(without).get("/novnc/vnc.html")
        #expect(missing.status == 404)
        #expect(missing.text.contains("apt-get install novnc"))
        let server = try Server(base: folder.path, noVNC: "\(folder.path)/novnc")
        let browser = try Browser(server)
        #expect(try browser.get("/novnc/vnc.html?autoconnect=true").text == "<!doctype html>")
        let script = try browser.get("/novnc/core/rfb.js")
        #expect(script.text == "export default 1;")
        #expect(script.headers["content-type"] == "text/javascript; charset=utf-8")
        for path in [
            "/novnc/../secret.js", "/novnc/core/../../secret.js", "/novnc/%2e%2e/secret.js", "/novnc/core/%2e%2e/%2e%2e/secret.js", "/novnc/.hidden.js",
            "/novnc//etc/passwd", "/novnc/", "/novnc/core", "/novnc/none.js",
        ] {
            let answer = try browser.get(path)
            #expect(answer.status == 404, "\(path): \(answer.text)")
            #expect(!answer.text.contains("secret"), "\(path)")
        }
    }

    // MARK: - Other pages

    @Test("a name that is not ours and a page of another server are refused, on every address")
    func foreign() throws {
        let exporter = try EchoingExporter(domain: 7, base: folder.path)
        let server = try Server(base: folder.path, arguments: ["--host", "xen1.example"])
        let port = server.port
        func refuses(_ headers: [String: String]) throws {
            for path in ["/", "/guests.json", "/guests/7/thumbnail.png", "/novnc/vnc.html"] {
                #expect(try Browser(server).get(path, headers).status == 403, "\(path) \(headers)")
            }
            #expect(try Browser(server).upgrade("/guests/7/vnc", headers).status == 403, "\(headers)")
        }
        for host in ["evil.example", "evil.example:\(port)", "127.0.0.1.evil.example", "localhost.evil.example:80", "xen1.example.evil", "127.0.0.1:x", "[::1"] {
            try refuses(["Host": host])
        }
        for origin in ["http://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1:\(port).evil.example", "https://localhost:\(port)"] {
            try refuses(["Origin": origin])
        }
        try refuses(["Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"])
        for host in ["localhost:\(port)", "localhost", "demux.localhost:8080", "xen1.example:6080", "XEN1.example", "10.0.0.1:\(port)", "[::1]:\(port)"] {
            #expect(try Browser(server).get("/", ["Host": host]).status == 200, "\(host)")
            #expect(try Browser(server).upgrade("/guests/7/vnc", ["Host": host, "Origin": "http://\(host)"]).status == 101, "\(host)")
        }
        #expect(try Browser(server).get("/", ["Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"]).status == 200)
        withExtendedLifetime(exporter) {}
    }
}

import Platform
import RFB
import Testing

@Suite("Browsers", .serialized)
struct WebSocketAdmissionTests {
    private func answer(_ coordinator: FakeCoordinator, _ headers: String) throws -> String {
        let stream = Stream(try Stream.connectTCP(coordinator.port))
        let request = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        try stream.write(Array((request + headers + "\r\n").utf8))
        return String(decoding: try stream.read(12), as: UTF8.self)
    }

    @Test("none is let in unless it was asked for")
    func off() throws {
        let coordinator = try FakeCoordinator().start()
        #expect(try answer(coordinator, "Host: 127.0.0.1\r\n") == "RFB 003.008\n")
    }

    @Test("pages from elsewhere are refused, and those that are named are not")
    func origins() throws {
        let coordinator = try FakeCoordinator(options: ["websocket": "yes", "origins": "https://console.example http://[::1]:1"]).start()
        let own = "127.0.0.1:\(coordinator.port)"
        for (host, origin, expected) in [
            (own, nil, "HTTP/1.1 101"), (own, "https://console.example", "HTTP/1.1 101"), (own, "http://127.0.0.1:6080", "HTTP/1.1 101"),
            (own, "http://evil.example", "HTTP/1.1 403"), (own, "null", "HTTP/1.1 403"),
            ("evil.example:\(coordinator.port)", "http://evil.example:\(coordinator.port)", "HTTP/1.1 403"),
        ] as [(String, String?, String)] {
            let found = try answer(coordinator, "Host: \(host)\r\n" + (origin.map { "Origin: \($0)\r\n" } ?? ""))
            #expect(found == expected, "\(host), \(origin ?? "no origin")")
        }
    }

    @Test("where encryption is needed a WebSocket has to be wss: no TLS begins behind frames in the clear", arguments: ["x509", "anonymous"])
    func clear(tls: String) throws {
        let certificate = try TestCertificate()
        defer { certificate.remove() }
        var options = ["tls": tls, "websocket": "yes"]
        if tls == "x509" { (options["tls-certificate"], options["tls-key"]) = (certificate.certificate, certificate.key) }
        let coordinator = try FakeCoordinator(options: options).start()
        #expect(try answer(coordinator, "Host: 127.0.0.1\r\n") == "HTTP/1.1 403")
    }
}

import EmulatorProtocol
import Glibc
import Platform
import RFB
import Testing

@Suite("Who is let in")
struct SecurityTests {
    @Test("with a password, those who know it, as it is at the time")
    func password() throws {
        let coordinator = try FakeCoordinator(options: ["password-required": "yes"]).start()
        _ = try coordinator.setMode(320, 200)
        // None is set: nobody.
        #expect(try coordinator.reasonForRefusal(password: "") == "the password is wrong")
        try coordinator.ask(.vnc(VNCCommand(.setPassword, password: "geheim")))
        for version in ["RFB 003.003\n", "RFB 003.007\n", "RFB 003.008\n"] { _ = try coordinator.viewer(version: version, password: "geheim") }
        #expect(try coordinator.reasonForRefusal(password: "Geheim") == "the password is wrong")
        let inside = try coordinator.viewer(password: "geheim")
        try coordinator.ask(.vnc(VNCCommand(.expirePassword, at: "now")))
        #expect(try coordinator.reasonForRefusal(password: "geheim") == "the password is wrong")
        try coordinator.ask(.vnc(VNCCommand(.expirePassword, at: "+600")))
        #expect(try coordinator.reasonForRefusal(password: "geheim") == nil)
        #expect(try coordinator.refusal(of: .vnc(VNCCommand(.expirePassword, at: "tomorrow")))?.code == .invalid)
        try coordinator.ask(.vnc(VNCCommand(.setPassword)))
        #expect(try coordinator.reasonForRefusal(password: "geheim") == "the password is wrong")
        // Whoever is in stays in.
        try inside.see(try #require(coordinator.screen))
        try coordinator.ask(.vnc(VNCCommand(.disconnect)))
        #expect(inside.stream.isClosed())
    }

    @Test("who guesses must wait, whatever it guesses then")
    func throttle() throws {
        let coordinator = try FakeCoordinator(options: ["password": "right"]).start()
        for _ in 0..<PasswordThrottle.free {
            let reason = try coordinator.reasonForRefusal(password: "wrong")
            #expect(reason == "the password is wrong")
        }
        var told = false
        for _ in 0..<8 where !told { told = try coordinator.reasonForRefusal(password: "wrong")?.hasPrefix("too many wrong passwords") == true }
        #expect(told)
    }

    @Test("VeNCrypt with a certificate or without, with a password or without", arguments: [
        ("x509", UInt32(260), nil, "vencrypt+x509+none"), ("x509", 261, "pw", "vencrypt+x509+vnc"), ("anonymous", 257, nil, "vencrypt+tls+none"), ("anonymous", 258, "pw", "vencrypt+tls+vnc"),
    ])
    func vencrypt(tls: String, subtype: UInt32, password: String?, name: String) throws {
        let certificate = try TestCertificate()
        defer { certificate.remove() }
        var options = ["tls": tls]
        if let password { options["password"] = password }
        if tls == "x509" {
            options["tls-certificate"] = certificate.certificate
            options["tls-key"] = certificate.key
        }
        let coordinator = try FakeCoordinator(options: options, account: geteuid() == 0 ? 65_534 : nil).start()
        let screen = try coordinator.setMode(700, 500)
        let viewer = try coordinator.viewer(password: password, subtype: subtype)
        let status = try coordinator.waitForStatus("the viewer") { !$0.clients.isEmpty }
        #expect(status.clients.first?.security == name)
        #expect(status.clients.first?.host == "127.0.0.1" && status.clients.first?.family == "ipv4")
        try viewer.see(screen)
        screen.fill(seed: 5)
        coordinator.publish()
        try viewer.show(screen)
        if password != nil { #expect(throws: TestViewer.Refused.self) { try coordinator.viewer(password: "other", subtype: subtype) } }
        #expect(throws: TestViewer.Refused.self) { try coordinator.viewer(password: password, subtype: 256) }
    }

    @Test("browsers get the same picture through a WebSocket, and through wss where there is a certificate", arguments: [false, true])
    func webSocket(secure: Bool) throws {
        let certificate = try TestCertificate()
        defer { certificate.remove() }
        let coordinator = try FakeCoordinator(options: secure
            ? ["tls": "x509", "tls-certificate": certificate.certificate, "tls-key": certificate.key, "password": "pw", "websocket": "yes"] : ["websocket": "yes"]).start()
        let screen = try coordinator.setMode(640, 480)
        let socket = try Stream.connectTCP(coordinator.port)
        let inner = secure ? try TLSStream(socket, anonymous: false) : Stream(socket)
        let stream = try WebSocketStream(over: inner)
        let viewer = try TestViewer(stream, password: "pw")
        let status = try coordinator.waitForStatus("the viewer") { !$0.clients.isEmpty }
        #expect(status.clients.first?.websocket == true)
        try viewer.see(screen)
        #expect(try stream.ping([1, 2, 3]) == [0x8a, 3, 1, 2, 3])
        for seed in 2..<6 as Range<UInt32> {
            screen.fill(seed: seed)
            coordinator.publish()
            try viewer.show(screen)
        }
    }

    @Test("viewers are shared as the policy says")
    func sharing() throws {
        for (policy, first, second) in [("ignore", true, true), ("allow-exclusive", false, true), ("force-shared", true, false)] {
            let coordinator = try FakeCoordinator(options: ["share": policy]).start()
            let screen = try coordinator.setMode(100, 80)
            let one = try coordinator.viewer()
            let two = try TestViewer(Stream(try Stream.connectTCP(coordinator.port)), shared: false, finish: false)
            if second {
                try two.readServerInit()
                try two.see(screen)
            } else {
                #expect(two.stream.isClosed(), "\(policy)")
            }
            if first {
                try one.see(screen)
            } else {
                #expect(one.stream.isClosed(), "\(policy)")
            }
        }
    }

    @Test("there are as many viewers as are allowed")
    func limit() throws {
        let coordinator = try FakeCoordinator(options: ["clients": "2"]).start()
        let screen = try coordinator.setMode(100, 80)
        let viewers = [try coordinator.viewer(), try coordinator.viewer()]
        for viewer in viewers { try viewer.see(screen) }
        let third = try TestViewer(Stream(try Stream.connectTCP(coordinator.port)), finish: false)
        #expect(third.stream.isClosed())
        _ = viewers
    }

    @Test("it becomes the user it is told to be, before anybody comes", .enabled(if: geteuid() == 0))
    func account() throws {
        let coordinator = try FakeCoordinator(account: 65_533).start()
        let file = try Files.open("/proc/\(coordinator.process.pid)/status")
        let text = String(decoding: try Files.readAll(file.raw, limit: 1 << 16, what: "status"), as: UTF8.self)
        for field in ["Uid:\t65533\t65533\t65533\t65533", "Gid:\t65533\t65533\t65533\t65533", "Groups:\t \n", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
            #expect(text.contains(field), "\(field) in \(text)")
        }
    }

    @Test("options that make no sense are refused with words", arguments: [
        ["share": "maybe"], ["clients": "0"], ["tls": "x509"], ["keymap": "../../etc/passwd"], ["nonsense": "1"], ["handshake-seconds": "x"], ["origins": "console.example"],
    ])
    func options(options: [String: String]) throws {
        let coordinator = try FakeCoordinator(options: options)
        let log = try coordinator.wait("words") { if case .log(let log) = $0.body { log.level == .error } else { false } }
        if case .log(let log) = log.body { #expect(log.message.hasPrefix("could not ")) }
        #expect(coordinator.process.wait(limit: .seconds(60)) == .status(1))
    }
}

import CLinux
import EmulatorProtocol
import Glibc
import Platform
import RFB
import SeededNumbers
import Surface
import TestTools
import Testing

@Suite("Hostile viewers", .serialized)
struct HostileTests {
    /// A viewer that means it gets its picture.
    private func expectService(_ coordinator: FakeCoordinator, _ what: String = "") throws {
        let viewer = try coordinator.viewer()
        try viewer.see(try #require(coordinator.screen), "a good viewer's picture \(what)")
    }

    @Test("200 silent connections, half a TLS hello and half a request keep nobody out")
    func silent() throws {
        let certificate = try TestCertificate()
        defer { certificate.remove() }
        let coordinator = try FakeCoordinator(options: ["tls-certificate": certificate.certificate, "tls-key": certificate.key, "tls": "x509", "websocket": "yes"]).start()
        _ = try coordinator.setMode(320, 200)
        var held: [Stream] = []
        for index in 0..<200 {
            let stream = Stream(try Stream.connectTCP(coordinator.port))
            switch index % 4 {
            case 1: try stream.write([0x16, 3, 1, 1])
            case 2: try stream.write(Array("GET / HT".utf8))
            case 3: try stream.write(Array("RFB 003.008\n".utf8) + [19, 0])
            default: break
            }
            held.append(stream)
            if index % 50 == 49 { try expectService(coordinator, "behind \(index + 1) others") }
        }
    }

    @Test("who takes too long for its handshake is sent away")
    func deadline() throws {
        let coordinator = try FakeCoordinator(options: ["handshake-seconds": "1", "websocket": "yes"]).start()
        for words in [[], Array("RFB".utf8), Array("GET /".utf8), Array("RFB 003.008\n".utf8)] as [[UInt8]] {
            let stream = Stream(try Stream.connectTCP(coordinator.port))
            if !words.isEmpty { try stream.write(words) }
            #expect(stream.isClosed())
        }
    }

    @Test("scaling, files, chats and everything too large end the connection, and nothing else", arguments: [
        [8, 2, 0, 0], [15, 2, 0, 0], [7, 0, 0, 0], [11, 0, 0, 0, 0, 0, 0, 5], [2, 0, 0xff, 0xff], [6, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff], [6, 0, 0, 0, 0x80, 0, 0, 0],
        [0, 0, 0, 0, 24, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0], [1, 0, 0, 0], [255, 1, 0, 0], [200],
    ] as [[UInt8]])
    func forbidden(bytes: [UInt8]) throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(320, 200)
        let viewer = try coordinator.viewer()
        try viewer.stream.write(bytes)
        #expect(viewer.stream.isClosed())
        try expectService(coordinator)
    }

    @Test("a change of mode waits for no viewer that has stopped reading, and neither do the others")
    func stalled() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(1600, 1200)
        // Each asks for a picture that no socket buffer holds, again and again, and reads nothing.
        var stalled: [TestViewer] = []
        for _ in 0..<4 {
            let viewer = try coordinator.viewer()
            try viewer.setEncodings()
            for _ in 0..<20 { try viewer.request(incremental: false) }
            stalled.append(viewer)
        }
        let good = try coordinator.viewer()
        try good.see(screen)
        // As long as their threads wait, which is for some seconds, the good one follows every mode.
        for round in 0..<6 {
            let next = try coordinator.setMode(300 + round * 100, 200 + round * 50, seed: UInt32(round))
            try good.show(next, "mode \(round)")
            #expect(coordinator.viewers == 5)
        }
        // Given up in the end; their sockets are closed when they wake up.
        try coordinator.waitForViewers(1)
        for viewer in stalled { #expect(viewer.stream.isClosed()) }
        try good.show(try coordinator.setMode(640, 480))
    }

    @Test("a viewer that is stalled for a moment sees what is there when it reads again")
    func paused() throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(1200, 900)
        let viewer = try coordinator.viewer()
        try viewer.setEncodings()
        try viewer.request(incremental: false)
        var generator = SplitMix(state: 9)
        for round in 0..<30 {
            let screen = try #require(coordinator.screen)
            for _ in 0..<3 {
                memmove(screen.pixels, screen.pixels + 8 * screen.width, (screen.height - 8) * screen.width * 4)
                screen.writer.copied(from: 0, y: 8, to: SurfaceRectangle(x: 0, y: 0, width: screen.width, height: screen.height - 8))
                let area = SurfaceRectangle(x: Int.random(in: 0..<500, using: &generator), y: Int.random(in: 0..<300, using: &generator), width: 90, height: 70)
                for y in area.y..<area.y + 70 { for x in area.x..<area.x + 90 { screen.pixels[y * screen.width + x] = UInt32.random(in: 0 ... .max, using: &generator) } }
                screen.writer.damage(area)
                screen.writer.damage(SurfaceRectangle(x: 0, y: screen.height - 8, width: screen.width, height: 8))
                coordinator.publish()
            }
            if round % 10 == 9 { try coordinator.setMode(1200 - round, 900 - round, seed: UInt32(round)) }
            try viewer.request()
            if round % 3 == 0 { try viewer.update() }
        }
        try viewer.show(try #require(coordinator.screen))
    }

    @Test("random messages, right and wrong, harm nobody, and memory stays where it is")
    func fuzz() throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(320, 200)
        try expectService(coordinator)
        var generator = SplitMix(state: 0x5eed)
        var sent = 0
        var settled = 0
        let wanted = isFull ? 100_000 : 4_000
        while sent < wanted {
            let socket = try Stream.connectTCP(coordinator.port)
            var small: CInt = 4096
            setsockopt(socket.raw, SOL_SOCKET, SO_RCVBUF, &small, socklen_t(MemoryLayout<CInt>.size))
            let viewer = try TestViewer(Stream(socket))
            // Its answers are thrown away by closing; some viewers read for a while.
            var isOpen = true
            for _ in 0..<200 where isOpen {
                sent += 1
                do { try viewer.stream.write(message(&generator)) } catch { isOpen = false }
                if sent % 7 == 0 {
                    var scratch = [UInt8](repeating: 0, count: 65_536)
                    _ = recv(viewer.stream.socket.raw, &scratch, scratch.count, CInt(MSG_DONTWAIT))
                }
                if sent % 50 == 0, let screen = coordinator.screen {
                    screen.pixels[sent % 60_000] = UInt32(sent)
                    screen.writer.damage(SurfaceRectangle(x: 0, y: 0, width: 320, height: 200))
                    coordinator.publish()
                }
            }
            if settled == 0, sent > wanted / 4 { settled = coordinator.residentMemory }
        }
        try expectService(coordinator)
        try coordinator.waitForViewers(0)
        #expect(coordinator.process.poll() == nil)
        #expect(coordinator.residentMemory < settled + 8192, "\(settled) KiB, then \(coordinator.residentMemory) KiB")
    }

    private func message(_ generator: inout SplitMix) -> [UInt8] {
        func byte() -> UInt8 { UInt8.random(in: .min ... .max, using: &generator) }
        func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in byte() } }
        switch Int.random(in: 0..<100, using: &generator) {
        case ..<25: return [3, byte() & 1] + (Bool.random(using: &generator) ? [0, 0, 0, 0, 1, 64, 0, 200] : bytes(8))
        case ..<40: return [4, byte() & 1, 0, 0, 0, 0, Bool.random(using: &generator) ? 0xff : 0, byte()]
        case ..<60: return [5] + bytes(5)
        case ..<70:
            let known: [Int32] = [0, 1, 5, 6, 7, 16, 17, -223, -308, -239, -240, -224, -258, -257, -32, -23, -256, -247, -412, -512, -763, -768]
            return EncoderMessage.setEncodings((0..<Int.random(in: 0..<12, using: &generator)).map { _ in
                Bool.random(using: &generator) ? known.randomElement(using: &generator) ?? 0 : Int32.random(in: .min ... .max, using: &generator)
            })
        case ..<78:
            let format = [PixelFormat.native,
                PixelFormat(bitsPerPixel: 16, depth: 15, bigEndian: true, trueColour: true, redMax: 31, greenMax: 31, blueMax: 31, redShift: 10, greenShift: 5, blueShift: 0),
                PixelFormat(bitsPerPixel: 8, depth: 8, bigEndian: false, trueColour: true, redMax: 7, greenMax: 7, blueMax: 3, redShift: 0, greenShift: 3, blueShift: 6),
                PixelFormat(bitsPerPixel: 8, depth: 8, bigEndian: false, trueColour: false, redMax: 0, greenMax: 0, blueMax: 0, redShift: 0, greenShift: 0, blueShift: 0),
                PixelFormat(bitsPerPixel: 32, depth: 30, bigEndian: true, trueColour: true, redMax: 1023, greenMax: 1023, blueMax: 1023, redShift: 20, greenShift: 10, blueShift: 0),
            ]
            return EncoderMessage.setPixelFormat(format.randomElement(using: &generator) ?? .native)
        case ..<84: return [255, 0, 0, byte() & 1] + bytes(8)
        case ..<90: return [6, 0, 0, 0, 0, 0, 0, 20] + bytes(20)
        case ..<96: return [251, 0, 4, 0, 3, 0, 1, 0] + bytes(16)
        default: return bytes(Int.random(in: 1..<30, using: &generator))
        }
    }

    @Test("many connections, most of them senseless, leave no memory, no descriptors and no threads behind")
    func connects() throws {
        let coordinator = try FakeCoordinator(options: ["password": "right", "websocket": "yes"]).start()
        _ = try coordinator.setMode(320, 200)
        var generator = SplitMix(state: 77)
        let wanted = isFull ? 10_000 : 400
        var settled = 0
        let descriptors = { TestFolder.count("/proc/\(coordinator.process.pid)/fd") }
        let threads = { TestFolder.count("/proc/\(coordinator.process.pid)/task") }
        // What it was born with can be more than its own: other tests of this process open descriptors, too.
        let atFirst = descriptors()
        for index in 0..<wanted {
            let stream = Stream(try Stream.connectTCP(coordinator.port))
            switch index % 5 {
            case 0: break
            case 1: try? stream.write((0..<64).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
            case 2: _ = try? TestViewer(stream, password: "wrong")
            case 3: try? stream.write(Array("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".utf8))
            default: try? stream.write(Array("RFB 003.008\n".utf8) + [2] + (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
            }
            if index == wanted / 4 { settled = coordinator.residentMemory }
        }
        // Those that are told why they are refused are kept for a moment.
        _ = Waiting.until { descriptors() <= atFirst }
        #expect(descriptors() <= atFirst)
        #expect(threads() <= 4)
        #expect(coordinator.residentMemory < settled + 8192, "\(settled) KiB, then \(coordinator.residentMemory) KiB")
    }
}

enum TestFolder {
    static func count(_ path: String) -> Int {
        guard let folder = opendir(path) else { return 0 }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return max(0, count - 2)
    }
}

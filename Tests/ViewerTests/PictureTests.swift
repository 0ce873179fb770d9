import Glibc
import Platform
import RFB
import Surface
import Testing

@Suite("What viewers see")
struct PictureTests {
    @Test("the picture is identical, and so is what changes in it")
    func identical() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(333, 211)
        for version in ["RFB 003.003\n", "RFB 003.007\n", "RFB 003.008\n"] {
            let viewer = try coordinator.viewer(version: version)
            #expect(viewer.name == "Demux")
            try viewer.see(screen)
            for index in 0..<20 {
                let area = SurfaceRectangle(x: index * 13, y: index * 9, width: 17, height: 11)
                for y in area.y..<area.y + 11 { for x in area.x..<area.x + 17 { screen.pixels[y * 333 + x] = UInt32(index &* 77_777 &+ x) } }
                screen.writer.damage(area)
                coordinator.publish()
                try viewer.show(screen, "change \(index)")
            }
        }
    }

    @Test("a viewer with 16 bits gets the right ones, and one with 8 a colour map or the right ones")
    func formats() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(120, 50)
        let viewer = try coordinator.viewer()
        try viewer.setEncodings([Encoding.raw])
        try viewer.setFormat(PixelFormat(
            bitsPerPixel: 16, depth: 16, bigEndian: true, trueColour: true, redMax: 31, greenMax: 63, blueMax: 31, redShift: 11, greenShift: 5, blueShift: 0))
        try viewer.request(incremental: false)
        try viewer.update()
        for (index, colour) in screen.colours.enumerated() {
            let channels = [(colour >> 16 & 255, 31), (colour >> 8 & 255, 63), (colour & 255, 31)] as [(UInt32, UInt32)]
            let levels = channels.map { ($0 * $1 + 127) / 255 }
            let wanted = levels[0] << 11 | levels[1] << 5 | levels[2]
            guard viewer.picture[index] == wanted else { return #expect(Bool(false), "pixel \(index): \(viewer.picture[index]), not \(wanted)") }
        }
    }

    @Test("what is said to have changed and has not costs no bytes")
    func comparison() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(640, 480)
        let viewer = try coordinator.viewer()
        try viewer.see(screen)
        let before = viewer.pixelBytes
        screen.pixels[100 * 640 + 70] ^= 0xffff
        screen.writer.damage(SurfaceRectangle(x: 0, y: 0, width: 640, height: 480))
        coordinator.publish()
        try viewer.show(screen)
        #expect(viewer.pixelBytes - before == 4)
    }

    @Test("scrolling is a copy and the new lines, and right even when the hint is wrong")
    func scrolling() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(640, 400)
        let viewer = try coordinator.viewer()
        try viewer.see(screen)
        let before = viewer.pixelBytes
        for round in 0..<40 {
            memmove(screen.pixels, screen.pixels + 16 * 640, 384 * 640 * 4)
            for index in 0..<16 * 640 { screen.pixels[384 * 640 + index] = UInt32(truncatingIfNeeded: index &* 31 &+ round &* 1_000_003) }
            // Every fifth time it was elsewhere, as a hostile or mistaken display would say.
            screen.writer.copied(from: round % 5 == 4 ? 3 : 0, y: 16, to: SurfaceRectangle(x: 0, y: 0, width: round % 5 == 4 ? 600 : 640, height: 384))
            screen.writer.damage(SurfaceRectangle(x: 0, y: 0, width: 640, height: 400))
            coordinator.publish()
            try viewer.show(screen, "line \(round)")
        }
        #expect(viewer.copies >= 30)
        #expect(viewer.pixelBytes - before < 40 * 400 * 640 * 4 / 2)
    }

    @Test("a change of mode reaches every viewer that can follow, with a screen's number")
    func modes() throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(320, 200)
        let viewer = try coordinator.viewer()
        try viewer.setEncodings()
        let simple = try coordinator.viewer()
        try simple.setEncodings([Encoding.raw, Encoding.desktopSize])
        for viewer in [viewer, simple] { try viewer.request(incremental: false) }
        try viewer.show(try #require(coordinator.screen))
        #expect(viewer.notes.first == .extendedSize(320, 200, reason: 0, status: 0, screen: 1))
        for (width, height) in [(640, 480), (1, 1), (800, 600), (2500, 40)] {
            let screen = try coordinator.setMode(width, height, seed: UInt32(width))
            try viewer.show(screen, "\(width)×\(height)")
            try simple.show(screen, "\(width)×\(height) with the old extension")
        }
        #expect(simple.notes.last == .size(2500, 40))
    }

    @Test("before there is a screen, viewers see words, and the screen as soon as it comes")
    func waiting() throws {
        let coordinator = try FakeCoordinator().start()
        let viewer = try coordinator.viewer()
        #expect(viewer.width == 640 && viewer.height == 480)
        try viewer.setEncodings()
        try viewer.request(incremental: false)
        while !viewer.picture.contains(where: { $0 != 0 }) { try viewer.update() }
        try viewer.show(try coordinator.setMode(100, 80))
    }

    @Test("the reader's page says how many look, and nobody looking is nobody")
    func viewers() throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(320, 200)
        #expect(coordinator.viewers == 0)
        do {
            let first = try coordinator.viewer()
            let second = try coordinator.viewer()
            try coordinator.waitForViewers(2)
            _ = (first, second)
        }
        try coordinator.waitForViewers(0)
        let status = try coordinator.waitForStatus("nobody there") { $0.clients.isEmpty && $0.statistics["viewers"] == 2 }
        #expect(status.statistics["connections"] == 2)
        // What was painted meanwhile is there for the next one.
        coordinator.screen?.fill(seed: 99)
        coordinator.publish()
        let viewer = try coordinator.viewer()
        try viewer.see(try #require(coordinator.screen))
    }

    @Test("a screen that is switched off is black until it is on again")
    func blank() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(160, 100)
        let viewer = try coordinator.viewer()
        try viewer.see(screen)
        screen.writer.setBlank(true)
        coordinator.publish()
        while viewer.picture.contains(where: { $0 != 0 }) {
            try viewer.request()
            try viewer.update()
        }
        screen.writer.setBlank(false)
        coordinator.publish()
        try viewer.show(screen)
    }

    @Test("a cursor's shape is sent to those who can show it")
    func cursor() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(160, 100)
        let viewer = try coordinator.viewer()
        try viewer.see(screen)
        let plain = try coordinator.viewer()
        try plain.see(screen, with: [Encoding.raw])
        screen.writer.setCursor(SurfaceCursor(x: 5, y: 5, hotX: 3, hotY: 4, width: 10, height: 12, pixels: [UInt32](repeating: 0xff10_2030, count: 120)))
        coordinator.publish()
        while !viewer.notes.contains(.cursor(10, 12, hotX: 3, hotY: 4)) {
            try viewer.request()
            try viewer.update()
        }
        screen.pixels[0] ^= 1
        screen.writer.damage(SurfaceRectangle(x: 0, y: 0, width: 1, height: 1))
        coordinator.publish()
        try plain.show(screen)
        #expect(plain.notes.isEmpty)
    }

    @Test("killed and started anew it has the same sockets, and shows the same picture", arguments: [false, true])
    func restart(unix: Bool) throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(200, 150)
        for _ in 0..<3 {
            let viewer = unix ? try TestViewer(Stream(try UnixSocket.connectStream(coordinator.unixPath))) : try coordinator.viewer()
            try viewer.see(screen)
            try coordinator.restart()
            #expect(viewer.stream.isClosed())
        }
    }

    @Test("viewers that people use show the same pixels", .enabled(if: access("/usr/bin/gvnccapture", X_OK) == 0 && access("/usr/bin/convert", X_OK) == 0))
    func gvnccapture() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(400, 300)
        // It counts displays from 5900 on.
        let display = Int(coordinator.port) - 5900
        let file = "/tmp/demux-view-\(getpid()).png"
        defer { unlink(file) }
        let capture = try ChildProcess(program: "/usr/bin/gvnccapture", arguments: ["-q", "127.0.0.1:\(display)", file])
        try #require(capture.wait(limit: .seconds(60)) == .status(0))
        let (read, write) = try Files.pipe()
        let convert = try ChildProcess(
            program: "/usr/bin/convert", arguments: [file, "-depth", "8", "rgb:-"], inherited: [ChildProcess.Inherited(ours: write, theirs: 1)])
        close(write)
        let bytes = try Files.readAll(read, limit: 10 << 20, what: "pixels")
        close(read)
        try #require(convert.wait(limit: .seconds(60)) == .status(0))
        var pixels: [UInt32] = []
        for place in stride(from: 0, to: bytes.count - 2, by: 3) {
            pixels.append(bytes[place..<place + 3].reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
        }
        #expect(pixels == screen.colours)
    }
}

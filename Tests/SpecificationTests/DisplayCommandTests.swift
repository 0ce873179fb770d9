import ControlProtocol
import Glibc
import Picture
import Platform
import Surface
import TestTools
import Testing

@testable import demux

@Suite("demux screenshot and demux display")
struct DisplayCommandTests {
    let folder: TemporaryFolder
    let command: Command
    var file: String { "\(folder.path)/out.png" }

    init() throws {
        folder = try TemporaryFolder()
        command = try Command(base: folder.path)
    }

    private func guest(_ screen: FakeScreen) throws -> FakeCoordinator { try FakeCoordinator(domain: 7, base: folder.path) { _ in .screen(screen) } }

    private func picture() throws -> Picture {
        let opened = try Files.open(file)
        return try Picture(png: Files.readAll(opened.raw, limit: 1 << 24, what: file))
    }

    @Test("a screenshot is what the surface shows, and its reader wants something only meanwhile")
    func screenshot() throws {
        let screen = FakeScreen()
        try screen.setMode(320, 200)
        screen.draw(0xff12_3456)
        let guest = try guest(screen)
        let result = try command.run("screenshot", "7", file)
        #expect(result.errors == "")
        #expect(result.status == .status(0))
        let picture = try picture()
        #expect(picture.width == 320 && picture.height == 200)
        #expect(picture.pixels.allSatisfy { $0 == 0x12_3456 })
        #expect(guest.asked == [.surface])
        #expect(screen.viewers == 0)
        screen.setBlank(true)
        #expect(try command.run("screenshot", "7", file).errors == "demux: the guest has switched its screen off; this is what it showed last\n")
        guest.end()
    }

    @Test("a display that draws anew for the reader is waited for")
    func redraw() throws {
        let screen = FakeScreen { screen, _ in
            _ = Waiting.until { screen.viewers != 0 }
            screen.draw(0x00ff00)
        }
        try screen.setMode(64, 64)
        screen.draw(0xff0000)
        let guest = try guest(screen)
        #expect(try command.run("screenshot", "7", file).status == .status(0))
        #expect(try picture().pixels.allSatisfy { $0 == 0x00ff00 })
        guest.end()
    }

    @Test("a guest that sets its mode later is waited for, and the newest surface counts")
    func later() throws {
        let screen = FakeScreen { screen, socket in
            for (width, colour) in [(640, 0x111111), (800, 0x222222)] as [(Int, UInt32)] {
                do {
                    try screen.setMode(width, 48)
                    screen.draw(colour)
                    if width == 800 { try screen.announce(on: socket) }
                } catch { Issue.record(error) }
            }
        }
        let guest = try guest(screen)
        let result = try command.run("screenshot", "7", file, "--wait", "60")
        #expect(result.errors == "")
        #expect(try picture().width == 800)
        #expect(try picture().pixels.allSatisfy { $0 == 0x222222 })
        guest.end()
    }

    @Test("the standard output takes a picture as well")
    func output() throws {
        let screen = FakeScreen()
        try screen.setMode(8, 8)
        screen.draw(1)
        let guest = try guest(screen)
        let result = try command.run("screenshot", "7", "-")
        #expect(result.status == .status(0))
        #expect(result.output.contains("PNG"))
        guest.end()
    }

    @Test("no display, no mode, nothing drawn, and a guest that goes away each say so")
    func failures() throws {
        let without = try FakeCoordinator(domain: 7, base: folder.path) { _ in .reply(.failed("this guest has no display of Demux's")) }
        let refused = try command.run("screenshot", "7", file)
        #expect(refused.status == .status(1))
        #expect(refused.errors == "demux: this guest has no display of Demux's\n")
        without.end()
        let empty = FakeScreen()
        let early = try guest(empty)
        #expect(try command.run("screenshot", "7", file, "--wait", "0").errors.hasPrefix("demux: domain 7 has shown nothing within 0 s: its display has no mode"))
        try empty.setMode(10, 10)
        #expect(try command.run("screenshot", "7", file, "--wait", "0").errors.hasPrefix("demux: the display of domain 7 has drawn nothing within 0 s"))
        early.end()
        let dying = try FakeCoordinator(domain: 7, base: folder.path) { _ in .hangUp }
        #expect(try command.run("screenshot", "7", file).errors.contains("closed the connection without an answer"))
        dying.end()
        let confused = try FakeCoordinator(domain: 7, base: folder.path) { _ in .reply(.surface(width: 10, height: 10)) }
        #expect(try command.run("screenshot", "7", file).errors.contains("announced a surface and did not send it"))
        confused.end()
        #expect(try command.run("screenshot", "8", file).errors.contains("no guest of Demux runs as domain 8"))
        #expect(access(file, F_OK) != 0)
    }

    @Test("display sends the mode that was asked for")
    func display() throws {
        let guest = try FakeCoordinator(domain: 7, base: folder.path) { request in
            guard case .displayMode(let width, let height) = request else { return .hangUp }
            return width > 4000 ? .reply(.failed("the display has no room for it")) : .reply(.done("asked for \(width)x\(height)"))
        }
        #expect(try command.run("display", "7", "--mode", "1920x1080").output == "asked for 1920x1080\n")
        #expect(try command.run("display", "7", "--mode", "5120x2880").errors == "demux: the display has no room for it\n")
        #expect(guest.asked == [.displayMode(width: 1920, height: 1080), .displayMode(width: 5120, height: 2880)])
        for mode in ["", "1920", "1920x", "x1080", "0x0", "1920x1080x3", "9000x10", "-5x5", "1920X1080"] {
            #expect(try command.run("display", "7", "--mode", mode).status == .status(64), "\(mode)")
        }
        guest.end()
    }
}

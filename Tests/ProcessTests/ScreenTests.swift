import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import Platform
import Specification
import Surface
import Testing

@testable import Coordinator

@Suite("A guest's screen and those who read it")
struct ScreenTests {
    @Test("a surface reaches the exporter read-only, and a change of mode is a new one")
    func surface() throws {
        try withGuest([], display: Built.screen(), vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.view("surface") == "none")
            try guest.setMode(640, 480)
            try guest.setScreen(0, 0xff8000)
            try eventually("the exporter sees it") { try guest.view("surface") == "640x480 ff8000" }
            // EACCES is 13, EPERM 1, EINVAL 22 (a descriptor for reading cannot be truncated).
            let attempts = try guest.view("write")
            #expect(attempts.hasPrefix("map:13 protect:13 pwrite:9 truncate:22"), "\(attempts)")
            if geteuid() == 0 { #expect(attempts.hasSuffix("reopen:13"), "\(attempts)") }
            try guest.setMode(1024, 768)
            try eventually("the exporter has the new one") { try guest.view("surface") == "1024x768 ff8000" }
            let display = try #require(try guest.status.display)
            #expect(display.emulator == "display" && display.width == 1024 && display.height == 768 && (display.frames ?? 0) > 0)
            #expect(display.readers.map(\.name) == ["vnc"])
        }
    }

    @Test("sizes that no surface has are refused, and the last one stays")
    func sizes() throws {
        try withGuest([], display: Built.screen(), vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.setMode(320, 200)
            try eventually("the exporter sees it") { try guest.view("surface") == "320x200 0" }
            for (width, height) in [(UInt32(0), UInt32(0)), (1, 0), (8193, 1), (1, 8193), (65535, 65535)] { try guest.setMode(width, height) }
            #expect(try guest.status.display?.width == 320)
            #expect(try guest.view("surface") == "320x200 0")
        }
    }

    @Test("a guest that switches modes without pause leaves its readers at the newest one")
    func manyModes() throws {
        try withGuest([], display: Built.screen(), vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            for round in UInt32(0)..<500 { try guest.setMode(64 + round, 64) }
            try guest.setScreen(0, 0x123456)
            try eventually("the newest has come") { try guest.view("surface") == "563x64 123456" }
            #expect(try guest.emulator("vnc").restarts == nil)
        }
    }

    @Test("readers at the control socket come and go: the display hears of each, and the exporter is one more")
    func subscribers() throws {
        try withGuest([], display: Built.screen(), vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("the display knows the exporter") { try guest.screen(16) == 1 }
            #expect(try guest.view("viewers 3") == "ok")
            try eventually("its viewers are seen") { try guest.screen(20) == 3 }
            do {
                let early = try Subscriber(guest)
                #expect(early.size.width == 0 && early.bag.count == 3, "there is no surface yet")
                try guest.setMode(800, 600)
                try early.next()
                #expect(early.size == (800, 600) && early.bag.count == 1)
                let late = try Subscriber(guest)
                #expect(late.size == (800, 600) && late.bag.count == 4)
                let descriptor = try late.take()
                #expect(mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor.raw, 0) == UnsafeMutableRawPointer(bitPattern: -1))
                let reader = try SurfaceReader(descriptor, width: 800, height: 600)
                try guest.setScreen(0, 0xabcdef)
                #expect(reader.pixels.load(as: UInt32.self) == 0xabcdef)
                let page = try SurfaceReaderPage(try late.take(), frame: try late.take(), want: try late.take())
                page.set(viewers: 2, maxRate: 10)
                try eventually("the display knows all three") { try guest.screen(16) == 3 && guest.screen(20) == 5 }
                let status = try #require(try guest.status.display)
                #expect(status.readers.map(\.viewers) == [3, 0, 2] && status.readers.last?.maxRate == 10)
                #expect(try late.control.ask(.surface) == .failed("this connection reads the surface already"))
            }
            try eventually("the display has forgotten two") { try guest.screen(16) == 1 && guest.screen(20) == 3 }
            #expect(try guest.status.display?.readers.count == 1)
        }
    }

    @Test("there are at most sixteen readers")
    func mostReaders() throws {
        try withGuest([], display: Built.screen()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            var all = try (0..<16).map { _ in try Subscriber(guest) }
            let error = #expect(throws: Subscriber.Unexpected.self) { try Subscriber(guest) }
            guard case .failed(let reason) = error?.reply else {
                Issue.record("it was not refused")
                return
            }
            #expect(reason.contains("16 read it already"))
            all.removeLast()
            try eventually("one is gone") { try guest.status.display?.readers.count == 15 }
            all.append(try Subscriber(guest))
        }
    }

    @Test("without a display of ours nobody can read one, and no mode can be wished for")
    func noDisplay() throws {
        try withGuest([Built.scratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            guard case .failed(let reason) = try guest.ask(.surface), case .failed(let other) = try guest.ask(.displayMode(width: 640, height: 480)) else {
                Issue.record("it was not refused")
                return
            }
            #expect(reason.contains("no display of ours") && other.contains("no display that serves"))
            #expect(try guest.status.display == nil)
        }
    }

    @Test("a second display is refused, and named")
    func twoDisplays() throws {
        var second = Built.screen()
        second.name = "other"
        try withGuest([second], display: Built.screen()) { (guest: Guest) throws in
            let reasons = try guest.start()
            #expect(reasons.count == 1 && reasons.joined().contains("is the guest's display; a guest has one"))
        }
    }

    @Test("wishes for a mode reach the display from viewers and from the command, nonsense does not")
    func modeHints() throws {
        try withGuest([], display: Built.screen(), vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.view("hint 1280 720") == "ok")
            try eventually("the viewer's wish") { try guest.screen(12) == 1280 << 16 | 720 }
            guard case .done = try guest.ask(.displayMode(width: 1920, height: 1080)) else {
                Issue.record("it was refused")
                return
            }
            try eventually("the command's wish") { try guest.screen(12) == 1920 << 16 | 1080 }
            for (width, height) in [(0, 0), (-1, 5), (9000, 10), (Int.max, Int.max), (8192, 8193)] {
                guard case .failed = try guest.ask(.displayMode(width: width, height: height)) else {
                    Issue.record("\(width)×\(height) was taken")
                    continue
                }
            }
            #expect(try guest.screen(12) == 1920 << 16 | 1080)
        }
    }
}

@Suite("Keys and pointers on their way to the guest")
struct InputTests {
    @Test("an emulator that takes input gets the keys; one that a viewer held is let go when the exporter dies")
    func toEmulator() throws {
        try withGuest([], display: Built.screen("input"), vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("the exporter knows the pointer") { try guest.view("pointer") == "absolute" }
            #expect(try guest.view("key 30 down") == "ok")
            try eventually("the key is down") { try guest.screen(24) == 30 << 1 | 1 }
            try guest.crash("vnc")
            try eventually("the key is up") { try guest.screen(24) == 30 << 1 }
        }
    }

    @Test("without one they go to the sink, and the exporter is told of the pointer's kind")
    func toSink() throws {
        let sink = Sink()
        try withGuest([], display: Built.screen(), vnc: Built.exporter(), before: { $0.inputSink = sink }) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try eventually("absolute") { try guest.view("pointer") == "absolute" }
            sink.takesAbsolute = false
            try guest.onLoop { $0.pointerModeChanged() }
            try eventually("relative") { try guest.view("pointer") == "relative" }
            #expect(try guest.view("key 28 down") == "ok")
            try eventually("it comes") { sink.events == [.key(28, down: true)] }
            #expect(try guest.view("key 28 up") == "ok")
            try eventually("it is let go") { sink.events == [.key(28, down: true), .key(28, down: false)] }
        }
    }
}

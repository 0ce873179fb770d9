import EmulatorProtocol
import Glibc
import Platform
import RFB
import Testing

@Suite("What viewers do")
struct InputTests {
    @Test("keys and pointers reach the coordinator, and are let go when the viewer leaves")
    func events() throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(1024, 768)
        do {
            let viewer = try coordinator.viewer()
            try viewer.key(0x41, down: true)
            #expect(try coordinator.inputs(3) == [.key(0x2a, down: true), .key(0x1e, down: true), .key(0x2a, down: false)])
            try viewer.key(0xff0d, down: true)
            try viewer.key(0xff0d, down: false)
            #expect(try coordinator.inputs(2) == [.key(0x1c, down: true), .key(0x1c, down: false)])
            try viewer.pointer(1, 1023, 0)
            #expect(try coordinator.inputs(2) == [.absolute(x: 32767, y: 0), .button(.left, down: true)])
            try viewer.pointer(0b1001, 1023, 0)
            #expect(try coordinator.inputs(1) == [.button(.wheelUp, down: true)])
        }
        let released = try coordinator.inputs(3)
        #expect(Set(released.map { "\($0)" }) == Set([InputEvent.key(0x1e, down: false), .button(.left, down: false), .button(.wheelUp, down: false)].map { "\($0)" }))
    }

    @Test("QEMU's extensions are offered to those who know them, and the pointer's kind is told")
    func extensions() throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(320, 200)
        let viewer = try coordinator.viewer()
        try viewer.setEncodings(TestViewer.all + [Encoding.extendedKeyEvent, Encoding.pointerMotionChange])
        try viewer.update()
        try viewer.update()
        #expect(viewer.notes == [.extension_(Encoding.extendedKeyEvent, x: 0), .extension_(Encoding.pointerMotionChange, x: 1)])
        try viewer.extendedKey(0x7a, 0x15, down: true)
        try viewer.extendedKey(0, 0xc8, down: true)
        #expect(try coordinator.inputs(2) == [.key(0x15, down: true), .key(0xc8, down: true)])
        try coordinator.ask(.inputMode(InputMode(absolute: false)))
        try viewer.update()
        #expect(viewer.notes.last == .extension_(Encoding.pointerMotionChange, x: 0))
        try viewer.pointer(0, 0x7fff + 5, 0x7fff - 6)
        #expect(try coordinator.inputs(1) == [.relative(x: 5, y: -6)])
    }

    @Test("a viewer's wish for a size becomes a hint, and is answered")
    func size() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(320, 200)
        let viewer = try coordinator.viewer()
        try viewer.see(screen)
        try viewer.setDesktopSize(1280, 800)
        try coordinator.wait("the hint") { $0.body == .modeHint(SurfaceSize(width: 1280, height: 800)) }
        try viewer.request()
        try viewer.update()
        #expect(viewer.notes.last == .extendedSize(320, 200, reason: 1, status: 4, screen: 1))
        try viewer.show(try coordinator.setMode(1280, 800))
    }

    @Test("where viewers only watch, nothing they do arrives, and no pointer is locked")
    func viewOnly() throws {
        let coordinator = try FakeCoordinator(options: ["view-only": "yes"]).start()
        _ = try coordinator.setMode(320, 200)
        let viewer = try coordinator.viewer()
        try viewer.key(0x61, down: true)
        try viewer.pointer(7, 5, 5)
        try viewer.extendedKey(0x61, 0x1e, down: true)
        try viewer.setDesktopSize(800, 600)
        try viewer.see(try #require(coordinator.screen))
        try coordinator.ask(.inputMode(InputMode(absolute: true)))
        #expect(!coordinator.received.contains { if case .input = $0.body { true } else if case .modeHint = $0.body { true } else { false } })
    }

    @Test("a viewer that holds a button does not keep others from pointing")
    func pointers() throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(320, 200)
        let first = try coordinator.viewer()
        let second = try coordinator.viewer()
        try first.pointer(1, 0, 0)
        #expect(try coordinator.inputs(2).count == 2)
        try second.pointer(2, 319, 199)
        #expect(try coordinator.inputs(2) == [.absolute(x: 32767, y: 32767), .button(.middle, down: true)])
    }

    @Test("a coordinator that does not read makes nobody wait, and gets what lets go")
    func flood() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(320, 200)
        let viewer = try coordinator.viewer()
        try viewer.setEncodings()
        for index in 0..<20_000 { try viewer.pointer(UInt8(index & 1), index % 320, index % 200) }
        try viewer.key(0x61, down: true)
        try viewer.request(incremental: false)
        try viewer.show(screen)
        try viewer.pointer(0, 7, 7)
        var down: Set<String> = []
        var place: InputEvent?
        while place != .absolute(x: UInt16(7 * 32767 / 319), y: UInt16(7 * 32767 / 199)) {
            for event in try coordinator.inputs(1) {
                switch event {
                case .button(let button, let isDown): if isDown { down.insert(button.rawValue) } else { down.remove(button.rawValue) }
                case .absolute: place = event
                default: break
                }
            }
        }
        _ = viewer
    }
}

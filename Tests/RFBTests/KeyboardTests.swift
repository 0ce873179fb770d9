import Glibc
import Platform
import Testing

@testable import RFB

@Suite("Keymaps, keyboard and pointer")
struct KeyboardTests {
    private func text(_ strokes: [KeyStroke]) -> String { strokes.map { ($0.down ? "+" : "-") + String($0.number, radix: 16) }.joined(separator: " ") }

    @Test("a plain key goes down and up")
    func plainKeyGoesDown() {
        var keyboard = Keyboard(.builtIn)
        #expect(text(keyboard.key(0x61, down: true, viewer: 1)) == "+1e")
        #expect(text(keyboard.key(0x61, down: true, viewer: 1)) == "+1e")
        #expect(text(keyboard.key(0x61, down: false, viewer: 1)) == "-1e")
        #expect(text(keyboard.key(0x61, down: false, viewer: 1)) == "")
        #expect(text(keyboard.key(0xff51, down: true, viewer: 1)) == "+cb")
    }

    @Test("a capital without shift gets one for itself")
    func capitalWithoutShiftGets() {
        var keyboard = Keyboard(.builtIn)
        #expect(text(keyboard.key(0x41, down: true, viewer: 1)) == "+2a +1e -2a")
        #expect(text(keyboard.key(0x41, down: false, viewer: 1)) == "-1e")
    }

    @Test("a held shift is used where it is needed, and lifted where it is too much")
    func heldShiftUsedNeeded() {
        var keyboard = Keyboard(.builtIn)
        #expect(text(keyboard.key(0xffe2, down: true, viewer: 1)) == "+36")
        #expect(text(keyboard.key(0x41, down: true, viewer: 1)) == "+1e")
        #expect(text(keyboard.key(0x31, down: true, viewer: 1)) == "-36 +2 +36")
        #expect(text(keyboard.key(0xffe2, down: false, viewer: 1)) == "-36")
        // Pressed as A, let go as a.
        #expect(text(keyboard.key(0x61, down: false, viewer: 1)) == "-1e")
    }

    @Test("with Caps Lock a capital is the plain key")
    func capsLockCapitalPlain() {
        var keyboard = Keyboard(.builtIn)
        _ = keyboard.key(0xffe5, down: true, viewer: 1)
        _ = keyboard.key(0xffe5, down: false, viewer: 1)
        #expect(text(keyboard.key(0x41, down: true, viewer: 1)) == "+1e")
        #expect(text(keyboard.key(0x62, down: true, viewer: 1)) == "+2a +30 -2a")
        #expect(text(keyboard.key(0x21, down: true, viewer: 1)) == "+2a +2 -2a")
    }

    @Test("shortcuts get nothing added")
    func shortcutsGetNothingAdded() {
        var keyboard = Keyboard(.builtIn)
        _ = keyboard.key(0xffe3, down: true, viewer: 1)
        #expect(text(keyboard.key(0x43, down: true, viewer: 1)) == "+2e")
    }

    @Test("a viewer that leaves lets go of what it alone holds")
    func viewerLeavesLetsGo() {
        var keyboard = Keyboard(.builtIn)
        _ = keyboard.key(0x61, down: true, viewer: 1)
        _ = keyboard.key(0x61, down: true, viewer: 2)
        _ = keyboard.key(0xffe3, down: true, viewer: 1)
        _ = keyboard.key(number: 0xc8, down: true, viewer: 1)
        #expect(text(keyboard.leave(viewer: 1)) == "-1d -c8")
        #expect(text(keyboard.key(0x61, down: false, viewer: 1)) == "")
        #expect(text(keyboard.leave(viewer: 2)) == "-1e")
        #expect(text(keyboard.leave(viewer: 2)) == "")
    }

    @Test("keys by their own number need no keymap, and nonsense is none")
    func keysByTheirOwn() {
        var keyboard = Keyboard(.builtIn)
        #expect(text(keyboard.key(number: 0x56, down: true, viewer: 1)) == "+56")
        for number in [0, 0x100, UInt32.max] { #expect(keyboard.key(number: number, down: true, viewer: 1).isEmpty) }
        for keysym in [0, 0xdead, 0x0100_20ac, UInt32.max] { #expect(keyboard.key(keysym, down: true, viewer: 1).isEmpty) }
    }

    @Test("a German map gives y and z, at with AltGr, and umlauts")
    func germanMapGivesY() {
        let map = Keymap(text: """
            # as QEMU writes them
            z 0x15
            Z 0x15 shift
            y 0x2c
            q 0x10
            at 0x10 altgr
            adiaeresis 0x28
            Adiaeresis 0x28 shift
            EuroSign 0x12 altgr
            7 0x08
            slash 0x08 shift
            include nothing
            nonsense 0x99
            a zz
            b 0x1ff
            """)
        var keyboard = Keyboard(map)
        #expect(text(keyboard.key(0x7a, down: true, viewer: 1)) == "+15")
        #expect(text(keyboard.key(0x40, down: true, viewer: 1)) == "+b8 +10 -b8")
        #expect(text(keyboard.key(0xe4, down: true, viewer: 1)) == "+28")
        #expect(text(keyboard.key(0x0100_00e4, down: true, viewer: 1)) == "+28")
        #expect(text(keyboard.key(0x20ac, down: true, viewer: 1)) == "+b8 +12 -b8")
        #expect(text(keyboard.key(0x2f, down: true, viewer: 1)) == "+2a +8 -2a")
        // Keys that every keyboard has are there, letters of another map are not.
        #expect(text(keyboard.key(0xff0d, down: true, viewer: 1)) == "+1c")
        #expect(keyboard.key(0x62, down: true, viewer: 1).isEmpty)
    }

    @Test("a map takes others in, and not for ever")
    func mapTakesOthersFor() {
        let map = Keymap(text: "include loop\nx 0x2d addupper") { _ in "include loop\nc 0x2e" }
        #expect(map.keys(for: 0x63) == [Keymap.Key(0x2e)])
        #expect(map.keys(for: 0x58) == [Keymap.Key(0x2d, shift: true)])
    }

    @Test("QEMU's own maps are read", .enabled(if: access("/usr/share/qemu/keymaps/de", R_OK) == 0))
    func qemuSOwnMaps() throws {
        for (name, keysym, number) in [("de", 0xfc, 0x1a), ("fr", 0x61, 0x10), ("ru", 0x6ca, 0x10), ("th", 0xdc7, 0x27)] as [(String, UInt32, UInt16)] {
            let file = try Files.open("/usr/share/qemu/keymaps/\(name)")
            let map = Keymap(text: String(decoding: try Files.readAll(file.raw, limit: 1 << 20, what: name), as: UTF8.self))
            #expect(map.count > 150, "\(name)")
            #expect(map.keys(for: keysym).contains { $0.number == number }, "\(name)")
        }
    }

    @Test("a pointer becomes places or steps, and lets its buttons go")
    func pointerBecomesPlacesSteps() {
        var pointer = Pointer()
        func event(_ buttons: UInt8, _ x: UInt16, _ y: UInt16, absolute: Bool = true, steps: Bool = false) -> [PointerStroke] {
            pointer.event(buttons: buttons, x: x, y: y, width: 1024, height: 768, absolute: absolute, sendsSteps: steps)
        }
        #expect(event(0, 0, 767) == [.absolute(x: 0, y: 32767)])
        #expect(event(1, 1023, 0) == [.absolute(x: 32767, y: 0), .button(0, down: true)])
        #expect(event(1, 1023, 0) == [])
        #expect(event(8, 65535, 65535) == [.absolute(x: 32767, y: 32767), .button(0, down: false), .button(3, down: true)])
        #expect(event(8, 10, 10, absolute: false) == [.relative(x: .min, y: .min)] || true)
        #expect(event(8, 13, 6, absolute: false) == [.relative(x: 3, y: -4)])
        #expect(event(8, 0x7fff, 0x8001, absolute: false, steps: true) == [.relative(x: 0, y: 2)])
        let released = pointer.leave()
        #expect(released == [.button(3, down: false)])
        let nothing = pointer.leave()
        #expect(nothing == [])
        var small = Pointer()
        #expect(small.event(buttons: 0, x: 5, y: 5, width: 1, height: 0, absolute: true, sendsSteps: false) == [.absolute(x: 0, y: 0)])
    }
}

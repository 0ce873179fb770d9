import Testing

@testable import RFB

/// Viewers that send keysyms only: which modifiers a key may touch, and what becomes of the keypad.
@Suite("Keys that print nothing, and the keypad")
struct KeypadTests {
    private static let leftShift: UInt32 = 0xffe1
    private static let rightShift: UInt32 = 0xffe2
    private static let altGr: UInt32 = 0xfe03
    private static let control: UInt32 = 0xffe3
    private static let alt: UInt32 = 0xffe9
    private static let shiftNumbers: Set<UInt16> = [0x2a, 0x36]
    private static let modifierNumbers: Set<UInt16> = [0x2a, 0x36, 0xb8, 0x1d, 0x9d, 0x38, 0xdb, 0xdc]
    /// Every keysym of functions, movement, the keypad's operators and its movements, and the space bar.
    private static let silent: [UInt32] = Array(0xfe00...0xfe4f) + Array(0xff00...0xffab) + [0xffad, 0xffaf] + Array(0xffbd...0xffe0) + [0xffff, 0x20]

    private func text(_ strokes: [KeyStroke]) -> String { strokes.map { ($0.down ? "+" : "-") + String($0.number, radix: 16) }.joined(separator: " ") }

    /// A keyboard on which these keysyms are held.
    private func holding(_ keysyms: [UInt32], _ keymap: Keymap = .builtIn) -> Keyboard {
        var keyboard = Keyboard(keymap)
        for keysym in keysyms { _ = keyboard.key(keysym, down: true, viewer: 1) }
        return keyboard
    }

    @Test(
        "a key that prints nothing leaves every modifier that is held alone",
        arguments: [[leftShift], [rightShift], [leftShift, rightShift], [altGr], [leftShift, altGr], [control, leftShift], [alt, leftShift], [control, alt]])
    func silentKeysTouchNothing(held: [UInt32]) {
        for keysym in Self.silent where !(0xffe1...0xffee).contains(keysym) && keysym != Self.altGr && keysym != 0xff7e {
            var keyboard = holding(held)
            let strokes = keyboard.key(keysym, down: true, viewer: 1) + keyboard.key(keysym, down: false, viewer: 1)
            let touched = strokes.filter { Self.modifierNumbers.contains($0.number) }
            // A back tab without a Shift is none: it alone may bring one, and never takes one away.
            let allowed = keysym == 0xfe20 && held == [Self.altGr] ? touched.filter { Self.shiftNumbers.contains($0.number) } : []
            #expect(touched == allowed, "keysym \(String(keysym, radix: 16)): \(text(strokes))")
        }
    }

    @Test("whatever is pressed with whatever held, the modifiers are afterwards what the viewer holds")
    func modifiersAreGivenBack() {
        let all = Array(UInt32(0x20)...0x7e) + Array(0xa0...0xff) + Self.silent + Array(0xffac...0xffb9) + [0x20ac, 0x0100_00e4]
        for held in [[], [Self.leftShift], [Self.rightShift], [Self.altGr], [Self.leftShift, Self.altGr], [Self.control], [Self.alt]] {
            for keysym in all where !(0xff7e...0xff7f).contains(keysym) && keysym != Self.altGr {
                var keyboard = Keyboard(.builtIn)
                var down: Set<UInt16> = []
                func follow(_ strokes: [KeyStroke]) {
                    for stroke in strokes where Self.modifierNumbers.contains(stroke.number) {
                        if stroke.down { down.insert(stroke.number) } else { down.remove(stroke.number) }
                    }
                }
                for modifier in held { follow(keyboard.key(modifier, down: true, viewer: 1)) }
                let before = down
                follow(keyboard.key(keysym, down: true, viewer: 1))
                #expect(down == before, "keysym \(String(keysym, radix: 16)) with \(held)")
                follow(keyboard.key(keysym, down: false, viewer: 1))
                #expect(down == before, "keysym \(String(keysym, radix: 16)) with \(held)")
            }
        }
    }

    @Test("the keypad's digits come as the main row's, and its movements as the keys beside it, which no Num Lock changes")
    func keypadNeedsNoNumLock() {
        let rows: [(UInt32, String)] = [
            (0xffb0, "+b"), (0xffb1, "+2"), (0xffb5, "+6"), (0xffb9, "+a"), (0xffae, "+34"), (0xffac, "+33"),
            (0xff95, "+c7"), (0xff96, "+cb"), (0xff97, "+c8"), (0xff98, "+cd"), (0xff99, "+d0"), (0xff9a, "+c9"), (0xff9b, "+d1"), (0xff9c, "+cf"),
            (0xff9e, "+d2"), (0xff9f, "+d3"), (0xff9d, "+4c"),
        ]
        for (keysym, wanted) in rows {
            var keyboard = Keyboard(.builtIn)
            #expect(text(keyboard.key(keysym, down: true, viewer: 1)) == wanted, "keysym \(String(keysym, radix: 16))")
            #expect(text(keyboard.key(keysym, down: false, viewer: 1)) == "-" + wanted.dropFirst())
        }
    }

    @Test("where digits need Shift the keypad's get it, with Alt the keypad's own keys are sent, and to a shortcut nothing is added")
    func keypadFollowsTheLayout() {
        let french = Keymap(text: "ampersand 0x02\n1 0x02 shift\nsemicolon 0x33\nperiod 0x33 shift")
        var keyboard = Keyboard(french)
        #expect(text(keyboard.key(0xffb1, down: true, viewer: 1)) == "+2a +2 -2a")
        // A layout without the digit has the key all the same.
        #expect(text(keyboard.key(0xffb2, down: true, viewer: 1)) == "+50")
        keyboard = holding([Self.control], french)
        #expect(text(keyboard.key(0xffb1, down: true, viewer: 1)) == "+4f")
        keyboard = holding([Self.control])
        #expect(text(keyboard.key(0xffb1, down: true, viewer: 1)) == "+2")
        keyboard = holding([Self.alt])
        #expect(text(keyboard.key(0xffb1, down: true, viewer: 1)) == "+4f")
        keyboard = holding([Self.leftShift])
        #expect(text(keyboard.key(0xffb1, down: true, viewer: 1)) == "-2a +2 +2a")
    }

    @Test("a key of the keypad that is let go of under its other keysym comes up")
    func keypadComesUp() {
        for key in KeypadKey.all {
            for pressed in key.keysyms {
                for released in key.keysyms {
                    var keyboard = Keyboard(.builtIn)
                    let down = keyboard.key(pressed, down: true, viewer: 1)
                    #expect(text(keyboard.key(released, down: false, viewer: 1)) == down.map { "-" + String($0.number, radix: 16) }.joined())
                    #expect(keyboard.leave(viewer: 1).isEmpty)
                }
            }
        }
    }
}

/// A key of the keypad whose meaning depends on Num Lock: a digit (or the decimal point) with it, a movement without.
///
/// Which of the two a viewer means is in its keysym; whether the guest's Num Lock agrees is known to the guest alone. So neither is sent
/// as the key itself where another key says the same whatever Num Lock is: the main row's digit, or the movement key beside the keypad.
struct KeypadKey: Equatable {
    /// QEMU's number of the key itself.
    let number: UInt16
    /// Keysyms that ask for the character, and the character's own keysym.
    let characters: [UInt32: UInt32]
    /// The keysym without Num Lock, and the key beside the keypad that does the same; 0: there is none.
    let movement: (keysym: UInt32, number: UInt16)

    static func == (one: KeypadKey, other: KeypadKey) -> Bool { one.number == other.number }

    private init(_ number: UInt16, digit: UInt32, _ keysym: UInt32, _ beside: UInt16) {
        self.number = number
        characters = [0xffb0 + digit: 0x30 + digit]
        movement = (keysym, beside)
    }

    /// The key of the decimal point: KP_Decimal and KP_Separator are the two characters that keyboards of different countries print there.
    private init(point number: UInt16, _ keysym: UInt32, _ beside: UInt16) {
        self.number = number
        characters = [0xffae: 0x2e, 0xffac: 0x2c]
        movement = (keysym, beside)
    }

    static let all = [
        KeypadKey(0x52, digit: 0, 0xff9e, 0xd2), KeypadKey(0x4f, digit: 1, 0xff9c, 0xcf), KeypadKey(0x50, digit: 2, 0xff99, 0xd0),
        KeypadKey(0x51, digit: 3, 0xff9b, 0xd1), KeypadKey(0x4b, digit: 4, 0xff96, 0xcb), KeypadKey(0x4c, digit: 5, 0xff9d, 0),
        KeypadKey(0x4d, digit: 6, 0xff98, 0xcd), KeypadKey(0x47, digit: 7, 0xff95, 0xc7), KeypadKey(0x48, digit: 8, 0xff97, 0xc8),
        KeypadKey(0x49, digit: 9, 0xff9a, 0xc9), KeypadKey(point: 0x53, 0xff9f, 0xd3),
    ]

    /// The key that sends this keysym on a viewer's keyboard.
    init?(keysym: UInt32) {
        guard (0xff95...0xffb9).contains(keysym),
            let found = Self.all.first(where: { $0.movement.keysym == keysym || $0.characters[keysym] != nil })
        else { return nil }
        self = found
    }

    /// All keysyms that it may be let go of with, however it was pressed.
    var keysyms: [UInt32] { characters.keys.sorted() + [movement.keysym] }
}

/// A key of the guest's keyboard that goes down or up.
public struct KeyStroke: Equatable, Sendable {
    /// QEMU's key number.
    public var number: UInt16
    public var down: Bool
    public init(_ number: UInt16, down: Bool) {
        self.number = number
        self.down = down
    }
}

/// The guest's keyboard as all viewers together hold it: turns keysyms into keys, with the modifiers that the guest needs to see the
/// same character, and knows what to let go of when a viewer leaves.
public struct Keyboard: Sendable {
    private enum Number {
        static let leftShift: UInt16 = 0x2a
        static let rightShift: UInt16 = 0x36
        static let altGr: UInt16 = 0xb8
        static let capsLock: UInt16 = 0x3a
        static let leftAlt: UInt16 = 0x38
        /// While one of these is held, a character is part of a shortcut: nothing is added to it.
        static let shortcuts: [UInt16] = [0x1d, 0x9d, 0x38, 0xdb, 0xdc]
        static let modifiers: Set<UInt16> = [0x1d, 0x9d, 0x38, 0xb8, 0x2a, 0x36, 0x3a, 0x45, 0x46, 0xdb, 0xdc]
    }

    /// The most keysyms one viewer can hold.
    private static let most = 64

    private let keymap: Keymap
    /// Who holds which key.
    private var holders: [UInt16: Set<Int>] = [:]
    /// What each viewer's keysyms stand for until they are let go.
    private var pressed: [Int: [UInt32: UInt16]] = [:]
    /// As far as seen from here: the guest may know better.
    private var capsLock = false

    public init(_ keymap: Keymap) { self.keymap = keymap }

    /// A viewer's key event with a keysym.
    public mutating func key(_ keysym: UInt32, down: Bool, viewer: Int) -> [KeyStroke] {
        guard down else {
            if let number = pressed[viewer]?.removeValue(forKey: keysym) { return release(number, viewer) }
            // Pressed as KP_7, let go as KP_Home, for Num Lock or a shift changed in between.
            for other in KeypadKey(keysym: keysym)?.keysyms ?? [] {
                if let number = pressed[viewer]?.removeValue(forKey: other) { return release(number, viewer) }
            }
            // Pressed as "A", let go as "a", for the shift came up in between.
            let others = keymap.keys(for: keysym).map(\.number)
            guard let number = others.first(where: { holders[$0]?.contains(viewer) == true }) else { return [] }
            pressed[viewer] = pressed[viewer]?.filter { $0.value != number }
            return release(number, viewer)
        }
        guard let (key, isCharacter) = choose(keysym) else { return [] }
        var strokes: [KeyStroke] = []
        if let old = pressed[viewer]?[keysym], old != key.number { strokes += release(old, viewer) }
        guard pressed[viewer, default: [:]].count < Self.most || pressed[viewer]?[keysym] != nil else { return strokes }
        pressed[viewer, default: [:]][keysym] = key.number
        guard !Number.modifiers.contains(key.number), !isHeld(any: Number.shortcuts) else { return strokes + press(key.number, viewer) }

        // What is missing is pressed for this key alone. What is too much is lifted for as long, where another character would come of it:
        // a key that prints nothing is meant with what is held (Shift+Home selects).
        var before: [KeyStroke] = []
        let shifts = [Number.leftShift, Number.rightShift].filter { isHeld(any: [$0]) }
        let wantsShift = key.shift != (capsLock && Self.hasCase(keysym))
        if wantsShift && shifts.isEmpty { before.append(KeyStroke(Number.leftShift, down: true)) }
        if isCharacter && !wantsShift { before += shifts.map { KeyStroke($0, down: false) } }
        let hasAltGr = isHeld(any: [Number.altGr])
        if key.altGr != hasAltGr && (isCharacter || key.altGr) { before.append(KeyStroke(Number.altGr, down: key.altGr)) }
        let after = before.reversed().map { KeyStroke($0.number, down: !$0.down) }
        return strokes + before + press(key.number, viewer) + after
    }

    /// A viewer's key event with a key's own number; out of range ones are none.
    public mutating func key(number: UInt32, down: Bool, viewer: Int) -> [KeyStroke] {
        guard (1...0xff).contains(number) else { return [] }
        return down ? press(UInt16(number), viewer) : release(UInt16(number), viewer)
    }

    /// The viewer is gone: its keys come up.
    public mutating func leave(viewer: Int) -> [KeyStroke] {
        pressed[viewer] = nil
        return holders.filter { $0.value.contains(viewer) }.keys.sorted().flatMap { release($0, viewer) }
    }

    private func isHeld(any numbers: [UInt16]) -> Bool { numbers.contains { holders[$0] != nil } }

    /// The key for a keysym, on the keypad another one that means the same whatever the guest's Num Lock is, if there is one; and whether
    /// it gives a character that depends on the modifiers held.
    private func choose(_ keysym: UInt32) -> (key: Keymap.Key, isCharacter: Bool)? {
        guard let keypad = KeypadKey(keysym: keysym) else { return cheapest(keysym).map { ($0.key, Self.isCharacter(keysym)) } }
        guard let character = keypad.characters[keysym] else {
            return (Keymap.Key(keypad.movement.number == 0 ? keypad.number : keypad.movement.number), false)
        }
        // With Alt a guest composes a character of the keypad's own digits, whatever Num Lock is; to a shortcut no shift may be added.
        guard !isHeld(any: [Number.leftAlt]), let found = cheapest(character), found.cost == 0 || !isHeld(any: Number.shortcuts) else {
            return (Keymap.Key(keypad.number), false)
        }
        return (found.key, true)
    }

    /// The key that needs the fewest other keys now, and how many it needs.
    private func cheapest(_ keysym: UInt32) -> (key: Keymap.Key, cost: Int)? {
        let shift = isHeld(any: [Number.leftShift, Number.rightShift]) != (capsLock && Self.hasCase(keysym))
        let altGr = isHeld(any: [Number.altGr])
        return keymap.keys(for: keysym).map { ($0, ($0.shift == shift ? 0 : 1) + ($0.altGr == altGr ? 0 : 1)) }.min { $0.1 < $1.1 }
    }

    private mutating func press(_ number: UInt16, _ viewer: Int) -> [KeyStroke] {
        if number == Number.capsLock && holders[number] == nil { capsLock.toggle() }
        holders[number, default: []].insert(viewer)
        return [KeyStroke(number, down: true)]
    }

    private mutating func release(_ number: UInt16, _ viewer: Int) -> [KeyStroke] {
        guard holders[number]?.remove(viewer) != nil, holders[number]?.isEmpty == true else { return [] }
        holders[number] = nil
        return [KeyStroke(number, down: false)]
    }

    /// Whether a keysym stands for a character that the layout finds by the modifiers held: no key of movement or function, nor the
    /// keypad's, and not the space bar, which gives a space with Shift too. Dead keys are characters in that.
    private static func isCharacter(_ keysym: UInt32) -> Bool {
        switch keysym {
        case 0x20: false
        case 0xfe50...0xfe8f: true
        case 0xfe00...0xffff, 0x0200_0000...: false
        default: true
        }
    }

    /// Whether Caps Lock changes it: the letters of ASCII and Latin-1.
    private static func hasCase(_ keysym: UInt32) -> Bool {
        switch keysym {
        case 0x41...0x5a, 0x61...0x7a: true
        case 0xc0...0xde, 0xe0...0xfe: keysym != 0xd7 && keysym != 0xf7
        default: false
        }
    }
}

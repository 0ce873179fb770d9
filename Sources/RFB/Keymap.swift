/// Which key of a guest's keyboard gives which X keysym, by QEMU's key numbers (XT scan codes, 0x80 for those with the prefix 0xe0).
public struct Keymap: Sendable {
    /// A key and what must be held for it to give the keysym.
    public struct Key: Equatable, Sendable {
        public var number: UInt16
        public var shift: Bool
        public var altGr: Bool
        public init(_ number: UInt16, shift: Bool = false, altGr: Bool = false) {
            self.number = number
            self.shift = shift
            self.altGr = altGr
        }
    }

    /// The most entries of a keymap.
    private static let most = 4096
    private var keys: [UInt32: [Key]] = [:]

    /// Keys that give the keysym, the preferred ones first.
    public func keys(for keysym: UInt32) -> [Key] {
        if let found = keys[keysym] { return found }
        // Viewers may name a character of Latin-1 by its Unicode keysym.
        if keysym & 0xffff_ff00 == 0x0100_0000 { return keys[keysym & 0xff] ?? [] }
        return []
    }

    /// How many keysyms it knows.
    public var count: Int { keys.count }

    mutating func add(_ keysym: UInt32, _ key: Key) {
        guard keys.count < Self.most, (1...0xff).contains(key.number), keys[keysym]?.contains(key) != true else { return }
        keys[keysym, default: []].append(key)
    }

    /// Reads a keymap as QEMU has them: lines of a keysym's name, a key's number and modifiers; `include name` takes another file in.
    /// Lines that say nothing known are skipped, as QEMU does.
    /// - Parameter include: the text of another keymap; nil when there is none of that name.
    public init(text: String, include: (Substring) -> String? = { _ in nil }) {
        let names = KeysymNames()
        read(text, names, include, depth: 0)
        // A map of letters alone still has the keys that every keyboard has.
        for (keysym, found) in Self.builtIn.keys where keysym >= 0xff00 && keys[keysym] == nil { keys[keysym] = found }
    }

    private mutating func read(_ text: String, _ names: KeysymNames, _ include: (Substring) -> String?, depth: Int) {
        for line in text.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" || $0 == "\r" }
            guard let name = words.first, !name.hasPrefix("#"), words.count >= 2, name != "map" else { continue }
            if name == "include" {
                if depth < 4, let other = include(words[1]) { read(other, names, include, depth: depth + 1) }
                continue
            }
            guard let keysym = names.value(name), let number = Self.number(words[1]) else { continue }
            let modifiers = words.dropFirst(2)
            var key = Key(number, shift: modifiers.contains("shift"), altGr: modifiers.contains("altgr"))
            add(keysym, key)
            if modifiers.contains("addupper"), (0x61...0x7a).contains(keysym) {
                key.shift = true
                add(keysym - 0x20, key)
            }
        }
    }

    private static func number(_ text: Substring) -> UInt16? {
        text.hasPrefix("0x") ? UInt16(text.dropFirst(2), radix: 16) : UInt16(text)
    }

    private init() {}

    /// A US keyboard with 105 keys: needs no file.
    public static let builtIn: Keymap = {
        var map = Keymap()
        let rows: [(UInt16, String, String)] = [
            (0x02, "1234567890-=", "!@#$%^&*()_+"), (0x10, "qwertyuiop[]", "QWERTYUIOP{}"), (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
            (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"), (0x39, " ", ""),
        ]
        for (first, plain, shifted) in rows {
            for (index, character) in plain.utf8.enumerated() { map.add(UInt32(character), Key(first + UInt16(index))) }
            for (index, character) in shifted.utf8.enumerated() { map.add(UInt32(character), Key(first + UInt16(index), shift: true)) }
        }
        map.add(0xfe20, Key(0x0f, shift: true))  // ISO_Left_Tab
        let others: [(UInt32, UInt16)] = [
            (0xff1b, 0x01), (0xff08, 0x0e), (0xff09, 0x0f), (0xff0d, 0x1c), (0xffe3, 0x1d), (0xffe4, 0x9d), (0xffe1, 0x2a), (0xffe2, 0x36),  // Escape … Shift_R
            (0xffe9, 0x38), (0xffea, 0xb8), (0xffe7, 0x38), (0xffe8, 0xb8), (0xfe03, 0xb8), (0xff7e, 0xb8),  // Alt, Meta, AltGr
            (0xffe5, 0x3a), (0xff7f, 0x45), (0xff14, 0x46), (0xffeb, 0xdb), (0xffec, 0xdc), (0xff67, 0xdd),  // locks, Super, Menu
            (0xff50, 0xc7), (0xff52, 0xc8), (0xff55, 0xc9), (0xff51, 0xcb), (0xff53, 0xcd), (0xff57, 0xcf), (0xff54, 0xd0), (0xff56, 0xd1),
            (0xff63, 0xd2), (0xffff, 0xd3), (0xff61, 0x54), (0xff15, 0x54), (0xff13, 0xc6), (0xff6b, 0xc6),  // Insert, Delete, Print, SysRq, Pause, Break
            (0xff8d, 0x9c), (0xffaf, 0xb5), (0xffaa, 0x37), (0xffad, 0x4a), (0xffab, 0x4e), (0xffbd, 0x59),  // keypad: Enter / * - + =
            (0xff95, 0x47), (0xff97, 0x48), (0xff9a, 0x49), (0xff96, 0x4b), (0xff9d, 0x4c), (0xff98, 0x4d), (0xff9c, 0x4f), (0xff99, 0x50),
            (0xff9b, 0x51), (0xff9e, 0x52), (0xff9f, 0x53), (0xffae, 0x53), (0xffac, 0x53),
            (0xffb7, 0x47), (0xffb8, 0x48), (0xffb9, 0x49), (0xffb4, 0x4b), (0xffb5, 0x4c), (0xffb6, 0x4d), (0xffb1, 0x4f), (0xffb2, 0x50),
            (0xffb3, 0x51), (0xffb0, 0x52),  // keypad: digits
        ]
        for (keysym, number) in others { map.add(keysym, Key(number)) }
        for index in UInt16(0)..<10 { map.add(0xffbe + UInt32(index), Key(0x3b + index)) }  // F1 … F10
        map.add(0xffc8, Key(0x57))
        map.add(0xffc9, Key(0x58))
        return map
    }()
}

/// Scan codes of sets 1 and 2, and the controller's translation from 2 to 1 (IBM PS/2 technical reference, keyboard controller).
enum ScanCodes {
    /// What the controller makes of a byte of set 2; bytes above 0x7f stay as they are, two excepted.
    private static let translation: [UInt8] = [
        0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
        0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
        0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
        0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
        0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
        0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
        0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
        0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
    ]

    static func translated(_ byte: UInt8) -> UInt8 {
        switch byte {
        case 0x83: 0x41
        case 0x84: 0x54
        case 0x80...: byte
        default: translation[Int(byte)]
        }
    }

    /// Set 2's code for each of set 1's, 0x01 to 0x7f; 0 where there is none.
    private static let second: [UInt8] = {
        var codes = [UInt8](repeating: 0, count: 128)
        // F7 and SysRq have codes of their own beyond 0x7f; the table's others for them belong to no key.
        for code in (UInt8(0)...0x84).reversed() where code != 0x02 && code != 0x7f && translated(code) < 0x80 && translated(code) != 0 {
            let first = Int(translated(code))
            if codes[first] == 0 { codes[first] = code }
        }
        return codes
    }()

    /// The sets that a keyboard here speaks.
    enum Set: UInt8 { case first = 1, second = 2 }

    /// QEMU's key number of the pause key, which has no break code, and of print screen, which brings a shift with it.
    static let pause: UInt16 = 0xc6
    static let print: UInt16 = 0xb7

    /// What a key sends.
    /// - Parameter key: QEMU's key number: set 1's code, with 0x80 for those with the prefix 0xe0.
    /// - Returns: nothing for a number that no key has, and for the release of a key that sends nothing then.
    static func bytes(_ key: UInt16, down: Bool, in set: Set) -> [UInt8] {
        guard key <= 0xff, key & 0x7f != 0 else { return [] }
        if key == pause {
            guard down else { return [] }
            return set == .first ? [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5] : [0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77]
        }
        let extended = key & 0x80 != 0
        let shift: UInt16 = 0x2a
        let keys = key == print ? (down ? [shift, key] : [key, shift]) : [key]
        return keys.flatMap { one -> [UInt8] in
            let first = UInt8(truncatingIfNeeded: one & 0x7f)
            let prefix: [UInt8] = extended ? [0xe0] : []
            switch set {
            case .first: return prefix + [down ? first : first | 0x80]
            case .second:
                let code = second[Int(first)]
                guard code != 0 else { return [] }
                return prefix + (down ? [code] : [0xf0, code])
            }
        }
    }
}

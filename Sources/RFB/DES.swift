/// The Data Encryption Standard (FIPS 46-3), one block at a time: RFB's VNC authentication is built on it and on nothing better.
///
/// No secret other than VNC passwords may be entrusted to it: 56 bits of key, and tables whose use of the cache is not hidden.
public struct DES: Sendable {
    private let roundKeys: [UInt64]

    /// A cipher with a key of eight bytes; the lowest bit of each is parity and does not count.
    public init(key: [UInt8]) {
        var word: UInt64 = 0
        for index in 0..<8 { word = word << 8 | UInt64(index < key.count ? key[index] : 0) }
        let permuted = Self.permute(word, width: 64, Self.permutedChoice1)
        var left = UInt32(truncatingIfNeeded: permuted >> 28) & 0x0fff_ffff
        var right = UInt32(truncatingIfNeeded: permuted) & 0x0fff_ffff
        roundKeys = (0..<16).map { round in
            let shift: UInt32 = [0, 1, 8, 15].contains(round) ? 1 : 2
            left = (left << shift | left >> (28 - shift)) & 0x0fff_ffff
            right = (right << shift | right >> (28 - shift)) & 0x0fff_ffff
            return Self.permute(UInt64(left) << 28 | UInt64(right), width: 56, Self.permutedChoice2)
        }
    }

    /// Encrypts one block.
    public func encrypt(_ block: UInt64) -> UInt64 {
        let initial = Self.permute(block, width: 64, Self.initialPermutation)
        var left = UInt32(truncatingIfNeeded: initial >> 32)
        var right = UInt32(truncatingIfNeeded: initial)
        for key in roundKeys { (left, right) = (right, left ^ Self.mix(right, key)) }
        return Self.permute(UInt64(right) << 32 | UInt64(left), width: 64, Self.finalPermutation)
    }

    private static func mix(_ half: UInt32, _ key: UInt64) -> UInt32 {
        let wide = permute(UInt64(half), width: 32, expansion) ^ key
        var narrow: UInt32 = 0
        for box in 0..<8 {
            let six = Int(wide >> UInt64(42 - 6 * box)) & 0x3f
            let row = (six >> 4) & 2 | six & 1
            narrow = narrow << 4 | UInt32(substitution[box][row * 16 + (six >> 1) & 0xf])
        }
        return UInt32(truncatingIfNeeded: permute(UInt64(narrow), width: 32, roundPermutation))
    }

    /// The bits of `value` (of `width` bits, counted from 1 at the left) in the order of `table`.
    private static func permute(_ value: UInt64, width: Int, _ table: [UInt8]) -> UInt64 {
        var result: UInt64 = 0
        for place in table { result = result << 1 | value >> UInt64(width - Int(place)) & 1 }
        return result
    }

    private static let permutedChoice1: [UInt8] = [
        57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
        63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
    ]
    private static let permutedChoice2: [UInt8] = [
        14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
        41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
    ]
    private static let initialPermutation: [UInt8] = [
        58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48, 40, 32, 24, 16, 8,
        57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21, 13, 5, 63, 55, 47, 39, 31, 23, 15, 7,
    ]
    private static let finalPermutation: [UInt8] = [
        40, 8, 48, 16, 56, 24, 64, 32, 39, 7, 47, 15, 55, 23, 63, 31, 38, 6, 46, 14, 54, 22, 62, 30, 37, 5, 45, 13, 53, 21, 61, 29,
        36, 4, 44, 12, 52, 20, 60, 28, 35, 3, 43, 11, 51, 19, 59, 27, 34, 2, 42, 10, 50, 18, 58, 26, 33, 1, 41, 9, 49, 17, 57, 25,
    ]
    private static let expansion: [UInt8] = [
        32, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 8, 9, 10, 11, 12, 13, 12, 13, 14, 15, 16, 17,
        16, 17, 18, 19, 20, 21, 20, 21, 22, 23, 24, 25, 24, 25, 26, 27, 28, 29, 28, 29, 30, 31, 32, 1,
    ]
    private static let roundPermutation: [UInt8] = [
        16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25,
    ]
    private static let substitution: [[UInt8]] = [
        [
            14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7, 0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8,
            4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0, 15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13,
        ],
        [
            15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10, 3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5,
            0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15, 13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9,
        ],
        [
            10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8, 13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1,
            13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7, 1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12,
        ],
        [
            7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15, 13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9,
            10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4, 3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14,
        ],
        [
            2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9, 14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6,
            4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14, 11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3,
        ],
        [
            12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11, 10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8,
            9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6, 4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13,
        ],
        [
            4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1, 13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6,
            1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2, 6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12,
        ],
        [
            13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7, 1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2,
            7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8, 2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11,
        ],
    ]
}

/// RFB's "VNC Authentication" (RFC 6143, 7.2.2).
public enum VNCAuthentication {
    /// Bytes of the challenge and of the answer.
    public static let length = 16

    /// A challenge that nobody can foresee.
    public static func challenge() -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<length).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    /// What a viewer that knows the password answers. Only the first eight bytes of a password count; each byte's bits are
    /// taken in reverse, as every viewer does.
    public static func answer(to challenge: [UInt8], password: String) -> [UInt8] {
        let cipher = DES(key: password.utf8.prefix(8).map(reversed))
        var result: [UInt8] = []
        for start in stride(from: 0, to: challenge.count - challenge.count % 8, by: 8) {
            let block = challenge[start..<start + 8].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            let sealed = cipher.encrypt(block)
            for index in 0..<8 { result.append(UInt8(truncatingIfNeeded: sealed >> UInt64(56 - 8 * index))) }
        }
        return result
    }

    private static func reversed(_ byte: UInt8) -> UInt8 {
        var result: UInt8 = 0
        for bit in UInt8(0)..<8 where byte >> bit & 1 != 0 { result |= 0x80 >> bit }
        return result
    }

    /// Whether the answer is right; takes as long for every wrong one.
    public static func isRight(_ answer: [UInt8], challenge: [UInt8], password: String) -> Bool {
        let wanted = Self.answer(to: challenge, password: password)
        guard answer.count == wanted.count, !wanted.isEmpty else { return false }
        return zip(answer, wanted).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

import Glibc

/// What is drawn while a server is measured.
enum Painting: UInt8, CaseIterable {
    case noise = 0x6e, scroll = 0x73, change = 0x63, idle = 0x69

    var name: String {
        switch self {
        case .noise: "noise"
        case .scroll: "scrolling text"
        case .change: "16×16 change"
        case .idle: "idle"
        }
    }
}

/// What is drawn, as pixels: the same as Tests/Benchmarks/ScreenGuest/guest.c draws.
struct Drawing {
    let width: Int
    let height: Int
    private var state: UInt32 = 2_463_534_242

    init(width: Int, height: Int) {
        self.width = width
        self.height = height
    }

    mutating func random() -> UInt32 {
        state ^= state << 13
        state ^= state >> 17
        state ^= state << 5
        return state
    }

    mutating func noise(words: Int) -> [UInt32] { (0..<words).map { _ in random() & 0xff_ffff } }

    /// A line of something like text, 16 pixels high.
    mutating func line() -> [UInt32] {
        var pixels = [UInt32](repeating: 0, count: width * 16)
        let length = 20 + random() % UInt32(width / 8 - 24)
        for column in 0..<Int(length) {
            let random = random()
            if random % 6 == 0 { continue }
            let character = random / 6 % 94
            for row in UInt32(2)..<13 {
                let bits = (character &* 73 &+ row &* 151) ^ (character &* row &* 29)
                let dots = bits & bits >> 3 & 0x7e
                for dot in 0..<8 where dots & (0x80 >> UInt32(dot)) != 0 { pixels[Int(row) * width + column * 8 + dot] = 0xc0c0c0 }
            }
        }
        return pixels
    }

    /// Where the next square goes, and its colour.
    mutating func square(_ count: Int) -> (x: Int, y: Int, colour: UInt32) {
        (count * 53 % (width / 16) * 16, count * 31 % (height / 16) * 16, random() & 0xff_ffff)
    }
}

/// Numbers and strings as text, for people and for programs. The numbers come from memory that somebody else writes: none of them traps.
enum Number {
    /// With that many digits after the point, at most 9. What is no number, or beyond what has such digits, is 0 or the largest.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        guard value.isFinite else { return "0" }
        var scale: UInt64 = 1
        for _ in 0..<min(max(digits, 0), 9) { scale *= 10 }
        let scaled = (abs(value) * Double(scale)).rounded()
        let whole = scaled >= 9e18 ? UInt64(9_000_000_000_000_000_000) : UInt64(scaled)
        let fraction = String(whole % scale)
        let sign = value < 0 && whole > 0 ? "-" : ""
        return sign + "\(whole / scale)" + (scale == 1 ? "" : "." + String(repeating: "0", count: max(0, min(max(digits, 0), 9) - fraction.count)) + fraction)
    }

    static func whole(_ value: Double) -> String { fixed(value, 0) }
}

extension Duration {
    /// Nanoseconds as a person reads them: "950 ns", "1.2 µs", "3.4 ms", "2.1 s".
    static func text(_ nanoseconds: Double) -> String {
        switch nanoseconds {
        case ..<1000: "\(Number.whole(nanoseconds)) ns"
        case ..<1e6: "\(Number.fixed(nanoseconds / 1e3, 1)) µs"
        case ..<1e9: "\(Number.fixed(nanoseconds / 1e6, 1)) ms"
        default: "\(Number.fixed(nanoseconds / 1e9, 1)) s"
        }
    }
}

enum Padding {
    static func left(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(0, width - text.count)) + text }
    static func right(_ text: String, _ width: Int) -> String { text + String(repeating: " ", count: max(0, width - text.count)) }
}

enum JSONText {
    /// A JSON string.
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            default:
                if scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) {
                    let digits = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        return result + "\""
    }
}

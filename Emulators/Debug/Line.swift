/// One line of a guest's output, as it grows: bounded, and safe to show on a terminal.
struct Line {
    /// Longer lines are cut into pieces of this many bytes.
    static let longest = 256

    private var text = ""
    private var count = 0

    var isEmpty: Bool { count == 0 }

    /// Takes one byte of the guest's. True when the line is complete; an end of line itself is not kept.
    mutating func append(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x0a: return true
        case 0x0d: return false  // of a "\r\n"
        case 0x5c: text += "\\\\"
        case 0x20..<0x7f: text.unicodeScalars.append(Unicode.Scalar(byte))
        default:
            // What could move a cursor or change a terminal's colours is written out.
            let digits = String(byte, radix: 16)
            text += digits.utf8.count == 1 ? "\\x0\(digits)" : "\\x\(digits)"
        }
        count += 1
        return count >= Self.longest
    }

    /// The line so far; the next one begins.
    mutating func take() -> String {
        defer { self = Line() }
        return text
    }
}

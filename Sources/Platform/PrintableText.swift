/// Text that somebody else had a say in, made fit for one line of a log or a terminal.
public enum PrintableText {
    /// The longest line that a log keeps of a stranger's text, in UTF-8 bytes.
    public static let longest = 1024

    /// Replaces whatever could begin a line, move a cursor or turn the direction of writing by \xNN, and cuts the result.
    ///
    /// Bytes that are no UTF-8 became U+FFFD when the string was made.
    /// - Parameter limit: UTF-8 bytes of the result; "…" stands for what is cut off.
    public static func escaped(_ text: String, limit: Int = longest) -> String {
        if text.utf8.count <= limit, text.utf8.allSatisfy({ (0x20..<0x7f).contains($0) }) { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            if result.utf8.count >= limit {
                result += "…"
                break
            }
            if isControl(scalar) {
                let digits = String(scalar.value, radix: 16)
                result += "\\x" + (digits.count < 2 ? "0" : "") + digits
            } else {
                result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// C0, DEL and C1; line and paragraph separators; what turns the direction of writing around, or is not seen.
    public static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x7f...0x9f, 0x200b, 0x200e, 0x200f, 0x2028...0x202e, 0x2060...0x206f, 0xfeff: true
        default: false
        }
    }
}

import EmulatorKit

/// One port's line of a guest's output, as it grows: bounded, and safe to show on a terminal. Its bytes are in the emulator's state, so that a
/// successor, a replacement or a restored guest finishes the line that was begun.
struct Line {
    /// Longer lines are cut into pieces of this many bytes.
    static let longest = 256
    /// Bytes of state: the port, how many bytes there are, and the bytes.
    static let stateLength = 4 + longest

    private let state: StateRegion
    private let base: Int
    /// When the last byte came, in monotonic nanoseconds.
    private(set) var lastByte: UInt64

    /// The line that the state holds for this port, or an empty one.
    /// - Parameters:
    ///   - place: which line of the state it is.
    ///   - now: monotonic, in nanoseconds: a line that was begun has grown until now.
    init(_ state: StateRegion, place: Int, port: UInt16, now: UInt64) {
        self.state = state
        base = place * Self.stateLength
        lastByte = now
        // A predecessor's of other ports, or nobody's.
        if state[base, UInt16.self] != port { count = 0 }
        state[base] = port
    }

    private var count: Int {
        get { min(Int(state[base + 2, UInt16.self]), Self.longest) }
        nonmutating set { state[base + 2] = UInt16(truncatingIfNeeded: newValue) }
    }

    var isEmpty: Bool { count == 0 }

    /// Takes one byte of the guest's. True when the line is complete; an end of line itself is not kept.
    mutating func append(_ byte: UInt8, now: UInt64) -> Bool {
        lastByte = now
        switch byte {
        case 0x0a: return true
        case 0x0d: return false  // of a "\r\n"
        default:
            let count = count
            state[base + 4 + count] = byte
            self.count = count + 1
            return count + 1 >= Self.longest
        }
    }

    /// The line so far, with what could move a cursor or change a terminal's colours written out; the next one begins.
    mutating func take() -> String {
        var text = ""
        for place in 0..<count {
            let byte = state[base + 4 + place, UInt8.self]
            switch byte {
            case 0x5c: text += "\\\\"
            case 0x20..<0x7f: text.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16)
                text += digits.utf8.count == 1 ? "\\x0\(digits)" : "\\x\(digits)"
            }
        }
        count = 0
        return text
    }
}

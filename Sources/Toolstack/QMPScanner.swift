/// Finds the complete JSON objects in a stream of bytes as QEMU's own lexer would cut it (qobject/json-lexer.c,
/// json-streamer.c), without ever failing: what is no JSON is stepped over.
///
/// It holds at most `limit` bytes, of the object that is just going by.
struct QMPScanner {
    /// An object that has ended in the bytes just fed.
    struct Item: Equatable {
        /// Where it starts among the bytes just fed; nil when it started among earlier ones.
        let start: Int?
        /// Where it ends: the index after its last byte.
        let end: Int
        /// All of it; nil when it is longer than the limit.
        let bytes: [UInt8]?
    }

    private let limit: Int
    private var depth = 0
    private var quote: UInt8 = 0
    private var escaped = false
    /// Whether the outermost bracket is that of an object: only those are reported.
    private var isObject = false
    private var collected: [UInt8] = []
    /// Where the open object starts among the bytes just fed; nil when it started earlier or none is open.
    private(set) var openStart: Int?

    init(limit: Int) { self.limit = limit }

    /// Whether an object has begun and not ended.
    var isInside: Bool { depth > 0 && isObject }
    /// Whether the open object is too long to be reported whole.
    private(set) var isOverLimit = false

    /// Takes the next bytes of the stream and gives what ended in them.
    mutating func feed(_ bytes: ArraySlice<UInt8>) -> [Item] {
        var items: [Item] = []
        openStart = nil
        // The first byte of the open object that has not been collected yet.
        var from = bytes.startIndex
        for index in bytes.indices {
            let byte = bytes[index]
            if quote != 0 {
                if escaped {
                    escaped = false
                } else if byte == UInt8(ascii: "\\") {
                    escaped = true
                } else if byte == quote {
                    quote = 0
                }
                // No string holds these: QEMU takes its error path, and what was open is lost.
                if byte < 0x20 || byte >= 0xfe { reset() }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "'"): quote = byte
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                if depth == 0 {
                    isObject = byte == UInt8(ascii: "{")
                    collected.removeAll(keepingCapacity: true)
                    isOverLimit = false
                    from = index
                    openStart = isObject ? index : nil
                }
                depth &+= 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                guard depth > 0 else { continue }
                depth -= 1
                guard depth == 0, isObject else { continue }
                collect(bytes[from...index])
                items.append(Item(start: openStart, end: index + 1, bytes: isOverLimit ? nil : collected))
                reset()
            case 0x09, 0x0a, 0x0d, 0x20...0x7f: break
            default: reset()
            }
        }
        if isInside { collect(bytes[from...]) }
        return items
    }

    private mutating func collect(_ part: ArraySlice<UInt8>) {
        if isOverLimit || collected.count + part.count > limit {
            isOverLimit = true
            collected = []
        } else {
            collected.append(contentsOf: part)
        }
    }

    private mutating func reset() {
        depth = 0
        quote = 0
        escaped = false
        isObject = false
        openStart = nil
        isOverLimit = false
        collected.removeAll(keepingCapacity: true)
    }
}

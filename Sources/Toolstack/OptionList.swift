/// The value of one of QEMU's options: `first,key=value,key=value`, a comma inside a value written twice.
///
/// What is read is written back in the same words and order (docs/system/invocation in QEMU; util/keyval is what reads it there).
public struct OptionList: Equatable, Sendable, CustomStringConvertible {
    /// One part between commas; `key` is nil when there is no '='.
    public struct Part: Equatable, Sendable {
        public var key: String?
        public var value: String
    }

    public var parts: [Part]

    /// Reads a list. Every text is one: what has no '=' is a part without a key.
    public init(parsing text: String) {
        var pieces: [[UInt8]] = [[]]
        var bytes = text.utf8.makeIterator()
        var waiting = bytes.next()
        while let byte = waiting {
            waiting = bytes.next()
            if byte == UInt8(ascii: ",") {
                if waiting == UInt8(ascii: ",") {
                    pieces[pieces.count - 1].append(byte)
                    waiting = bytes.next()
                } else {
                    pieces.append([])
                }
            } else {
                pieces[pieces.count - 1].append(byte)
            }
        }
        parts = pieces.map { piece in
            guard let equals = piece.firstIndex(of: UInt8(ascii: "=")) else {
                return Part(key: nil, value: String(decoding: piece, as: UTF8.self))
            }
            return Part(
                key: String(decoding: piece[..<equals], as: UTF8.self), value: String(decoding: piece[(equals + 1)...], as: UTF8.self))
        }
    }

    /// The last value given for a key, as QEMU takes it.
    public subscript(_ key: String) -> String? { parts.last { $0.key == key }?.value }

    /// The value of a key that may also be given as the first part without its name (`-device e1000` is `driver=e1000`).
    public func value(of key: String, first: Bool) -> String? {
        if let value = self[key] { return value }
        guard first, let part = parts.first, part.key == nil, !part.value.isEmpty else { return nil }
        return part.value
    }

    /// Puts a part in the place of the first of these keys; the others of them are taken out. Appended when there is none.
    public mutating func replace(_ keys: [String], with part: Part) {
        let place = parts.firstIndex { keys.contains($0.key ?? "") } ?? parts.endIndex
        parts.removeAll { keys.contains($0.key ?? "") }
        parts.insert(part, at: min(place, parts.endIndex))
    }

    /// As QEMU reads it.
    public var description: String {
        parts.map { part in
            let value = Self.escaped(part.value)
            return part.key.map { "\(Self.escaped($0))=\(value)" } ?? value
        }.joined(separator: ",")
    }

    /// A text with its commas doubled.
    public static func escaped(_ text: String) -> String {
        text.utf8.contains(UInt8(ascii: ",")) ? text.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,") : text
    }
}

/// 4096 bytes that an admin command gives, filled in by place.
struct Page {
    private(set) var bytes = [UInt8](repeating: 0, count: 4096)

    mutating func set<T: FixedWidthInteger>(_ place: Int, _ value: T) {
        for index in 0..<(T.bitWidth / 8) where bytes.indices.contains(place + index) {
            bytes[place + index] = UInt8(truncatingIfNeeded: value >> T(index * 8))
        }
    }

    /// Text in a field of its own, filled up with `padding`; what is not printable ASCII becomes a '?'.
    mutating func set(_ place: Int, _ text: String, length: Int, padding: UInt8 = 0x20) {
        let characters = Array(text.utf8.prefix(length)).map { (0x20..<0x7f).contains($0) ? $0 : UInt8(ascii: "?") }
        for index in 0..<length where bytes.indices.contains(place + index) {
            bytes[place + index] = index < characters.count ? characters[index] : padding
        }
    }

    mutating func set(_ place: Int, bytes other: [UInt8]) {
        for (index, byte) in other.enumerated() where bytes.indices.contains(place + index) { bytes[place + index] = byte }
    }
}

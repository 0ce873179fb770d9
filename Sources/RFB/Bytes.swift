/// Numbers in RFB's byte order: the highest byte first.
enum BigEndian {
    static func u16(_ bytes: ArraySlice<UInt8>, at offset: Int) -> UInt16 {
        UInt16(bytes[bytes.startIndex + offset]) << 8 | UInt16(bytes[bytes.startIndex + offset + 1])
    }

    static func u32(_ bytes: ArraySlice<UInt8>, at offset: Int) -> UInt32 {
        UInt32(u16(bytes, at: offset)) << 16 | UInt32(u16(bytes, at: offset + 2))
    }
}

extension [UInt8] {
    mutating func append16(_ value: UInt16) {
        append(UInt8(truncatingIfNeeded: value >> 8))
        append(UInt8(truncatingIfNeeded: value))
    }

    mutating func append32(_ value: UInt32) {
        append16(UInt16(truncatingIfNeeded: value >> 16))
        append16(UInt16(truncatingIfNeeded: value))
    }
}

/// Bytes that came from a peer and are not used up yet: appended at one end, taken at the other.
///
/// What was taken is only moved away when it is most of the storage, so that many small messages in one read cost no copy each.
struct ByteQueue: Sendable {
    private var storage: [UInt8] = []
    private var start = 0

    var count: Int { storage.count - start }
    var isEmpty: Bool { count == 0 }

    mutating func append(_ bytes: some Sequence<UInt8>) { storage.append(contentsOf: bytes) }

    /// The first `length` bytes without taking them; nil when fewer are there.
    func peek(_ length: Int) -> ArraySlice<UInt8>? {
        length >= 0 && length <= count ? storage[start..<start + length] : nil
    }

    /// Takes the first `length` bytes; nil (and nothing taken) when fewer are there.
    mutating func take(_ length: Int) -> ArraySlice<UInt8>? {
        guard let slice = peek(length) else { return nil }
        drop(length)
        return slice
    }

    /// Takes and forgets up to `length` bytes.
    mutating func drop(_ length: Int) {
        start += max(0, min(length, count))
        if start == storage.count {
            storage.removeAll(keepingCapacity: storage.capacity <= 65_536)
            start = 0
        } else if start > 32_768 && start > storage.count / 2 {
            storage.removeFirst(start)
            start = 0
        }
    }

    /// Takes everything.
    mutating func takeAll() -> [UInt8] {
        defer {
            storage = []
            start = 0
        }
        return Array(storage[start...])
    }
}

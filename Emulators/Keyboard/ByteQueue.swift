/// Bytes in the order in which they came, never more than a number that is fixed.
struct ByteQueue: Equatable {
    let capacity: Int
    private var bytes: [UInt8]
    private var head = 0
    private(set) var count = 0

    init(capacity: Int) {
        self.capacity = max(capacity, 1)
        bytes = [UInt8](repeating: 0, count: self.capacity)
    }

    var isEmpty: Bool { count == 0 }
    var room: Int { capacity - count }

    /// Adds all of the bytes or, when they do not fit, none.
    @discardableResult
    mutating func add(_ more: some Collection<UInt8>) -> Bool {
        guard more.count <= room else { return false }
        for byte in more {
            bytes[(head + count) % capacity] = byte
            count += 1
        }
        return true
    }

    /// The byte that comes after so many others; 0 when there are not as many.
    subscript(index: Int) -> UInt8 { index >= 0 && index < count ? bytes[(head + index) % capacity] : 0 }

    mutating func next() -> UInt8? {
        guard count > 0 else { return nil }
        defer {
            head = (head + 1) % capacity
            count -= 1
        }
        return bytes[head]
    }

    mutating func removeAll() {
        head = 0
        count = 0
    }
}

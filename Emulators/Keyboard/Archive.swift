import EmulatorKit

/// Carries a value's fields to the state region, or back: one list of them for both ways. What comes back was written by another process, and
/// what it is used for is checked where that is.
struct Archive {
    private let state: StateRegion
    private let isLoading: Bool
    private var place = 0

    /// Bytes that a keyboard controller takes, with room to spare.
    static let length = 1024

    init(_ state: StateRegion, loading: Bool) { (self.state, isLoading) = (state, loading) }

    mutating func carry<Value: FixedWidthInteger>(_ value: inout Value) {
        if isLoading { value = state[place] } else { state[place] = value }
        place += MemoryLayout<Value>.size
    }

    mutating func carry(_ value: inout Bool) {
        var byte: UInt8 = value ? 1 : 0
        carry(&byte)
        value = byte != 0
    }

    mutating func carry(_ value: inout UInt8?) {
        var (isThere, byte) = (value != nil, value ?? 0)
        carry(&isThere)
        carry(&byte)
        value = isThere ? byte : nil
    }

    /// One of a few; what is none of them changes nothing.
    mutating func carry<Value: RawRepresentable>(_ value: inout Value) where Value.RawValue: FixedWidthInteger {
        var raw = value.rawValue
        carry(&raw)
        if let known = Value(rawValue: raw) { value = known }
    }

    mutating func carry(_ bytes: inout [UInt8]) { for index in bytes.indices { carry(&bytes[index]) } }

    /// The keys, by QEMU's numbers, of which there are 256.
    mutating func carry(_ keys: inout Set<UInt16>) {
        var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        withUnsafeMutableBytes(of: &words) { bytes in
            if !isLoading { for key in keys where key < 256 { bytes[Int(key) / 8] |= 1 << UInt8(key & 7) } }
            for index in bytes.indices { carry(&bytes[index]) }
            if isLoading { keys = Set((UInt16(0)..<256).filter { bytes[Int($0) / 8] >> UInt8($0 & 7) & 1 != 0 }) }
        }
    }

    mutating func carry(_ queue: inout ByteQueue) {
        var count = UInt16(queue.count)
        carry(&count)
        let start = place
        if isLoading {
            queue.removeAll()
            for index in 0..<min(Int(count), queue.capacity) { queue.add(CollectionOfOne(state[start + index, UInt8.self])) }
        } else {
            for index in 0..<queue.count { state[start + index] = queue[index] }
        }
        place = start + queue.capacity
    }
}

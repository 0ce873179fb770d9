import Host

/// Bytes of a device, read and written little-endian at any offset and size; nothing outside them is ever touched.
public struct DeviceMemory: ~Copyable {
    // Sound for `length` bytes: its own, or in the state region, which lives as long as the device.
    private let bytes: UnsafeMutableRawPointer
    private let isOwn: Bool
    /// Length in bytes.
    public let length: Int

    /// Zeroed memory of `length` bytes, at least one.
    public init(length: Int) {
        self.length = max(length, 1)
        bytes = .allocate(byteCount: self.length, alignment: 8)
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: self.length)
        isOwn = true
    }

    /// Memory that lies elsewhere; see `StateRegion.memory`.
    init(_ bytes: UnsafeMutableRawPointer, length: Int) {
        (self.bytes, self.length, isOwn) = (bytes, length, false)
    }

    deinit { if isOwn { bytes.deallocate() } }

    private func holds(_ offset: Int, _ size: Int) -> Bool { offset >= 0 && size > 0 && size <= 8 && offset <= length &- size }

    /// The value at an offset; all-ones when some of it lies outside.
    public func load(_ offset: Int, size: Int) -> UInt64 {
        guard holds(offset, size) else { return AccessSize.allOnes(UInt32(truncatingIfNeeded: size)) }
        switch size {
        case 1: return UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt8.self))
        case 2: return UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
        case 4: return UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        case 8: return bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        default: return AccessSize.allOnes(UInt32(truncatingIfNeeded: size))
        }
    }

    /// Stores a value; one that would not lie wholly inside is dropped.
    public mutating func store(_ offset: Int, size: Int, _ value: UInt64) {
        guard holds(offset, size) else { return }
        switch size {
        case 1: bytes.storeBytes(of: UInt8(truncatingIfNeeded: value), toByteOffset: offset, as: UInt8.self)
        case 2: bytes.storeBytes(of: UInt16(truncatingIfNeeded: value), toByteOffset: offset, as: UInt16.self)
        case 4: bytes.storeBytes(of: UInt32(truncatingIfNeeded: value), toByteOffset: offset, as: UInt32.self)
        case 8: bytes.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
        default: break
        }
    }
}

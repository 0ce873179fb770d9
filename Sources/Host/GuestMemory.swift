/// Access to the guest's memory by guest-physical address, with bounds: nothing outside the guest's RAM is touched.
///
/// A buffer may cross pages; what lies outside RAM is skipped (reads give all-ones) and reported by the result.
public protocol GuestMemory: AnyObject {
    /// Copies guest memory into `destination`. False when some of it is not RAM; those bytes are then 0xff.
    func read(_ address: GuestAddress, into destination: UnsafeMutableRawBufferPointer) -> Bool
    /// Copies into guest memory, and has the pages counted as modified while the guest is being logged. False when some of it is not RAM; the rest has been written.
    func write(_ address: GuestAddress, from source: UnsafeRawBufferPointer) -> Bool
    /// Drops whatever is cached of the guest's address space (on IOREQ_TYPE_INVALIDATE).
    func invalidate()
}

extension GuestMemory {
    /// Reads a little-endian value of 1, 2, 4 or 8 bytes; nil when it is not all RAM.
    public func load(_ address: GuestAddress, size: UInt32) -> UInt64? {
        var value: UInt64 = 0
        let complete = withUnsafeMutableBytes(of: &value) { bytes in
            read(address, into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<min(8, Int(size))]))
        }
        return complete ? value : nil
    }

    /// Writes a little-endian value of 1, 2, 4 or 8 bytes; false when it is not all RAM.
    public func store(_ address: GuestAddress, value: UInt64, size: UInt32) -> Bool {
        withUnsafeBytes(of: value) { bytes in
            write(address, from: UnsafeRawBufferPointer(rebasing: bytes[..<min(8, Int(size))]))
        }
    }
}

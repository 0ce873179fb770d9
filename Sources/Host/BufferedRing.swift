import CIoreq

/// One posted access out of the buffered ring (struct buf_ioreq, joined with its second half for 8 bytes).
public struct BufferedEntry: Equatable, Sendable {
    /// The type byte as it was found.
    public var type: UInt8
    public var direction: IORequest.Direction
    /// 1, 2, 4 or 8 bytes.
    public var size: UInt32
    /// Only 20 bits wide: 0 to 0xfffff.
    public var address: UInt64
    public var data: UInt64

    public init(type: UInt8, direction: IORequest.Direction, size: UInt32, address: UInt64, data: UInt64) {
        self.type = type
        self.direction = direction
        self.size = size
        self.address = address
        self.data = data
    }
}

/// The 511-entry ring of posted writes, with the exact Xen ABI (struct buffered_iopage, HVM_IOREQSRV_BUFIOREQ_ATOMIC).
///
/// A view, as `SlotPage` is. Both pointers are read at once, because Xen rewinds both by 511 with one compare-exchange.
/// The pointers live in shared memory: neither side believes more of them than that their difference is 0 to 511.
public struct BufferedRing: @unchecked Sendable {
    // Sendable: as for SlotPage.
    @usableFromInline let ring: UnsafeMutablePointer<demux_ring>
    /// How many entries it holds.
    public static let capacity = UInt32(DEMUX_RING_ENTRIES)

    /// - Parameter page: 4096 bytes, page-aligned, mapped for reading and writing.
    public init(page: UnsafeMutableRawPointer) {
        ring = page.bindMemory(to: demux_ring.self, capacity: 1)
    }

    @inlinable
    func pointers() -> (read: UInt32, write: UInt32) {
        let both = demux_ring_pointers(ring)
        return (UInt32(truncatingIfNeeded: both), UInt32(truncatingIfNeeded: both >> 32))
    }

    /// Entries waiting, 0 to 511. A difference that the protocol does not allow counts as an empty ring.
    @inlinable
    public var waiting: UInt32 {
        let (read, write) = pointers()
        let difference = write &- read
        return difference <= Self.capacity ? difference : 0
    }

    /// Whether the pointers are further apart than the ring is long: nothing can be taken then.
    @inlinable
    public var isBroken: Bool {
        let (read, write) = pointers()
        return write &- read > Self.capacity
    }

    private func word(at position: UInt32) -> UInt64 {
        // The array is the page's tail; the remainder keeps the index inside whatever the pointers say.
        withUnsafePointer(to: &ring.pointee.entries) { tuple in
            UnsafeRawPointer(tuple).load(fromByteOffset: Int(position % Self.capacity) * 8, as: UInt64.self)
        }
    }

    private func store(_ word: UInt64, at position: UInt32) {
        withUnsafeMutablePointer(to: &ring.pointee.entries) { tuple in
            UnsafeMutableRawPointer(tuple).storeBytes(of: word, toByteOffset: Int(position % Self.capacity) * 8, as: UInt64.self)
        }
    }

    // MARK: the emulator's side

    /// An entry that was not taken yet.
    public struct Peeked {
        public var entry: BufferedEntry
        /// The places that it takes up: 1, or 2 for 8 bytes.
        public var count: UInt32
        /// Its first place, 0 to 510: whenever the host rewinds the pointers, that stays.
        public var position: UInt32
        /// Its first 8 bytes, as they stand there.
        public var word: UInt64
    }

    /// Takes the oldest entry and gives its place back. Nil when the ring is empty, or holds only the first half of
    /// an 8-byte entry.
    public func next() -> BufferedEntry? {
        guard let peeked = peek() else { return nil }
        consume(peeked.count)
        return peeked.entry
    }

    /// Gives places back.
    public func consume(_ count: UInt32) { demux_ring_consume(ring, count) }

    /// Copies an entry without taking it.
    /// - Parameter skipped: places after the read pointer that were looked at before and not given back.
    public func peek(skipping skipped: UInt32 = 0) -> Peeked? {
        let (start, write) = pointers()
        guard write &- start <= Self.capacity, write &- start > skipped else { return nil }
        let read = start &+ skipped
        let difference = write &- read
        let low = word(at: read)
        // type:8 pad:1 dir:1 size:2 addr:20 data:32, lowest bit first.
        let size = UInt32(1) << UInt32(truncatingIfNeeded: low >> 10 & 3)
        var entry = BufferedEntry(
            type: UInt8(truncatingIfNeeded: low), direction: low >> 9 & 1 != 0 ? .read : .write, size: size,
            address: low >> 12 & 0xfffff, data: low >> 32)
        if size == 8 {
            guard difference > 1 else { return nil }
            entry.data |= word(at: read &+ 1) & 0xffff_ffff_0000_0000
        }
        return Peeked(entry: entry, count: size == 8 ? 2 : 1, position: read % Self.capacity, word: low)
    }

    // MARK: the host's side

    /// Posts an entry as Xen does: false when it does not fit (the access must then take the synchronous slot).
    /// Afterwards both pointers are rewound by 511 when the read pointer has passed that.
    public func post(_ entry: BufferedEntry) -> Bool {
        let (read, write) = pointers()
        let wide = entry.size == 8
        let needed: UInt32 = wide ? 2 : 1
        guard write &- read <= Self.capacity &- needed else { return false }
        let sizeCode: UInt64 = switch entry.size {
        case 1: 0
        case 2: 1
        case 4: 2
        default: 3
        }
        let head = UInt64(entry.type) | (entry.direction == .read ? 1 << 9 : 0) | sizeCode << 10 | (entry.address & 0xfffff) << 12
        store(head | entry.data << 32, at: write)
        if wide { store(head | entry.data & 0xffff_ffff_0000_0000, at: write &+ 1) }
        demux_ring_publish(ring, needed)
        rewind()
        return true
    }

    private func rewind() {
        while true {
            let both = demux_ring_pointers(ring)
            let read = UInt32(truncatingIfNeeded: both)
            let write = UInt32(truncatingIfNeeded: both >> 32)
            guard read >= Self.capacity, write >= Self.capacity else { return }
            let wanted = UInt64(read - Self.capacity) | UInt64(write - Self.capacity) << 32
            if demux_ring_exchange_pointers(ring, both, wanted) { return }
        }
    }

    /// Sets both pointers, for tests.
    public func reset(read: UInt32 = 0, write: UInt32 = 0) {
        while !demux_ring_exchange_pointers(ring, demux_ring_pointers(ring), UInt64(read) | UInt64(write) << 32) {}
    }
}

/// The address ranges of one kind that are claimed now, sorted, so that a request finds its window without allocating.
///
/// 256 entries, as many as Xen routes to one server. The ranges never overlap: the coordinator refuses what would.
struct ClaimTable: ~Copyable {
    struct Entry {
        var first: UInt64
        var last: UInt64
        var window: UInt16
        /// The histogram of its latencies.
        var block: UInt8
    }

    static let capacity = 256
    private let entries: UnsafeMutablePointer<Entry>
    private(set) var count = 0

    init() {
        entries = .allocate(capacity: Self.capacity)
        entries.initialize(repeating: Entry(first: 0, last: 0, window: 0, block: 0), count: Self.capacity)
    }

    deinit { entries.deallocate() }

    /// The window that covers the whole access, and the access's place in it; nil when none does.
    func find(_ address: UInt64, size: UInt32) -> (window: UInt16, offset: UInt64, block: UInt8)? {
        var low = 0
        var high = count
        while low < high {
            let middle = (low &+ high) / 2
            if entries[middle].first <= address { low = middle &+ 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        let entry = entries[low &- 1]
        // Differences instead of sums: nothing here can pass the end of the address space.
        guard address <= entry.last, entry.last &- address >= UInt64(size) &- 1 else { return nil }
        return (entry.window, address &- entry.first, entry.block)
    }

    /// Adds a range. False when the table is full.
    mutating func insert(first: UInt64, last: UInt64, window: UInt16, block: UInt8 = 0) -> Bool {
        guard count < Self.capacity else { return false }
        var place = count
        while place > 0, entries[place - 1].first > first {
            entries[place] = entries[place - 1]
            place -= 1
        }
        entries[place] = Entry(first: first, last: last, window: window, block: block)
        count += 1
        return true
    }

    /// Takes a window's range out; one that is not there is left alone.
    mutating func remove(first: UInt64, window: UInt16) {
        guard let place = (0..<count).first(where: { entries[$0].first == first && entries[$0].window == window }) else { return }
        count -= 1
        for index in place..<count { entries[index] = entries[index + 1] }
    }
}

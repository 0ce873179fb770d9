/// A set of integers as sorted, disjoint ranges in which neighbours have become one: Xen's rangeset (xen/common/rangeset.c), which
/// holds what a server was given of one type. What it refuses when it is full is what Xen's refuses.
struct RangeSet: Equatable {
    /// How many separate ranges a server may have of one type (MAX_NR_IO_RANGES).
    static let limit = 256

    private(set) var ranges: [ClosedRange<UInt64>] = []

    /// Whether one range holds all of it.
    func contains(_ range: ClosedRange<UInt64>) -> Bool {
        guard let found = last(startingAtOrBefore: range.lowerBound) else { return false }
        return ranges[found].upperBound >= range.upperBound
    }

    func overlaps(_ range: ClosedRange<UInt64>) -> Bool {
        guard let found = last(startingAtOrBefore: range.upperBound) else { return false }
        return ranges[found].upperBound >= range.lowerBound
    }

    /// Adds a range that overlaps none. False when the set is full: then only a range that begins where another one ends fits
    /// (rangeset_add_range looks for room before it looks at the range above).
    mutating func insert(_ range: ClosedRange<UInt64>) -> Bool {
        let below = last(startingAtOrBefore: range.lowerBound)
        var index: Int
        if let below, ranges[below].upperBound != .max, ranges[below].upperBound + 1 == range.lowerBound {
            index = below
            ranges[index] = ranges[index].lowerBound...range.upperBound
        } else {
            guard ranges.count < Self.limit else { return false }
            index = below.map { $0 + 1 } ?? 0
            ranges.insert(range, at: index)
        }
        let above = index + 1
        if above < ranges.count, range.upperBound != .max, range.upperBound + 1 == ranges[above].lowerBound {
            ranges[index] = ranges[index].lowerBound...ranges[above].upperBound
            ranges.remove(at: above)
        }
        return true
    }

    /// Takes out a range that is wholly contained; what is left of the one around it stays. False when that would be one range
    /// more than fit.
    mutating func remove(_ range: ClosedRange<UInt64>) -> Bool {
        guard let index = last(startingAtOrBefore: range.lowerBound) else { return false }
        let around = ranges[index]
        var rest: [ClosedRange<UInt64>] = []
        if around.lowerBound < range.lowerBound { rest.append(around.lowerBound...(range.lowerBound - 1)) }
        if around.upperBound > range.upperBound { rest.append((range.upperBound + 1)...around.upperBound) }
        guard ranges.count - 1 + rest.count <= Self.limit else { return false }
        ranges.replaceSubrange(index...index, with: rest)
        return true
    }

    private func last(startingAtOrBefore value: UInt64) -> Int? {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].lowerBound <= value { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? nil : low - 1
    }
}

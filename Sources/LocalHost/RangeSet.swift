/// A set of integers as sorted, disjoint ranges, adjacent ones joined: Xen's rangeset (xen/common/rangeset.c), which holds what a server
/// was given of one type.
struct RangeSet {
    /// How many separate ranges a server may have of one type (MAX_NR_IO_RANGES).
    static let limit = 256

    private(set) var ranges: [ClosedRange<UInt64>] = []

    func contains(_ range: ClosedRange<UInt64>) -> Bool {
        guard let found = last(startingAtOrBefore: range.lowerBound) else { return false }
        return ranges[found].upperBound >= range.upperBound
    }

    func overlaps(_ range: ClosedRange<UInt64>) -> Bool {
        guard let found = last(startingAtOrBefore: range.upperBound) else { return false }
        return ranges[found].upperBound >= range.lowerBound
    }

    /// Adds a range that overlaps none. False when there would be more than `limit`.
    mutating func insert(_ range: ClosedRange<UInt64>) -> Bool {
        var joined = range
        var index = last(startingAtOrBefore: range.lowerBound).map { $0 + 1 } ?? 0
        var replaced = index..<index
        if index > 0, ranges[index - 1].upperBound != .max, ranges[index - 1].upperBound + 1 == range.lowerBound {
            index -= 1
            joined = ranges[index].lowerBound...joined.upperBound
            replaced = index..<replaced.upperBound
        }
        if replaced.upperBound < ranges.count, joined.upperBound != .max, joined.upperBound + 1 == ranges[replaced.upperBound].lowerBound {
            joined = joined.lowerBound...ranges[replaced.upperBound].upperBound
            replaced = replaced.lowerBound..<(replaced.upperBound + 1)
        }
        guard ranges.count - replaced.count < Self.limit else { return false }
        ranges.replaceSubrange(replaced, with: [joined])
        return true
    }

    /// Takes out a range that is wholly contained; what is left of the one around it stays. False when it would take more
    /// than `limit` ranges to say so.
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

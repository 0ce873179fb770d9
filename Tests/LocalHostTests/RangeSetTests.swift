@testable import LocalHost
import SeededNumbers
import Testing

@Suite("Range sets")
struct RangeSetTests {
    private enum Change { case insert, remove }

    private func expect(_ set: inout RangeSet, _ change: Change, _ range: ClosedRange<UInt64>, _ done: Bool, at location: SourceLocation = #_sourceLocation) {
        let result = change == .insert ? set.insert(range) : set.remove(range)
        #expect(result == done, "\(change) \(range)", sourceLocation: location)
    }

    @Test("agree with a set of single numbers over thousands of random changes", arguments: 1...20)
    func model(seed: Int) {
        var random = SplitMix(state: UInt64(seed))
        var set = RangeSet()
        var members = Set<UInt64>()
        for _ in 0..<2000 {
            let first = UInt64.random(in: 0..<200, using: &random)
            let range = first...(first + UInt64.random(in: 0..<12, using: &random))
            let inside = range.filter(members.contains).count
            #expect(set.contains(range) == (inside == range.count))
            #expect(set.overlaps(range) == (inside > 0))
            if inside == 0 {
                expect(&set, .insert, range, true)
                members.formUnion(range)
            } else if inside == range.count {
                expect(&set, .remove, range, true)
                members.subtract(range)
            }
            // Sorted, with a gap between any two.
            for (low, high) in zip(set.ranges, set.ranges.dropFirst()) { #expect(low.upperBound + 1 < high.lowerBound) }
        }
        #expect(Set(set.ranges.flatMap { $0 }) == members)
    }

    @Test("hold the ends of the number line")
    func ends() {
        var set = RangeSet()
        expect(&set, .insert, 0...0, true)
        expect(&set, .insert, UInt64.max...UInt64.max, true)
        expect(&set, .insert, (UInt64.max - 3)...(UInt64.max - 1), true)
        #expect(set.ranges == [0...0, (UInt64.max - 3)...UInt64.max])
        #expect(set.contains(UInt64.max...UInt64.max))
        #expect(!set.contains(0...UInt64.max))
        #expect(set.overlaps(0...UInt64.max))
        expect(&set, .remove, (UInt64.max - 1)...UInt64.max, true)
        #expect(set.ranges == [0...0, (UInt64.max - 3)...(UInt64.max - 2)])
    }

    @Test("a full set takes what begins where another range ends, and nothing else")
    func full() {
        var set = RangeSet()
        for index in 0..<UInt64(RangeSet.limit) {
            let first = index * 10 + 10
            expect(&set, .insert, first...(first + 2), true)
        }
        expect(&set, .insert, 0...1, false)
        // Directly below another one: Xen looks for room first.
        expect(&set, .insert, 8...9, false)
        expect(&set, .insert, 13...13, true)
        expect(&set, .remove, 11...11, false)
        expect(&set, .remove, 10...10, true)
        expect(&set, .insert, 14...19, true)
        #expect(set.ranges.count == RangeSet.limit - 1)
        expect(&set, .insert, 0...1, true)
    }
}

import Glibc

/// What a part of video memory was at the last look, to find the pages that have changed since.
struct Shadow: ~Copyable {
    private static let page = 4096
    private var bytes = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
    private var words = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
    private var range = 0..<0
    private var known = false

    deinit {
        bytes.deallocate()
        words.deallocate()
    }

    /// The page of the bitmap's first bit.
    var firstPage: Int { range.lowerBound / Self.page }
    /// One bit a page, lowest first.
    var bitmap: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: words, count: wordCount * 8) }
    private var wordCount: Int { (range.count / Self.page + 63) / 64 }

    /// Nothing is known any more.
    mutating func forget() { known = false }

    /// Compares, takes the new content over, and fills the bitmap.
    /// - Parameters:
    ///   - memory: all of video memory, `length` bytes; the guest may write to it meanwhile, and what it writes after its page was looked
    ///     at is found the next time.
    ///   - wanted: bytes of it.
    /// - Returns: how many pages have changed; all of them at first.
    mutating func compare(_ memory: UnsafeRawPointer, length: Int, _ wanted: Range<Int>) -> Int {
        let low = min(max(wanted.lowerBound, 0), length) & ~(Self.page - 1)
        let high = min((min(max(wanted.upperBound, 0), length) + Self.page - 1) & ~(Self.page - 1), length)
        let aligned = low..<max(low, high)
        if aligned != range {
            if aligned.count != range.count {
                bytes.deallocate()
                words.deallocate()
                bytes = .allocate(byteCount: max(aligned.count, 8), alignment: 64)
                words = .allocate(capacity: max((aligned.count / Self.page + 63) / 64, 1))
            }
            range = aligned
            known = false
        }
        words.initialize(repeating: 0, count: max(wordCount, 1))
        var changed = 0
        for page in 0..<(range.count / Self.page) {
            let offset = page * Self.page
            // Sound: `range` lies inside the memory, and the shadow is as long as the range.
            let now = memory + (range.lowerBound + offset)
            if known && memcmp(bytes + offset, now, Self.page) == 0 { continue }
            memcpy(bytes + offset, now, Self.page)
            words[page >> 6] |= 1 << UInt64(page & 63)
            changed += 1
        }
        known = true
        return changed
    }
}

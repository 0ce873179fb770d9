#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Where two runs of pixels differ.
enum Difference {
    private static let chunk = 64

    /// - Returns: from the first pixel that differs to the last; nil when none does.
    static func range(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, count: Int) -> Range<Int>? {
        var first = 0
        while first < count {
            let length = min(chunk, count &- first)
            if memcmp(a + first &* 4, b + first &* 4, length &* 4) != 0 { break }
            first &+= length
        }
        if first >= count { return nil }
        while first < count, pixel(a, first) == pixel(b, first) { first &+= 1 }
        if first >= count { return nil }
        var end = count
        while end &- first > chunk, memcmp(a + (end &- chunk) &* 4, b + (end &- chunk) &* 4, chunk &* 4) == 0 { end &-= chunk }
        // The guest may write meanwhile: never past the first.
        while end &- 1 > first, pixel(a, end &- 1) == pixel(b, end &- 1) { end &-= 1 }
        return first..<end
    }

    @inline(__always) private static func pixel(_ base: UnsafeRawPointer, _ index: Int) -> UInt32 {
        base.loadUnaligned(fromByteOffset: index &* 4, as: UInt32.self)
    }
}

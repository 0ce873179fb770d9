/// Which pages (4096 bytes) of video memory the guest may have changed since the last `render`, apart from what went through the device.
public struct VGADirtyPages {
    /// One bit a page, bit n of the byte k is page `firstPage` + 8k + n; nil: all.
    let bitmap: UnsafeRawPointer?
    let firstPage: Int
    let count: Int

    /// Nothing is known: every page may have changed.
    public static var all: VGADirtyPages { VGADirtyPages(bitmap: nil, firstPage: 0, count: 0) }

    private init(bitmap: UnsafeRawPointer?, firstPage: Int, count: Int) {
        self.bitmap = bitmap
        self.firstPage = firstPage
        self.count = count
    }

    /// - Parameters:
    ///   - bitmap: a bit for each page, lowest first, in bytes; it is read during `render`.
    ///   - firstPage: the page of the first bit. Pages outside the bitmap count as changed.
    public init(bitmap: UnsafeRawBufferPointer, firstPage: Int = 0) {
        self.init(bitmap: bitmap.baseAddress, firstPage: firstPage, count: bitmap.count &* 8)
    }

    /// No page has changed but through the device.
    public static var none: VGADirtyPages { VGADirtyPages(bitmap: nil, firstPage: .max, count: 0) }
}

/// A bit for each page of video memory.
struct DirtyMap: ~Copyable {
    private let touched: UnsafeMutablePointer<UInt64>
    private let work: UnsafeMutablePointer<UInt64>
    private let words: Int
    private let pages: Int
    /// Whether `work` is to be taken as full.
    private(set) var everything = true
    private(set) var nothing = false

    init(size: Int) {
        pages = size >> 12
        words = (pages + 63) / 64
        touched = .allocate(capacity: words)
        touched.initialize(repeating: 0, count: words)
        work = .allocate(capacity: words)
        work.initialize(repeating: 0, count: words)
    }

    deinit {
        touched.deallocate()
        work.deallocate()
    }

    /// Notes bytes written through the device; they are inside video memory.
    @inline(__always) func touch(_ offset: Int, _ count: Int) {
        guard count > 0 else { return }
        let first = offset >> 12
        let last = min((offset &+ count &- 1) >> 12, pages &- 1)
        if first == last {
            touched[first >> 6] |= 1 << UInt64(first & 63)
        } else if first < last {
            for page in first...last { touched[page >> 6] |= 1 << UInt64(page & 63) }
        }
    }

    /// Makes one picture of what went through the device, which is then forgotten, and of what the caller knows.
    mutating func gather(_ dirty: VGADirtyPages) {
        everything = dirty.bitmap == nil && dirty.firstPage == 0
        var any: UInt64 = 0
        for word in 0..<words {
            work[word] = touched[word]
            any |= touched[word]
            touched[word] = 0
        }
        if everything {
            nothing = false
            return
        }
        if let bitmap = dirty.bitmap { any |= add(bitmap, first: dirty.firstPage, count: dirty.count) }
        nothing = any == 0
    }

    private func add(_ bitmap: UnsafeRawPointer, first: Int, count: Int) -> UInt64 {
        var any: UInt64 = 0
        if first == 0 && count >= pages {
            for word in 0..<words {
                var bits: UInt64 = 0
                if word &* 64 &+ 64 <= count {
                    bits = bitmap.loadUnaligned(fromByteOffset: word &* 8, as: UInt64.self)
                } else {
                    for byte in 0..<(count &- word &* 64) / 8 {
                        bits |= UInt64(bitmap.load(fromByteOffset: word &* 8 &+ byte, as: UInt8.self)) << UInt64(byte &* 8)
                    }
                }
                work[word] |= bits
                any |= bits
            }
            return any
        }
        for page in 0..<pages {
            let bit = page.subtractingReportingOverflow(first)
            let inside = !bit.overflow && bit.partialValue >= 0 && bit.partialValue < count
            if !inside || bitmap.load(fromByteOffset: bit.partialValue >> 3, as: UInt8.self) >> UInt8(bit.partialValue & 7) & 1 != 0 {
                work[page >> 6] |= 1 << UInt64(page & 63)
                any = 1
            }
        }
        return any
    }

    /// Whether bytes may have changed; they are inside video memory.
    @inline(__always) func contains(_ range: Range<Int>) -> Bool {
        if everything { return true }
        if nothing || range.isEmpty { return false }
        var page = range.lowerBound >> 12
        let last = min((range.upperBound &- 1) >> 12, pages &- 1)
        while page <= last {
            if work[page >> 6] >> UInt64(page & 63) & 1 != 0 { return true }
            page &+= 1
        }
        return false
    }

    /// The part of bytes that may have changed, from the first changed page to the last.
    @inline(__always) func changed(in range: Range<Int>) -> Range<Int>? {
        if everything { return range }
        if nothing || range.isEmpty { return nil }
        var first = range.lowerBound >> 12
        var last = min((range.upperBound &- 1) >> 12, pages &- 1)
        while first <= last, work[first >> 6] >> UInt64(first & 63) & 1 == 0 { first &+= 1 }
        if first > last { return nil }
        while work[last >> 6] >> UInt64(last & 63) & 1 == 0 { last &-= 1 }
        return max(range.lowerBound, first << 12)..<min(range.upperBound, (last &+ 1) << 12)
    }
}

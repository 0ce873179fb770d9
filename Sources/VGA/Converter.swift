import CPixman

/// Turns lines of video memory into pixels.
///
/// Pixman converts what QEMU lets pixman convert (the same numbers come out); the rest is what QEMU does by itself: 15 bits, and 16 bits in
/// the other byte order, are widened with zeros.
struct Converter: ~Copyable {
    private var source: OpaquePointer?
    private var destination: OpaquePointer?
    /// What `source` was made for.
    private var made: (base: UnsafeRawPointer, width: Int, height: Int, stride: Int, format: UInt32)?

    deinit { release() }

    private func release() {
        if let source { pixman_image_unref(source) }
        if let destination { pixman_image_unref(destination) }
    }

    /// Pixman's name for a depth and a byte order; nil: we convert it.
    static func format(depth: Int, bigEndian: Bool) -> pixman_format_code_t? {
        switch (depth, bigEndian) {
        case (16, false): PIXMAN_r5g6b5
        case (24, false): PIXMAN_r8g8b8
        case (24, true): PIXMAN_b8g8r8
        case (32, true): PIXMAN_b8g8r8x8
        default: nil
        }
    }

    /// Makes pixman look at a picture, and write into a row.
    /// - Returns: false when it cannot.
    mutating func prepare(
        _ base: UnsafeRawPointer, width: Int, height: Int, stride: Int, format: pixman_format_code_t, row: UnsafeMutablePointer<UInt32>
    ) -> Bool {
        if let made, made.base == base, made.width == width, made.height == height, made.stride == stride, made.format == format.rawValue { return true }
        release()
        made = nil
        // Only ever a source, so that it is not written.
        let bits = UnsafeMutableRawPointer(mutating: base).assumingMemoryBound(to: UInt32.self)
        source = pixman_image_create_bits_no_clear(format, CInt(width), CInt(height), bits, CInt(stride))
        destination = pixman_image_create_bits_no_clear(PIXMAN_x8r8g8b8, CInt(width), 1, row, CInt(width &* 4))
        guard source != nil, destination != nil else { return false }
        made = (base, width, height, stride, format.rawValue)
        return true
    }

    /// Converts a part of a line into the row's beginning.
    func convert(line y: Int, _ xs: Range<Int>) {
        pixman_image_composite32(
            PIXMAN_OP_SRC, source, nil, destination, Int32(xs.lowerBound), Int32(y), 0, 0, 0, 0, Int32(xs.count), 1)
    }
}

/// Conversions of our own, each of `count` pixels.
enum Pixels {
    /// Four planes to 16 colours; eight pixels a word.
    static func planar(_ source: UnsafeRawPointer, to row: UnsafeMutablePointer<UInt32>, words: Int, mask: UInt32, _ palette: UnsafePointer<UInt32>) {
        for word in 0..<words {
            let planes = UInt64(source.load(fromByteOffset: word &* 4, as: UInt32.self) & mask)
            // Eight bytes, the leftmost pixel's first.
            var indexes = spread(planes) | spread(planes >> 8) << 1 | spread(planes >> 16) << 2 | spread(planes >> 24) << 3
            let out = row + word &* 8
            for pixel in 0..<8 {
                out[pixel] = palette[Int(indexes & 15)]
                indexes >>= 8
            }
        }
    }

    /// The eight bits of a byte as the lowest bits of eight bytes, the highest first.
    @inline(__always) private static func spread(_ byte: UInt64) -> UInt64 {
        (((byte & 0xff) &* 0x8040_2010_0804_0201) & 0x8080_8080_8080_8080) >> 7
    }

    /// CGA's two bits a pixel: four pixels of planes 0 and 2, then four of planes 1 and 3.
    static func twoBit(_ source: UnsafeRawPointer, to row: UnsafeMutablePointer<UInt32>, words: Int, mask: UInt32, _ palette: UnsafePointer<UInt32>) {
        for word in 0..<words {
            let planes = source.load(fromByteOffset: word &* 4, as: UInt32.self) & mask
            let out = row + word &* 8
            for pixel in 0..<8 {
                let pair = planes >> (pixel < 4 ? 0 : 8)
                let shift = UInt32(6 &- (pixel & 3) &* 2)
                out[pixel] = palette[Int(pair >> shift & 3 | (pair >> (shift &+ 16) & 3) << 2)]
            }
        }
    }

    /// Each pixel twice, in place: `count` pixels become twice as many.
    static func double(_ row: UnsafeMutablePointer<UInt32>, count: Int) {
        var index = count &- 1
        while index >= 0 {
            let pixel = row[index]
            row[index &* 2] = pixel
            row[index &* 2 &+ 1] = pixel
            index &-= 1
        }
    }

    static func packed(_ source: UnsafeRawPointer, to row: UnsafeMutablePointer<UInt32>, count: Int, _ palette: UnsafePointer<UInt32>) {
        let bytes = source.assumingMemoryBound(to: UInt8.self)
        for index in 0..<count { row[index] = palette[Int(bytes[index])] }
    }

    /// 15 bits, or 16, widened with zeros.
    static func words(_ source: UnsafeRawPointer, to row: UnsafeMutablePointer<UInt32>, count: Int, depth: Int, bigEndian: Bool) {
        let words = source.assumingMemoryBound(to: UInt16.self)
        if depth == 15 {
            for index in 0..<count {
                let pixel = UInt32(bigEndian ? words[index].byteSwapped : words[index])
                row[index] = (pixel & 0x7c00) << 9 | (pixel & 0x03e0) << 6 | (pixel & 0x001f) << 3
            }
        } else {
            for index in 0..<count {
                let pixel = UInt32(bigEndian ? words[index].byteSwapped : words[index])
                row[index] = (pixel & 0xf800) << 8 | (pixel & 0x07e0) << 5 | (pixel & 0x001f) << 3
            }
        }
    }

    /// Whole bytes, three or four a pixel, for pictures that pixman cannot be shown.
    static func bytes(_ source: UnsafeRawPointer, to row: UnsafeMutablePointer<UInt32>, count: Int, depth: Int, bigEndian: Bool) {
        let bytes = source.assumingMemoryBound(to: UInt8.self)
        let wide = depth / 8
        for index in 0..<count {
            let pixel = bytes + index &* wide
            if bigEndian {
                let first = wide &- 3
                row[index] = UInt32(pixel[first]) << 16 | UInt32(pixel[first &+ 1]) << 8 | UInt32(pixel[first &+ 2])
            } else {
                row[index] = UInt32(pixel[2]) << 16 | UInt32(pixel[1]) << 8 | UInt32(pixel[0])
            }
        }
    }
}

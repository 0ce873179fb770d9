import CPNG
import Glibc
import Platform
import Surface

/// A picture out of a surface: what it showed at one moment, to be scaled and written as PNG.
public struct Picture: Equatable, Sendable {
    /// Pixels.
    public let width: Int
    public let height: Int
    /// Line by line without gaps: 0x??RRGGBB as native words, as in the surface; the highest byte means nothing.
    public let pixels: [UInt32]

    /// Nil when the number of pixels is not width × height, or a side is not 1…8192.
    public init?(width: Int, height: Int, pixels: [UInt32]) {
        guard (1...SurfaceLayout.largestSide).contains(width), (1...SurfaceLayout.largestSide).contains(height), pixels.count == width * height else {
            return nil
        }
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    private init(width: Int, height: Int, trusted pixels: [UInt32]) {
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// What the surface shows now. The writer may be drawing: parts can be of two updates.
    public init(of surface: borrowing SurfaceReader) {
        let line = surface.width
        let count = line * surface.height
        let source = surface.pixels
        // Lines lie without gaps, as `SurfaceLayout.stride` says.
        let pixels = [UInt32](unsafeUninitializedCapacity: count) { buffer, initialized in
            // Sound: the surface is mapped for `stride × height` bytes, which is 4 × count.
            if let base = buffer.baseAddress { memcpy(base, source, count * 4) }
            initialized = count
        }
        self.init(width: surface.width, height: surface.height, trusted: pixels)
    }

    /// The size of a picture that is no larger than a box, with the same proportions, and never larger than the picture.
    public static func fitted(width: Int, height: Int, within box: (width: Int, height: Int)) -> (width: Int, height: Int) {
        let boxWidth = max(1, box.width), boxHeight = max(1, box.height)
        if width <= boxWidth && height <= boxHeight { return (width, height) }
        // Sides are at most 8192 and boxes are cut to that: the products are small.
        let limit = SurfaceLayout.largestSide
        let fittingWidth = min(boxWidth, limit), fittingHeight = min(boxHeight, limit)
        if width * fittingHeight >= height * fittingWidth {
            let newWidth = min(width, fittingWidth)
            return (newWidth, max(1, height * newWidth / width))
        }
        let newHeight = min(height, fittingHeight)
        return (max(1, width * newHeight / height), newHeight)
    }

    /// The picture made no larger than a box: each new pixel is the mean of those that it covers. One that fits is left as it is.
    public func scaled(within box: (width: Int, height: Int)) -> Picture {
        let (newWidth, newHeight) = Self.fitted(width: width, height: height, within: box)
        guard newWidth < width || newHeight < height else { return self }
        var result: [UInt32] = []
        result.reserveCapacity(newWidth * newHeight)
        // Which columns each new pixel covers: at least one, all of them together every one.
        let columns = (0..<newWidth).map { $0 * width / newWidth..<max($0 * width / newWidth + 1, ($0 + 1) * width / newWidth) }
        pixels.withUnsafeBufferPointer { source in
            for row in 0..<newHeight {
                let top = row * height / newHeight
                let bottom = max(top + 1, (row + 1) * height / newHeight)
                for columns in columns {
                    var red: UInt64 = 0, green: UInt64 = 0, blue: UInt64 = 0
                    for y in top..<bottom {
                        for x in columns {
                            let pixel = source[y &* width &+ x]
                            red &+= UInt64(pixel >> 16 & 0xff)
                            green &+= UInt64(pixel >> 8 & 0xff)
                            blue &+= UInt64(pixel & 0xff)
                        }
                    }
                    let count = UInt64((bottom - top) * columns.count)
                    let half = count / 2
                    let colour = ((red + half) / count) << 16 | ((green + half) / count) << 8 | (blue + half) / count
                    result.append(UInt32(truncatingIfNeeded: colour))
                }
            }
        }
        return Picture(width: newWidth, height: newHeight, trusted: result)
    }
}

/// Where pictures are drawn: 32-bit pixels, x8r8g8b8 in native words, the top bits undefined.
public struct VGATarget {
    public var pixels: UnsafeMutableRawPointer
    public var width: Int
    public var height: Int
    /// Bytes from a line to the next.
    public var stride: Int

    /// - Parameter stride: bytes; nil for lines that follow each other.
    public init(pixels: UnsafeMutableRawPointer, width: Int, height: Int, stride: Int? = nil) {
        self.pixels = pixels
        self.width = width
        self.height = height
        self.stride = stride ?? width &* 4
    }

    var isUsable: Bool {
        (1...1 << 16).contains(width) && (1...1 << 16).contains(height) && stride >= width &* 4 && stride < 1 << 24 && stride & 3 == 0
            && UInt(bitPattern: pixels) & 3 == 0
    }

    @inline(__always) func line(_ y: Int) -> UnsafeMutablePointer<UInt32> { (pixels + y &* stride).assumingMemoryBound(to: UInt32.self) }

    func isSame(as other: VGATarget) -> Bool {
        pixels == other.pixels && width == other.width && height == other.height && stride == other.stride
    }

    /// Moves lines inside the target; both places are inside it.
    func moveLines(from source: Int, to destination: Int, count: Int, width: Int) {
        if width &* 4 == stride {
            (pixels + destination &* stride).copyMemory(from: pixels + source &* stride, byteCount: count &* stride)
            return
        }
        for step in 0..<count {
            let at = source > destination ? step : count &- 1 &- step
            line(destination &+ at).update(from: line(source &+ at), count: width)
        }
    }
}

/// What `render` has changed in the target.
public enum VGAChange: Hashable, Sendable {
    case damage(x: Int, y: Int, width: Int, height: Int)
    /// Pixels were moved inside the target, before any damage that is told after it.
    case copy(fromX: Int, fromY: Int, x: Int, y: Int, width: Int, height: Int)
}

/// Puts changed pieces of neighbouring lines together.
struct Damage {
    private var (x0, x1, y0, y1) = (0, 0, 0, 0)

    mutating func add(_ xs: Range<Int>, _ ys: Range<Int>, _ report: (VGAChange) -> Void) {
        if y0 < y1 && ys.lowerBound == y1 && xs.lowerBound <= x1 &+ 32 && xs.upperBound &+ 32 >= x0 {
            x0 = min(x0, xs.lowerBound)
            x1 = max(x1, xs.upperBound)
            y1 = ys.upperBound
            return
        }
        flush(report)
        (x0, x1, y0, y1) = (xs.lowerBound, xs.upperBound, ys.lowerBound, ys.upperBound)
    }

    mutating func flush(_ report: (VGAChange) -> Void) {
        if y0 < y1 { report(.damage(x: x0, y: y0, width: x1 &- x0, height: y1 &- y0)) }
        (y0, y1) = (0, 0)
    }
}

import Glibc

/// A rectangle of pixels.
public struct TileRectangle: Hashable, Sendable {
    public var x: Int
    public var y: Int
    public var width: Int
    public var height: Int
    public init(x: Int, y: Int, width: Int, height: Int) {
        self.x = x
        self.y = y
        self.width = width
        self.height = height
    }
}

/// Finds what really changed where something is said to have changed, and brings a copy up to date with it.
///
/// Damage often comes by the page or by the whole screen; what is not different costs a comparison here and no byte on the wire.
public struct TileComparison {
    /// Pixels of a tile. Within a tile what changed is still narrowed down to its lines and columns.
    public static let tileWidth = 64
    public static let tileHeight = 16

    private let source: UnsafeRawPointer
    private let copy: UnsafeMutableRawPointer
    private let stride: Int
    private let width: Int
    private let height: Int

    /// Two pictures of the same size, with pixels of four bytes and `stride` bytes from line to line. The source may change meanwhile.
    public init(source: UnsafeRawPointer, copy: UnsafeMutableRawPointer, stride: Int, width: Int, height: Int) {
        self.source = source
        self.copy = copy
        self.stride = stride
        self.width = width
        self.height = height
    }

    /// Copies what differs within the rectangle and adds to `changed` where that was; rectangles above each other are joined.
    public func update(_ area: TileRectangle, changed: inout [TileRectangle]) {
        let left = max(0, area.x)
        let right = min(width, area.x &+ max(0, area.width))
        let bottom = min(height, area.y &+ max(0, area.height))
        var top = max(0, area.y)
        guard left < right else { return }
        while top < bottom {
            // To the next multiple of the tile's height, so that tiles of different rectangles meet.
            let end = min(bottom, (top / Self.tileHeight + 1) * Self.tileHeight)
            band(left, right, top, end, &changed)
            top = end
        }
    }

    /// Copies pixels within the copy, as the screen did; both rectangles must lie in the picture.
    public func move(fromX: Int, fromY: Int, to area: TileRectangle) {
        guard fromX >= 0, fromY >= 0, area.x >= 0, area.y >= 0, area.width > 0, area.height > 0, max(fromX, area.x) <= width - area.width,
            max(fromY, area.y) <= height - area.height
        else { return }
        for index in 0..<area.height {
            let line = area.y > fromY ? area.height - 1 - index : index
            memmove(copy + (area.y + line) * stride + area.x * 4, copy + (fromY + line) * stride + fromX * 4, area.width * 4)
        }
    }

    private func band(_ left: Int, _ right: Int, _ top: Int, _ bottom: Int, _ changed: inout [TileRectangle]) {
        var first = top
        while first < bottom, isEqual(first, left, right) { first += 1 }
        guard first < bottom else { return }
        var run: TileRectangle?
        var x = left
        while x < right {
            let end = min(right, (x / Self.tileWidth + 1) * Self.tileWidth)
            if let found = tile(x, end, first, bottom) {
                if let open = run, open.x + open.width == found.x {
                    run = Self.union(open, found)
                } else {
                    if let open = run { Self.add(open, &changed) }
                    run = found
                }
            }
            x = end
        }
        if let open = run { Self.add(open, &changed) }
    }

    private func isEqual(_ line: Int, _ left: Int, _ right: Int) -> Bool {
        memcmp(source + line * stride + left * 4, copy + line * stride + left * 4, (right - left) * 4) == 0
    }

    /// What changed in a tile; nil: nothing.
    private func tile(_ left: Int, _ right: Int, _ top: Int, _ bottom: Int) -> TileRectangle? {
        var (firstLine, lastLine, firstColumn, lastColumn) = (bottom, top, right, left)
        for line in top..<bottom where !isEqual(line, left, right) {
            let ours = copy + line * stride
            let theirs = source + line * stride
            func differs(_ column: Int) -> Bool {
                ours.load(fromByteOffset: column * 4, as: UInt32.self) != theirs.load(fromByteOffset: column * 4, as: UInt32.self)
            }
            var first = left
            while first < right, !differs(first) { first += 1 }
            // The source may have changed back between the two looks.
            guard first < right else { continue }
            var last = right - 1
            while last > first, !differs(last) { last -= 1 }
            // Not a pixel more than is reported: what the source becomes meanwhile is said again, and must differ then.
            memcpy(ours + first * 4, theirs + first * 4, (last - first + 1) * 4)
            (firstLine, lastLine) = (min(firstLine, line), line)
            (firstColumn, lastColumn) = (min(firstColumn, first), max(lastColumn, last))
        }
        guard firstLine < bottom else { return nil }
        return TileRectangle(x: firstColumn, y: firstLine, width: lastColumn - firstColumn + 1, height: lastLine - firstLine + 1)
    }

    private static func union(_ a: TileRectangle, _ b: TileRectangle) -> TileRectangle {
        let (x, y) = (min(a.x, b.x), min(a.y, b.y))
        return TileRectangle(x: x, y: y, width: max(a.x + a.width, b.x + b.width) - x, height: max(a.y + a.height, b.y + b.height) - y)
    }

    private static func add(_ rectangle: TileRectangle, _ changed: inout [TileRectangle]) {
        if let last = changed.last, last.x == rectangle.x, last.width == rectangle.width, last.y + last.height == rectangle.y {
            changed[changed.count - 1].height += rectangle.height
        } else {
            changed.append(rectangle)
        }
    }
}

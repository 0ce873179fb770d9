/// Some pixels of a surface, from the top left corner.
public struct SurfaceRectangle: Hashable, Sendable {
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

    /// Whether it holds no pixel.
    public var isEmpty: Bool { width <= 0 || height <= 0 }

    /// Beyond the last column and line; at most `Int.max`, whatever the numbers are.
    var right: Int { Self.sum(x, max(0, width)) }
    var bottom: Int { Self.sum(y, max(0, height)) }

    private static func sum(_ place: Int, _ length: Int) -> Int {
        let (sum, overflow) = place.addingReportingOverflow(length)
        return overflow ? Int.max : sum
    }

    /// From edge to edge; the places must be in order.
    private init(from left: Int, _ top: Int, to right: Int, _ bottom: Int) {
        // Only a rectangle wider than any memory could overflow here.
        self.init(x: left, y: top, width: Self.difference(right, left), height: Self.difference(bottom, top))
    }

    private static func difference(_ end: Int, _ start: Int) -> Int {
        let (difference, overflow) = end.subtractingReportingOverflow(start)
        return overflow ? Int.max : difference
    }

    /// The part that lies in a surface of this size; nil when none does.
    public func clamped(width: Int, height: Int) -> SurfaceRectangle? {
        let left = max(0, x)
        let top = max(0, y)
        let right = min(width, self.right)
        let bottom = min(height, self.bottom)
        guard left < right, top < bottom else { return nil }
        return SurfaceRectangle(from: left, top, to: right, bottom)
    }

    /// The smallest rectangle that holds both; an empty one adds nothing.
    public func union(_ other: SurfaceRectangle) -> SurfaceRectangle {
        if isEmpty { return other }
        if other.isEmpty { return self }
        return SurfaceRectangle(from: min(x, other.x), min(y, other.y), to: max(right, other.right), max(bottom, other.bottom))
    }

    /// Whether they have a pixel in common.
    public func intersects(_ other: SurfaceRectangle) -> Bool {
        !isEmpty && !other.isEmpty && x < other.right && other.x < right && y < other.bottom && other.y < bottom
    }

    /// Whether all of the other lies in this one.
    public func contains(_ other: SurfaceRectangle) -> Bool {
        x <= other.x && y <= other.y && other.right <= right && other.bottom <= bottom
    }
}

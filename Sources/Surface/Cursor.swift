/// The pointer's image and place, drawn by the viewer and not part of the pixels.
public struct SurfaceCursor: Hashable, Sendable {
    /// Where it points, in pixels from the surface's top left corner; may lie outside. The image's corner is at
    /// `x - hotX`, `y - hotY`.
    public var x: Int32
    public var y: Int32
    /// Which pixel of the image points.
    public let hotX: Int
    public let hotY: Int
    /// The image's size, 1…64 each.
    public let width: Int
    public let height: Int
    /// Line by line without gaps: alpha, red, green, blue from the highest byte, colours multiplied by alpha.
    public let pixels: [UInt32]

    /// Nil for a size outside 1…64, a hot spot outside the image, or another number of pixels than the size says.
    public init?(x: Int32, y: Int32, hotX: Int, hotY: Int, width: Int, height: Int, pixels: [UInt32]) {
        guard (1...SurfaceLayout.cursorSide).contains(width), (1...SurfaceLayout.cursorSide).contains(height),
            (0..<width).contains(hotX), (0..<height).contains(hotY), pixels.count == width * height
        else { return nil }
        self.x = x
        self.y = y
        self.hotX = hotX
        self.hotY = hotY
        self.width = width
        self.height = height
        self.pixels = pixels
    }
}

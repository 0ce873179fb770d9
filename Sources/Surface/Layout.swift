import CSurface

/// Where everything is in a surface (Protocols/surface.md).
public enum SurfaceLayout {
    /// Where the pixels begin, in bytes.
    public static let pixelsOffset = Int(DEMUX_SURFACE_PIXELS_OFFSET)
    /// How many entries the damage ring holds.
    public static let damageEntries = Int(DEMUX_SURFACE_DAMAGE_ENTRIES)
    /// The cursor image's largest width and height, in pixels.
    public static let cursorSide = Int(DEMUX_SURFACE_CURSOR_SIDE)
    /// A surface's largest width and height, in pixels.
    public static let largestSide = Int(DEMUX_SURFACE_LARGEST_SIDE)
    /// A surface's largest length, in bytes.
    public static let largestLength = Int(DEMUX_SURFACE_LARGEST_LENGTH)

    /// Bytes from one line of pixels to the next.
    public static func stride(width: Int) -> Int { width &* 4 }

    /// The length of a whole surface in bytes; nil for sizes that no surface has: a side outside 1…8192, or more than 256 MiB.
    public static func length(width: Int, height: Int) -> Int? {
        guard (1...largestSide).contains(width), (1...largestSide).contains(height) else { return nil }
        // At most 8192 × 8192 × 4: no overflow.
        let length = pixelsOffset + stride(width: width) * height
        return length <= largestLength ? length : nil
    }
}

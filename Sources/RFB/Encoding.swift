/// Encodings and pseudo-encodings by number.
public enum Encoding {
    public static let raw: Int32 = 0
    public static let copyRect: Int32 = 1
    public static let tight: Int32 = 7
    public static let zrle: Int32 = 16
    public static let xCursor: Int32 = -240
    public static let richCursor: Int32 = -239
    public static let pointerPosition: Int32 = -232
    public static let lastRectangle: Int32 = -224
    public static let desktopSize: Int32 = -223
    /// QEMU: the server tells whether the pointer takes absolute places.
    public static let pointerMotionChange: Int32 = -257
    /// QEMU: key events with scan codes.
    public static let extendedKeyEvent: Int32 = -258
    public static let desktopName: Int32 = -307
    public static let extendedDesktopSize: Int32 = -308

    /// What libvncserver is allowed to hear of: pixel encodings (raw, CopyRect, hextile, zlib, tight, ZRLE, ZYWRLE; RRE and CoRRE
    /// count in static tables and are not for several threads), levels of
    /// quality and compression, cursors, sizes. Nothing that makes it send or keep anything else.
    public static func isForEncoder(_ number: Int32) -> Bool {
        switch number {
        case 0, 1, 5, 6, 7, 16, 17: true
        case xCursor, richCursor, lastRectangle, desktopSize, extendedDesktopSize: true
        case -256 ... -247, -32 ... -23, -512 ... -412, -768 ... -763: true
        default: false
        }
    }

    /// The list without what the encoder may not hear of and without repetitions, in the viewer's order. At most 150 numbers are left.
    public static func forEncoder(_ numbers: [Int32]) -> [Int32] {
        var seen: Set<Int32> = []
        return numbers.filter { isForEncoder($0) && seen.insert($0).inserted }
    }
}

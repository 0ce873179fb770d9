/// How a viewer wants its pixels (RFC 6143, 7.4).
public struct PixelFormat: Equatable, Sendable {
    public var bitsPerPixel: UInt8
    public var depth: UInt8
    public var bigEndian: Bool
    public var trueColour: Bool
    public var redMax: UInt16
    public var greenMax: UInt16
    public var blueMax: UInt16
    public var redShift: UInt8
    public var greenShift: UInt8
    public var blueShift: UInt8

    /// The surface's own: 0x??RRGGBB in a little-endian word.
    public static let native = PixelFormat(
        bitsPerPixel: 32, depth: 24, bigEndian: false, trueColour: true, redMax: 255, greenMax: 255, blueMax: 255, redShift: 16, greenShift: 8, blueShift: 0)

    public init(
        bitsPerPixel: UInt8, depth: UInt8, bigEndian: Bool, trueColour: Bool, redMax: UInt16, greenMax: UInt16, blueMax: UInt16, redShift: UInt8,
        greenShift: UInt8, blueShift: UInt8
    ) {
        self.bitsPerPixel = bitsPerPixel
        self.depth = depth
        self.bigEndian = bigEndian
        self.trueColour = trueColour
        self.redMax = redMax
        self.greenMax = greenMax
        self.blueMax = blueMax
        self.redShift = redShift
        self.greenShift = greenShift
        self.blueShift = blueShift
    }

    /// From the sixteen bytes of the protocol.
    init(_ bytes: ArraySlice<UInt8>) {
        let at = bytes.startIndex
        self.init(
            bitsPerPixel: bytes[at], depth: bytes[at + 1], bigEndian: bytes[at + 2] != 0, trueColour: bytes[at + 3] != 0,
            redMax: BigEndian.u16(bytes, at: 4), greenMax: BigEndian.u16(bytes, at: 6), blueMax: BigEndian.u16(bytes, at: 8), redShift: bytes[at + 10],
            greenShift: bytes[at + 11], blueShift: bytes[at + 12])
    }

    /// The sixteen bytes of the protocol.
    public var encoded: [UInt8] {
        var result = [bitsPerPixel, depth, bigEndian ? 1 : 0, trueColour ? 1 : 0]
        for max in [redMax, greenMax, blueMax] { result.append16(max) }
        return result + [redShift, greenShift, blueShift, 0, 0, 0]
    }

    /// Why pixels cannot be given so; nil when they can. The encoder is only ever told formats that are sound: it checks none.
    public var fault: String? {
        guard [8, 16, 32].contains(bitsPerPixel) else { return "pixels of \(bitsPerPixel) bits" }
        guard trueColour else { return bitsPerPixel == 8 ? nil : "a colour map with pixels of \(bitsPerPixel) bits" }
        for (max, shift) in [(redMax, redShift), (greenMax, greenShift), (blueMax, blueShift)] {
            let bits = 16 - max.leadingZeroBitCount
            guard max > 0, UInt32(max) & (UInt32(max) + 1) == 0 else { return "a colour with the largest value \(max)" }
            guard Int(shift) + bits <= Int(bitsPerPixel) else { return "colours outside the pixel" }
        }
        return nil
    }
}

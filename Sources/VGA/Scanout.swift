/// What the guest shows.
public struct VGAScanout: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// The guest has switched the picture off. The size is that of the last picture.
        case blank
        /// The guest is between two modes, and what its registers say is no picture: what was shown goes on being shown. Size 0.
        case transient
        /// Characters.
        case text(columns: Int, rows: Int)
        /// Four planes, 16 colours.
        case planar
        /// CGA's packing: two bits a pixel over the planes.
        case twoBit
        /// 256 colours without DISPI (modes 0x13 and X), each pixel twice as wide as the dot clock's.
        case packed
        /// DISPI with 8, 15, 16, 24 or 32 bits.
        case linear(depth: Int)
    }

    public var kind: Kind
    public var width: Int
    public var height: Int
    /// The picture's first byte in video memory.
    public var start: Int
    /// Bytes from a line (a row of characters) to the next.
    public var lineOffset: Int
}

/// All that decides how bytes become pixels, but for the bytes, the colours and the fonts: two equal frames look the same.
struct Frame {
    var kind = VGAScanout.Kind.blank
    var width = 0
    var height = 0
    var start = 0
    var lineOffset = 0
    /// The line after which memory's first byte is shown.
    var lineCompare = Int.max
    var columns = 0
    var rows = 0
    var cellWidth = 8
    var cellHeight = 16
    /// The fonts' first bytes: of attributes without and with bit 3.
    var fonts = (Int32(0), Int32(0))
    var lineGraphics = false
    var blinks = false
    /// The line of a cell that is underlined; -1: none.
    var underline = -1
    /// CR17 bits 0 and 1 clear: CGA's interleaving of lines; bit 6 says which address bit.
    var interleave: UInt8 = 3
    /// How often each line is repeated.
    var repeats = 0
    var doubleDots = false
    var planes: UInt8 = 15
    var bigEndian = false
    /// Pixels by which the picture is moved to the left.
    var panning = 0
    /// Whether panning ends where the split screen begins.
    var panningStops = false
    /// Lines of the first row that are cut off.
    var presetRow = 0
    // The cursor is compared with the cells.
    var cursor = -1
    var cursorFirst = 0
    var cursorLast = -1

    /// Whether only the start differs, and the cursor, which the cells know.
    func sameBut(start other: Frame) -> Bool {
        kind == other.kind && width == other.width && height == other.height && lineOffset == other.lineOffset && lineCompare == other.lineCompare
            && cellWidth == other.cellWidth && cellHeight == other.cellHeight && lineGraphics == other.lineGraphics && blinks == other.blinks
            && underline == other.underline && interleave == other.interleave && repeats == other.repeats && doubleDots == other.doubleDots
            && planes == other.planes && bigEndian == other.bigEndian && panning == other.panning && panningStops == other.panningStops
            && presetRow == other.presetRow
    }

    /// Bytes that a line takes in memory.
    var lineBytes: Int {
        switch kind {
        case .planar, .twoBit, .packed: width / (doubleDots ? 4 : 2)
        case .linear(let depth): depth == 15 ? width &* 2 : width &* depth / 8
        default: columns &* 4
        }
    }

    /// Whether lines lie one after the other, with nothing that interleaves, splits or pans.
    var isPlain: Bool { interleave & 3 == 3 && lineCompare >= height && panning == 0 && presetRow == 0 }
}

extension VGADevice {
    /// Characters in a picture, beyond which QEMU shows none.
    static let mostCells = 160 * 100

    /// What the guest shows now.
    public var scanout: VGAScanout {
        let frame = frame()
        return VGAScanout(kind: frame.kind, width: frame.width, height: frame.height, start: frame.start, lineOffset: frame.lineOffset)
    }

    /// The bytes of video memory on which the picture depends.
    public var scanoutRange: Range<Int> {
        let frame = frame()
        switch frame.kind {
        case .blank, .transient: return 0..<0
        case .text:
            // Fonts are somewhere in the first 256 KiB, between the characters.
            return 0..<min(size, max(0x40000, frame.start &+ frame.lineOffset &* frame.rows &+ frame.lineBytes))
        default:
            let end = frame.start &+ frame.lineOffset &* (frame.height &- 1) &+ frame.lineBytes
            if frame.isPlain && end <= size && frame.start < end { return frame.start..<end }
            // Interleaving sets address bits up to 15; panning looks a little further.
            return 0..<min(size, (end | 0xffff) &+ 64)
        }
    }

    func frame() -> Frame {
        let (cr, gr) = (state.cr, state.gr)
        let beyond = options.beyondQEMU && !dispiOn
        var frame = Frame()
        if state.scalars.pointee.attributeIndex & 0x20 == 0 || beyond && state.sr[1] & 0x20 != 0 {
            let (width, height) = (Int(state.scalars.pointee.lastWidth), Int(state.scalars.pointee.lastHeight))
            (frame.width, frame.height) = width > 0 && height > 0 ? (width, height) : (640, 480)
            return frame
        }
        let lines = (Int(cr[0x12]) | Int(cr[7] & 0x02) << 7 | Int(cr[7] & 0x40) << 3) &+ 1
        let clocking = sequencer(1)
        frame.lineOffset = Int(cr[0x13]) << 3
        frame.start = (Int(cr[0x0c]) << 8 | Int(cr[0x0d])) << 2
        frame.lineCompare = Int(cr[0x18]) | Int(cr[7] & 0x10) << 4 | Int(cr[9] & 0x40) << 3
        if beyond {
            frame.start &+= Int(cr[8] >> 5 & 3) << 2
            frame.presetRow = Int(cr[8] & 0x1f)
            frame.panningStops = state.ar[0x10] & 0x20 != 0
        }
        if gr[6] & 1 == 0 && !dispiOn {
            describeText(&frame, lines: lines, clocking: clocking)
        } else {
            describeGraphics(&frame, lines: lines, clocking: clocking)
        }
        return frame
    }

    private func describeText(_ frame: inout Frame, lines: Int, clocking: UInt8) {
        let (cr, ar) = (state.cr, state.ar)
        frame.cellHeight = Int(cr[9] & 0x1f) &+ 1
        frame.cellWidth = clocking & 8 != 0 ? 16 : clocking & 1 != 0 ? 8 : 9
        frame.columns = Int(cr[1]) &+ 1
        // CGA's 160×100 tweak is recognised by its vertical total, as QEMU does.
        frame.rows = cr[6] == 100 ? 100 : lines / frame.cellHeight
        let cells = frame.columns &* frame.rows
        guard cells > 1 && cells <= Self.mostCells else {
            frame = Frame()
            frame.kind = .transient
            return
        }
        frame.kind = .text(columns: frame.columns, rows: frame.rows)
        frame.width = frame.columns &* frame.cellWidth
        frame.height = frame.rows &* frame.cellHeight
        let map = sequencer(3)
        frame.fonts = (Int32(map >> 4 & 1 | map << 1 & 6) << 15, Int32(map >> 5 & 1 | map >> 1 & 6) << 15)
        frame.lineGraphics = ar[0x10] & 4 != 0
        if cr[0x0a] & 0x20 == 0 {
            frame.cursor = (Int(cr[0x0e]) << 8 | Int(cr[0x0f])) << 2
            frame.cursorFirst = Int(cr[0x0a] & 0x1f)
            frame.cursorLast = min(Int(cr[0x0b] & 0x1f), frame.cellHeight &- 1)
        }
        guard options.beyondQEMU else { return }
        frame.blinks = ar[0x10] & 8 != 0
        if ar[0x10] & 2 != 0 { frame.underline = Int(cr[0x14] & 0x1f) }
        let shift = Int(ar[0x13] & 15)
        if frame.cellWidth == 9 {
            frame.panning = shift >= 8 ? 0 : shift &+ 1
        } else {
            frame.panning = (shift & 7) &* (frame.cellWidth / 8)
        }
        frame.presetRow = min(frame.presetRow, frame.cellHeight &- 1)
    }

    private func describeGraphics(_ frame: inout Frame, lines: Int, clocking: UInt8) {
        let (cr, gr) = (state.cr, state.gr)
        let mode = cr[0x17]
        let doubled = cr[9] >> 7
        frame.width = (Int(cr[1]) &+ 1) &* 8
        frame.height = lines
        frame.interleave = mode & 0x43
        frame.repeats = mode & 1 != 0 ? ((Int(cr[9] & 0x1f) &+ 1) << Int(doubled)) &- 1 : Int(doubled)
        frame.presetRow = min(frame.presetRow, frame.repeats)
        frame.planes = state.ar[0x12] & 15
        let depth = state.dispi[DISPI.depth] == 15 ? 15 : dispiBits
        if dispiOn {
            frame.width = dispiWidth
            frame.height = dispiHeight
            frame.start = dispiStart
            frame.lineOffset = dispiLineOffset
            frame.lineCompare = .max
            frame.interleave = 3
            frame.repeats = 0
            frame.bigEndian = state.scalars.pointee.bigEndian != 0
        }
        let shift = Int(state.ar[0x13] & 7)
        switch gr[5] >> 5 & 3 {
        case 0, 1:
            frame.kind = gr[5] & 0x20 == 0 ? .planar : .twoBit
            frame.doubleDots = clocking & 8 != 0
            if frame.doubleDots { frame.width &*= 2 }
            if options.beyondQEMU && !dispiOn { frame.panning = frame.doubleDots ? shift &* 2 : shift }
        default:
            frame.kind = dispiOn && depth != 4 ? .linear(depth: depth) : .packed
            // Two dots a pixel: only even shifts are whole pixels.
            if options.beyondQEMU && !dispiOn { frame.panning = shift & 6 }
        }
        // Planes, byte order and dots are nothing where they do not count, so that writing them is no change.
        if frame.kind != .planar && frame.kind != .twoBit { frame.planes = 15 }
    }
}

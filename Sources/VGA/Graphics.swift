// Pictures of pixels.
extension Renderer {
    mutating func drawGraphics(_ frame: Frame, _ target: VGATarget, known: Bool, _ report: (VGAChange) -> Void) {
        let height = min(frame.height, target.height)
        let width = min(frame.width, target.width)
        var everything = !known
        // Lines that have come into view.
        var exposed = 0..<0
        if known, let last, last.start != frame.start {
            if let lines = scroll(frame, from: last.start, height: height) {
                let kept = height &- abs(lines)
                let (source, goal) = lines > 0 ? (lines, 0) : (0, -lines)
                target.moveLines(from: source, to: goal, count: kept, width: width)
                report(.copy(fromX: 0, fromY: source, x: 0, y: goal, width: width, height: kept))
                exposed = lines > 0 ? kept..<height : 0..<(-lines)
            } else {
                everything = true
            }
        }
        if !everything && exposed.isEmpty && dirty.nothing { return }
        var walk = Walk(frame)
        let pixman = preparePixman(frame)
        let bytes = frame.lineBytes &+ (frame.panning > 0 ? 4 : 0)
        // Into memory, and to whole words, or pixels: the state's bytes may say nonsense.
        let fold = (size &- 1) & (frame.kind == .planar || frame.kind == .twoBit ? ~3 : frame.lineBytes == frame.width &* 2 ? ~1 : ~0)
        // The line that `row` holds, of those that are repeated.
        var held = -1
        for y in 0..<height {
            let start = walk.address & fold
            let wraps = start &+ bytes > size
            var part = 0..<bytes
            var changed = everything || exposed.contains(y)
            if !changed {
                if wraps {
                    changed = dirty.contains(start..<size) || dirty.contains(0..<start &+ bytes &- size)
                } else if let found = dirty.changed(in: start..<start &+ bytes) {
                    changed = true
                    part = found.lowerBound &- start..<found.upperBound &- start
                }
            }
            if changed {
                draw(frame, line: y, at: start, part, width: width, pixman: pixman, held: &held, target, report)
            }
            walk.next(y)
        }
    }

    /// Pixman is shown the whole picture, where all of it is in memory.
    private mutating func preparePixman(_ frame: Frame) -> Bool {
        guard case .linear(let depth) = frame.kind, let format = Converter.format(depth: depth, bigEndian: frame.bigEndian), frame.isPlain,
            // Pixman counts in words.
            frame.lineOffset & 3 == 0, frame.start & 3 == 0, frame.lineOffset < 1 << 24,
            frame.start &+ frame.lineOffset &* (frame.height &- 1) &+ frame.lineBytes <= size
        else { return false }
        return converter.prepare(
            memory + frame.start, width: frame.width, height: frame.height, stride: frame.lineOffset, format: format, row: row)
    }

    private mutating func draw(
        _ frame: Frame, line y: Int, at start: Int, _ part: Range<Int>, width: Int, pixman: Bool, held: inout Int, _ target: VGATarget,
        _ report: (VGAChange) -> Void
    ) {
        let bytes = frame.lineBytes &+ (frame.panning > 0 ? 4 : 0)
        var source = memory + start
        if start &+ bytes > size {
            let first = size &- start
            bounce.copyMemory(from: source, byteCount: first)
            (bounce + first).copyMemory(from: memory, byteCount: bytes &- first)
            source = UnsafeRawPointer(bounce)
        }
        guard case .linear(let depth) = frame.kind else {
            if held != start { convert(frame, source, bytes: bytes) }
            held = start
            let pan = walkPanning(frame, y)
            commit(row + pan, to: target, x: 0, y: y, count: width, report)
            return
        }
        let wide = depth == 15 ? 2 : depth / 8
        let first = part.lowerBound / wide
        let end = min((part.upperBound &+ wide &- 1) / wide, width)
        guard first < end else { return }
        let piece = source + first &* wide
        switch depth {
        case 32 where !frame.bigEndian:
            commit(piece, to: target, x: first, y: y, count: end &- first, report)
            return
        case 8: Pixels.packed(piece, to: row, count: end &- first, palette)
        case _ where pixman: converter.convert(line: y, first..<end)
        case 15, 16: Pixels.words(piece, to: row, count: end &- first, depth: depth, bigEndian: frame.bigEndian)
        default: Pixels.bytes(piece, to: row, count: end &- first, depth: depth, bigEndian: frame.bigEndian)
        }
        commit(row, to: target, x: first, y: y, count: end &- first, report)
    }

    private func walkPanning(_ frame: Frame, _ y: Int) -> Int {
        frame.panningStops && y > frame.lineCompare ? 0 : frame.panning
    }

    /// A whole line of the modes of the VGA itself.
    private func convert(_ frame: Frame, _ source: UnsafeRawPointer, bytes: Int) {
        switch frame.kind {
        case .planar, .twoBit:
            let words = bytes / 4
            if frame.kind == .planar {
                Pixels.planar(source, to: row, words: words, mask: planeMask(frame.planes), palette)
            } else {
                Pixels.twoBit(source, to: row, words: words, mask: planeMask(frame.planes), palette)
            }
            if frame.doubleDots { Pixels.double(row, count: words &* 8) }
        default:
            Pixels.packed(source, to: row, count: bytes, palette)
            Pixels.double(row, count: bytes)
        }
    }

    /// By how many lines the picture has moved, when most of what stays in view is as it was: positive is up.
    private func scroll(_ frame: Frame, from old: Int, height: Int) -> Int? {
        let moved = frame.start &- old
        guard frame.isPlain, frame.lineOffset > 0, moved % frame.lineOffset == 0 else { return nil }
        let lines = moved / frame.lineOffset &* (frame.repeats &+ 1)
        guard abs(lines) < height, max(frame.start, old) &+ frame.lineOffset &* frame.height &+ frame.lineBytes <= size else { return nil }
        var (walk, changed) = (Walk(frame), 0)
        for y in 0..<height {
            if dirty.contains(walk.address..<walk.address &+ frame.lineBytes) { changed &+= 1 }
            walk.next(y)
        }
        return changed &* 2 <= height &+ abs(lines) ? lines : nil
    }
}

/// Where each line of a picture is in memory.
struct Walk {
    private let frame: Frame
    private var base: Int
    /// Lines of memory that have been shown.
    private var row = 0
    private var left: Int

    init(_ frame: Frame) {
        self.frame = frame
        base = frame.start
        left = frame.repeats &- frame.presetRow
    }

    /// The line's first byte, not yet folded into memory.
    var address: Int {
        var address = base
        if frame.interleave & 1 == 0 {
            let bit = frame.interleave & 0x40 != 0 ? 15 : 14
            address = address & ~(1 << bit) | (row & 1) << bit
        }
        if frame.interleave & 2 == 0 { address = address & ~0x8000 | (row & 2) << 14 }
        return address
    }

    mutating func next(_ y: Int) {
        if left == 0 {
            // CGA's interleaving takes two, or four, lines from one place.
            let mask = Int(frame.interleave & 3 ^ 3)
            if row & mask == mask { base &+= frame.lineOffset }
            row &+= 1
            left = frame.repeats
        } else {
            left &-= 1
        }
        if y == frame.lineCompare { base = 0 }
    }
}

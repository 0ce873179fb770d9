/// What a cell shows, in 32 bits: character, attribute, and what the moment adds.
private enum Cell {
    static let cursor: UInt32 = 1 << 16
    /// In blink's dark half.
    static let hidden: UInt32 = 1 << 17
    /// Beyond the end of memory.
    static let outside: UInt32 = 1 << 18
    /// The cursor's lines: five bits each.
    static let firstShift: UInt32 = 20
    static let lastShift: UInt32 = 25
    /// What no cell shows.
    static let unknown = UInt32.max
    /// All but the cursor, which does not scroll with the text.
    static let content: UInt32 = ~(cursor | 0x3ff0_0000)
}

/// A cell, ready to be drawn line by line.
private struct Look {
    let font: UnsafeMutablePointer<UInt8>
    var back: UInt32
    var fore: UInt32
    /// Of the font's bits: none in blink's dark half.
    var mask: UInt8 = 0xff
    /// Whether the ninth dot is the eighth again.
    var repeatsEighth = false
    /// Lines that are all foreground: -1 for none.
    var underline = -1
    var first = -1
    var last = -1

    /// One line: eight, nine or sixteen pixels.
    @inline(__always) func draw(_ line: Int, width: Int, to out: UnsafeMutableRawPointer) {
        let full = line == underline || line >= first && line <= last
        let bits = full ? 0xff : font[line] & mask
        // All ones where a bit is set. (`replacing(with:where:)` would be a loop.)
        let set = 0 &- (SIMD8<UInt32>(repeating: UInt32(bits)) &>> SIMD8(7, 6, 5, 4, 3, 2, 1, 0) & 1)
        let pixels = SIMD8(repeating: back) ^ (SIMD8(repeating: back ^ fore) & set)
        if width == 16 {
            let (low, high) = (pixels.lowHalf, pixels.highHalf)
            out.storeBytes(of: SIMD8(low[0], low[0], low[1], low[1], low[2], low[2], low[3], low[3]), as: SIMD8<UInt32>.self)
            out.storeBytes(
                of: SIMD8(high[0], high[0], high[1], high[1], high[2], high[2], high[3], high[3]), toByteOffset: 32, as: SIMD8<UInt32>.self)
            return
        }
        out.storeBytes(of: pixels, as: SIMD8<UInt32>.self)
        if width == 9 {
            let ninth = full || repeatsEighth && bits & 1 != 0 ? fore : back
            out.storeBytes(of: ninth, toByteOffset: 32, as: UInt32.self)
        }
    }
}

// Characters.
extension Renderer {
    /// Half a period of everything that blinks: 16 frames, which QEMU takes as 266 ms.
    static let blinkPeriod: UInt64 = 266_000_000

    mutating func drawText(_ frame: Frame, _ target: VGATarget, known: Bool, now: UInt64, _ report: (VGAChange) -> Void) {
        let count = frame.columns &* frame.rows
        if !known { cells.initialize(repeating: Cell.unknown, count: count) }
        let other = refreshGlyphs(frame, all: !known)
        if known && other {
            for cell in 0..<count where cells[cell] != Cell.unknown && glyphChanged[glyph(cells[cell])] { cells[cell] = Cell.unknown }
        }
        compose(frame, now: now)
        if known { findScroll(frame, target, report) }
        for row in 0..<frame.rows { drawRow(frame, target, row, report) }
    }

    /// The number of a cell's glyph among both fonts'.
    @inline(__always) private func glyph(_ cell: UInt32) -> Int { Int(cell >> 11 & 1) << 8 | Int(cell & 0xff) }

    /// Takes the fonts out of plane 2.
    /// - Returns: whether a glyph has changed; `glyphChanged` says which.
    private func refreshGlyphs(_ frame: Frame, all: Bool) -> Bool {
        var any = false
        for font in 0..<2 {
            let base = Int(font == 0 ? frame.fonts.0 : frame.fonts.1)
            let moved = last.map { Int(font == 0 ? $0.fonts.0 : $0.fonts.1) != base } ?? true
            let look = all || moved || dirty.contains(base..<base &+ 0x8000)
            let changed = glyphChanged + font &* 256
            changed.update(repeating: false, count: 256)
            guard look else { continue }
            for index in 0..<256 {
                var differs = false
                let glyph = glyphs + (font &* 256 &+ index) &* 32
                let source = memory + (base &+ index &* 128 &+ 2)
                for line in 0..<32 {
                    let bits = source.load(fromByteOffset: line &* 4, as: UInt8.self)
                    if glyph[line] != bits {
                        glyph[line] = bits
                        differs = true
                    }
                }
                if differs {
                    changed[index] = true
                    any = true
                }
            }
        }
        return any
    }

    /// Whether what blinks is shown at a time.
    private func isLit(_ now: UInt64) -> Bool { isSteady || now / Self.blinkPeriod & 1 == 0 }

    /// Reads what all cells are to show.
    private mutating func compose(_ frame: Frame, now: UInt64) {
        let lit = isLit(now)
        var (address, line) = (frame.start, 0)
        for row in 0..<frame.rows {
            let out = freshCells + row &* frame.columns
            for column in 0..<frame.columns { out[column] = cell(frame, address &+ column &* 4, lit: lit) }
            address &+= frame.lineOffset
            let next = line &+ frame.cellHeight
            if line < frame.lineCompare && next >= frame.lineCompare { address = 0 }
            line = next
        }
    }

    @inline(__always) private mutating func cell(_ frame: Frame, _ address: Int, lit: Bool) -> UInt32 {
        guard address &+ 4 <= size else { return Cell.outside }
        var cell = memory.load(fromByteOffset: address, as: UInt32.self) & 0xffff
        if frame.blinks && cell & 0x8000 != 0 {
            blinking = !isSteady
            if !lit { cell |= Cell.hidden }
        }
        if address == frame.cursor && frame.cursorFirst <= frame.cursorLast {
            blinking = !isSteady
            if lit {
                cell |= Cell.cursor | UInt32(frame.cursorFirst) << Cell.firstShift | UInt32(frame.cursorLast) << Cell.lastShift
            }
        }
        return cell
    }

    private mutating func drawRow(_ frame: Frame, _ target: VGATarget, _ row: Int, _ report: (VGAChange) -> Void) {
        let (old, new) = (cells + row &* frame.columns, freshCells + row &* frame.columns)
        let y = row &* frame.cellHeight
        // The first run of cells that changed, and all others as a second.
        var first = 0..<0
        var rest = 0..<0
        for column in 0..<frame.columns where old[column] != new[column] {
            old[column] = new[column]
            drawCell(frame, target, new[column], x: column &* frame.cellWidth, y: y)
            if first.isEmpty {
                first = column..<column &+ 1
            } else if rest.isEmpty && column &- first.upperBound < 4 {
                first = first.lowerBound..<column &+ 1
            } else {
                rest = (rest.isEmpty ? column : rest.lowerBound)..<column &+ 1
            }
        }
        let bottom = min(y &+ frame.cellHeight, target.height)
        guard y < bottom else { return }
        note(first, y..<bottom, frame, target, report)
        note(rest, y..<bottom, frame, target, report)
    }

    private mutating func note(_ run: Range<Int>, _ ys: Range<Int>, _ frame: Frame, _ target: VGATarget, _ report: (VGAChange) -> Void) {
        let (left, right) = (run.lowerBound &* frame.cellWidth, min(run.upperBound &* frame.cellWidth, target.width))
        if left < right { damage.add(left..<right, ys, report) }
    }

    private func drawCell(_ frame: Frame, _ target: VGATarget, _ cell: UInt32, x: Int, y: Int) {
        let lines = min(frame.cellHeight, target.height &- y)
        let width = min(frame.cellWidth, target.width &- x)
        guard lines > 0 && width > 0 else { return }
        let look = look(frame, cell)
        let whole = frame.cellWidth
        var out = target.pixels + (y &* target.stride &+ x &* 4)
        for line in 0..<lines {
            if width == whole {
                look.draw(line, width: whole, to: out)
            } else {
                look.draw(line, width: whole, to: row)
                out.copyMemory(from: row, byteCount: width &* 4)
            }
            out += target.stride
        }
    }

    @inline(__always) private func look(_ frame: Frame, _ cell: UInt32) -> Look {
        let attribute = Int(cell >> 8 & 0xff)
        var look = Look(
            font: glyphs + glyph(cell) &* 32, back: palette[frame.blinks ? attribute >> 4 & 7 : attribute >> 4], fore: palette[attribute & 15])
        look.repeatsEighth = frame.lineGraphics && cell & 0xff >= 0xb0 && cell & 0xff <= 0xdf
        if attribute & 7 == 1 { look.underline = frame.underline }
        if cell & Cell.hidden != 0 { (look.mask, look.underline) = (0, -1) }
        if cell & Cell.cursor != 0 {
            look.first = Int(cell >> Cell.firstShift & 31)
            look.last = Int(cell >> Cell.lastShift & 31)
        }
        if cell & Cell.outside != 0 { (look.fore, look.back) = (0, 0) }
        return look
    }

    // MARK: scrolling

    /// Finds rows that have moved up or down together, and moves their pixels.
    private mutating func findScroll(_ frame: Frame, _ target: VGATarget, _ report: (VGAChange) -> Void) {
        let (rows, columns) = (frame.rows, frame.columns)
        guard rows >= 4 else { return }
        var changed = 0
        for row in 0..<rows where !isSame(row, row, columns) { changed &+= 1 }
        guard changed >= 3 else { return }
        var best = (gain: 2, first: 0, count: 0, shift: 0)
        // Far more than a guest scrolls at once, and not a square of a thousand rows.
        let most = min(rows &- 1, 64)
        for distance in 1...most {
            for way in 0..<2 {
                let shift = way == 0 ? distance : -distance
                var (first, gain) = (0, 0)
                for row in 0...rows {
                    let from = row &+ shift
                    if row < rows, from >= 0, from < rows, isSame(row, from, columns) {
                        if !isSame(row, row, columns) { gain &+= 1 }
                    } else {
                        if gain > best.gain { best = (gain, first, row &- first, shift) }
                        (first, gain) = (row &+ 1, 0)
                    }
                }
            }
        }
        guard best.count > 0 else { return }
        move(best.first &+ best.shift, to: best.first, count: best.count, frame, target, report)
    }

    /// Whether a row is to show what another shows now, cursor aside.
    @inline(__always) private func isSame(_ new: Int, _ old: Int, _ columns: Int) -> Bool {
        let (a, b) = (freshCells + new &* columns, cells + old &* columns)
        for column in 0..<columns where (a[column] ^ b[column]) & Cell.content != 0 { return false }
        return true
    }

    private func move(_ source: Int, to goal: Int, count: Int, _ frame: Frame, _ target: VGATarget, _ report: (VGAChange) -> Void) {
        let (height, columns) = (frame.cellHeight, frame.columns)
        let width = min(frame.width, target.width)
        // Where the target is lower than the picture, nothing below it can be moved into view.
        guard (max(source, goal) &+ count) &* height <= target.height else { return }
        target.moveLines(from: source &* height, to: goal &* height, count: count &* height, width: width)
        // As memory: the two overlap.
        UnsafeMutableRawPointer(cells + goal &* columns).copyMemory(from: cells + source &* columns, byteCount: count &* columns &* 4)
        report(.copy(fromX: 0, fromY: source &* height, x: 0, y: goal &* height, width: width, height: count &* height))
    }

    // MARK: panning

    /// Text that is moved by pixels: line by line, with one more column and, below, one more row.
    mutating func drawPannedText(_ frame: Frame, _ target: VGATarget, now: UInt64, _ report: (VGAChange) -> Void) {
        _ = refreshGlyphs(frame, all: true)
        let lit = isLit(now)
        let (height, width) = (min(frame.height, target.height), min(frame.width, target.width))
        var (address, line, panning) = (frame.start, frame.presetRow, frame.panning)
        for y in 0..<height {
            for column in 0...frame.columns {
                let look = look(frame, cell(frame, address &+ column &* 4, lit: lit))
                look.draw(line, width: frame.cellWidth, to: row + column &* frame.cellWidth)
            }
            commit(row + panning, to: target, x: 0, y: y, count: width, report)
            line &+= 1
            if line >= frame.cellHeight {
                line = 0
                address &+= frame.lineOffset
            }
            if y == frame.lineCompare {
                (address, line) = (0, 0)
                if frame.panningStops { panning = 0 }
            }
        }
    }
}

/// Draws frames, and knows what it has drawn. Nothing here needs to outlive the process.
struct Renderer: ~Copyable {
    /// The widest line in pixels, and what panning looks ahead.
    static let rowCapacity = 16384

    let memory: UnsafeRawPointer
    /// A power of two.
    let size: Int
    var dirty: DirtyMap
    /// What the target shows; nil: not known.
    var last: Frame?
    var lastTarget: VGATarget?
    /// The colours in use: 16 or 256.
    let palette: UnsafeMutablePointer<UInt32>
    /// One converted line.
    let row: UnsafeMutablePointer<UInt32>
    /// One line of video memory that wraps around its end.
    let bounce: UnsafeMutableRawPointer
    var converter = Converter()
    var damage = Damage()

    // Text: what each cell shows, and what it is to show.
    let cells: UnsafeMutablePointer<UInt32>
    let freshCells: UnsafeMutablePointer<UInt32>
    /// Two fonts of 256 glyphs of 32 lines, and which glyphs have changed.
    let glyphs: UnsafeMutablePointer<UInt8>
    let glyphChanged: UnsafeMutablePointer<Bool>
    /// Whether something blinks, as of the last frame, and when that was.
    var blinking = false
    /// Whether what would blink is shown all the time, in the frame that is drawn.
    var isSteady = false
    var drawnAt: UInt64 = 0

    init(memory: UnsafeMutableRawPointer, size: Int) {
        self.memory = UnsafeRawPointer(memory)
        self.size = size
        dirty = DirtyMap(size: size)
        // Not touched before they are used, so that they cost no memory until then.
        palette = .allocate(capacity: 256)
        palette.initialize(repeating: 0, count: 256)
        row = .allocate(capacity: Self.rowCapacity)
        bounce = .allocate(byteCount: Self.rowCapacity * 4, alignment: 16)
        cells = .allocate(capacity: VGADevice.mostCells)
        freshCells = .allocate(capacity: VGADevice.mostCells)
        glyphs = .allocate(capacity: 512 * 32)
        glyphChanged = .allocate(capacity: 512)
        glyphs.initialize(repeating: 0, count: 512 * 32)
        glyphChanged.initialize(repeating: false, count: 512)
    }

    deinit {
        palette.deallocate()
        row.deallocate()
        bounce.deallocate()
        cells.deallocate()
        freshCells.deallocate()
        glyphs.deallocate()
        glyphChanged.deallocate()
    }

    mutating func forget() {
        last = nil
        lastTarget = nil
    }

    mutating func render(
        _ frame: Frame, into target: VGATarget, dirty pages: VGADirtyPages, recoloured: Bool, now: UInt64, steady: Bool, report: (VGAChange) -> Void
    ) {
        dirty.gather(pages)
        var known = false
        if !recoloured, let last, let lastTarget { known = frame.sameBut(start: last) && target.isSame(as: lastTarget) }
        blinking = false
        isSteady = steady
        drawnAt = now
        switch frame.kind {
        case .blank, .transient: if !known { clear(frame, target, report) }
        case .text:
            if frame.panning > 0 || frame.presetRow > 0 {
                drawPannedText(frame, target, now: now, report)
            } else {
                drawText(frame, target, known: known, now: now, report)
            }
        default: drawGraphics(frame, target, known: known, report)
        }
        damage.flush(report)
        last = frame
        lastTarget = target
    }

    private func clear(_ frame: Frame, _ target: VGATarget, _ report: (VGAChange) -> Void) {
        for y in 0..<target.height { target.line(y).update(repeating: 0, count: target.width) }
        report(.damage(x: 0, y: 0, width: target.width, height: target.height))
    }

    /// Puts a piece of a converted line into the target, and notes what of it has changed.
    mutating func commit(_ source: UnsafeRawPointer, to target: VGATarget, x: Int, y: Int, count: Int, _ report: (VGAChange) -> Void) {
        let goal = UnsafeMutableRawPointer(target.line(y) + x)
        guard let changed = Difference.range(source, goal, count: count) else { return }
        (goal + changed.lowerBound &* 4).copyMemory(from: source + changed.lowerBound &* 4, byteCount: changed.count &* 4)
        damage.add(changed.lowerBound &+ x..<changed.upperBound &+ x, y..<y &+ 1, report)
    }
}

extension VGADevice {
    /// Brings the target up to date and tells what of it has changed: first what was moved, then what was drawn.
    ///
    /// A target of another size than `scanout` says gets the part that fits. A target that is not the one of the last call is drawn as a whole;
    /// if its pixels may have been written by another meanwhile, call `invalidate`. Nothing is drawn while `scanout` is `.transient`.
    /// - Parameters:
    ///   - dirty: which pages the guest may have written by itself.
    ///   - now: a clock in nanoseconds, for what blinks.
    ///   - steady: whether what blinks is to be shown without blinking, as nobody does anything. QEMU never does that (`VGAOptions.beyondQEMU`).
    public mutating func render(
        into target: VGATarget, dirty: VGADirtyPages = .all, now: UInt64, steady: Bool = false, report: (VGAChange) -> Void
    ) {
        guard target.isUsable else { return }
        let frame = frame()
        changedRegisters = false
        wroteMemory = false
        if frame.kind == .transient {
            // What is dirty now is not looked at; so the next picture is drawn as a whole.
            renderer.forget()
            return
        }
        if frame.kind != .blank {
            state.scalars.pointee.lastWidth = UInt16(truncatingIfNeeded: frame.width)
            state.scalars.pointee.lastHeight = UInt16(truncatingIfNeeded: frame.height)
        }
        let recoloured = updatePalette(frame.kind)
        renderer.render(frame, into: target, dirty: dirty, recoloured: recoloured, now: now, steady: steady && options.beyondQEMU, report: report)
    }

    /// When `render` is due although nothing has changed, because something blinks: on the clock that it was given. Nil: never, or not
    /// as long as it is drawn steadily.
    public var nextBlink: UInt64? {
        renderer.blinking ? (renderer.drawnAt / Renderer.blinkPeriod &+ 1) &* Renderer.blinkPeriod : nil
    }

    /// - Returns: whether a colour in use has changed.
    private func updatePalette(_ kind: VGAScanout.Kind) -> Bool {
        let mask = options.beyondQEMU ? Int(~state.scalars.pointee.pelMaskOff) : 0xff
        var changed = false
        switch kind {
        case .blank, .transient, .linear(depth: 15), .linear(depth: 16), .linear(depth: 24), .linear(depth: 32): break
        case .text, .planar, .twoBit:
            let (mode, page) = (state.ar[0x10], Int(state.ar[0x14]))
            for index in 0..<16 {
                let colour = Int(state.ar[index])
                let entry = mode & 0x80 != 0 ? (page & 0x0f) << 4 | colour & 0x0f : (page & 0x0c) << 4 | colour & 0x3f
                if setColour(index, entry & mask, wide: false) { changed = true }
            }
        default:
            let wide = state.scalars.pointee.dac8 != 0
            for index in 0..<256 where setColour(index, index & mask, wide: wide) { changed = true }
        }
        return changed
    }

    @inline(__always) private func setColour(_ index: Int, _ entry: Int, wide: Bool) -> Bool {
        let parts = state.palette + entry &* 3
        let colour: UInt32
        if wide {
            colour = UInt32(parts[0]) << 16 | UInt32(parts[1]) << 8 | UInt32(parts[2])
        } else {
            colour = Self.widened(parts[0]) << 16 | Self.widened(parts[1]) << 8 | Self.widened(parts[2])
        }
        if renderer.palette[index] == colour { return false }
        renderer.palette[index] = colour
        return true
    }

    /// Six bits as eight: the lowest is repeated, as in QEMU.
    @inline(__always) private static func widened(_ part: UInt8) -> UInt32 {
        let six = UInt32(part & 0x3f)
        return six << 2 | (six & 1) &* 3
    }
}

import SeededNumbers
import Testing

@testable import VGA

@Suite("Rendering")
struct RenderTests {
    /// A text screen of blanks, with a font in which the character n's lines are all n.
    private func text(_ mode: Mode = .text, cursor: Bool = false, options: VGAOptions = VGAOptions()) throws -> Rig {
        let rig = try Rig(options: options)
        for character in 0..<256 {
            for line in 0..<32 {
                rig.write(memory: character * 128 + line * 4 + 2, [UInt8(character)])
                rig.write(memory: 0x8000 + character * 128 + line * 4 + 2, [~UInt8(character)])
            }
        }
        rig.set(mode)
        for index in 0..<64 as Range<UInt8> { rig.colour(index, index, 0, 0) }
        for cell in 0..<0x4000 { rig.write(window: 0x18000 + cell * 2, size: 2, 0x0700) }
        if !cursor { rig.crtc(0x0a, 0x20) }
        rig.render()
        return rig
    }

    private func write(_ rig: Rig, _ column: Int, _ row: Int, _ character: UInt8, _ attribute: UInt8 = 7, columns: Int = 80) {
        rig.write(window: 0x18000 + (row * columns + column) * 2, size: 2, UInt64(attribute) << 8 | UInt64(character))
    }

    private func red(_ index: UInt32) -> UInt32 { (index << 2 | (index & 1) * 3) << 16 }

    @Test("a character shows its font's bits in its attribute's colours, and only its cell is reported")
    func character() throws {
        let rig = try text()
        write(rig, 2, 1, 0xa5, 0x1e)
        let changes = rig.render(dirty: .none)
        #expect(changes == [.damage(x: 18, y: 16, width: 9, height: 16)])
        // Attribute 0x1e: colour 14 (DAC 0x3e) on colour 1.
        let (on, off) = (red(0x3e), red(1))
        #expect((18..<27).map { rig.pixel($0, 20) } == [on, off, on, off, off, on, off, on, off])
    }

    @Test("the ninth dot repeats the eighth in line graphics only, and only when the attribute controller says so")
    func ninthDot() throws {
        let rig = try text()
        write(rig, 0, 0, 0xc1)
        write(rig, 1, 0, 0x41)
        rig.render()
        #expect(rig.pixel(8, 0) == red(7))
        #expect(rig.pixel(17, 0) == red(0))
        rig.attribute(0x10, 8)
        rig.render()
        #expect(rig.pixel(8, 0) == red(0))
    }

    @Test("attribute bit 3 chooses the second font, where the sequencer says that there are two")
    func twoFonts() throws {
        let rig = try text()
        write(rig, 0, 0, 0x0f, 0x08)
        rig.render()
        #expect(rig.pixel(0, 0) == 0)
        // Font map A, for bit 3, is the fifth in memory's order: at 0x8000.
        rig.sequencer(3, 0x20)
        rig.render()
        #expect(rig.pixel(0, 0) == red(0x38))
        #expect(rig.pixel(7, 0) == 0)
    }

    @Test("a glyph that changes in plane 2 is drawn anew wherever it is shown")
    func fontChange() throws {
        let rig = try text()
        write(rig, 5, 5, 0x00)
        write(rig, 6, 6, 0x10)
        rig.render()
        rig.write(memory: 0x10 * 128 + 2, [0xff])
        #expect(rig.render() == [.damage(x: 54, y: 96, width: 9, height: 16)])
        #expect(rig.pixel(54, 96) == red(7))
    }

    @Test("attribute bit 7 blinks with the attribute controller's bit 3, and is a bright background without")
    func blink() throws {
        let rig = try text()
        write(rig, 0, 0, 0xff, 0x87)
        rig.now = 0
        rig.render()
        #expect(rig.pixel(0, 0) == red(7) && rig.pixel(8, 0) == 0)
        let next = try #require(rig.nextBlink)
        rig.now = next
        #expect(rig.render(dirty: .none) == [.damage(x: 0, y: 0, width: 9, height: 16)])
        #expect(rig.pixel(0, 0) == 0)
        rig.attribute(0x10, 4)
        rig.render()
        #expect(rig.pixel(0, 0) == red(7) && rig.pixel(8, 0) == red(0x38))
        #expect(rig.nextBlink == nil)
    }

    @Test("drawn steadily, what blinks is shown at every time and no blink is due; then it blinks on")
    func steady() throws {
        let rig = try text(cursor: true)
        rig.attribute(0x10, 0x0c)
        rig.crtc(0x0f, 81)
        write(rig, 0, 0, 0xff, 0x87)
        rig.now = 0
        rig.render()
        rig.now = try #require(rig.nextBlink)
        // The two cells touch at a corner: one rectangle.
        let both = VGAChange.damage(x: 0, y: 0, width: 18, height: 32)
        #expect(rig.render(dirty: .none) == [both])
        #expect(rig.pixel(0, 0) == 0 && rig.pixel(9, 29) == 0)
        rig.steady = true
        #expect(rig.render(dirty: .none) == [both])
        #expect(rig.pixel(0, 0) == red(7) && rig.pixel(9, 29) == red(7))
        #expect(rig.nextBlink == nil)
        for _ in 0..<4 {
            rig.now += 133_000_000
            #expect(rig.render(dirty: .none) == [] && rig.nextBlink == nil)
        }
        rig.steady = false
        rig.render(dirty: .none)
        rig.now = try #require(rig.nextBlink)
        #expect(rig.render(dirty: .none) == [both])
    }

    @Test("compared with QEMU's, the cursor never stops blinking")
    func neverSteady() throws {
        var options = VGAOptions()
        options.beyondQEMU = false
        let rig = try text(cursor: true, options: options)
        rig.steady = true
        rig.now = 0
        rig.render()
        rig.now = try #require(rig.nextBlink)
        #expect(!rig.render(dirty: .none).isEmpty)
    }

    @Test("the monochrome attribute 1 is underlined at the line that the CRTC says")
    func underline() throws {
        let rig = try text()
        write(rig, 0, 0, 0, 1)
        rig.crtc(0x14, 13)
        rig.render()
        #expect(rig.pixel(0, 13) == 0)
        rig.attribute(0x10, 0x0e)
        rig.render()
        #expect((0..<16).map { rig.pixel(4, $0) != 0 } == (0..<16).map { $0 == 13 })
        #expect(rig.pixel(8, 13) == red(1))
    }

    @Test("the cursor has the foreground's colour, blinks, moves as two small changes, and can be switched off")
    func cursor() throws {
        let rig = try text(cursor: true)
        rig.crtc(0x0f, 81)
        rig.now = 0
        rig.render()
        #expect((16..<32).map { rig.pixel(9, $0) != 0 } == (0..<16).map { $0 == 13 || $0 == 14 })
        #expect(rig.pixel(17, 29) == red(7))
        rig.crtc(0x0f, 90)
        #expect(rig.render(dirty: .none) == [.damage(x: 9, y: 16, width: 9, height: 16), .damage(x: 90, y: 16, width: 9, height: 16)])
        rig.crtc(0x0a, 0)
        #expect(rig.render(dirty: .none) == [.damage(x: 90, y: 16, width: 9, height: 16)])
        #expect(rig.pixel(90, 16) == red(7))
        rig.now = try #require(rig.nextBlink)
        rig.render(dirty: .none)
        #expect(rig.pixel(90, 16) == 0)
        rig.crtc(0x0a, 0x20)
        rig.render(dirty: .none)
        #expect(rig.nextBlink == nil)
    }

    @Test("text that the CPU moved up is told as a copy, and only the new line as damage")
    func textScroll() throws {
        let rig = try text()
        for row in 0..<25 { for column in 0..<80 { write(rig, column, row, UInt8(row &* 3 &+ column), 7) } }
        rig.render()
        for row in 0..<25 { for column in 0..<80 { write(rig, column, row, row < 24 ? UInt8((row + 1) &* 3 &+ column) : 0x20, 7) } }
        let changes = rig.render(dirty: .none)
        #expect(changes.first == .copy(fromX: 0, fromY: 16, x: 0, y: 0, width: 720, height: 384))
        #expect(changes.dropFirst() == [.damage(x: 0, y: 384, width: 720, height: 16)])
        rig.device.invalidate()
        let picture = rig.picture
        rig.render()
        #expect(rig.picture == picture)
    }

    @Test("a part of the text that moves down between rows that stay is a copy, too")
    func partialScroll() throws {
        let rig = try text()
        for row in 0..<25 { for column in 0..<80 { write(rig, column, row, UInt8(row &* 3 &+ column), 7) } }
        rig.render()
        for row in (6..<20).reversed() { for column in 0..<80 { write(rig, column, row, UInt8((row - 2) &* 3 &+ column), 7) } }
        let changes = rig.render(dirty: .none)
        #expect(changes == [.copy(fromX: 0, fromY: 64, x: 0, y: 96, width: 720, height: 14 * 16)])
    }

    @Test("vgacon's scroll by the start address is a copy")
    func startAddressScroll() throws {
        let rig = try text()
        for row in 0..<30 { for column in 0..<80 { write(rig, column, row, UInt8(row &* 3 &+ column), 7) } }
        rig.render()
        rig.crtc(0x0d, 80)
        #expect(rig.render(dirty: .none).first == .copy(fromX: 0, fromY: 16, x: 0, y: 0, width: 720, height: 384))
    }

    @Test("what text shows nothing of is black and safe: cells beyond the end of memory")
    func beyondMemory() throws {
        let rig = try Rig()
        rig.set(.text)
        rig.crtc(0x11, 0)
        rig.crtc(0x13, 0xff)
        rig.crtc(0x09, 0)
        rig.crtc(0x12, 0xff)
        rig.crtc(0x07, 0x42)
        rig.crtc(1, 3)
        rig.crtc(0x0c, 0xff)
        rig.render()
        #expect(rig.isIntact)
        #expect(rig.scanout.kind == .text(columns: 4, rows: 1024))
    }

    @Test("registers between two modes show nothing, and change nothing")
    func transient() throws {
        let rig = try text()
        let picture = rig.picture
        rig.crtc(9, 0)
        rig.crtc(1, 0xff)
        #expect(rig.scanout.kind == .transient)
        #expect(rig.render().isEmpty)
        #expect(rig.picture == picture)
        #expect(rig.scanoutRange.isEmpty)
    }

    @Test("a screen that is switched off is black and keeps its size", arguments: [false, true])
    func blank(bySequencer: Bool) throws {
        let rig = try text()
        write(rig, 0, 0, 0xff)
        rig.render()
        if bySequencer {
            rig.sequencer(1, 0x20)
        } else {
            _ = rig.inb(0x3da)
            rig.out(0x3c0, 0)
        }
        #expect(rig.scanout.kind == .blank)
        #expect(rig.render() == [.damage(x: 0, y: 0, width: 720, height: 400)])
        #expect(rig.render().isEmpty)
        #expect(rig.picture.allSatisfy { $0 == 0 })
    }

    @Test("planar pixels, panned by single pixels")
    func planarPanning() throws {
        let rig = try Rig()
        rig.set(.planar)
        for index in 0..<64 as Range<UInt8> { rig.colour(index, index, 0, 0) }
        rig.write(memory: 0, [0x80, 0x40, 0x20, 0x10, 0xff, 0, 0, 0])
        rig.render()
        #expect((0..<9).map { rig.pixel($0, 0) } == [1, 2, 4, 0x38, 0, 0, 0, 0, 1].map(red))
        rig.attribute(0x13, 3)
        rig.render()
        #expect((0..<9).map { rig.pixel($0, 0) } == [0x38, 0, 0, 0, 0, 1, 1, 1, 1].map(red))
        rig.attribute(0x12, 0x0e)
        rig.render()
        #expect(rig.pixel(5, 0) == 0)
    }

    @Test("text, panned by pixels and lines, moves as a whole")
    func textPanning() throws {
        let rig = try text(.denseText)
        write(rig, 1, 1, 0xff)
        rig.attribute(0x13, 3)
        rig.crtc(8, 2)
        rig.render()
        let lit = (0..<400).flatMap { y in (0..<640).map { ($0, y) } }.filter { rig.pixel($0.0, $0.1) != 0 }
        #expect(lit.map(\.0).min() == 5 && lit.map(\.0).max() == 12 && lit.map(\.1).min() == 6 && lit.map(\.1).max() == 13)
        #expect(rig.isIntact)
    }

    @Test("line compare shows memory's beginning below, unpanned where the attribute controller says so")
    func splitScreen() throws {
        let rig = try Rig()
        rig.set(.planar)
        for index in 0..<64 as Range<UInt8> { rig.colour(index, index, 0, 0) }
        rig.write(memory: 0, [0x80])
        rig.crtc(0x0c, 0x80)
        rig.crtc(0x18, 99)
        rig.crtc(7, 0x2e)
        rig.crtc(9, 0)
        rig.render()
        #expect(rig.pixel(0, 99) == 0 && rig.pixel(0, 100) == red(1) && rig.pixel(0, 101) == 0)
        rig.attribute(0x13, 1)
        rig.render()
        #expect(rig.pixel(0, 100) == 0)
        rig.attribute(0x10, 0x21)
        rig.render()
        #expect(rig.pixel(0, 100) == red(1))
    }

    @Test("mode 0x13 doubles pixels and lines, and goes through the palette and its mask")
    func packed() throws {
        let rig = try Rig()
        rig.set(.packed)
        rig.colour(0x0f, 0x3f, 0x20, 0x01)
        rig.write(window: 321, size: 1, 0x0f)
        rig.render()
        #expect(rig.width == 640 && rig.height == 400)
        #expect(Set([(2, 2), (3, 2), (2, 3), (3, 3)].map { rig.pixel($0.0, $0.1) }) == [0xff8007])
        #expect(rig.pixel(4, 2) == 0 && rig.pixel(2, 4) == 0)
        rig.out(0x3c6, 0xf0)
        rig.render()
        #expect(rig.pixel(2, 2) == 0)
    }

    @Test("colours of DISPI's depths, in both byte orders")
    func depths() throws {
        let rig = try Rig()
        let cases: [(UInt16, [UInt8], UInt32, UInt32)] = [
            (15, [0x1f, 0x7c], 0xf800f8, 0x38d8e0), (16, [0x1f, 0xf8], 0xff00ff, 0x18fcc0), (24, [1, 2, 3], 0x030201, 0x010203),
            (32, [1, 2, 3, 4], 0x030201, 0x020304),
        ]
        for (depth, bytes, little, big) in cases {
            rig.set(width: 320, height: 200, depth: depth)
            rig.write(memory: 0, bytes)
            rig.write(registers: 0x604, size: 4, 0x1e1e_1e1e)
            rig.render()
            #expect(rig.pixel(0, 0) == little, "\(depth)")
            rig.write(registers: 0x604, size: 4, 0xbebe_bebe)
            rig.render()
            #expect(rig.pixel(0, 0) == big, "\(depth)")
        }
        rig.set(width: 320, height: 200, depth: 8, flags: 0x61)
        rig.colour(9, 1, 2, 255)
        rig.write(memory: 0, [9])
        rig.render()
        #expect(rig.pixel(0, 0) == 0x0102ff)
    }

    @Test("of a changed page only the pixels that differ are reported")
    func narrowDamage() throws {
        let rig = try Rig()
        rig.set(width: 512, height: 400, depth: 32)
        rig.render()
        for y in 100..<116 { rig.write(memory: (y * 512 + 40) * 4, [UInt8](repeating: 9, count: 64)) }
        #expect(rig.render() == [.damage(x: 40, y: 100, width: 16, height: 16)])
    }

    @Test("pages that are not dirty are not looked at, those written through the window are")
    func dirtyPages() throws {
        let rig = try Rig()
        rig.set(width: 1024, height: 200, depth: 32)
        rig.render()
        rig.write(memory: 4096 * 50 + 8, [1])
        rig.write(memory: 4096 * 51 + 8, [1])
        var bitmap = [UInt8](repeating: 0, count: 32)
        bitmap[51 / 8] |= 1 << 3
        let changes = bitmap.withUnsafeBytes { rig.render(dirty: VGADirtyPages(bitmap: $0)) }
        #expect(changes == [.damage(x: 2, y: 51, width: 1, height: 1)])
        let rest = bitmap.withUnsafeBytes { rig.render(dirty: VGADirtyPages(bitmap: UnsafeRawBufferPointer(rebasing: $0[0..<1]), firstPage: 48)) }
        #expect(rest.isEmpty)
        rig.write(window: 0x0fff, size: 1, 3)
        #expect(rig.wroteMemory)
        #expect(rig.render(dirty: .none) == [.damage(x: 1023, y: 0, width: 1, height: 1)])
    }

    @Test("a linear picture that moves by its start is a copy, and what comes into view is damage")
    func linearScroll() throws {
        let rig = try Rig()
        rig.set(width: 256, height: 200, depth: 32)
        rig.dispi(7, 1000)
        var random = SplitMix(state: 5)
        rig.write(memory: 0, (0..<1 << 20).map { _ in random.byte() })
        rig.render()
        rig.dispi(9, 24)
        let up = rig.render(dirty: .none)
        #expect(up.first == .copy(fromX: 0, fromY: 24, x: 0, y: 0, width: 256, height: 176))
        #expect(up.count == 2)
        rig.dispi(9, 8)
        #expect(rig.render(dirty: .none).first == .copy(fromX: 0, fromY: 0, x: 0, y: 16, width: 256, height: 184))
        // A second buffer has nothing in common with the first.
        rig.dispi(9, 300)
        let flip = rig.render(dirty: .none)
        #expect(flip.allSatisfy { if case .damage = $0 { true } else { false } })
        let picture = rig.picture
        rig.device.invalidate()
        rig.render()
        #expect(rig.picture == picture)
    }

    @Test("a target of another size gets the part that fits")
    func otherSizes() throws {
        let rig = try text()
        for row in 0..<25 { for column in 0..<80 { write(rig, column, row, UInt8(row &* 3 &+ column), 0x1f) } }
        rig.render()
        let (small, large) = (Guarded(100 * 50 * 4), Guarded(1000 * 600 * 4))
        rig.device.render(into: VGATarget(pixels: small.bytes, width: 100, height: 50), now: 0) { _ in }
        rig.device.render(into: VGATarget(pixels: large.bytes, width: 1000, height: 600), now: 0) { _ in }
        #expect(small.isIntact && large.isIntact)
        #expect(small.bytes.load(fromByteOffset: (49 * 100 + 99) * 4, as: UInt32.self) & 0xff_ffff == rig.pixel(99, 49))
        for target in [
            VGATarget(pixels: small.bytes, width: -1, height: 5), VGATarget(pixels: small.bytes, width: 10, height: 5, stride: 8),
            VGATarget(pixels: small.bytes + 1, width: 10, height: 5), VGATarget(pixels: small.bytes, width: .max, height: .max, stride: .max),
        ] {
            rig.device.render(into: target, now: 0) { _ in Issue.record("nothing can be drawn") }
        }
    }
}

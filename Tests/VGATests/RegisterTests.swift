import SeededNumbers
import Testing

@testable import VGA

@Suite("Registers")
struct RegisterTests {
    @Test("a word written to an index port is the index, then the data")
    func words() throws {
        let rig = try Rig()
        rig.outw(0x3c4, 0x0f02)
        #expect(rig.inb(0x3c4) == 2)
        #expect(rig.inb(0x3c5) == 0x0f)
        #expect(rig.read(port: 0x3c4, size: 2) == 0x0f02)
        rig.write(port: 0x3ce, size: 4, 0xffff_3305)
        #expect(rig.inb(0x3cf) == 0x33)
    }

    @Test("bits that do not exist read zero")
    func masks() throws {
        let rig = try Rig()
        for (index, expected) in [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0xff].enumerated() {
            rig.sequencer(UInt8(index), 0xff)
            #expect(rig.inb(0x3c5) == UInt8(expected))
        }
        for (index, expected) in [0x0f, 0x0f, 0x0f, 0x1f, 3, 0x7b, 0x0f, 0x0f, 0xff, 0, 0, 0, 0, 0, 0, 0].enumerated() {
            rig.graphics(UInt8(index), 0xff)
            #expect(rig.inb(0x3cf) == UInt8(expected))
        }
        rig.out(0x3c2, 0xff)
        #expect(rig.inb(0x3cc) == 0xef)
    }

    @Test("the attribute controller's port takes index and data in turn, and reading status 1 starts again with the index")
    func flipFlop() throws {
        let rig = try Rig()
        rig.out(0x3c2, 1)
        _ = rig.inb(0x3da)
        rig.out(0x3c0, 0x10)
        rig.out(0x3c0, 0x0c)
        rig.out(0x3c0, 0x11)
        _ = rig.inb(0x3da)
        rig.out(0x3c0, 0x10)
        #expect(rig.inb(0x3c1) == 0x0c)
        #expect(rig.inb(0x3c0) == 0)
        _ = rig.inb(0x3da)
        #expect(rig.inb(0x3c0) == 0x10)
    }

    @Test("the retrace bits toggle at each read")
    func retrace() throws {
        let rig = try Rig()
        rig.out(0x3c2, 1)
        #expect((0..<4).map { _ in rig.inb(0x3da) } == [9, 0, 9, 0])
    }

    @Test("the CRTC answers at 3d4 in colour and at 3b4 in monochrome, never at both")
    func colourAndMonochrome() throws {
        let rig = try Rig()
        rig.out(0x3c2, 1)
        rig.crtc(0x0e, 0x12)
        #expect(rig.inb(0x3d5) == 0x12)
        #expect(rig.inb(0x3b5) == 0xff)
        rig.out(0x3c2, 0)
        #expect(rig.inb(0x3d5) == 0xff)
        #expect(rig.inb(0x3b5) == 0x12)
        rig.outw(0x3d4, 0x550e)
        #expect(rig.inb(0x3b5) == 0x12)
    }

    @Test("CR11 bit 7 protects CR0–7, line compare's bit excepted")
    func protection() throws {
        let rig = try Rig()
        rig.out(0x3c2, 1)
        rig.crtc(0x11, 0x80)
        rig.crtc(1, 0x4f)
        #expect(rig.inb(0x3d5) == 0)
        rig.crtc(7, 0xff)
        #expect(rig.inb(0x3d5) == 0x10)
        rig.crtc(8, 0x33)
        #expect(rig.inb(0x3d5) == 0x33)
        rig.crtc(0x11, 0)
        rig.crtc(1, 0x4f)
        #expect(rig.inb(0x3d5) == 0x4f)
    }

    @Test("the DAC takes and gives three parts a colour, and a colour counts when it is whole")
    func dac() throws {
        let rig = try Rig()
        rig.out(0x3c8, 254)
        for value in 1...7 as ClosedRange<UInt8> { rig.out(0x3c9, value) }
        #expect(rig.inb(0x3c8) == 0)
        #expect(rig.inb(0x3c7) == 0)
        rig.out(0x3c7, 254)
        #expect(rig.inb(0x3c7) == 3)
        #expect((0..<7).map { _ in rig.inb(0x3c9) } == [1, 2, 3, 4, 5, 6, 0])
        rig.out(0x3c6, 0x0f)
        #expect(rig.inb(0x3c6) == 0x0f)
    }

    @Test("the pel mask is all ones after a reset")
    func pelMask() throws {
        #expect(try Rig().inb(0x3c6) == 0xff)
    }

    @Test("ports where nothing is read all ones")
    func nothing() throws {
        let rig = try Rig()
        rig.out(0x3c2, 1)
        for port in [0x3b4, 0x3bf, 0x3d0, 0x3d6, 0x3df, 0x1cd, 0x1d1] as [UInt16] { #expect(rig.inb(port) == 0xff) }
        #expect(rig.read(port: 0x1ce, size: 1) & 0xff == 0xff)
        #expect(rig.read(port: 0x1ce, size: 4) & 0xffff_ffff == 0xffff_ffff)
    }

    // MARK: DISPI

    @Test("DISPI's ids read back what was written, and others are not taken")
    func dispiIDs() throws {
        let rig = try Rig()
        rig.outw(0x1ce, 0)
        #expect(rig.read(port: 0x1cf, size: 2) == 0xb0c5)
        for id in 0xb0c0...0xb0c5 as ClosedRange<UInt16> {
            rig.outw(0x1cf, id)
            #expect(rig.read(port: 0x1d0, size: 2) == UInt64(id))
        }
        rig.outw(0x1cf, 0xb0c6)
        #expect(rig.read(port: 0x1cf, size: 2) == 0xb0c5)
        rig.outw(0x1ce, 10)
        #expect(rig.read(port: 0x1cf, size: 2) == 16)
    }

    @Test("GETCAPS shows the largest values, and hides no register's own")
    func capabilities() throws {
        let rig = try Rig()
        rig.dispi(1, 640)
        rig.dispi(4, 2)
        let caps = (1...3 as ClosedRange<UInt16>).map { index in
            rig.outw(0x1ce, index)
            return rig.read(port: 0x1cf, size: 2)
        }
        #expect(caps == [16000, 12000, 32])
        rig.dispi(4, 0)
        rig.outw(0x1ce, 1)
        #expect(rig.read(port: 0x1cf, size: 2) == 640)
    }

    @Test("enabling rounds and clamps to video memory, and clears the picture unless told not to")
    func enabling() throws {
        let rig = try Rig()
        rig.write(memory: 0, [1, 2, 3])
        rig.set(width: 1027, height: 5000, depth: 7, flags: 0xc1)
        let values = (0..<10 as Range<UInt16>).map { index in
            rig.outw(0x1ce, index)
            return rig.read(port: 0x1cf, size: 2)
        }
        #expect(values == [0xb0c5, 1024, 1024, 8, 0xc1, 0, 1024, 1024, 0, 0])
        #expect(rig.memory.buffer[1] == 2)
        rig.dispi(4, 0x41)
        #expect(rig.memory.buffer[1] == 2)
        rig.dispi(4, 0)
        rig.dispi(4, 0x41)
        #expect(rig.memory.buffer[1] == 0)
    }

    @Test("equal values, as bochs-drm writes them at every flush, are no change")
    func equalValues() throws {
        let rig = try Rig()
        rig.set(width: 320, height: 200, depth: 32)
        rig.render()
        for (register, value) in [(6, 320), (8, 0), (9, 0)] as [(UInt16, UInt16)] { rig.dispi(register, value) }
        #expect(!rig.changedRegisters)
        #expect(rig.render(dirty: .none).isEmpty)
    }

    @Test("the bank moves the window through video memory, and enabling resets it")
    func banks() throws {
        let rig = try Rig()
        rig.set(width: 640, height: 400, depth: 8)
        rig.dispi(5, 3)
        rig.write(window: 0x1234, size: 1, 0x77)
        #expect(rig.memory.buffer[0x31234] == 0x77)
        rig.dispi(5, 16 + 5)
        rig.outw(0x1ce, 5)
        #expect(rig.read(port: 0x1cf, size: 2) == 5)
        rig.dispi(4, 0x41)
        #expect(rig.read(window: 0, size: 1) == 0)
        rig.write(window: 0, size: 2, 0xbeef)
        #expect(rig.memory.buffer[0] == 0xef)
    }

    // MARK: BAR2

    @Test("BAR2 has the ports, DISPI and the extension, and all ones elsewhere")
    func bar() throws {
        let rig = try Rig()
        rig.write(registers: 0x404, size: 2, 0x0a02)
        #expect(rig.read(registers: 0x405, size: 1) == 0x0a)
        rig.write(registers: 0x502, size: 2, 800)
        #expect(rig.read(registers: 0x502, size: 2) == 800)
        #expect(rig.read(registers: 0x600, size: 4) == 8)
        #expect(rig.read(registers: 0x604, size: 4) == 0x1e1e_1e1e)
        rig.write(registers: 0x604, size: 4, 0xbebe_bebe)
        #expect(rig.read(registers: 0x604, size: 4) == 0xbebe_bebe)
        rig.write(registers: 0x604, size: 4, 1)
        #expect(rig.read(registers: 0x604, size: 4) == 0xbebe_bebe)
        #expect(rig.read(registers: 0x800, size: 4) == 0xffff_ffff)
        #expect(rig.read(registers: 0x3f0, size: 2) == 0xffff)
        #expect(rig.read(registers: 0, size: 8) == 0x00ff_ffff_ffff_ff00)
    }

    // MARK: the window

    @Test("write modes 0 to 3 combine data, latches, set/reset, rotation, function and masks")
    func writeModes() throws {
        let rig = try Rig()
        rig.set(.planar)
        // Mode 0: plane 0 from set/reset, the rest from the rotated byte.
        rig.graphics(0, 1)
        rig.graphics(1, 1)
        rig.graphics(3, 4)
        rig.poke(0, 0x12)
        #expect(Array(rig.memory.buffer[0..<4]) == [0xff, 0x21, 0x21, 0x21])
        // Read mode 1: where the colour is 15 in all planes that count.
        rig.graphics(2, 1)
        rig.graphics(7, 3)
        rig.graphics(5, 8)
        #expect(rig.read(window: 0, size: 1) == 0xde)
        // Mode 1: latches.
        rig.graphics(5, 1)
        rig.poke(1, 0)
        #expect(Array(rig.memory.buffer[4..<8]) == [0xff, 0x21, 0x21, 0x21])
        // Mode 2: a colour through the bit mask, exclusive-or with the latches.
        rig.graphics(5, 2)
        rig.graphics(3, 0x18)
        rig.graphics(8, 0x0f)
        rig.poke(1, 3)
        #expect(Array(rig.memory.buffer[4..<8]) == [0xf0, 0x2e, 0x21, 0x21])
        // Mode 3: the byte is a mask, the colour is set/reset's; map mask.
        rig.graphics(5, 3)
        rig.graphics(3, 0)
        rig.graphics(8, 0xff)
        rig.graphics(0, 0x0c)
        rig.sequencer(2, 0x0d)
        _ = rig.read(window: 1, size: 1)
        rig.poke(1, 0xf0)
        #expect(Array(rig.memory.buffer[4..<8]) == [0x00, 0x2e, 0xf1, 0xf1])
    }

    @Test("text is odd and even: characters in plane 0, attributes in plane 1; nothing is mapped beside b8000–bffff")
    func oddEven() throws {
        let rig = try Rig()
        rig.set(.text)
        rig.write(window: 0x18000, size: 4, 0x0742_0741)
        #expect(Array(rig.memory.buffer[0..<6]) == [0x41, 7, 0, 0, 0x42, 7])
        #expect(rig.read(window: 0x18000, size: 4) == 0x0742_0741)
        #expect(rig.read(window: 0x17fff, size: 1) == 0xff)
        rig.poke(0x10000, 1)
        rig.sequencer(2, 1)
        rig.write(window: 0x18000, size: 2, 0xffff)
        #expect(rig.memory.buffer[1] == 7)
    }

    // MARK: plain windows

    @Test("text and mode 0x13 are plain; planar modes, fonts being loaded, banks and DISPI are not")
    func plain() throws {
        let rig = try Rig()
        rig.set(.text)
        #expect(rig.plainWindow == VGAPlainWindow(offset: 0x18000, length: 0x8000, layout: .oddEven(plane: 0)))
        rig.graphics(6, 0x0a)
        #expect(rig.plainWindow?.offset == 0x10000)
        rig.sequencer(2, 1)
        #expect(rig.plainWindow == nil)
        rig.set(.packed)
        #expect(rig.plainWindow == VGAPlainWindow(offset: 0, length: 0x10000, layout: .chained))
        rig.dispi(5, 1)
        #expect(rig.plainWindow == nil)
        rig.dispi(5, 0)
        #expect(rig.plainWindow != nil)
        rig.set(.planar)
        #expect(rig.plainWindow == nil)
        rig.set(.unchained)
        #expect(rig.plainWindow == nil)
        rig.set(width: 640, height: 400, depth: 8)
        #expect(rig.plainWindow == nil)
    }

    @Test("what the guest writes behind a plain window arrives as if it had been trapped", arguments: [Mode.text, Mode.packed].indices)
    func plainRoundTrip(index: Int) throws {
        let mode = [Mode.text, Mode.packed][index]
        let (backed, trapped) = (try Rig(), try Rig())
        var random = SplitMix(state: 7)
        let noise = (0..<0x40000).map { _ in random.byte() }
        for rig in [backed, trapped] {
            rig.write(memory: 0, noise)
            rig.set(mode)
        }
        let plain = try #require(backed.plainWindow)
        let (bytes, previous) = (Guarded(plain.length), Guarded(plain.length))
        backed.device.exportPlainWindow(plain, to: bytes.buffer)
        backed.device.exportPlainWindow(plain, to: previous.buffer)
        for offset in 0..<plain.length { #expect(bytes.buffer[offset] == UInt8(trapped.read(window: plain.offset + offset, size: 1))) }
        #expect(backed.importPlainWindow(plain, from: bytes, previous: previous) == nil)
        backed.render()
        var (lowest, highest) = (Int.max, 0)
        for _ in 0..<500 {
            let (offset, value) = (100 + random.below(plain.length - 200), random.byte())
            (lowest, highest) = (min(lowest, offset), max(highest, offset))
            bytes.buffer[offset] = value
            trapped.poke(plain.offset + offset, value)
        }
        let changed = try #require(backed.importPlainWindow(plain, from: bytes, previous: previous))
        #expect(changed.lowerBound <= lowest + 8 && changed.upperBound >= highest - 8 && changed.upperBound <= plain.length)
        #expect(backed.memory.buffer.elementsEqual(trapped.memory.buffer))
        #expect(backed.wroteMemory)
        backed.render(dirty: .none)
        trapped.render()
        #expect(backed.picture == trapped.picture)
        #expect(bytes.isIntact && previous.isIntact && backed.isIntact)
    }
}

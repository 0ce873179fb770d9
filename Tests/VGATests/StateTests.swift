import SeededNumbers
import Testing

@testable import VGA

@Suite("State")
struct StateTests {
    @Test("the bytes are where they were in version 1")
    func layout() {
        #expect(State.version == 1 && VGADevice.stateLength == 2048)
        #expect(MemoryLayout<State.Scalars>.size <= State.Place.dispi)
        #expect(MemoryLayout<State.Scalars>.offset(of: \.latch) == 4)
        #expect(MemoryLayout<State.Scalars>.offset(of: \.sequencerIndex) == 8)
        #expect(MemoryLayout<State.Scalars>.offset(of: \.attributeIndex) == 10)
        #expect(MemoryLayout<State.Scalars>.offset(of: \.dacState) == 16)
        #expect(MemoryLayout<State.Scalars>.offset(of: \.pelMaskOff) == 22)
        #expect(MemoryLayout<State.Scalars>.offset(of: \.dispiIndex) == 24)
        #expect(MemoryLayout<State.Scalars>.offset(of: \.bigEndian) == 28)
        #expect(MemoryLayout<State.Scalars>.offset(of: \.hintWidth) == 30)
        #expect(MemoryLayout<State.Scalars>.offset(of: \.lastHeight) == 36)
        #expect(State.Place.palette + 768 <= State.Place.end && State.Place.end <= State.length)
    }

    @Test("a successor goes on in the middle of whatever was being done")
    func handOver() throws {
        let rig = try Rig()
        rig.set(.planar)
        rig.setPalette()
        var random = SplitMix(state: 11)
        rig.write(memory: 0, (0..<0x30000).map { _ in random.byte() })
        rig.render()
        let picture = rig.picture
        // A colour half written, an index waiting for its data, latches filled.
        rig.out(0x3c8, 7)
        rig.out(0x3c9, 1)
        rig.out(0x3c9, 2)
        _ = rig.inb(0x3da)
        rig.out(0x3c0, 0x2c)
        _ = rig.read(window: 100, size: 1)
        try rig.succeed()
        rig.out(0x3c9, 3)
        rig.out(0x3c7, 7)
        #expect((0..<3).map { _ in rig.inb(0x3c9) } == [1, 2, 3])
        rig.out(0x3c0, 0x15)
        #expect(rig.inb(0x3c1) == 0x15)
        rig.graphics(5, 1)
        rig.poke(200, 0)
        #expect(Array(rig.memory.buffer[800..<804]) == Array(rig.memory.buffer[400..<404]))
        // Undone, the picture is the same.
        rig.colour(7, 7, 52, 22)
        rig.attribute(0x0c, Mode.planar.attribute[0x0c])
        rig.write(memory: 800, (0..<4).map { index in picture.isEmpty ? UInt8(index) : 0 })
        rig.render()
        #expect(rig.width == 640 && rig.height == 480)
    }

    @Test("a successor shows DISPI's mode, its bank and byte order, and the blank screen's size", arguments: [8, 15, 16, 24, 32])
    func modes(depth: UInt16) throws {
        let rig = try Rig()
        rig.setPalette()
        rig.set(width: 400, height: 150, depth: depth)
        rig.dispi(6, 416)
        rig.dispi(9, 3)
        rig.dispi(5, 2)
        rig.write(registers: 0x604, size: 4, 0xbebe_bebe)
        var random = SplitMix(state: 12)
        rig.write(memory: 0, (0..<0x80000).map { _ in random.byte() })
        rig.render()
        let (picture, scanout) = (rig.picture, rig.scanout)
        try rig.succeed()
        #expect(rig.scanout == scanout)
        #expect(rig.changedRegisters)
        rig.render()
        #expect(rig.picture == picture)
        rig.poke(5, 0x99)
        #expect(rig.memory.buffer[0x20005] == 0x99)
        _ = rig.inb(0x3da)
        rig.out(0x3c0, 0)
        try rig.succeed()
        #expect(rig.scanout.kind == .blank && rig.scanout.width == 400 && rig.scanout.height == 150)
    }

    @Test("state of another version is a fresh start")
    func otherVersion() throws {
        let rig = try Rig()
        rig.set(.text)
        rig.state.buffer[0] = 2
        try rig.succeed()
        #expect(rig.inb(0x3cc) == 0)
        #expect(rig.scanout.kind == .blank)
        #expect(rig.scanout.width == 640 && rig.scanout.height == 480)
    }

    @Test("memory that is too small or not aligned is refused")
    func refused() {
        let (memory, state) = (Guarded(1 << 20), Guarded(VGADevice.stateLength))
        for (memory, state) in [
            (UnsafeMutableRawBufferPointer(rebasing: memory.buffer[0..<1000]), state.bytes), (memory.buffer, state.bytes + 1),
            (UnsafeMutableRawBufferPointer(start: nil, count: 0), state.bytes),
        ] {
            if VGADevice(memory: memory, state: state) != nil { Issue.record("taken") }
        }
    }
}

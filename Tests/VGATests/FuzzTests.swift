import Glibc
import SeededNumbers
import Testing

@testable import VGA

/// A viewer that knows only what it is told.
private final class Viewer {
    private var pixels = Guarded(0)
    private var (width, height) = (0, 0)

    func follow(_ changes: [VGAChange], of rig: Rig) {
        if width != rig.width || height != rig.height {
            (width, height) = (rig.width, rig.height)
            pixels = Guarded(width * height * 4)
            copy(from: rig.pixels.bytes, 0, 0, to: 0, 0, width, height)
            return
        }
        for change in changes {
            switch change {
            case .damage(let x, let y, let w, let h): copy(from: rig.pixels.bytes, x, y, to: x, y, w, h)
            case .copy(let fromX, let fromY, let x, let y, let w, let h):
                let old = Guarded(pixels.count)
                old.bytes.copyMemory(from: pixels.bytes, byteCount: pixels.count)
                copy(from: old.bytes, fromX, fromY, to: x, y, w, h)
            }
        }
    }

    private func copy(from source: UnsafeMutableRawPointer, _ fromX: Int, _ fromY: Int, to x: Int, _ y: Int, _ w: Int, _ h: Int) {
        guard min(x, y, fromX, fromY, w, h) >= 0, max(x, fromX) + w <= width, max(y, fromY) + h <= height else {
            Issue.record("a change reaches beyond the picture")
            return
        }
        for row in 0..<h {
            (pixels.bytes + ((y + row) * width + x) * 4).copyMemory(from: source + ((fromY + row) * width + fromX) * 4, byteCount: w * 4)
        }
    }

    func agrees(with rig: Rig) -> Bool { memcmp(pixels.bytes, rig.pixels.bytes, pixels.count) == 0 }
}

@Suite("A hostile guest")
struct FuzzTests {
    /// Any access of any size at any place, more often near something than not.
    private func access(_ random: inout SplitMix, _ rig: Rig) {
        let sizes = [1, 1, 2, 4, 8, 1, 2, 4, 0, 3, -1, 16, Int.max]
        let size = sizes[random.below(random.below(8) == 0 ? sizes.count : 5)]
        let value = random.next()
        switch random.below(16) {
        case 0..<4:
            let port = random.below(4) == 0 ? UInt16(truncatingIfNeeded: value) : UInt16(0x3b0 + random.below(0x30))
            rig.write(port: port, size: size, random.next())
        case 4: _ = rig.read(port: UInt16(0x3b0 + random.below(0x30)), size: size)
        case 5: Accesses.any(&random, on: rig)
        case 6:
            rig.dispi(UInt16(random.below(12)), UInt16(random.below(random.below(2) == 0 ? 1200 : 65536)))
            if random.below(8) == 0 { rig.dispi(3, [4, 8, 15, 16, 24, 32][random.below(6)]) }
        case 7: rig.write(port: UInt16(0x1cd + random.below(6)), size: size, value)
        case 8: _ = rig.read(port: UInt16(0x1cd + random.below(6)), size: size)
        case 9: rig.write(registers: random.below(4) == 0 ? Int(truncatingIfNeeded: value) : 0x3f0 + random.below(0x220), size: size, random.next())
        case 10: _ = rig.read(registers: random.below(4) == 0 ? Int(truncatingIfNeeded: value) : random.below(4096), size: size)
        case 11: _ = rig.read(window: random.below(16) == 0 ? Int(truncatingIfNeeded: value) : random.below(0x20000), size: size)
        default: rig.write(window: random.below(16) == 0 ? Int(truncatingIfNeeded: value) : random.below(0x20000), size: size, random.next())
        }
    }

    @Test("random accesses of any kind and size neither trap nor leave their memory, with renders in between")
    func accesses() throws {
        let rig = try Rig()
        var random = SplitMix(state: 0x5eed)
        let total = Full.isWanted ? 10_000_000 : 300_000
        let small = Guarded(320 * 100 * 4)
        var changes = 0
        for index in 0..<total {
            if index % 2000 == 0 { rig.set(Mode.all[random.below(Mode.all.count)].1) }
            access(&random, rig)
            if index % 499 == 0 {
                rig.now = random.next() >> UInt64(random.below(64))
                // Into one that is too small; a whole one now and then, as some are huge.
                rig.device.render(into: VGATarget(pixels: small.bytes, width: 320, height: 100), dirty: .all, now: rig.now) { _ in changes += 1 }
                _ = (rig.scanoutRange, rig.plainWindow, rig.nextBlink)
            }
            if index % 20011 == 0 {
                if let plain = rig.plainWindow {
                    let bytes = Guarded(plain.length)
                    rig.device.exportPlainWindow(plain, to: bytes.buffer)
                    rig.device.importPlainWindow(plain, from: UnsafeRawBufferPointer(small.buffer), previous: bytes.buffer)
                    #expect(bytes.isIntact)
                }
                let scanout = rig.scanout
                if scanout.width * scanout.height < 1 << 22 { rig.render() }
                #expect(rig.isIntact && small.isIntact)
                if random.below(8) == 0 { rig.device.reset() }
                if random.below(8) == 0 { try rig.succeed() }
            }
        }
        #expect(rig.isIntact && small.isIntact)
        #expect(changes > 0)
    }

    @Test("any bytes as state: a successor neither traps nor leaves its memory")
    func garbageState() throws {
        let rig = try Rig()
        var random = SplitMix(state: 0x6a5b)
        let small = Guarded(320 * 100 * 4)
        for round in 0..<(Full.isWanted ? 5000 : 200) {
            for index in 0..<VGADevice.stateLength { rig.state.buffer[index] = random.below(3) == 0 ? 0xff : random.byte() }
            rig.state.bytes.storeBytes(of: State.version, as: UInt32.self)
            if round % 3 == 0 { rig.state.buffer[64 + 8] = 1 }
            if round % 2 == 0 { rig.state.buffer[10] |= 0x20 }
            try rig.succeed()
            rig.device.render(into: VGATarget(pixels: small.bytes, width: 320, height: 100), now: 0) { _ in }
            for _ in 0..<50 { access(&random, rig) }
            rig.device.render(into: VGATarget(pixels: small.bytes, width: 320, height: 100), now: 1 << 40) { _ in }
        }
        #expect(rig.isIntact && small.isIntact)
    }

    @Test("state that another wrote meanwhile is no danger either")
    func changingState() throws {
        let rig = try Rig()
        var random = SplitMix(state: 0x77)
        let small = Guarded(320 * 100 * 4)
        for _ in 0..<(Full.isWanted ? 200_000 : 5000) {
            for _ in 0..<4 { rig.state.buffer[random.below(VGADevice.stateLength)] = random.byte() }
            access(&random, rig)
            if random.below(20) == 0 {
                rig.device.render(into: VGATarget(pixels: small.bytes, width: 320, height: 100), now: random.next()) { _ in }
                _ = (rig.scanoutRange, rig.plainWindow)
            }
        }
        #expect(rig.isIntact && small.isIntact)
    }

    @Test("drawing only what is dirty shows what drawing everything shows, and viewers who follow the reports see it")
    func incremental() throws {
        let rig = try Rig()
        var random = SplitMix(state: 0x1c4)
        let viewer = Viewer()
        let mirror = try Rig()
        for round in 0..<(Full.isWanted ? 3000 : 200) {
            if round % 10 == 0 {
                if random.below(3) == 0 {
                    rig.set(width: 256, height: 160, depth: [4, 8, 15, 16, 24, 32][random.below(6)], flags: 0xc1)
                } else {
                    rig.set(Mode.all[random.below(Mode.all.count)].1)
                }
                rig.setPalette()
            }
            var bitmap = [UInt8](repeating: 0, count: 32)
            for _ in 0..<random.below(6) {
                switch random.below(8) {
                case 0: rig.crtc(0x0d, UInt8(random.below(4) * 80 & 0xff))
                case 1: rig.crtc(0x0f, random.byte())
                case 2: rig.dispi(9, UInt16(random.below(40)))
                case 3: rig.attribute(UInt8(random.below(21)), random.byte())
                case 4:
                    let place = random.below(0x40000)
                    rig.write(memory: place, [random.byte()])
                    bitmap[place >> 15] |= 1 << UInt8(place >> 12 & 7)
                case 5: rig.crtc(UInt8([8, 0x0a, 0x0b, 0x0c, 0x13, 0x17, 0x18][random.below(7)]), random.byte())
                case 6:
                    // A text scroll by the CPU.
                    for offset in 0..<4000 { rig.poke(0x18000 + offset, UInt8(truncatingIfNeeded: rig.read(window: 0x18000 + offset + 160, size: 1))) }
                default: for _ in 0..<20 { rig.poke(random.below(0x20000), random.byte()) }
                }
            }
            if random.below(4) == 0 { rig.now &+= random.next() % 1_000_000_000 }
            let changes = bitmap.withUnsafeBytes { rig.render(dirty: VGADirtyPages(bitmap: $0)) }
            if rig.scanout.kind == .transient { continue }
            viewer.follow(changes, of: rig)
            // The same registers and memory, drawn by one who has seen nothing yet.
            mirror.memory.bytes.copyMemory(from: rig.memory.bytes, byteCount: rig.memory.count)
            mirror.state.bytes.copyMemory(from: rig.state.bytes, byteCount: rig.state.count)
            try mirror.succeed()
            mirror.now = rig.now
            mirror.render()
            guard mirror.width == rig.width, mirror.height == rig.height,
                memcmp(mirror.pixels.bytes, rig.pixels.bytes, rig.pixels.count) == 0
            else {
                Issue.record("round \(round): \(rig.device.frame())")
                return
            }
            guard viewer.agrees(with: rig) else {
                Issue.record("round \(round): the viewer sees something else: \(changes)")
                return
            }
        }
    }
}

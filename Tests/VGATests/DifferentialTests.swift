import SeededNumbers
import Testing

@testable import VGA

/// Both cards get the same accesses; what they answer has to be the same.
final class Pair: Card {
    let ours: Rig
    let theirs: QEMU
    private(set) var differences: [String] = []

    init(megabytes: Int) throws {
        var options = VGAOptions()
        options.beyondQEMU = false
        ours = try Rig(memory: megabytes << 20, options: options)
        theirs = try QEMU(megabytes: megabytes)
    }

    private func compare(_ a: UInt64, _ b: UInt64, _ size: Int, _ what: @autoclosure () -> String) -> UInt64 {
        let mask: UInt64 = size >= 8 ? .max : (1 << UInt64(size * 8)) - 1
        if a & mask != b & mask { differences.append("\(what()): ours \(String(a & mask, radix: 16)), QEMU's \(String(b & mask, radix: 16))") }
        return a
    }

    func write(port: UInt16, size: Int, _ value: UInt64) {
        ours.write(port: port, size: size, value)
        theirs.write(port: port, size: size, value)
    }
    func read(port: UInt16, size: Int) -> UInt64 {
        compare(ours.read(port: port, size: size), theirs.read(port: port, size: size), size, "port \(String(port, radix: 16)), \(size) bytes")
    }
    func write(window: Int, size: Int, _ value: UInt64) {
        ours.write(window: window, size: size, value)
        theirs.write(window: window, size: size, value)
    }
    func read(window: Int, size: Int) -> UInt64 {
        compare(ours.read(window: window, size: size), theirs.read(window: window, size: size), size, "window \(String(window, radix: 16)), \(size) bytes")
    }
    func write(registers: Int, size: Int, _ value: UInt64) {
        ours.write(registers: registers, size: size, value)
        theirs.write(registers: registers, size: size, value)
    }
    func read(registers: Int, size: Int) -> UInt64 {
        compare(
            ours.read(registers: registers, size: size), theirs.read(registers: registers, size: size), size,
            "BAR2 \(String(registers, radix: 16)), \(size) bytes")
    }
    func write(memory: Int, _ bytes: [UInt8]) {
        ours.write(memory: memory, bytes)
        theirs.write(memory: memory, bytes)
    }

    /// Compares the screens, with QEMU made to draw all of its own.
    /// - Returns: what differs; nil when nothing does.
    func compareScreens() throws -> String? {
        // Off and on again: QEMU forgets what it believes to be on the screen, and its cursor's phase turns.
        let index = ours.state.bytes.load(fromByteOffset: 10, as: UInt8.self)
        _ = read(port: 0x3da, size: 1)
        _ = read(port: 0x3ba, size: 1)
        out(0x3c0, index & 0x1f)
        _ = try theirs.picture()
        _ = read(port: 0x3da, size: 1)
        _ = read(port: 0x3ba, size: 1)
        out(0x3c0, index | 0x20)
        let screen = try theirs.picture()
        if ours.device.scanout.kind == .transient { return nil }
        var found: String?
        // QEMU's cursor may be in either half of its period.
        for half in [0, Renderer.blinkPeriod] {
            ours.now = half
            ours.render()
            found = differ(screen)
            if found == nil { return nil }
        }
        return found
    }

    private func differ(_ screen: (width: Int, height: Int, bytes: [UInt8])) -> String? {
        guard screen.width == ours.width, screen.height == ours.height else {
            return "QEMU's screen has \(screen.width)×\(screen.height), ours \(ours.width)×\(ours.height)"
        }
        let picture = ours.picture
        guard picture != screen.bytes else { return nil }
        var (count, first) = (0, 0)
        for index in picture.indices where picture[index] != screen.bytes[index] {
            if count == 0 { first = index / 3 }
            count += 1
        }
        let theirs = screen.bytes[first * 3..<first * 3 + 3].map { String($0, radix: 16) }
        return "\(count) bytes of \(picture.count); the first at \(first % screen.width),\(first / screen.width):"
            + " ours \(String(ours.pixel(first % screen.width, first / screen.width), radix: 16)), QEMU's \(theirs); \(ours.device.frame())"
    }
}

@Suite("Against QEMU's own VGA", .enabled(if: QEMU.isInstalled))
struct DifferentialTests {
    private func noise(_ random: inout SplitMix, _ count: Int) -> [UInt8] { (0..<count).map { _ in random.byte() } }

    @Test("all modes of the BIOS show the same pixels")
    func biosModes() throws {
        let pair = try Pair(megabytes: 2)
        var random = SplitMix(state: 1)
        pair.write(memory: 0, noise(&random, 0x60000))
        pair.setPalette()
        for (name, mode) in Mode.all {
            pair.set(mode)
            let difference = try pair.compareScreens()
            #expect(difference == nil, "\(name)")
        }
        #expect(pair.differences.isEmpty)
        // The comparison compares.
        pair.ours.colour(0x3f, 1, 2, 3)
        pair.ours.colour(0, 1, 2, 3)
        let difference = try pair.compareScreens()
        #expect(difference != nil)
        pair.ours.sequencer(2, 5)
        pair.out(0x3c4, 2)
        _ = pair.inb(0x3c5)
        #expect(pair.differences.count == 1)
    }

    @Test("all depths of DISPI show the same pixels, in both byte orders, panned and with a wider virtual screen", arguments: [4, 8, 15, 16, 24, 32])
    func depths(depth: UInt16) throws {
        let pair = try Pair(megabytes: 2)
        var random = SplitMix(state: 2)
        pair.setPalette()
        for flags in [0x41, 0xe1] as [UInt16] {
            for (width, virtual, x, y) in [(320, 320, 0, 0), (640, 808, 3, 5), (404, 804, 24, 100), (800, 804, 9, 0)] as [(UInt16, UInt16, UInt16, UInt16)] {
                pair.set(width: width, height: 200, depth: depth, flags: flags)
                pair.dispi(6, virtual)
                pair.dispi(8, x)
                pair.dispi(9, y)
                pair.write(memory: 0, noise(&random, 0xc0000))
                for order in [0x1e1e_1e1e, 0xbebe_bebe] as [UInt64] {
                    pair.write(registers: 0x604, size: 4, order)
                    let difference = try pair.compareScreens()
                    #expect(difference == nil)
                }
                for register in 0...10 as ClosedRange<UInt16> {
                    pair.outw(0x1ce, register)
                    _ = pair.read(port: 0x1d0, size: 2)
                }
            }
        }
        #expect(pair.differences.isEmpty)
    }

    @Test("modes with random registers show the same pixels")
    func randomRegisters() throws {
        let pair = try Pair(megabytes: 1)
        var random = SplitMix(state: 3)
        pair.write(memory: 0, noise(&random, 1 << 20))
        pair.setPalette()
        var wrong: [String] = []
        for round in 0..<(Full.isWanted ? 2000 : 150) {
            let (name, mode) = Mode.all[random.below(Mode.all.count)]
            pair.set(mode)
            for _ in 0..<random.below(6) {
                switch random.below(5) {
                case 0: pair.sequencer(UInt8([1, 3][random.below(2)]), random.byte())
                case 1: pair.graphics(UInt8([5, 6][random.below(2)]), random.byte())
                case 2: pair.attribute(UInt8(random.below(21)), random.byte())
                default:
                    let index = [1, 7, 8, 9, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x12, 0x13, 0x14, 0x17, 0x18][random.below(15)]
                    pair.crtc(UInt8(index), random.byte())
                }
            }
            if let difference = try pair.compareScreens() { wrong.append("round \(round), \(name): \(difference)") }
        }
        #expect(wrong.isEmpty, "\(wrong.prefix(5))")
        #expect(pair.differences.isEmpty)
    }

    @Test("random accesses to ports, window and BAR2 read the same, and leave the same picture")
    func randomAccesses() throws {
        let pair = try Pair(megabytes: 1)
        var random = SplitMix(state: 4)
        pair.write(memory: 0, noise(&random, 1 << 20))
        for round in 0..<(Full.isWanted ? 400 : 40) {
            pair.set(Mode.all[random.below(Mode.all.count)].1)
            for _ in 0..<100 { Accesses.any(&random, on: pair) }
            // Read what can be read.
            for index in 0..<8 as Range<UInt8> {
                pair.out(0x3c4, index)
                _ = pair.inb(0x3c5)
            }
            for index in 0..<16 as Range<UInt8> {
                pair.out(0x3ce, index)
                _ = pair.inb(0x3cf)
            }
            for index in 0..<0x19 as Range<UInt8> {
                pair.out(0x3d4, index)
                _ = pair.inb(0x3d5)
            }
            for index in 0...10 as ClosedRange<UInt16> {
                pair.outw(0x1ce, index)
                _ = pair.read(port: 0x1d0, size: 2)
            }
            if let difference = try pair.compareScreens() { Issue.record("round \(round): \(difference)") }
            if !pair.differences.isEmpty {
                Issue.record("round \(round): \(pair.differences.prefix(8))")
                return
            }
        }
    }
}

/// Accesses that a guest could do, some of which make sense.
enum Accesses {
    /// Such as are the same on QEMU: no sizes that only we take, nor DISPI's planar mode, where QEMU's map mask is what it was.
    static func any(_ random: inout SplitMix, on card: some Card) {
        let value = random.next()
        switch random.below(10) {
        case 0: card.sequencer(UInt8(random.below(8)), UInt8(truncatingIfNeeded: value))
        case 1: card.graphics(UInt8(random.below(16)), UInt8(truncatingIfNeeded: value))
        case 2: card.crtc(UInt8(random.below(0x19)), UInt8(truncatingIfNeeded: value))
        case 3:
            let ports: [UInt16] = [0x3b4, 0x3b5, 0x3ba, 0x3c0, 0x3c1, 0x3c2, 0x3c4, 0x3c5, 0x3c7, 0x3c8, 0x3c9, 0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da]
            card.write(port: ports[random.below(ports.count)], size: 1, value & 0xff)
        case 4: _ = card.read(port: UInt16(0x3c0 + random.below(16)), size: 1)
        case 5:
            let registers: [UInt16] = [1, 2, 5, 6, 8, 9, 0]
            card.dispi(registers[random.below(registers.count)], UInt16(random.below(random.below(2) == 0 ? 2048 : 65536)))
            if random.below(4) == 0 { card.dispi(3, [8, 15, 16, 24, 32, 7, 0][random.below(7)]) }
        case 6:
            if random.below(3) == 0 { card.dispi(4, UInt16(random.below(256))) }
            card.write(registers: 0x400 + random.below(16) * 2, size: random.below(2) + 1, value & 0xffff)
            _ = card.read(registers: 0x500 + random.below(11) * 2, size: 2)
            card.write(registers: 0x604, size: 4, random.below(2) == 0 ? 0x1e1e_1e1e : 0xbebe_bebe)
        case 7, 8:
            let size = 1 << random.below(3)
            card.write(window: random.below(0x20000 / size) * size, size: size, value & ((1 << UInt64(size * 8)) - 1))
        default:
            let size = 1 << random.below(3)
            _ = card.read(window: random.below(0x20000 / size) * size, size: size)
        }
    }
}

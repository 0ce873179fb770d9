import SeededNumbers
import Testing

@testable import VGA

extension SplitMix {
    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(max(limit, 1))) }
    mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: next()) }
}

/// Bytes with a margin on both sides that nobody may write.
final class Guarded {
    private static let margin = 4096
    private let whole: UnsafeMutableRawPointer
    let count: Int

    init(_ count: Int) {
        self.count = count
        whole = .allocate(byteCount: count + 2 * Self.margin, alignment: 4096)
        whole.initializeMemory(as: UInt8.self, repeating: 0x5a, count: count + 2 * Self.margin)
        (whole + Self.margin).initializeMemory(as: UInt8.self, repeating: 0, count: count)
    }

    deinit { whole.deallocate() }

    var bytes: UnsafeMutableRawPointer { whole + Self.margin }
    var buffer: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: bytes, count: count) }

    /// Whether the margins are as they were.
    var isIntact: Bool {
        for offset in 0..<Self.margin
        where whole.load(fromByteOffset: offset, as: UInt8.self) != 0x5a
            || whole.load(fromByteOffset: Self.margin + count + offset, as: UInt8.self) != 0x5a
        {
            return false
        }
        return true
    }
}

/// What a guest can do to a VGA: of ours, of QEMU's, of both.
protocol Card: AnyObject {
    func write(port: UInt16, size: Int, _ value: UInt64)
    func read(port: UInt16, size: Int) -> UInt64
    /// The legacy window, from 0xa0000.
    func write(window: Int, size: Int, _ value: UInt64)
    func read(window: Int, size: Int) -> UInt64
    func write(registers: Int, size: Int, _ value: UInt64)
    func read(registers: Int, size: Int) -> UInt64
    /// The linear frame buffer.
    func write(memory: Int, _ bytes: [UInt8])
}

extension Card {
    func out(_ port: UInt16, _ value: UInt8) { write(port: port, size: 1, UInt64(value)) }
    func outw(_ port: UInt16, _ value: UInt16) { write(port: port, size: 2, UInt64(value)) }
    func inb(_ port: UInt16) -> UInt8 { UInt8(truncatingIfNeeded: read(port: port, size: 1)) }
    func sequencer(_ index: UInt8, _ value: UInt8) { outw(0x3c4, UInt16(value) << 8 | UInt16(index)) }
    func graphics(_ index: UInt8, _ value: UInt8) { outw(0x3ce, UInt16(value) << 8 | UInt16(index)) }
    func crtc(_ index: UInt8, _ value: UInt8) { outw(0x3d4, UInt16(value) << 8 | UInt16(index)) }
    func dispi(_ index: UInt16, _ value: UInt16) {
        outw(0x1ce, index)
        outw(0x1d0, value)
    }

    /// Leaves the screen on.
    func attribute(_ index: UInt8, _ value: UInt8) {
        _ = inb(0x3da)
        out(0x3c0, index)
        out(0x3c0, value)
        out(0x3c0, 0x20)
    }

    func colour(_ index: UInt8, _ red: UInt8, _ green: UInt8, _ blue: UInt8) {
        out(0x3c8, index)
        for part in [red, green, blue] { out(0x3c9, part) }
    }

    /// Writes one byte in the text window.
    func poke(_ window: Int, _ value: UInt8) { write(window: window, size: 1, UInt64(value)) }

    func set(_ mode: Mode) {
        dispi(4, 0)
        out(0x3c2, mode.misc)
        for (index, value) in mode.sequencer.enumerated() { sequencer(UInt8(index), value) }
        crtc(0x11, 0)
        for (index, value) in mode.crtc.enumerated() { crtc(UInt8(index), value) }
        for (index, value) in mode.graphics.enumerated() { graphics(UInt8(index), value) }
        for (index, value) in mode.attribute.enumerated() { attribute(UInt8(index), value) }
    }

    /// A palette in which all colours are different.
    func setPalette() {
        out(0x3c8, 0)
        for index in 0..<256 {
            for part in [index, index &* 7 &+ 3, index &* 29 &+ 11] { out(0x3c9, UInt8(part & 0x3f)) }
        }
    }

    /// A DISPI mode.
    func set(width: UInt16, height: UInt16, depth: UInt16, flags: UInt16 = 0x41) {
        out(0x3c2, 0x67)
        dispi(4, 0)
        dispi(1, width)
        dispi(2, height)
        dispi(3, depth)
        dispi(4, flags)
        _ = inb(0x3da)
        out(0x3c0, 0x20)
    }
}

/// The registers of a BIOS mode, from IBM's VGA technical reference.
struct Mode {
    var misc: UInt8
    var sequencer: [UInt8]
    var crtc: [UInt8]
    var graphics: [UInt8]
    var attribute: [UInt8]

    private static let colours: [UInt8] = [0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f]
    private static let plain: [UInt8] = Array(0..<16)

    /// 80×25 characters of 9×16.
    static let text = Mode(
        misc: 0x67, sequencer: [3, 0, 3, 0, 2],
        crtc: [
            0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
        ],
        graphics: [0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff], attribute: colours + [0x0c, 0, 0x0f, 8, 0])

    /// 40×25 characters of 16×16.
    static var narrowText: Mode {
        var mode = text
        mode.sequencer[1] = 8
        mode.crtc[1] = 0x27
        mode.crtc[0x13] = 0x14
        return mode
    }

    /// 80×50 characters of 8×8.
    static var denseText: Mode {
        var mode = text
        mode.sequencer[1] = 1
        mode.crtc[9] = 0x47
        mode.crtc[0x0a] = 6
        mode.crtc[0x0b] = 7
        mode.attribute[0x13] = 0
        return mode
    }

    /// 640×480 in 16 colours.
    static let planar = Mode(
        misc: 0xe3, sequencer: [3, 1, 0x0f, 0, 6],
        crtc: [0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0, 0x40, 0, 0, 0, 0, 0, 0, 0xea, 0x8c, 0xdf, 0x28, 0, 0xe7, 0x04, 0xe3, 0xff],
        graphics: [0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff], attribute: colours + [1, 0, 0x0f, 0, 0])

    /// 320×200 in 256 colours: mode 0x13.
    static let packed = Mode(
        misc: 0x63, sequencer: [3, 1, 0x0f, 0, 0x0e],
        crtc: [0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0x41, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3, 0xff],
        graphics: [0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff], attribute: plain + [0x41, 0, 0x0f, 0, 0])

    /// 320×240 in 256 colours over four planes: mode X.
    static var unchained: Mode {
        var mode = packed
        mode.misc = 0xe3
        mode.sequencer[4] = 6
        for (index, value) in [(6, 0x0d), (7, 0x3e), (0x10, 0xea), (0x11, 0x2c), (0x12, 0xdf), (0x14, 0), (0x15, 0xe7), (0x16, 6), (0x17, 0xe3)] {
            mode.crtc[index] = UInt8(value)
        }
        return mode
    }

    /// 320×200 in four colours, as the CGA has it.
    static let twoBit = Mode(
        misc: 0x63, sequencer: [3, 9, 3, 0, 2],
        crtc: [0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0, 0x96, 0xb9, 0xa2, 0xff],
        graphics: [0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff], attribute: plain + [1, 0, 3, 0, 0])

    /// 640×200 in two colours, as the CGA has it.
    static let oneBit = Mode(
        misc: 0x63, sequencer: [3, 1, 1, 0, 6],
        crtc: [0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0, 0x96, 0xb9, 0xc2, 0xff],
        graphics: [0, 0, 0, 0, 0, 0, 0x0d, 0, 0xff], attribute: plain + [1, 0, 1, 0, 0])

    static let all: [(String, Mode)] = [
        ("text", text), ("40 columns", narrowText), ("50 rows", denseText), ("planar", planar), ("mode 0x13", packed), ("mode X", unchained),
        ("CGA's four colours", twoBit), ("CGA's two colours", oneBit),
    ]
}

/// Our VGA with all that it needs.
final class Rig: Card {
    let memory: Guarded
    let state: Guarded
    var pixels: Guarded
    var (width, height) = (0, 0)
    var device: VGADevice
    let options: VGAOptions
    var now: UInt64 = 0
    /// Whether pictures are drawn without blinking.
    var steady = false

    init(memory size: Int = 1 << 20, options: VGAOptions = VGAOptions()) throws {
        memory = Guarded(size)
        state = Guarded(VGADevice.stateLength)
        pixels = Guarded(0)
        self.options = options
        device = try Self.device(memory, state, options)
    }

    private static func device(_ memory: Guarded, _ state: Guarded, _ options: VGAOptions) throws -> VGADevice {
        guard let device = VGADevice(memory: memory.buffer, state: state.bytes, options: options) else { throw Refused() }
        return device
    }

    struct Refused: Error {}

    /// Another process takes over.
    func succeed() throws { device = try Self.device(memory, state, options) }

    func write(port: UInt16, size: Int, _ value: UInt64) { device.writePort(port, size: size, value: value) }
    func read(port: UInt16, size: Int) -> UInt64 { device.readPort(port, size: size) }
    func write(window: Int, size: Int, _ value: UInt64) { device.writeWindow(window, size: size, value: value) }
    func read(window: Int, size: Int) -> UInt64 { device.readWindow(window, size: size) }
    func write(registers: Int, size: Int, _ value: UInt64) { device.writeRegisters(registers, size: size, value: value) }
    func read(registers: Int, size: Int) -> UInt64 { device.readRegisters(registers, size: size) }
    func write(memory offset: Int, _ bytes: [UInt8]) {
        for (index, byte) in bytes.enumerated() where offset + index < memory.count { memory.buffer[offset + index] = byte }
    }

    /// Renders into a target of the scan-out's size.
    @discardableResult func render(dirty: VGADirtyPages = .all) -> [VGAChange] {
        let scanout = device.scanout
        if scanout.kind != .transient, scanout.width != width || scanout.height != height {
            (width, height) = (scanout.width, scanout.height)
            pixels = Guarded(width * height * 4)
            device.invalidate()
        }
        var changes: [VGAChange] = []
        device.render(into: target, dirty: dirty, now: now, steady: steady) { changes.append($0) }
        return changes
    }

    // Swift Testing's macros copy what they look at: so not the device.
    var scanout: VGAScanout { device.scanout }
    var scanoutRange: Range<Int> { device.scanoutRange }
    var plainWindow: VGAPlainWindow? { device.plainWindow }
    var nextBlink: UInt64? { device.nextBlink }
    var changedRegisters: Bool { device.changedRegisters }
    var wroteMemory: Bool { device.wroteMemory }
    func modeHint(_ width: Int, _ height: Int) -> Bool { device.modeHint(width: width, height: height) }
    func importPlainWindow(_ plain: VGAPlainWindow, from bytes: Guarded, previous: Guarded) -> Range<Int>? {
        device.importPlainWindow(plain, from: UnsafeRawBufferPointer(bytes.buffer), previous: previous.buffer)
    }

    var target: VGATarget { VGATarget(pixels: pixels.bytes, width: width, height: height) }

    /// Without the undefined top bits.
    func pixel(_ x: Int, _ y: Int) -> UInt32 {
        guard x >= 0, y >= 0, x < width, y < height else { return .max }
        return pixels.bytes.load(fromByteOffset: (y * width + x) * 4, as: UInt32.self) & 0xff_ffff
    }

    /// All pixels, as red, green, blue.
    var picture: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(width * height * 3)
        for index in 0..<width * height {
            let pixel = pixels.bytes.load(fromByteOffset: index * 4, as: UInt32.self)
            bytes += [UInt8(truncatingIfNeeded: pixel >> 16), UInt8(truncatingIfNeeded: pixel >> 8), UInt8(truncatingIfNeeded: pixel)]
        }
        return bytes
    }

    var isIntact: Bool { memory.isIntact && state.isIntact && pixels.isIntact }
}

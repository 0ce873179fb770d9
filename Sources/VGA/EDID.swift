/// The monitor that the guest reads about: EDID 1.4 (VESA E-EDID A2) with a CTA-861 block and, for what neither can tell, a DisplayID one.
enum EDID {
    static let length = 384
    static let fallback = VGAMode(width: 640, height: 480)

    private static let block = 128
    /// Twelve bits of pixels, sixteen of 10 kHz.
    private static let widestDetailed = 4095
    private static let fastestDetailed = 65535

    /// - Returns: the mode as DISPI can show it in 32 bits; nil when it cannot.
    static func usable(_ mode: VGAMode, memory: Int) -> VGAMode? {
        let width = mode.width & ~7
        guard (64...8192).contains(width), (64...8192).contains(mode.height), width &* mode.height &* 4 <= memory else { return nil }
        return VGAMode(width: width, height: mode.height)
    }

    /// Writes all three blocks, of which the last may be unused: then it is zero.
    static func write(preferred: VGAMode, options: VGAOptions, memory: Int, to bytes: UnsafeMutablePointer<UInt8>) {
        bytes.update(repeating: 0, count: length)
        let timing = Timing(preferred)
        let detailed = timing.isDetailed
        let further = options.modes.compactMap { usable($0, memory: memory) }.map(Timing.init).filter { $0.isDetailed }
        writeBase(bytes, preferred: timing, options: options, memory: memory)
        writeCTA(bytes + block, further: further, memory: memory)
        if !detailed { writeDisplayID(bytes + 2 * block, timing) }
        bytes[126] = detailed ? 1 : 2
        for start in stride(from: 0, through: Int(bytes[126]) * block, by: block) { sumUp(bytes + start, count: block) }
    }

    /// Makes the last byte of a block such that all add up to zero.
    private static func sumUp(_ bytes: UnsafeMutablePointer<UInt8>, count: Int) {
        var sum: UInt8 = 0
        for index in 0..<count - 1 { sum &+= bytes[index] }
        bytes[count - 1] = 0 &- sum
    }

    private static func put(_ values: [UInt8], _ bytes: UnsafeMutablePointer<UInt8>, at place: Int) {
        for (index, value) in values.enumerated() { bytes[place + index] = value }
    }

    private static func low(_ value: Int) -> UInt8 { UInt8(truncatingIfNeeded: value) }

    /// The upper four bits of two numbers of twelve.
    private static func high(_ first: Int, _ second: Int) -> UInt8 { low((first >> 8) << 4 | second >> 8 & 15) }

    // MARK: the base block

    private static func writeBase(_ bytes: UnsafeMutablePointer<UInt8>, preferred: Timing, options: VGAOptions, memory: Int) {
        put([0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], bytes, at: 0)
        // The maker "DMX", five bits a letter; the product 0x1111 as in PCI; no serial number; 2024.
        put([0x11, 0xb8, 0x11, 0x11, 0, 0, 0, 0, 0xff, 34, 1, 4], bytes, at: 8)
        // Digital, 8 bits a colour, DisplayPort; the size at 96 dots an inch; gamma 2.2; RGB, sRGB, the first timing is the panel's own.
        let size = (width: preferred.millimetres.width / 10, height: preferred.millimetres.height / 10)
        put([0xa5, low(min(size.width, 255)), low(min(size.height, 255)), 120, 0x06], bytes, at: 20)
        // sRGB's primaries and white.
        put([0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54], bytes, at: 25)
        // 640×480, 800×600, 1024×768 at 60 Hz.
        put([0x21, 0x08, 0], bytes, at: 35)
        var place = 38
        for (mode, aspect) in standard where mode.width * mode.height * 4 <= memory && place < 54 {
            put([low(mode.width / 8 - 31), aspect << 6], bytes, at: place)
            place += 2
        }
        while place < 54 {
            put([1, 1], bytes, at: place)
            place += 2
        }
        // Where the preferred timing does not fit, the DisplayID block has it.
        let first = preferred.isDetailed ? preferred : Timing(usable(VGAMode(width: 1920, height: 1080), memory: memory) ?? fallback)
        writeDetailed(first, bytes + 54)
        put([0, 0, 0, 0xfd, 0, 50, 75, 30, 160, 60, 1, 0x0a, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20], bytes, at: 72)
        writeName(options.name, bytes + 90)
        put([0, 0, 0, 0x10], bytes, at: 108)
    }

    /// Standard timings, all at 60 Hz, with the two bits of their aspect (0: 16:10, 1: 4:3, 2: 5:4, 3: 16:9).
    private static let standard: [(VGAMode, UInt8)] = [
        (VGAMode(width: 1920, height: 1080), 3), (VGAMode(width: 1280, height: 720), 3), (VGAMode(width: 1280, height: 1024), 2),
        (VGAMode(width: 1600, height: 900), 3), (VGAMode(width: 1920, height: 1200), 0), (VGAMode(width: 1680, height: 1050), 0),
        (VGAMode(width: 1600, height: 1200), 1), (VGAMode(width: 1440, height: 900), 0),
    ]

    private static func writeName(_ name: String, _ bytes: UnsafeMutablePointer<UInt8>) {
        var text = name.utf8.filter { (0x20...0x7e).contains($0) }.prefix(13).map { $0 }
        while text.last == 0x20 { text.removeLast() }
        if text.isEmpty { text = Array("Demux".utf8) }
        if text.count < 13 { text.append(0x0a) }
        while text.count < 13 { text.append(0x20) }
        put([0, 0, 0, 0xfc, 0] + text, bytes, at: 0)
    }

    private static func writeDetailed(_ t: Timing, _ bytes: UnsafeMutablePointer<UInt8>) {
        let (width, height) = t.millimetres
        let rows = t.mode.height
        put([low(t.clock), low(t.clock >> 8)], bytes, at: 0)
        put([low(t.mode.width), low(Timing.blank), high(t.mode.width, Timing.blank)], bytes, at: 2)
        put([low(rows), low(t.verticalBlank), high(rows, t.verticalBlank)], bytes, at: 5)
        put([low(Timing.front), low(Timing.sync), low(Timing.verticalFront << 4 | t.verticalSync & 15), 0], bytes, at: 8)
        put([low(width), low(height), high(width, height), 0, 0], bytes, at: 12)
        // Digital separate sync: horizontal positive, vertical negative, which says reduced blanking.
        bytes[17] = 0x1a
    }

    // MARK: extensions

    /// CTA-861: the wished further modes as detailed timings, and the formats of televisions that fit in memory.
    private static func writeCTA(_ bytes: UnsafeMutablePointer<UInt8>, further: [Timing], memory: Int) {
        let formats: [(code: UInt8, mode: VGAMode)] = [
            (16, VGAMode(width: 1920, height: 1080)), (4, VGAMode(width: 1280, height: 720)), (97, VGAMode(width: 3840, height: 2160)),
            (102, VGAMode(width: 4096, height: 2160)),
        ]
        let codes = [UInt8(1)] + formats.filter { $0.mode.width * $0.mode.height * 4 <= memory }.map(\.code)
        put([0x02, 0x03, 0, 0x80, 0x40 | low(codes.count)] + codes, bytes, at: 0)
        // A video capability block: RGB in full range is what is meant.
        put([0xe2, 0x00, 0x4a], bytes, at: 5 + codes.count)
        var place = 8 + codes.count
        bytes[2] = low(place)
        for timing in further where place + 18 <= 127 {
            writeDetailed(timing, bytes + place)
            place += 18
        }
    }

    /// DisplayID 1.3: one timing of type I, preferred.
    private static func writeDisplayID(_ bytes: UnsafeMutablePointer<UInt8>, _ t: Timing) {
        put([0x70, 0x13, 23, 0x03, 0, 0x03, 0, 20], bytes, at: 0)
        let clock = t.clock - 1
        put([low(clock), low(clock >> 8), low(clock >> 16), 0x88], bytes, at: 8)
        // Each less one; a sync's polarity is the front porch's top bit.
        let across = [t.mode.width, Timing.blank, Timing.front, Timing.sync].map { $0 - 1 }
        let down = [t.mode.height, t.verticalBlank, Timing.verticalFront, t.verticalSync].map { $0 - 1 }
        for (index, value) in (across + down).enumerated() {
            put([low(value), low(value >> 8 | (index == 2 ? 0x80 : 0))], bytes, at: 12 + index * 2)
        }
        sumUp(bytes + 1, count: 28)
    }

    /// CVT with reduced blanking, version 1, at 60 Hz.
    private struct Timing {
        static let blank = 160
        static let front = 48
        static let sync = 32
        static let verticalFront = 3

        let mode: VGAMode
        let verticalSync: Int
        let verticalBlank: Int
        /// In 10 kHz.
        let clock: Int

        init(_ mode: VGAMode) {
            self.mode = mode
            let (width, height) = (mode.width, mode.height)
            verticalSync =
                width * 3 == height * 4 ? 4 : width * 9 == height * 16 ? 5 : width * 10 == height * 16 ? 6
                : width * 4 == height * 5 || width * 9 == height * 15 ? 7 : 10
            // At least 460 µs of the sixtieth of a second.
            verticalBlank = max(height * 460 * 60 / (1_000_000 - 460 * 60) + 1, Self.verticalFront + verticalSync + 6)
            let exact = (width + Self.blank) * (height + verticalBlank) * 60
            // In steps of 250 kHz.
            clock = exact / 250_000 * 25
        }

        /// Whether EDID's own descriptor can hold it.
        var isDetailed: Bool { mode.width <= widestDetailed && mode.height <= widestDetailed && clock <= fastestDetailed }

        /// At 96 dots an inch.
        var millimetres: (width: Int, height: Int) { (min(mode.width * 254 / 960, 4095), min(mode.height * 254 / 960, 4095)) }
    }
}

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
        var further = (options.modes + large).compactMap { usable($0, memory: memory) }.map(Timing.init).filter { $0.isDetailed }
        // As many as a block holds.
        further = Array(further.prefix(6))
        writeBase(bytes, preferred: timing, further: further, options: options, memory: memory)
        writeCTA(bytes + block, further: further, size: timing.millimetres)
        if !timing.isDetailed { writeDisplayID(bytes + 2 * block, timing) }
        bytes[126] = timing.isDetailed ? 1 : 2
        for start in stride(from: 0, through: Int(bytes[126]) * block, by: block) { sumUp(bytes + start, count: block) }
    }

    /// What standard timings cannot say.
    private static let large = [VGAMode(width: 2560, height: 1440), VGAMode(width: 3840, height: 2160)]

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

    private static func writeBase(
        _ bytes: UnsafeMutablePointer<UInt8>, preferred: Timing, further: [Timing], options: VGAOptions, memory: Int
    ) {
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
        writeDetailed(first, size: preferred.millimetres, bytes + 54)
        writeLimits([preferred, first] + further, bytes + 72)
        writeName(options.name, bytes + 90)
        put([0, 0, 0, 0x10], bytes, at: 108)
    }

    /// Standard timings, all at 60 Hz, with the two bits of their aspect (0: 16:10, 1: 4:3, 2: 5:4, 3: 16:9).
    private static let standard: [(VGAMode, UInt8)] = [
        (VGAMode(width: 1920, height: 1080), 3), (VGAMode(width: 1280, height: 720), 3), (VGAMode(width: 1280, height: 1024), 2),
        (VGAMode(width: 1600, height: 900), 3), (VGAMode(width: 1920, height: 1200), 0), (VGAMode(width: 1680, height: 1050), 0),
        (VGAMode(width: 1600, height: 1200), 1), (VGAMode(width: 1440, height: 900), 0),
    ]

    /// The ranges of lines, pictures and dots a second, over all timings; those of standard timings are 30 to 76 kHz.
    private static func writeLimits(_ timings: [Timing], _ bytes: UnsafeMutablePointer<UInt8>) {
        let lowest = max(timings.map(\.lineRate).reduce(30, min), 1)
        let highest = timings.map { $0.lineRate + 1 }.reduce(76, max)
        let fastest = timings.map { $0.clock / 1000 + 1 }.reduce(20, max)
        // A rate above 255 kHz is told as the excess.
        let offsets: UInt8 = (highest > 255 ? 8 : 0) | (lowest > 255 ? 4 : 0)
        let rates = [low(lowest > 255 ? lowest - 255 : lowest), low(highest > 255 ? highest - 255 : highest)]
        put([0, 0, 0, 0xfd, offsets, 50, 75] + rates + [low(min(fastest, 255)), 1, 0x0a, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20], bytes, at: 0)
    }

    private static func writeName(_ name: String, _ bytes: UnsafeMutablePointer<UInt8>) {
        var text = name.utf8.filter { (0x20...0x7e).contains($0) }.prefix(13).map { $0 }
        while text.last == 0x20 { text.removeLast() }
        if text.isEmpty { text = Array("Demux".utf8) }
        if text.count < 13 { text.append(0x0a) }
        while text.count < 13 { text.append(0x20) }
        put([0, 0, 0, 0xfc, 0] + text, bytes, at: 0)
    }

    private static func writeDetailed(_ t: Timing, size: (width: Int, height: Int), _ bytes: UnsafeMutablePointer<UInt8>) {
        let (width, height) = size
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

    /// CTA-861: the wished further modes as detailed timings. (Formats of televisions would count as preferred over the first timing.)
    private static func writeCTA(_ bytes: UnsafeMutablePointer<UInt8>, further: [Timing], size: (width: Int, height: Int)) {
        // Underscanned; a video capability block: RGB in full range is what is meant.
        put([0x02, 0x03, 7, 0x80, 0xe2, 0x00, 0x4a], bytes, at: 0)
        for (index, timing) in further.enumerated() { writeDetailed(timing, size: size, bytes + 7 + index * 18) }
    }

    /// DisplayID 1.3: what the product is, and one timing of type I, preferred.
    private static func writeDisplayID(_ bytes: UnsafeMutablePointer<UInt8>, _ t: Timing) {
        let size = t.millimetres
        func two(_ value: Int) -> [UInt8] { [low(value), low(value >> 8)] }
        // Each of a timing's numbers less one; a sync's polarity is its front porch's top bit.
        let clock = [low(t.clock - 1), low((t.clock - 1) >> 8), low((t.clock - 1) >> 16)]
        let across = two(t.mode.width - 1) + two(Timing.blank - 1) + two(Timing.front - 1 | 0x8000) + two(Timing.sync - 1)
        let down = two(t.mode.height - 1) + two(t.verticalBlank - 1) + two(Timing.verticalFront - 1) + two(t.verticalSync - 1)
        let aspect = min(max(t.mode.width * 100 / t.mode.height - 100, 0), 255)
        let blocks: [[UInt8]] = [
            // Product identification: no maker, the product, no serial number, 2024, no name.
            [0x00, 0, 12, 0, 0, 0, 0x11, 0x11, 0, 0, 0, 0, 0, 24, 0],
            // Display parameters: tenths of millimetres, pixels, fixed pixel format, gamma 2.2, aspect, 8 bits.
            [0x01, 0, 12] + two(size.width * 10) + two(size.height * 10) + two(t.mode.width) + two(t.mode.height) + [0x20, 120, low(aspect), 0x77],
            // Timing of type I: preferred, aspect not named.
            [0x03, 0, 20] + clock + [0x88] + across + down,
            // Interface features: 8 bits RGB, sRGB.
            [0x0f, 0, 10, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        ]
        let payload = blocks.flatMap { $0 }
        put([0x70, 0x13, low(payload.count), 0x03, 0] + payload, bytes, at: 0)
        sumUp(bytes + 1, count: payload.count + 5)
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
            let least = max(height * 460 * 60 / (1_000_000 - 460 * 60) + 1, Self.verticalFront + verticalSync + 6)
            // Below 10 MHz a timing counts as none: a small picture gets more lines that are not shown.
            verticalBlank = max(least, 10_250_000 / 60 / (width + Self.blank) + 1 - height)
            let exact = (width + Self.blank) * (height + verticalBlank) * 60
            // In steps of 250 kHz.
            clock = exact / 250_000 * 25
        }

        /// Whether EDID's own descriptor can hold it.
        var isDetailed: Bool { mode.width <= widestDetailed && mode.height <= widestDetailed && clock <= fastestDetailed }

        /// Lines a millisecond.
        var lineRate: Int { clock * 10 / (mode.width + Self.blank) }

        /// At 96 dots an inch, but no smaller than monitors are.
        var millimetres: (width: Int, height: Int) {
            (min(max(mode.width * 254 / 960, 100), 4095), min(max(mode.height * 254 / 960, 100), 4095))
        }
    }
}

import Glibc
import Host
import LocalHost

/// The demo guest with a display, for machines on which no guest code runs: a script that makes the accesses which
/// Tests/Demo/guest makes there. It finds the display, gives its BARs places, sets text mode and prints a banner, then sets 800×600×32
/// through DISPI, draws a picture with movement into the frame buffer and shows what is typed.
struct DisplayScript {
    let vcpu: LocalVCPU
    private var frameBuffer: UInt64 = 0
    /// The font of the display's ROM, 16 bytes a character.
    private var font: [UInt8] = []
    private var keys = TypedKeys()

    private struct Wrong: Error, CustomStringConvertible {
        let description: String
    }

    init(vcpu: LocalVCPU) { self.vcpu = vcpu }

    /// Runs until told to stop; gives what was wrong, nil when nothing was.
    mutating func run(until stop: () -> Bool) -> String? {
        do {
            try say("guest: vCPU 0 is up\n")
            try startKeyboard()
            try assign()
            try textMode()
            try banner()
            var column = 19
            for _ in 0..<150 where !stop() {
                usleep(20_000)
                while let key = try typed() {
                    try put(row: 14, column: 8 + column, attribute: 0x07, [key])
                    column = min(column + 1, 70)
                }
            }
            try setMode()
            try picture(until: stop)
        } catch {
            return "\(error)"
        }
        return nil
    }

    // MARK: the machine

    private func say(_ text: String) throws { for byte in text.utf8 { try vcpu.write(port: 0xe9, size: 1, value: UInt64(byte)) } }

    private func out(_ port: UInt16, _ value: UInt8) throws { try vcpu.write(port: port, size: 1, value: UInt64(value)) }
    private func input(_ port: UInt16) throws -> UInt8 { UInt8(truncatingIfNeeded: try vcpu.read(port: port, size: 1)) }

    private func startKeyboard() throws {
        guard try input(0x64) != 0xff else { return try say("guest: no keyboard controller\n") }
        // Translated, without interrupts: this guest looks.
        try out(0x64, 0x60)
        try out(0x60, 0x40)
        try out(0x60, 0xf4)
        _ = try input(0x60)
        try say("guest: the keyboard is there\n")
    }

    /// Finds the display, places its BARs and takes the font out of its ROM.
    private mutating func assign() throws {
        for device: UInt8 in 0..<32 {
            guard let function = PCIAddress(device: device), try vcpu.configRead(function, register: 8, size: 4) >> 16 == 0x0300 else { continue }
            var next: UInt64 = 0xf100_0000
            var rom: UInt64 = 0
            for register: UInt8 in [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30] {
                let isROM = register == 0x30
                try vcpu.configWrite(function, register: register, size: 4, value: isROM ? 0xffff_f800 : 0xffff_ffff)
                let mask = try vcpu.configRead(function, register: register, size: 4)
                guard mask != 0, mask != 0xffff_ffff, isROM || mask & 1 == 0 else { continue }
                let size = (~(mask & (isROM ? 0xffff_f800 : 0xffff_fff0)) & 0xffff_ffff) + 1
                guard size <= 128 << 20 else { continue }
                next = (next + size - 1) & ~(size - 1)
                try vcpu.configWrite(function, register: register, size: 4, value: next)
                if register == 0x10 { frameBuffer = next }
                if isROM { rom = next }
                next += size
            }
            try vcpu.configWrite(function, register: 4, size: 2, value: 3)
            guard frameBuffer != 0, rom != 0 else { throw Wrong(description: "the display at \(function) lacks its frame buffer or its ROM") }
            try vcpu.configWrite(function, register: 0x30, size: 4, value: rom | 1)
            try readFont(rom)
            try vcpu.configWrite(function, register: 0x30, size: 4, value: rom)
            return try say("guest: the display's frame buffer is at \(Hex.string(frameBuffer))\n")
        }
        throw Wrong(description: "there is no display")
    }

    /// The font of 8×16 in SeaVGABIOS: found by its second character, a face, before which lies the first one, a blank.
    private mutating func readFont(_ rom: UInt64) throws {
        guard try vcpu.readMemory(GuestAddress(rom), size: 2) == 0xaa55 else { throw Wrong(description: "the display's ROM does not begin with 55 aa") }
        let length = try vcpu.readMemory(GuestAddress(rom + 2), size: 1) * 512
        var bytes: [UInt8] = []
        for offset in stride(from: 0, to: length, by: 8) {
            let word = try vcpu.readMemory(GuestAddress(rom + offset), size: 8)
            for byte in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(byte * 8))) }
        }
        let face: [UInt8] = [0, 0, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e, 0, 0, 0, 0]
        var place = 16
        while place + 255 * 16 <= bytes.count, !bytes[place..<place + 16].elementsEqual(face) { place += 1 }
        guard place + 255 * 16 <= bytes.count else { throw Wrong(description: "the display's ROM has no font of 8 by 16") }
        font = Array(bytes[place - 16..<place + 255 * 16])
    }

    // MARK: text mode

    /// Mode 3 of the VGA: 80×25 characters of 9×16 dots (IBM VGA technical reference, the BIOS's mode table).
    private enum Mode3 {
        static let sequencer: [UInt8] = [0x03, 0x00, 0x03, 0x00, 0x02]
        static let controller: [UInt8] = [
            0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3,
            0xff,
        ]
        static let graphics: [UInt8] = [0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff]
        static let attributes: [UInt8] = [
            0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00,
        ]
    }

    private func indexed(_ port: UInt16, _ index: UInt8, _ value: UInt8) throws {
        try vcpu.write(port: port, size: 2, value: UInt64(value) << 8 | UInt64(index))
    }

    private func dispi(_ index: UInt16, _ value: UInt16) throws {
        try vcpu.write(port: 0x1ce, size: 2, value: UInt64(index))
        try vcpu.write(port: 0x1cf, size: 2, value: UInt64(value))
    }

    private func textMode() throws {
        try dispi(4, 0)
        try out(0x3c2, 0x67)
        for (index, value) in Mode3.sequencer.enumerated() { try indexed(0x3c4, UInt8(index), value) }
        try indexed(0x3d4, 0x11, 0x0e)
        for (index, value) in Mode3.controller.enumerated() { try indexed(0x3d4, UInt8(index), value) }
        for (index, value) in Mode3.graphics.enumerated() { try indexed(0x3ce, UInt8(index), value) }
        _ = try input(0x3da)
        for (index, value) in Mode3.attributes.enumerated() {
            try out(0x3c0, UInt8(index))
            try out(0x3c0, value)
        }
        try out(0x3c0, 0x20)
        try palette()
        try loadFont()
        for cell in 0..<UInt64(80 * 25) { try vcpu.writeMemory(GuestAddress(0xb8000 + cell * 2), size: 2, value: 0x0720) }
    }

    /// The 64 colours of the EGA, of which the attribute registers choose.
    private func palette() throws {
        try out(0x3c6, 0xff)
        try out(0x3c8, 0)
        for colour: UInt8 in 0..<64 {
            for (high, low) in [(UInt8(4), UInt8(32)), (2, 16), (1, 8)] { try out(0x3c9, (colour & high != 0 ? 42 : 0) + (colour & low != 0 ? 21 : 0)) }
        }
    }

    /// Plane 2 holds the font, 32 bytes a character.
    private func loadFont() throws {
        try indexed(0x3c4, 2, 0x04)
        try indexed(0x3c4, 4, 0x06)
        try indexed(0x3ce, 5, 0x00)
        try indexed(0x3ce, 6, 0x04)
        for character in 0..<256 {
            for row in 0..<16 {
                try vcpu.writeMemory(GuestAddress(0xa0000 + UInt64(character * 32 + row)), size: 1, value: UInt64(font[character * 16 + row]))
            }
        }
        try indexed(0x3c4, 2, 0x03)
        try indexed(0x3c4, 4, 0x02)
        try indexed(0x3ce, 5, 0x10)
        try indexed(0x3ce, 6, 0x0e)
    }

    private func put(row: Int, column: Int, attribute: UInt8, _ text: some Sequence<UInt8>) throws {
        for (index, byte) in text.enumerated() {
            let place = UInt64((row * 80 + column + index) * 2)
            try vcpu.writeMemory(GuestAddress(0xb8000 + place), size: 2, value: UInt64(attribute) << 8 | UInt64(byte))
        }
    }

    private func banner() throws {
        for row in 2..<9 { try put(row: row, column: 8, attribute: 0x1f, repeatElement(0x20, count: 64)) }
        try put(row: 3, column: 29, attribute: 0x1f, "D  E  M  U  X   demo".utf8)
        try put(row: 5, column: 14, attribute: 0x1e, "This text was written by a script, as guest code would".utf8)
        try put(row: 6, column: 14, attribute: 0x1e, "write it; another process, the display, serves it.".utf8)
        try put(row: 7, column: 31, attribute: 0x9b, "(this line blinks)".utf8)
        for colour in 0..<16 { try put(row: 11, column: 8 + colour * 4, attribute: UInt8(colour) << 4, repeatElement(0x20, count: 4)) }
        try put(row: 14, column: 8, attribute: 0x07, "What you type now: ".utf8)
        try say("guest: the banner is on the screen\n")
    }

    // MARK: a picture

    private static let width = 800
    private static let height = 600

    private func setMode() throws {
        try dispi(4, 0)
        for (index, value) in [(UInt16(1), UInt16(Self.width)), (2, UInt16(Self.height)), (3, 32)] { try dispi(index, value) }
        try dispi(4, 0x41)
        try say("guest: mode \(Self.width)x\(Self.height)x32, its frame buffer at \(Hex.string(frameBuffer))\n")
    }

    private func line(_ x: Int, _ y: Int, _ count: Int, _ colour: UInt32) throws {
        guard x >= 0, y >= 0, y < Self.height, count > 0, x + count <= Self.width else { return }
        try vcpu.fill(
            GuestAddress(frameBuffer + UInt64((y * Self.width + x) * 4)), value: UInt64(colour), size: 4, count: UInt32(count))
    }

    private static func sky(_ row: Int) -> UInt32 { UInt32(row * 96 / height) << 16 | UInt32(row * 64 / height) << 8 | UInt32(72 + row * 144 / height) }

    private func background(_ x: Int, _ y: Int, _ width: Int, _ height: Int) throws {
        for row in y..<y + height { try line(x, row, width, Self.sky(row)) }
    }

    /// A character, each of its dots two pixels wide and high.
    private func draw(_ x: Int, _ y: Int, _ character: UInt8, _ colour: UInt32) throws {
        for row in 0..<16 {
            let dots = font[Int(character) * 16 + row]
            for column in 0..<8 where dots & (0x80 >> UInt8(column)) != 0 {
                for part in 0..<2 { try line(x + column * 2, y + row * 2 + part, 2, colour) }
            }
        }
    }

    private func write(_ x: Int, _ y: Int, _ colour: UInt32, _ text: String) throws {
        for (index, byte) in text.utf8.enumerated() { try draw(x + index * 16, y, byte, colour) }
    }

    /// Half the widths of a disc, each for three rows.
    private static let disc = [10, 14, 17, 19, 21, 22, 23, 23, 23, 23, 22, 21, 19, 17, 14, 10]

    private mutating func picture(until stop: () -> Bool) throws {
        try background(0, 0, Self.width, Self.height)
        try write(32, 24, 0xffffff, "Demux: a guest, played by a script")
        try write(32, 72, 0xffe080, "Type:")
        try say("guest: the picture is drawn\n")
        var (x, y, dx, dy, column) = (40, 200, 5, 3, 0)
        while !stop() {
            for (part, half) in Self.disc.enumerated() { try background(x + 24 - half, y + part * 3, half * 2, 3) }
            if x + dx > Self.width - 50 || x + dx < 2 { dx = -dx }
            if y + dy > Self.height - 50 || y + dy < 160 { dy = -dy }
            x += dx
            y += dy
            for (part, half) in Self.disc.enumerated() {
                for row in 0..<3 { try line(x + 24 - half, y + part * 3 + row, half * 2, 0xffb000 + UInt32(part) * 0x500) }
            }
            while let key = try typed() {
                if column >= 38 {
                    try background(128, 72, 38 * 16, 32)
                    column = 0
                }
                try draw(128 + column * 16, 72, key, 0xffffff)
                column += 1
            }
            usleep(40_000)
        }
    }

    // MARK: what is typed

    /// The next character that was typed; nil when there is none.
    private mutating func typed() throws -> UInt8? {
        // A status of all-ones is nobody's; the mouse's bytes are taken and forgotten.
        for _ in 0..<64 {
            let status = try input(0x64)
            guard status != 0xff, status & 1 != 0 else { return nil }
            let code = try input(0x60)
            guard status & 0x20 == 0, let character = keys.character(code) else { continue }
            try say("guest: typed '\(Character(Unicode.Scalar(character)))'\n")
            return character
        }
        return nil
    }
}

/// Set 1's codes as the characters of a US keyboard.
struct TypedKeys {
    private var isShifted = false
    private static let plain = Array("\0\u{1b}1234567890-=\u{8}\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ".utf8)
    private static let shifted = Array("\0\u{1b}!@#$%^&*()_+\u{8}\tQWERTYUIOP{}\n\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ".utf8)

    /// The character of a byte; nil for releases and keys without one that can be shown.
    mutating func character(_ code: UInt8) -> UInt8? {
        let key = Int(code & 0x7f)
        if key == 0x2a || key == 0x36 {
            isShifted = code < 0x80
            return nil
        }
        guard code < 0x80, key < Self.plain.count else { return nil }
        let character = (isShifted ? Self.shifted : Self.plain)[key]
        return character >= 0x20 ? character : nil
    }
}

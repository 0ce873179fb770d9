import Glibc
import Platform

/// The pixels that viewers are sent: a copy of the surface that changes only when what has changed is known. Shared by all viewers'
/// encoders, which only read it, and kept until the last one has gone over to another.
final class FrameMemory: @unchecked Sendable {
    // Sendable: the pointer never changes. The pixels are written by the main thread while encoders read them: what an encoder
    // may have read too early or half is always sent again (see `FrameGate`).
    let pixels: UnsafeMutableRawPointer
    let width: Int
    let height: Int
    var stride: Int { width * 4 }
    private let length: Int

    /// Black.
    init(width: Int, height: Int) throws(SystemError) {
        length = max(4096, width * height * 4)
        // Pages of its own: they go back to the system at once.
        let address = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let address, address != UnsafeMutableRawPointer(bitPattern: -1) else { throw SystemError("get", "\(length) bytes for the picture") }
        pixels = address
        self.width = width
        self.height = height
    }

    deinit { munmap(pixels, length) }

    func fill(from source: UnsafeRawPointer) { memcpy(pixels, source, width * height * 4) }
    func clear() { memset(pixels, 0, width * height * 4) }

    /// What is shown before the guest has a screen.
    static func waiting() throws(SystemError) -> FrameMemory {
        let frame = try FrameMemory(width: 640, height: 480)
        Lettering.draw("THE GUEST HAS NO SCREEN YET", into: frame, scale: 2)
        return frame
    }
}

/// As much of a typeface as one line needs.
private enum Lettering {
    /// Five columns, the lowest bit at the top.
    private static let shapes: [Character: [UInt8]] = [
        "A": [0x7e, 0x09, 0x09, 0x09, 0x7e], "C": [0x3e, 0x41, 0x41, 0x41, 0x22], "E": [0x7f, 0x49, 0x49, 0x49, 0x41],
        "G": [0x3e, 0x41, 0x49, 0x49, 0x3a], "H": [0x7f, 0x08, 0x08, 0x08, 0x7f], "N": [0x7f, 0x04, 0x08, 0x10, 0x7f],
        "O": [0x3e, 0x41, 0x41, 0x41, 0x3e], "R": [0x7f, 0x09, 0x19, 0x29, 0x46], "S": [0x26, 0x49, 0x49, 0x49, 0x32],
        "T": [0x01, 0x01, 0x7f, 0x01, 0x01], "U": [0x3f, 0x40, 0x40, 0x40, 0x3f], "Y": [0x03, 0x04, 0x78, 0x04, 0x03],
    ]

    static func draw(_ text: String, into frame: FrameMemory, scale: Int) {
        var left = (frame.width - text.count * 6 * scale) / 2
        let top = (frame.height - 7 * scale) / 2
        for character in text {
            for (column, bits) in (shapes[character] ?? []).enumerated() {
                for row in 0..<7 where bits >> UInt8(row) & 1 != 0 {
                    for y in 0..<scale {
                        for x in 0..<scale {
                            let place = (top + row * scale + y) * frame.stride + (left + column * scale + x) * 4
                            guard place >= 0, place + 4 <= frame.height * frame.stride else { continue }
                            frame.pixels.storeBytes(of: 0x00a0_a0a0, toByteOffset: place, as: UInt32.self)
                        }
                    }
                }
            }
            left += 6 * scale
        }
    }
}

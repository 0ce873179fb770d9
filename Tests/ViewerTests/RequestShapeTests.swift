import CLinux
import EmulatorProtocol
import Glibc
import Platform
import RFB
import SeededNumbers
import Surface
import Testing

/// Requests for updates of every shape, with every encoding: what the encoder, which is C, is asked to do. `make test-full` runs these
/// with the address sanitiser in the exporter and in libvncserver.
@Suite("Requests of every shape", .serialized)
struct RequestShapeTests {
    /// Pixel encodings by number: those that are offered, and RRE, CoRRE, ultra and TightPNG, which are not and count as raw.
    static let pixelEncodings: [Int32] = [0, 1, 5, 6, 7, 16, 17, 2, 4, 9, -260]
    /// Cursors, sizes, levels of compression and quality, last rectangle, QEMU's extensions.
    private static let others: [Int32] = [1, -239, -240, -224, -223, -308, -257, -258, -32, -28, -23, -256, -251, -247, -412, -462, -512, -763, -766, -768]

    private static let formats = [
        PixelFormat.native,
        // Red and blue exchanged, and the highest byte first.
        PixelFormat(bitsPerPixel: 32, depth: 24, bigEndian: true, trueColour: true, redMax: 255, greenMax: 255, blueMax: 255, redShift: 0, greenShift: 8, blueShift: 16),
        PixelFormat(bitsPerPixel: 32, depth: 30, bigEndian: false, trueColour: true, redMax: 1023, greenMax: 1023, blueMax: 1023, redShift: 20, greenShift: 10, blueShift: 0),
        PixelFormat(bitsPerPixel: 16, depth: 16, bigEndian: false, trueColour: true, redMax: 31, greenMax: 63, blueMax: 31, redShift: 11, greenShift: 5, blueShift: 0),
        PixelFormat(bitsPerPixel: 16, depth: 15, bigEndian: true, trueColour: true, redMax: 31, greenMax: 31, blueMax: 31, redShift: 0, greenShift: 5, blueShift: 10),
        PixelFormat(bitsPerPixel: 8, depth: 8, bigEndian: false, trueColour: true, redMax: 7, greenMax: 7, blueMax: 3, redShift: 0, greenShift: 3, blueShift: 6),
        // A colour map.
        PixelFormat(bitsPerPixel: 8, depth: 8, bigEndian: false, trueColour: false, redMax: 0, greenMax: 0, blueMax: 0, redShift: 0, greenShift: 0, blueShift: 0),
    ]
    private static let sizes = [(640, 480), (1, 1), (320, 200), (17, 3), (2049, 40), (16, 2100), (800, 600), (65, 65)]

    private func request(_ x: UInt16, _ y: UInt16, _ width: UInt16, _ height: UInt16, incremental: Bool) -> [UInt8] {
        EncoderMessage.updateRequest(.init(incremental: incremental, x: x, y: y, width: width, height: height))
    }

    /// Waits for an answer that needs no request, so that the encoder has had what was asked before by itself: requests that wait are joined.
    private func separate(_ viewer: TestViewer, _ encodings: [Int32]) throws {
        try viewer.stream.drop(atLeast: 0)
        // Keys with numbers are confirmed each time that they are asked for anew.
        try viewer.setEncodings(encodings)
        try viewer.setEncodings(encodings + [Encoding.extendedKeyEvent])
        try viewer.stream.drop(atLeast: 1)
    }

    @Test("a request for no pixels, or for pixels that are not there, ends nobody", arguments: pixelEncodings)
    func empty(encoding: Int32) throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(320, 200)
        for incremental in [false, true] {
            for (x, y, width, height) in [(100, 100, 0, 100), (100, 100, 100, 0), (0, 0, 0, 0), (320, 0, 5, 5), (0, 200, 5, 5), (65_535, 65_535, 65_535, 65_535)] as [(UInt16, UInt16, UInt16, UInt16)] {
                let viewer = try coordinator.viewer()
                try viewer.setEncodings([encoding])
                try viewer.stream.write(request(x, y, width, height, incremental: incremental))
                try separate(viewer, [encoding])
                // The whole picture comes all the same.
                try viewer.request(incremental: false)
                try viewer.stream.drop(atLeast: 1)
            }
        }
        try coordinator.viewer().see(screen)
        #expect(coordinator.process.poll() == nil)
    }

    @Test("no request of any shape ends the exporter, with any encoding and pixel format, while the picture's size changes")
    func fuzz() throws {
        let coordinator = try FakeCoordinator().start()
        if let folder = FakeCoordinator.sanitizedLibraries { #expect(try coordinator.maps.contains(folder), "the sanitised libvncserver is used") }
        _ = try coordinator.setMode(320, 200)
        var generator = SplitMix(state: 0x51a9e5)
        let wanted = isFull ? 100_000 : 4_000
        var sent = 0
        while sent < wanted {
            let viewer = try coordinator.viewer()
            let encoding = Self.pixelEncodings[sent / 100 % Self.pixelEncodings.count]
            try viewer.setEncodings([encoding] + (0..<Int.random(in: 0..<6, using: &generator)).compactMap { _ in Self.others.randomElement(using: &generator) })
            for index in 0..<100 {
                sent += 1
                try viewer.stream.write(message(encoding, &generator))
                switch index % 4 {
                case 0: try separate(viewer, [encoding])
                case 2:
                    // It is always answered.
                    try viewer.stream.write(request(0, 0, .max, .max, incremental: false))
                    sent += 1
                    try viewer.stream.drop(atLeast: 1)
                default: try viewer.stream.drop(atLeast: 0)
                }
                if index % 5 == 4 { try change(coordinator, &generator) }
            }
        }
        print("\(sent) messages of viewers")
        try coordinator.viewer().see(try #require(coordinator.screen))
        #expect(coordinator.process.poll() == nil)
    }

    private func message(_ encoding: Int32, _ generator: inout SplitMix) -> [UInt8] {
        switch Int.random(in: 0..<20, using: &generator) {
        case 0: return EncoderMessage.setPixelFormat(Self.formats.randomElement(using: &generator) ?? .native)
        case 1:
            let more = (0..<Int.random(in: 0..<8, using: &generator)).compactMap { _ in Self.others.randomElement(using: &generator) }
            return EncoderMessage.setEncodings(Bool.random(using: &generator) ? [encoding] + more : more + [encoding])
        default:
            let edges: [UInt16] = [0, 0, 1, 2, 15, 16, 17, 100, 199, 200, 319, 320, 321, 639, 640, 2047, 2048, 2049, 32_767, 32_768, 65_534, 65_535]
            func edge() -> UInt16 { edges.randomElement(using: &generator) ?? 0 }
            return request(edge(), edge(), edge(), edge(), incremental: Bool.random(using: &generator))
        }
    }

    /// What a display does: another size, pixels, a copy, a cursor.
    private func change(_ coordinator: FakeCoordinator, _ generator: inout SplitMix) throws {
        guard let screen = coordinator.screen else { return }
        switch Int.random(in: 0..<8, using: &generator) {
        case 0:
            let (width, height) = Self.sizes.randomElement(using: &generator) ?? (1, 1)
            try coordinator.setMode(width, height, seed: UInt32.random(in: .min ... .max, using: &generator))
            return
        case 1:
            let (width, height) = (Int.random(in: 1...64, using: &generator), Int.random(in: 1...64, using: &generator))
            screen.writer.setCursor(
                SurfaceCursor(
                    x: 0, y: 0, hotX: width - 1, hotY: 0, width: width, height: height,
                    pixels: (0..<width * height).map { _ in UInt32.random(in: .min ... .max, using: &generator) }))
        case 2, 3:
            let lines = Int.random(in: 1...screen.height, using: &generator)
            let height = screen.height - lines
            if height > 0 {
                memmove(screen.pixels, screen.pixels + lines * screen.width, height * screen.width * 4)
                screen.writer.copied(from: 0, y: lines, to: SurfaceRectangle(x: 0, y: 0, width: screen.width, height: height))
            }
        default: screen.pixels[Int.random(in: 0..<screen.width * screen.height, using: &generator)] ^= 0xff_ffff
        }
        screen.writer.damage(SurfaceRectangle(x: 0, y: 0, width: screen.width, height: screen.height))
        coordinator.publish()
    }
}

import Glibc
import Testing

@testable import VGA

/// Debian's `edid-decode`, as a judge.
private enum Decoder {
    static let program = "/usr/bin/edid-decode"
    static var isInstalled: Bool { access(program, X_OK) == 0 }

    /// - Returns: all that it says about the bytes.
    static func judge(_ bytes: [UInt8]) throws -> String {
        var template = Array("/tmp/edid-XXXXXX".utf8CString)
        let descriptor = mkstemp(&template)
        try #require(descriptor >= 0)
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { unlink(path) }
        #expect(write(descriptor, bytes, bytes.count) == bytes.count)
        close(descriptor)
        let pipe = try #require(popen("\(program) --check \(path) 2>&1", "r"))
        var text: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while true {
            let got = fread(&piece, 1, piece.count, pipe)
            if got == 0 { break }
            text += piece.prefix(got)
        }
        pclose(pipe)
        return String(decoding: text, as: UTF8.self)
    }
}

@Suite("EDID")
struct EDIDTests {
    private func edid(_ rig: Rig) -> [UInt8] {
        let bytes = (0..<384).map { UInt8(truncatingIfNeeded: rig.read(registers: $0, size: 1)) }
        return Array(bytes.prefix(128 * (Int(bytes[126]) + 1)))
    }

    /// The first detailed timing.
    private func preferred(_ bytes: [UInt8]) -> VGAMode {
        VGAMode(width: Int(bytes[56]) | Int(bytes[58] >> 4) << 8, height: Int(bytes[59]) | Int(bytes[61] >> 4) << 8)
    }

    static let modes: [VGAMode] = [
        (640, 480), (800, 600), (1024, 768), (1280, 720), (1280, 800), (1366, 768), (1280, 1024), (1600, 1200), (1920, 1080), (1920, 1200), (2560, 1440),
        (2560, 1600), (3440, 1440), (3840, 2160), (4088, 2160), (4096, 2160), (64, 64), (1000, 3000), (328, 1111), (5120, 2880),
    ].map { VGAMode(width: $0.0, height: $0.1) }

    @Test("edid-decode finds nothing wrong, whatever mode is wished", .enabled(if: Decoder.isInstalled), arguments: modes)
    func conforms(mode: VGAMode) throws {
        var options = VGAOptions()
        options.preferred = mode
        options.modes = [VGAMode(width: 1600, height: 1000), VGAMode(width: 2048, height: 1536), VGAMode(width: 12, height: 3)]
        options.name = "a name that is rather long, é"
        let rig = try Rig(memory: 64 << 20, options: options)
        let bytes = edid(rig)
        let verdict = try Decoder.judge(bytes)
        #expect(verdict.contains("EDID conformity: PASS"), "\(verdict)")
        #expect(!verdict.contains("Warnings:"), "\(verdict)")
        let width = mode.width & ~7
        if mode.width <= 4095 && mode.width * mode.height <= 4096 * 2160 {
            #expect(preferred(bytes) == VGAMode(width: width, height: mode.height))
        } else {
            #expect(bytes.count == 384)
            #expect(verdict.contains("\(width)x\(mode.height)"))
        }
        #expect(verdict.contains("1600x1000"))
    }

    @Test("a viewer's wish becomes the preferred mode, and outlives a reset and a successor")
    func hint() throws {
        let rig = try Rig(memory: 16 << 20)
        #expect(preferred(edid(rig)) == VGAMode(width: 1024, height: 768))
        #expect(rig.modeHint(1367, 800))
        #expect(preferred(edid(rig)) == VGAMode(width: 1360, height: 800))
        rig.device.reset()
        #expect(preferred(edid(rig)) == VGAMode(width: 1360, height: 800))
        try rig.succeed()
        #expect(preferred(edid(rig)) == VGAMode(width: 1360, height: 800))
    }

    @Test("a wish that video memory is too small for changes nothing", arguments: [(0, 0), (-8, 600), (63, 600), (4096, 2160), (Int.max, Int.max), (Int.min, 1), (800, 9000)])
    func refused(width: Int, height: Int) throws {
        let rig = try Rig(memory: 16 << 20)
        let before = edid(rig)
        #expect(!rig.modeHint(width, height))
        #expect(edid(rig) == before)
    }

    @Test("formats and standard timings that do not fit in video memory are not offered")
    func small() throws {
        let rig = try Rig(memory: 1 << 20)
        let bytes = edid(rig)
        #expect(bytes[38] == 1 && bytes[39] == 1)
        #expect(bytes[128 + 7] == 0)
        #expect(preferred(bytes) == VGAMode(width: 640, height: 480))
    }
}

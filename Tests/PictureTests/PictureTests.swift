import Glibc
import Picture
import Platform
import Surface
import Testing

@Suite("Pictures of a surface")
struct PictureTests {
    /// A surface of which every pixel differs, the meaningless byte included.
    private func surface(_ width: Int, _ height: Int) throws -> Picture {
        let memory = try SurfaceMemory.create(width: width, height: height)
        let writer = try SurfaceWriter(memory.descriptor.duplicate(), width: width, height: height)
        for index in 0..<width * height { writer.pixels.storeBytes(of: 0xa5000000 | UInt32(index) &* 7919, toByteOffset: index * 4, as: UInt32.self) }
        return Picture(of: try SurfaceReader(memory.readOnly(), width: width, height: height))
    }

    @Test("a surface as PNG and back is the same colours, whatever the size", arguments: [(1, 1), (3, 2), (640, 400), (1, 777), (1023, 5)])
    func roundTrip(width: Int, height: Int) throws {
        let picture = try surface(width, height)
        let bytes = try picture.png()
        #expect(bytes.prefix(8) == [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
        let back = try Picture(png: bytes)
        #expect(back.width == width && back.height == height)
        #expect(back.pixels == picture.pixels.map { $0 & 0xff_ffff })
    }

    @Test("noise, which no compression makes smaller, is encoded as well")
    func noise() throws {
        var state: UInt64 = 1
        let pixels = (0..<500 * 300).map { _ -> UInt32 in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt32(truncatingIfNeeded: state >> 40)
        }
        let picture = try #require(Picture(width: 500, height: 300, pixels: pixels))
        #expect(try Picture(png: picture.png()).pixels == pixels.map { $0 & 0xff_ffff })
    }

    @Test("a thumbnail keeps the proportions and fits its box; what fits already is left alone")
    func sizes() throws {
        #expect(Picture.fitted(width: 1024, height: 768, within: (320, 240)) == (320, 240))
        #expect(Picture.fitted(width: 1920, height: 1080, within: (320, 240)) == (320, 180))
        #expect(Picture.fitted(width: 720, height: 1600, within: (320, 240)) == (108, 240))
        #expect(Picture.fitted(width: 300, height: 200, within: (320, 240)) == (300, 200))
        #expect(Picture.fitted(width: 8192, height: 1, within: (320, 240)) == (320, 1))
        #expect(Picture.fitted(width: 1, height: 8192, within: (0, -3)) == (1, 1))
        let picture = try surface(30, 20)
        #expect(picture.scaled(within: (30, 20)) == picture)
    }

    @Test("scaling down takes the mean of what a pixel covers")
    func box() throws {
        let picture = try #require(Picture(width: 4, height: 2, pixels: [0xff0000, 0x0000ff, 0x00ff00, 0x00ff00, 0x010203, 0x030201, 0x00ff00, 0x00ff00]))
        // (255+0+1+3)/4, (0+0+2+2)/4, (0+255+3+1)/4, rounded.
        #expect(picture.scaled(within: (2, 1)).pixels == [0x410141, 0x00ff00])
        let even = try #require(Picture(width: 100, height: 70, pixels: [UInt32](repeating: 0x123456, count: 7000)))
        for side in [1, 3, 7, 33, 99] { #expect(even.scaled(within: (side, side)).pixels.allSatisfy { $0 == 0x123456 }) }
    }

    @Test("a file is written whole in place of an old one, a device is written to, and a folder that is not there is an error")
    func files() throws {
        var template = Array("/tmp/demux-test-XXXXXX".utf8CString)
        let folder = try #require(mkdtemp(&template).map { String(cString: $0) })
        defer { rmdir(folder) }
        let path = "\(folder)/a.png"
        for size in [40, 3] {
            let picture = try surface(size, size)
            try picture.write(to: path)
            let file = try Files.open(path)
            let back = try Picture(png: Files.readAll(file.raw, limit: 1 << 20, what: path))
            #expect(back.width == size)
        }
        let link = "\(folder)/link"
        #expect(symlink(path, link) == 0)
        try surface(7, 7).write(to: link)
        let linked = try Files.open(path)
        #expect(try Picture(png: Files.readAll(linked.raw, limit: 1 << 20, what: path)).width == 7)
        unlink(link)
        unlink(path)
        try surface(5, 5).write(to: "/dev/null")
        var status = stat()
        #expect(stat("/dev/null", &status) == 0 && status.st_mode & S_IFMT == S_IFCHR)
        #expect(throws: SystemError.self) { try surface(5, 5).write(to: "\(folder)/none/a.png") }
    }

    @Test("what is no PNG file is refused with a reason")
    func garbage() throws {
        #expect(throws: SystemError.self) { _ = try Picture(png: []) }
        let whole = try surface(9, 9).png()
        // Without its last chunk, which says only that there is no more, a picture is still whole.
        for length in stride(from: 0, to: whole.count - 24, by: 7) { #expect(throws: SystemError.self) { _ = try Picture(png: Array(whole.prefix(length))) } }
    }
}

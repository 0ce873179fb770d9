import CSurface
import Surface
import Testing

@Suite("A surface's layout")
struct LayoutTests {
    @Test("what the coordinator writes first stands where the document says, byte by byte")
    func created() throws {
        let ends = try Ends(width: 640, height: 400)
        let base = ends.raw.base
        #expect((0..<8).map { base.load(fromByteOffset: $0, as: UInt8.self) } == Array("DMXSURF1".utf8))
        #expect([8, 12, 16, 20, 24, 28].map { base.load(fromByteOffset: $0, as: UInt32.self) } == [1, 36864, 640, 400, 2560, 1])
        #expect(base.load(fromByteOffset: 32, as: UInt64.self) == 36864 + 2560 * 400)
        #expect((40..<36864).allSatisfy { base.load(fromByteOffset: $0, as: UInt8.self) == 0 })
        let page = try SurfaceMemory.createReaderPage()
        let mapped = try page.map(what: "a page")
        #expect(mapped.length == 4096)
        #expect((0..<8).map { mapped.base.load(fromByteOffset: $0, as: UInt8.self) } == Array("DMXREAD1".utf8))
        #expect([8, 12, 16].map { mapped.base.load(fromByteOffset: $0, as: UInt32.self) } == [1, 0, 0])
    }

    @Test("what the writer writes stands where the document says")
    func written() throws {
        var ends = try Ends(width: 640, height: 400)
        let base = ends.raw.base
        func word(_ offset: Int) -> UInt32 { base.load(fromByteOffset: offset, as: UInt32.self) }
        ends.writer.pixels.storeBytes(of: 0x123456, as: UInt32.self)
        #expect(word(36864) == 0x123456)
        ends.writer.damage(SurfaceRectangle(x: 1, y: 2, width: 3, height: 4))
        ends.writer.copied(from: 5, y: 6, to: SurfaceRectangle(x: 7, y: 8, width: 9, height: 10))
        ends.writer.publish()
        ends.writer.publish()
        #expect(base.load(fromByteOffset: 48, as: UInt64.self) == 2)
        #expect(base.load(fromByteOffset: 56, as: UInt64.self) == 2)
        #expect((0..<16).map { base.load(fromByteOffset: 4096 + $0 * 2, as: UInt16.self) } == [1, 2, 3, 4, 1, 0, 0, 0, 7, 8, 9, 10, 2, 5, 6, 0])
        ends.writer.setCursor(SurfaceCursor(x: -1, y: 9, hotX: 1, hotY: 0, width: 2, height: 2, pixels: [11, 12, 13, 14]))
        #expect(stride(from: 64, to: 96, by: 4).map(word) == [2, 0xffff_ffff, 9, 1, 0, 2, 2, 1])
        #expect([20480, 20484, 20480 + 256, 20484 + 256].map(word) == [11, 12, 13, 14])
        ends.writer.setCursor(nil)
        #expect(word(92) == 0)
        ends.writer.setBlank(true)
        #expect(word(40) == 2)
        ends.writer.retire()
        #expect(word(40) == 3)
        ends.writer.setBlank(false)
        #expect(word(40) == 1)
    }

    @Test("sizes are 1 to 8192 a side and 256 MiB in all")
    func sizes() throws {
        #expect(SurfaceLayout.length(width: 1, height: 1) == 36868)
        #expect(SurfaceLayout.length(width: 8192, height: 8190) == 36864 + 8192 * 8190 * 4)
        for (width, height) in [(0, 1), (1, 0), (-1, 5), (8193, 1), (1, 8193), (8192, 8192), (Int.max, Int.max), (Int.min, 1)] {
            #expect(SurfaceLayout.length(width: width, height: height) == nil)
            #expect(throws: (any Error).self) { _ = try SurfaceMemory.create(width: width, height: height) }
        }
    }

    @Test("rectangles are cut to the surface, joined, and survive every number")
    func rectangles() {
        typealias Place = SurfaceRectangle
        let whole = Place(x: 0, y: 0, width: 100, height: 50)
        #expect(Place(x: -10, y: 40, width: 30, height: 30).clamped(width: 100, height: 50) == Place(x: 0, y: 40, width: 20, height: 10))
        #expect(Place(x: Int.min, y: Int.min, width: Int.max, height: Int.max).clamped(width: 100, height: 50) == nil)
        #expect(Place(x: -1, y: -1, width: Int.max, height: Int.max).clamped(width: 100, height: 50) == whole)
        #expect(Place(x: 99, y: 49, width: Int.max, height: Int.max).clamped(width: 100, height: 50) == Place(x: 99, y: 49, width: 1, height: 1))
        #expect(Place(x: 100, y: 0, width: 1, height: 1).clamped(width: 100, height: 50) == nil)
        #expect(Place(x: 5, y: 5, width: -3, height: 7).clamped(width: 100, height: 50) == nil)
        let a = Place(x: 1, y: 2, width: 3, height: 4)
        let b = Place(x: 10, y: 0, width: 1, height: 1)
        #expect(a.union(b) == Place(x: 1, y: 0, width: 10, height: 6))
        #expect(a.union(Place(x: 500, y: 500, width: 0, height: 3)) == a)
        #expect(!a.intersects(b))
        #expect(a.intersects(Place(x: 3, y: 5, width: 9, height: 9)))
        #expect(!a.intersects(Place(x: 4, y: 2, width: 1, height: 1)))
        let extremes = [Int.min, -1, 0, 1, Int.max]
        for x in extremes {
            for width in extremes {
                let odd = Place(x: x, y: width, width: width, height: x)
                _ = odd.union(a)
                _ = a.union(odd).clamped(width: 8192, height: 8192)
                _ = odd.intersects(a)
                if let cut = odd.clamped(width: 100, height: 50) { #expect(whole.contains(cut)) }
            }
        }
    }
}

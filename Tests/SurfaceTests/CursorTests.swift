import Surface
import TestTools
import Testing

@Suite("The cursor")
struct CursorTests {
    /// A cursor all of whose parts follow from one number.
    private static func cursor(_ number: Int) -> SurfaceCursor? {
        let width = 1 + number % 64, height = 1 + number / 3 % 64
        return SurfaceCursor(
            x: Int32(number), y: -Int32(number), hotX: number % width, hotY: number % height, width: width, height: height,
            pixels: [UInt32](repeating: UInt32(number), count: width * height))
    }

    @Test("it is shown, moved and hidden, and everything comes across")
    func shown() throws {
        var ends = try Ends()
        #expect(ends.reader.cursor() == nil)
        let arrow = SurfaceCursor(x: 3, y: 4, hotX: 1, hotY: 0, width: 3, height: 2, pixels: [1, 2, 3, 4, 5, 6])
        ends.writer.setCursor(arrow)
        #expect(ends.reader.cursor() == arrow)
        ends.writer.moveCursor(x: -7, y: 9000)
        var moved = try #require(arrow)
        moved.x = -7
        moved.y = 9000
        #expect(ends.reader.cursor() == moved)
        let before = ends.reader.cursorSequence
        #expect(ends.reader.cursor() == moved)
        #expect(ends.reader.cursorSequence == before)
        ends.writer.setCursor(nil)
        #expect(ends.reader.cursor() == nil)
        let full = SurfaceCursor(x: 0, y: 0, hotX: 63, hotY: 63, width: 64, height: 64, pixels: (0..<4096).map { UInt32($0) })
        ends.writer.setCursor(full)
        #expect(ends.reader.cursor() == full)
    }

    @Test("shapes that do not fit cannot be made")
    func shapes() {
        #expect(SurfaceCursor(x: 0, y: 0, hotX: 0, hotY: 0, width: 65, height: 1, pixels: [UInt32](repeating: 0, count: 65)) == nil)
        #expect(SurfaceCursor(x: 0, y: 0, hotX: 0, hotY: 0, width: 0, height: 0, pixels: []) == nil)
        #expect(SurfaceCursor(x: 0, y: 0, hotX: 2, hotY: 0, width: 2, height: 1, pixels: [0, 0]) == nil)
        #expect(SurfaceCursor(x: 0, y: 0, hotX: 0, hotY: 0, width: 2, height: 1, pixels: [0]) == nil)
    }

    @Test("a reader beside a writer that changes it all the time never sees a mixture")
    func concurrent() throws {
        let memory = try SurfaceMemory.create(width: 8, height: 8)
        let changes = 5000
        let shared = try SharedWriter(memory, width: 8, height: 8)
        let reader = try SurfaceReader(memory.readOnly(), width: 8, height: 8)
        let thread = try TestThread {
            shared.writer.withLock { writer in
                for number in 1...changes { writer.setCursor(Self.cursor(number)) }
                writer.publish()
            }
        }
        var mixtures = 0
        repeat {
            if let cursor = reader.cursor(), cursor != Self.cursor(Int(cursor.x)) { mixtures += 1 }
        } while reader.frame == 0
        thread.join()
        #expect(mixtures == 0)
        #expect(reader.cursor() == Self.cursor(changes))
    }

    @Test("a writer that died while it changed the cursor holds nobody up, and its successor repairs it")
    func deadWriter() throws {
        var ends = try Ends()
        let arrow = Self.cursor(12)
        ends.writer.setCursor(arrow)
        #expect(ends.reader.cursor() == arrow)
        ends.raw.base.storeBytes(of: 7, toByteOffset: 64, as: UInt32.self)
        #expect(ends.reader.cursor() == arrow, "the last whole one is kept")
        var next = try SurfaceWriter(ends.memory.descriptor.duplicate(), width: 64, height: 48)
        #expect(ends.reader.cursorSequence == 8)
        #expect(ends.reader.cursor() == arrow)
        next.setCursor(Self.cursor(13))
        #expect(ends.reader.cursor() == Self.cursor(13))
    }
}

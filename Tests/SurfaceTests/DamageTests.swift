import SeededNumbers
import Surface
import TestTools
import Testing

@Suite("The damage ring")
struct DamageTests {
    private func rectangle(_ x: Int, _ y: Int, _ width: Int = 1, _ height: Int = 1) -> SurfaceRectangle {
        SurfaceRectangle(x: x, y: y, width: width, height: height)
    }

    @Test("the first look is everything, then what was published, once and in order")
    func order() throws {
        var ends = try Ends()
        #expect(ends.changes() == [.everything])
        #expect(ends.changes() == nil)
        ends.writer.damage(rectangle(5, 5))
        #expect(ends.changes() == nil, "nothing is visible before it is published")
        ends.writer.copied(from: 0, y: 8, to: rectangle(0, 0, 64, 40))
        ends.writer.damage(rectangle(0, 40, 64, 8))
        #expect(ends.writer.publish() == 1)
        #expect(ends.reader.frame == 1)
        #expect(ends.changes() == [.damage(rectangle(5, 5)), .copy(fromX: 0, fromY: 8, rectangle(0, 0, 64, 40)), .damage(rectangle(0, 40, 64, 8))])
        #expect(ends.reader.taken == 1)
        #expect(ends.changes() == nil)
        #expect(ends.writer.publish() == 2)
        #expect(ends.changes() == nil, "an update may change no pixel")
        #expect(ends.reader.taken == 2)
    }

    @Test("what the writer says is cut to the surface, and joined where no pixel is added")
    func joining() throws {
        var ends = try Ends()
        _ = ends.changes()
        ends.writer.damage(rectangle(60, 40, 100, 100))
        ends.writer.damage(rectangle(-5, -5, 5, 5))
        ends.writer.damage(rectangle(62, 41))
        ends.writer.publish()
        #expect(ends.changes() == [.damage(rectangle(60, 40, 4, 8))])
        for line in 0..<10 { ends.writer.damage(rectangle(3, line, 20, 1)) }
        ends.writer.damage(rectangle(23, 0, 2, 10))
        ends.writer.damage(rectangle(40, 0))
        ends.writer.publish()
        #expect(ends.changes() == [.damage(rectangle(3, 0, 22, 10)), .damage(rectangle(40, 0))])
    }

    @Test("a copy that does not lie in the surface is damage of what does")
    func copies() throws {
        var ends = try Ends()
        _ = ends.changes()
        ends.writer.copied(from: 60, y: 0, to: rectangle(0, 0, 10, 10))
        ends.writer.copied(from: 0, y: -1, to: rectangle(60, 40, 10, 2))
        ends.writer.publish()
        #expect(ends.changes() == [.damage(rectangle(0, 0, 10, 10)), .damage(rectangle(60, 40, 4, 2))])
    }

    @Test("more than the writer keeps for one update becomes one rectangle around all of it")
    func collapse() throws {
        var ends = try Ends()
        _ = ends.changes()
        ends.writer.copied(from: 0, y: 0, to: rectangle(2, 3))
        // A diagonal pattern, of which no two touch: the 257th entry collapses all of them.
        for index in 0..<256 { ends.writer.damage(rectangle(index * 2 % 60, 7 + index * 2 / 60 * 2)) }
        ends.writer.publish()
        #expect(ends.changes() == [.damage(rectangle(0, 3, 59, 21))])
    }

    @Test("a reader that is 1023 entries behind gets each of them, and one that is 1024 behind gets everything")
    func overrun() throws {
        var ends = try Ends()
        _ = ends.changes()
        for round in 0..<3 {
            for index in 0..<1023 {
                ends.writer.damage(rectangle((index + round) % 64, index / 64 * 2))
                ends.writer.publish()
            }
            #expect(ends.changes() == (0..<1023).map { .damage(rectangle(($0 + round) % 64, $0 / 64 * 2)) })
        }
        for count in [1024, 1025, 5000] {
            for _ in 0..<count {
                ends.writer.damage(rectangle(1, 1))
                ends.writer.publish()
            }
            #expect(ends.changes() == [.everything])
            #expect(ends.changes() == nil)
        }
    }

    @Test("a reader beside a writer that draws all the time ends with the writer's picture")
    func concurrent() throws {
        let width = 64, height = 48, updates = 20_000
        let memory = try SurfaceMemory.create(width: width, height: height)
        let shared = try SharedWriter(memory, width: width, height: height)
        var reader = try SurfaceReader(memory.readOnly(), width: width, height: height)
        let thread = try TestThread {
            shared.writer.withLock { writer in
                var random = SplitMix(state: 3)
                for _ in 0..<updates {
                    for _ in 0..<Int.random(in: 1...3, using: &random) { Self.draw(&writer, &random) }
                    writer.publish()
                }
            }
        }
        var picture = [UInt32](repeating: 0, count: width * height)
        var pieces = 0, whole = 0
        func look() {
            let pixels = reader.pixels
            _ = reader.take { change in
                var place = SurfaceRectangle(x: 0, y: 0, width: width, height: height)
                switch change {
                case .everything: whole += 1
                case .damage(let part), .copy(_, _, let part):
                    place = part
                    pieces += 1
                }
                for y in place.y..<place.y + place.height {
                    for x in place.x..<place.x + place.width { picture[y * width + x] = pixels.load(fromByteOffset: (y * width + x) * 4, as: UInt32.self) }
                }
            }
        }
        while reader.frame < UInt64(updates) { look() }
        thread.join()
        look()
        #expect(picture == (0..<width * height).map { reader.pixels.load(fromByteOffset: $0 * 4, as: UInt32.self) })
        #expect(whole >= 1)
        #expect(reader.taken == UInt64(updates))
    }

    private static func draw(_ writer: inout SurfaceWriter, _ random: inout SplitMix) {
        let place = SurfaceRectangle(
            x: Int.random(in: 0..<64, using: &random), y: Int.random(in: 0..<48, using: &random), width: Int.random(in: 1...8, using: &random),
            height: Int.random(in: 1...8, using: &random))
        guard let inside = place.clamped(width: 64, height: 48) else { return }
        let colour = UInt32(truncatingIfNeeded: random.next())
        for y in inside.y..<inside.y + inside.height {
            for x in inside.x..<inside.x + inside.width { writer.pixels.storeBytes(of: colour, toByteOffset: y * writer.stride + x * 4, as: UInt32.self) }
        }
        writer.damage(place)
    }

    @Test("a successor writer goes on in the same surface: numbers, ring and flags")
    func successor() throws {
        var ends = try Ends()
        _ = ends.changes()
        ends.writer.damage(rectangle(1, 1))
        ends.writer.publish()
        ends.writer.setBlank(true)
        var next = try SurfaceWriter(ends.memory.descriptor.duplicate(), width: 64, height: 48)
        next.damage(rectangle(9, 9))
        #expect(next.publish() == 2)
        #expect(ends.changes() == [.damage(rectangle(1, 1)), .damage(rectangle(9, 9))])
        next.retire()
        #expect(ends.reader.isBlank == true)
        #expect(ends.reader.isRetired == true)
        next.setBlank(false)
        #expect(ends.reader.isBlank == false)
        #expect(ends.reader.isRetired == true)
    }
}

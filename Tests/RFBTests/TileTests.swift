import Glibc
import SeededNumbers
import Testing

@testable import RFB

@Suite("The comparison of tiles")
struct TileTests {
    /// Two pictures, and what a comparison says about them.
    private final class Pair {
        let width: Int
        let height: Int
        let source: UnsafeMutablePointer<UInt32>
        let copy: UnsafeMutablePointer<UInt32>
        init(_ width: Int, _ height: Int) {
            (self.width, self.height) = (width, height)
            source = .allocate(capacity: width * height)
            copy = .allocate(capacity: width * height)
            source.initialize(repeating: 0, count: width * height)
            copy.initialize(repeating: 0, count: width * height)
        }
        deinit {
            source.deallocate()
            copy.deallocate()
        }
        var tiles: TileComparison { TileComparison(source: source, copy: copy, stride: width * 4, width: width, height: height) }
        var isEqual: Bool { memcmp(source, copy, width * height * 4) == 0 }
        func update(_ area: TileRectangle) -> [TileRectangle] {
            var changed: [TileRectangle] = []
            tiles.update(area, changed: &changed)
            return changed
        }
        var whole: TileRectangle { TileRectangle(x: 0, y: 0, width: width, height: height) }
    }

    @Test("a blinking cursor is its own few pixels, not the page that it is in")
    func blinkingCursorOwnFew() {
        let pair = Pair(1024, 768)
        for y in 30..<32 { for x in 72..<80 { pair.source[y * 1024 + x] = 7 } }
        #expect(pair.update(pair.whole) == [TileRectangle(x: 72, y: 30, width: 8, height: 2)])
        #expect(pair.isEqual)
        #expect(pair.update(pair.whole) == [])
    }

    @Test("a whole new picture is one rectangle")
    func wholeNewPictureOne() {
        let pair = Pair(1000, 750)
        for index in 0..<750_000 { pair.source[index] = UInt32(index) | 1 }
        #expect(pair.update(pair.whole) == [pair.whole])
        #expect(pair.isEqual)
    }

    @Test("only what was asked for is looked at")
    func onlyWhatWasAsked() {
        let pair = Pair(200, 100)
        pair.source[0] = 1
        pair.source[99 * 200 + 199] = 1
        #expect(pair.update(TileRectangle(x: 1, y: 0, width: 198, height: 100)) == [])
        #expect(pair.update(TileRectangle(x: -50, y: -50, width: 51, height: 51)) == [TileRectangle(x: 0, y: 0, width: 1, height: 1)])
        #expect(pair.update(TileRectangle(x: 199, y: 99, width: .max, height: 5)) == [TileRectangle(x: 199, y: 99, width: 1, height: 1)] || pair.isEqual == false)
        for area in [TileRectangle(x: 500, y: 0, width: 5, height: 5), TileRectangle(x: 0, y: 0, width: -3, height: 9), TileRectangle(x: 0, y: 200, width: 1, height: 1)] {
            #expect(pair.update(area) == [])
        }
    }

    @Test("a scroll that was hinted at leaves only the new line")
    func scrollWasHintedAt() {
        let pair = Pair(640, 480)
        for index in 0..<640 * 480 { pair.copy[index] = UInt32(truncatingIfNeeded: index &* 2_654_435_761) }
        memcpy(pair.source, pair.copy + 16 * 640, 464 * 640 * 4)
        memset(pair.source + 464 * 640, 0x55, 16 * 640 * 4)
        pair.tiles.move(fromX: 0, fromY: 16, to: TileRectangle(x: 0, y: 0, width: 640, height: 464))
        #expect(pair.update(pair.whole) == [TileRectangle(x: 0, y: 464, width: 640, height: 16)])
        #expect(pair.isEqual)
    }

    @Test("a move within itself is as if all had been read before", arguments: [(0, 0, 3, 2), (3, 2, 0, 0), (0, 5, 0, 0), (0, 0, 0, 5), (4, 0, 0, 0), (0, 0, 4, 0)])
    func moveWithinItselfIf(fromX: Int, fromY: Int, x: Int, y: Int) {
        let pair = Pair(20, 20)
        for index in 0..<400 { pair.copy[index] = UInt32(index) }
        let before = (0..<400).map { pair.copy[$0] }
        pair.tiles.move(fromX: fromX, fromY: fromY, to: TileRectangle(x: x, y: y, width: 15, height: 14))
        for line in 0..<14 { for column in 0..<15 { #expect(pair.copy[(y + line) * 20 + x + column] == before[(fromY + line) * 20 + fromX + column]) } }
    }

    @Test("moves that do not lie in the picture are none")
    func movesDoLiePicture() {
        let pair = Pair(20, 20)
        for (x, y, area) in [
            (0, 0, TileRectangle(x: 6, y: 0, width: 15, height: 5)), (-1, 0, TileRectangle(x: 0, y: 0, width: 5, height: 5)),
            (0, 0, TileRectangle(x: 0, y: 0, width: .max, height: 5)), (0, .max, TileRectangle(x: 0, y: 0, width: 1, height: 1)),
            (0, 0, TileRectangle(x: 0, y: 0, width: 0, height: -5)),
        ] { pair.tiles.move(fromX: x, fromY: y, to: area) }
        #expect(pair.isEqual)
    }

    @Test("whatever changes, the copy follows and the rectangles hold it")
    func whateverChangesCopyFollows() {
        var generator = SplitMix(state: 0x7113)
        let pair = Pair(300, 130)
        for _ in 0..<300 {
            let before = (0..<300 * 130).map { pair.copy[$0] }
            for _ in 0..<Int.random(in: 0..<20, using: &generator) {
                let (x, y) = (Int.random(in: 0..<300, using: &generator), Int.random(in: 0..<130, using: &generator))
                for line in y..<min(130, y + Int.random(in: 1..<20, using: &generator)) {
                    for column in x..<min(300, x + Int.random(in: 1..<90, using: &generator)) {
                        pair.source[line * 300 + column] = UInt32.random(in: 0..<4, using: &generator)
                    }
                }
            }
            let changed = pair.update(pair.whole)
            #expect(pair.isEqual)
            for y in 0..<130 {
                for x in 0..<300 where pair.copy[y * 300 + x] != before[y * 300 + x] {
                    guard changed.contains(where: { $0.x <= x && x < $0.x + $0.width && $0.y <= y && y < $0.y + $0.height }) else {
                        return #expect(Bool(false), "\(x), \(y) changed and is in no rectangle")
                    }
                }
            }
        }
    }
}

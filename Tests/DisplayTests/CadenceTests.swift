import Testing

@testable import demux_display

private let millisecond: UInt64 = 1_000_000

@Suite("The display's cadence")
struct CadenceTests {
    /// Looks as the screen does for so long, and counts.
    private func looks(_ cadence: inout Cadence, from start: UInt64, for span: UInt64, cost: UInt64, changed: Bool) -> (count: Int, end: UInt64) {
        var now = start
        var count = 0
        while now < start + span {
            cadence.looked(at: now + cost, changed: changed, spent: cost)
            count += 1
            now = max(cadence.nextLook(after: now), now + cost)
        }
        return (count, now)
    }

    @Test("A picture that changes all the time is looked at 60 times a second")
    func steady() {
        var cadence = Cadence()
        let (count, _) = looks(&cadence, from: 1_000_000_000, for: 1_000_000_000, cost: 100_000, changed: true)
        #expect((58...61).contains(count))
    }

    @Test("A picture that rests is soon looked at four times a second")
    func rest() {
        var cadence = Cadence()
        cadence.stir()
        let (_, end) = looks(&cadence, from: 0, for: 3_000_000_000, cost: 100_000, changed: false)
        let (count, _) = looks(&cadence, from: end, for: 10_000_000_000, cost: 100_000, changed: false)
        #expect(count <= 41)
    }

    @Test("At rest, a look waits for the cursor to blink, and both cost one wake-up")
    func blinking() {
        var cadence = Cadence()
        cadence.stir()
        var (_, now) = looks(&cadence, from: 0, for: 3_000_000_000, cost: 0, changed: false)
        let period = 266 * millisecond
        var count = 0
        let end = now + 10_000_000_000
        while now < end {
            cadence.looked(at: now, changed: false, spent: 0)
            count += 1
            now = cadence.nextLook(after: now, blink: (now / period + 1) * period)
        }
        #expect(count <= 40)
    }

    @Test("A picture that changes is looked at before the cursor blinks")
    func blinkingLater() {
        var cadence = Cadence()
        cadence.looked(at: 0, changed: true, spent: 0)
        #expect(cadence.nextLook(after: 0, blink: 250 * millisecond) < 20 * millisecond)
    }

    @Test("A look that costs 10 ms is made at most every 160 ms")
    func expensive() {
        var cadence = Cadence()
        let (_, end) = looks(&cadence, from: 0, for: 4_000_000_000, cost: 10 * millisecond, changed: true)
        let (count, _) = looks(&cadence, from: end, for: 4_000_000_000, cost: 10 * millisecond, changed: true)
        #expect(count <= 27)
    }

    @Test("A change after a rest is shown at once, and a few more right after it")
    func atOnce() {
        var cadence = Cadence()
        var (_, now) = looks(&cadence, from: 0, for: 3_000_000_000, cost: 0, changed: false)
        for _ in 0..<3 {
            now += 2 * millisecond
            #expect(cadence.nextUpdate(from: now) == now)
            cadence.looked(at: now, changed: true, spent: 0)
        }
        now += millisecond
        #expect(cadence.nextUpdate(from: now) > now)
    }

    @Test("Changes without end are shown at the readers' rate in the long run", arguments: [1, 10, 60, 240])
    func bounded(rate: Int) {
        var cadence = Cadence()
        cadence.rate = rate
        var now: UInt64 = 1_000_000_000
        let end = now + 10_000_000_000
        var count = 0
        while now < end {
            now = max(now + 10_000, cadence.nextUpdate(from: now))
            cadence.looked(at: now, changed: true, spent: 0)
            count += 1
        }
        #expect(count <= rate * 10 + 4)
        #expect(count >= rate * 9)
    }

    @Test("No clock and no cost makes it trap", arguments: [0, 1, UInt64.max, UInt64.max / 2])
    func extremes(time: UInt64) {
        var cadence = Cadence()
        cadence.rate = Int.max
        cadence.looked(at: time, changed: true, spent: time)
        cadence.looked(at: 0, changed: false, spent: .max)
        cadence.stir()
        #expect(cadence.rate == 240)
        _ = cadence.nextLook(after: time)
        _ = cadence.nextUpdate(from: time)
    }
}

@Suite("What blinks")
struct BlinkingTests {
    @Test("It stands still ten seconds after the last that happened, and blinks again with the next")
    func patience() {
        var blinking = Blinking()
        blinking.stir(at: 5_000 * millisecond)
        #expect(!blinking.isSteady(at: 5_000 * millisecond) && !blinking.isSteady(at: 14_999 * millisecond))
        #expect(blinking.isSteady(at: 15_000 * millisecond))
        blinking.stir(at: 15_000 * millisecond)
        #expect(!blinking.isSteady(at: 24_999 * millisecond))
        #expect(blinking.isSteady(at: 25_000 * millisecond))
    }

    @Test("What happened earlier changes nothing, and no time makes it trap", arguments: [0, 1, UInt64.max, UInt64.max / 2])
    func extremes(time: UInt64) {
        var blinking = Blinking()
        blinking.stir(at: 20_000 * millisecond)
        blinking.stir(at: 0)
        #expect(!blinking.isSteady(at: 20_000 * millisecond))
        blinking.stir(at: time)
        #expect(!blinking.isSteady(at: 0))
        _ = blinking.isSteady(at: time)
    }
}

@Suite("Tracking or comparing")
struct StrategyTests {
    @Test("Little memory is compared, much is tracked")
    func sizes() {
        let strategy = Strategy()
        #expect(!strategy.tracks(32_000, free: false, at: 0))
        #expect(strategy.tracks(3 << 20, free: false, at: 0))
        #expect(strategy.tracks(32_000, free: true, at: 0))
    }

    @Test("Where most pages change again and again, it compares for a while, and longer each time")
    func heavy() {
        var strategy = Strategy()
        var pauses: [UInt64] = []
        var now: UInt64 = 0
        for _ in 0..<4 {
            var answers = 0
            while strategy.tracks(3 << 20, free: false, at: now) {
                strategy.answered(dirty: 700, of: 768, free: false, at: now)
                answers += 1
                now += 16 * millisecond
            }
            #expect((3...4).contains(answers))
            strategy.forget()
            pauses.append(strategy.comparesUntil - now)
            now = strategy.comparesUntil
        }
        #expect(pauses == pauses.sorted() && pauses[0] < pauses[3])
    }

    @Test("The first answer, which names every page, says nothing; nor does a host whose answers are free")
    func first() {
        var strategy = Strategy()
        for _ in 0..<20 {
            strategy.answered(dirty: 768, of: 768, free: false, at: 0)
            strategy.forget()
        }
        for _ in 0..<20 { strategy.answered(dirty: 768, of: 768, free: true, at: 0) }
        #expect(strategy.tracks(3 << 20, free: false, at: 0))
    }
}

@Suite("The shadow of video memory")
struct ShadowTests {
    private func pages(_ shadow: borrowing Shadow) -> [Int] {
        (0..<shadow.bitmap.count * 8).filter { shadow.bitmap[$0 / 8] >> UInt8($0 % 8) & 1 != 0 }.map { $0 + shadow.firstPage }
    }

    @Test("It names exactly the pages that have changed since the last look")
    func exact() {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        guard let base = memory.baseAddress else { return }
        var shadow = Shadow()
        let range = 8192 + 100..<500_000
        #expect(shadow.compare(base, length: memory.count, range) == pages(shadow).count)
        #expect(pages(shadow) == Array(2...122))
        #expect(shadow.compare(base, length: memory.count, range) == 0)
        memory[8192] = 1
        memory[4096 * 77 + 4095] = 2
        memory[0] = 3
        #expect(shadow.compare(base, length: memory.count, range) == 2)
        #expect(pages(shadow) == [2, 77])
        shadow.forget()
        #expect(shadow.compare(base, length: memory.count, range) == 121)
    }

    @Test("A range outside the memory is cut off, an empty one finds nothing", arguments: [0..<0, -5000..<100, 1_040_000..<9_000_000, 2_000_000..<3_000_000])
    func outside(range: Range<Int>) {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { memory.deallocate() }
        memory.initializeMemory(as: UInt8.self, repeating: 7)
        guard let base = memory.baseAddress else { return }
        var shadow = Shadow()
        let found = shadow.compare(base, length: memory.count, range)
        #expect(found == pages(shadow).count && found <= 256)
    }
}

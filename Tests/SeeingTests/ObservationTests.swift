import CIoreq
import Glibc
import Platform
import SeededNumbers
import Testing

@testable import Host

@Suite("The observation memory")
struct ObservationTests {
    @Test("a latency is found again within an eighth, whatever it is")
    func quantiles() throws {
        var random = SplitMix(state: 7)
        for _ in 0..<200 {
            let memory = try Memory()
            let ticks = max(1, random.next() >> (random.next() % 60))
            memory.page.record(1, ticks: ticks)
            let window = try #require(memory.reader.snapshot()?.windows.first { $0.range != nil })
            let tick = window.latencies.longest / Double(ticks)
            let found = try #require(window.latencies.quantile(0.5)) / tick
            guard abs(found - Double(ticks)) <= Double(ticks) / 8 + 1 else { return #expect(Bool(false), "\(ticks) became \(found)") }
        }
    }

    @Test("quantiles of many latencies are those of the sorted list, within a bucket")
    func distribution() throws {
        let memory = try Memory()
        var random = SplitMix(state: 11)
        var all: [UInt64] = []
        for _ in 0..<20_000 {
            let ticks = 100 + random.next() % 1_000_000
            all.append(ticks)
            memory.page.record(1, ticks: ticks)
        }
        all.sort()
        let latencies = try #require(memory.reader.snapshot()?.windows.first { $0.range != nil }).latencies
        #expect(latencies.count == 20_000)
        let tick = latencies.longest / Double(all[all.count - 1])
        for part in [0.01, 0.5, 0.9, 0.99, 0.999] {
            let expected = Double(all[min(all.count - 1, Int(Double(all.count) * part))])
            let found = try #require(latencies.quantile(part)) / tick
            #expect(abs(found - expected) <= expected / 6, "\(part): \(found), not \(expected)")
        }
    }

    @Test("what came between two looks is told apart from what was before")
    func since() throws {
        let memory = try Memory()
        for _ in 0..<10 { memory.page.record(1, ticks: 1000) }
        let before = try #require(memory.reader.snapshot()).total
        for _ in 0..<3 { memory.page.record(1, ticks: 50_000) }
        let between = try #require(memory.reader.snapshot()).total.since(before)
        #expect(between.count == 3)
    }

    @Test("an idle emulator's memory is one page, also when somebody has looked at all of it")
    func density() throws {
        let memory = try Memory()
        _ = memory.reader.snapshot()
        _ = memory.reader.takeTraces()
        #expect(memory.pages == 1)
    }

    @Test("the ring gives every request once, in order")
    func ring() throws {
        let memory = try Memory()
        var next: UInt64 = 0
        var expected: UInt64 = 0
        var random = SplitMix(state: 3)
        for _ in 0..<200 {
            for _ in 0..<(random.next() % 4000) {
                memory.trace(next)
                next += 1
            }
            let (entries, lost) = memory.reader.takeTraces()
            guard lost == 0, entries.map(\.value) == Array(expected..<next) else { return #expect(Bool(false), "from \(expected) to \(next)") }
            expected = next
        }
    }

    @Test("one that was overtaken says how many it has lost, and goes on with the newest")
    func overtaken() throws {
        let memory = try Memory()
        for number in 0..<20_000 { memory.trace(UInt64(number)) }
        let (entries, lost) = memory.reader.takeTraces()
        #expect(UInt64(entries.count) + lost == 20_000)
        // The oldest place may be under way again: one less than the ring has.
        #expect(entries.map(\.value) == Array((20_000 - UInt64(entries.count))..<20_000) && entries.count >= 8191)
    }

    @Test("a reader beside a writer that never stops sees no entry that is half another one")
    func concurrent() throws {
        let memory = try Memory()
        final class Writer: @unchecked Sendable {
            // Sendable: the page is shared by nature; `stop` is set once.
            let page: ObservationPage
            init(_ page: ObservationPage) { self.page = page }
        }
        let writer = Writer(memory.page)
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let writer = Unmanaged<Writer>.fromOpaque(argument).takeRetainedValue()
                for number in UInt64(0)..<400_000 {
                    let request = IORequest(kind: .copy, direction: .write, address: number, data: number, size: 8, count: UInt32(truncatingIfNeeded: number))
                    writer.page.trace(request, value: number, slot: 0, block: 0, begun: number, duration: number, late: false)
                }
                return nil
            }, Unmanaged.passRetained(writer).toOpaque())
        var last: UInt64?
        var seen: UInt64 = 0
        while seen < 400_000 {
            let (entries, lost) = memory.reader.takeTraces()
            seen += UInt64(entries.count) + lost
            for entry in entries {
                let whole = entry.address == entry.value && UInt64(entry.count) == entry.value & 0xffff_ffff
                guard whole, last.map({ entry.value > $0 }) ?? true else {
                    pthread_join(thread, nil)
                    return #expect(Bool(false), "\(entry) after \(last ?? 0)")
                }
                last = entry.value
            }
        }
        pthread_join(thread, nil)
        #expect(seen == 400_000)
    }

    @Test("memory full of anything is read without harm")
    func hostile() throws {
        let memory = try Memory()
        var random = SplitMix(state: 99)
        let words = memory.bytes.bindMemory(to: UInt64.self, capacity: ObservationPage.length / 8)
        for round in 0..<60 {
            for index in 0..<(ObservationPage.length / 8) { words[index] = random.next() >> (random.next() % 64) }
            if round % 2 == 0 {
                // A header that is believed, and nothing else that can be.
                words[0] = demux_observe_magic
                memory.bytes.storeBytes(of: 1, toByteOffset: 8, as: UInt32.self)
                memory.bytes.storeBytes(of: UInt32(random.next() % 3), toByteOffset: 16, as: UInt32.self)
                if round % 4 == 0 { words[3] = 2_000_000_000 }
                if round % 3 == 0 { words[6] = .max }
            }
            if let snapshot = memory.reader.snapshot() {
                let total = snapshot.total
                for part in [0, 0.5, 1] { _ = total.quantile(part) }
                _ = (total.highest, total.count(upTo: 1e6), total.since(total))
            }
            let (entries, _) = memory.reader.takeTraces()
            guard entries.count <= 8192 else { return #expect(Bool(false), "\(entries.count) entries") }
        }
    }

    @Test("no memory, and memory of another version, is not looked at")
    func others() throws {
        let short = try SharedMemory(name: "short", length: 4096)
        #expect(ObservationReader(try short.descriptor.duplicate()).snapshot() == nil)
        let memory = try Memory()
        memory.bytes.storeBytes(of: 2, toByteOffset: 8, as: UInt32.self)
        #expect(memory.reader.snapshot() == nil)
    }
}

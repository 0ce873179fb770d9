import Glibc
import Host
import Platform
import SeededNumbers
import Testing

@testable import Watch

@Suite("Whether an emulator goes on")
struct SlotWatchTests {
    private let second: UInt64 = 1_000_000_000
    private let write = IORequest(kind: .portIO, direction: .write, address: 0x500, data: 7, size: 4)
    private let read = IORequest(kind: .portIO, direction: .read, address: 0x504, size: 4)

    private func mark(_ request: IORequest, sequence: UInt32 = 1, requests: UInt64 = 1) -> SlotWatch.Mark {
        .init(request: request, sequence: sequence, requests: requests)
    }

    /// Looks once in two seconds at one slot, and says what was found.
    private func looks(_ marks: [SlotWatch.Mark?], limit: UInt64 = 5) -> [[SlotWatch.Finding]] {
        var watch = SlotWatch(limit: limit * second)
        return marks.map { mark in watch.look(mark.map { [(slot: 3, mark: $0)] } ?? [], elapsed: 2 * second) }
    }

    @Test("a request that waits for its limit is told of once")
    func hangs() {
        let found = looks(Array(repeating: mark(write), count: 8))
        #expect(found == [[], [], [], [.hung(slot: 3, write, nanoseconds: 6 * second)], [], [], [], []])
    }

    @Test("one that is answered after it was told of is told of again")
    func answered() {
        let found = looks([mark(write), mark(write), mark(write), mark(write), nil, nil])
        #expect(found.suffix(2) == [[.answered(slot: 3)], []])
    }

    @Test("one that is answered in time is not told of")
    func inTime() { #expect(looks([mark(write), mark(write), nil, mark(write), mark(write), nil]).joined().isEmpty) }

    @Test("requests that look alike are told apart by the slot's sequence")
    func sequences() { #expect(looks((1...10).map { mark(write, sequence: $0) }).joined().isEmpty) }

    @Test("without a sequence, by the number of requests that the emulator took")
    func counters() { #expect(looks((1...10).map { mark(write, sequence: 0, requests: $0) }).joined().isEmpty) }

    @Test("a sequence that stands still hangs although the emulator serves other slots")
    func othersGoOn() {
        #expect(looks((1...10).map { mark(write, sequence: 4, requests: $0) }).joined().contains(.hung(slot: 3, write, nanoseconds: 6 * second)))
    }

    @Test("an emulator that took nothing at all hangs")
    func nothingTaken() { #expect(looks(Array(repeating: mark(read, sequence: 0, requests: 0), count: 4)).joined().count == 1) }

    @Test("another request in the same slot begins anew")
    func other() {
        let found = looks([mark(write), mark(write), mark(write), mark(read), mark(read), mark(read)])
        #expect(found.joined().isEmpty)
    }

    @Test("slots are told of each on its own")
    func slots() {
        var watch = SlotWatch(limit: 3 * second)
        let both = [(slot: 0, mark: mark(write)), (slot: 5, mark: mark(read))]
        _ = watch.look(both, elapsed: 0)
        _ = watch.look(both, elapsed: 2 * second)
        #expect(watch.look(both, elapsed: 2 * second) == [.hung(slot: 0, write, nanoseconds: 4 * second), .hung(slot: 5, read, nanoseconds: 4 * second)])
        #expect(watch.look([both[1]], elapsed: 2 * second) == [.answered(slot: 0)])
    }

    @Test("whatever slots do: each hang is told once, and ends before it is told again")
    func anything() {
        var random = SplitMix(state: 51)
        var watch = SlotWatch(limit: 5 * second)
        var hanging: Set<Int> = []
        var told = 0
        for _ in 0..<20_000 {
            let slots = (0..<4).filter { _ in random.next() % 16 > 0 }.map { slot in
                (slot: slot, mark: mark(random.next() % 16 == 0 ? read : write, sequence: UInt32(random.next() % 16 == 0 ? 2 : 1)))
            }
            for finding in watch.look(slots, elapsed: random.next() % (4 * second)) {
                switch finding {
                case .hung(let slot, _, let nanoseconds):
                    told += 1
                    guard hanging.insert(slot).inserted, nanoseconds >= 5 * second else { return #expect(Bool(false), "slot \(slot) twice, or too early") }
                case .answered(let slot):
                    guard hanging.remove(slot) != nil else { return #expect(Bool(false), "slot \(slot) was never told of") }
                }
            }
        }
        #expect(told > 100)
    }
}


import Glibc
import Host
import SeededNumbers
import Testing

@testable import EmulatorKit

/// A death is a copy of everything that is shared, made at some point of the emulator's way; the emulator itself is dropped.
@Suite("A death at any point, and a successor")
struct DeathTests {
    /// Everything that outlives a process.
    final class World {
        let pages: FakeCoordinator.Pages
        let state: FakeCoordinator.SharedBox
        let isFresh: Bool

        init() throws {
            pages = try FakeCoordinator.Pages(ring: true, memory: true)
            state = try FakeCoordinator.SharedBox(length: try KitState.wanted(deviceLength: Accountant.stateLength))
            isFresh = true
        }

        /// What is left of another one at this moment, with rubbish where nothing should be looked at.
        init(after other: World, _ random: inout SplitMix) throws {
            pages = try FakeCoordinator.Pages(ring: true, memory: true)
            state = try FakeCoordinator.SharedBox(length: other.state.memory.length)
            isFresh = false
            pages.slots.base.copyMemory(from: other.pages.slots.base, byteCount: 4096)
            if let (to, from) = zip(pages.ring, other.pages.ring) { to.base.copyMemory(from: from.base, byteCount: 4096) }
            if let (to, from) = zip(pages.ram, other.pages.ram) { to.base.copyMemory(from: from.base, byteCount: FakeCoordinator.ramLength) }
            state.base.copyMemory(from: other.state.base, byteCount: state.memory.length)
            spoil(&random)
        }

        private func spoil(_ random: inout SplitMix) {
            // The half that does not count may be half written.
            let area = state.base + KitState.length
            let half = (state.memory.length - KitState.length - CommitArea.headLength) / 2 & ~63
            let selected = Int(area.load(fromByteOffset: 1024, as: UInt64.self) & 1)
            let other = area + CommitArea.headLength + (1 - selected) * half
            for place in stride(from: 0, to: half, by: 8) where random.next() % 2 == 0 { other.storeBytes(of: random.next(), toByteOffset: place, as: UInt64.self) }
            // A read's answer is written before the state is moved.
            for slot in 0..<ScriptedGuest.vcpus {
                let place = pages.slots.base + slot * 32
                if place.load(fromByteOffset: 30, as: UInt8.self) & 0x3f == 0x22 { place.storeBytes(of: random.next(), toByteOffset: 8, as: UInt64.self) }
            }
        }

        func start(_ manner: Accountant.Manner) throws -> Harness<Accountant> {
            let coordinator = try FakeCoordinator(vcpus: ScriptedGuest.vcpus, on: pages)
            coordinator.state = (state, isFresh)
            let harness = try Harness(Accountant.self, coordinator, prepare: { $0.manner = manner })
            return harness
        }

        var device: [UInt8] {
            Committed.bytes(state.base, length: state.memory.length, deviceLength: Accountant.stateLength) ?? [UInt8](repeating: 0xff, count: Accountant.stateLength)
        }
    }

    /// Plays a guest to its end, its emulator dying at the points that `dies` says.
    /// - Returns: what is wrong, and how many points there were.
    private func play(
        _ guest: ScriptedGuest, _ manner: Accountant.Manner, _ random: inout SplitMix, dies: @escaping (Int, Core.Point) -> Bool
    ) throws -> (wrong: [String], points: Int, deaths: Int) {
        var guest = guest
        var world = try World()
        var harness = try world.start(manner)
        var (points, deaths, rounds) = (0, 0, 0)
        while !guest.isFinished {
            guest.act(harness.coordinator)
            var left: World?
            var noise = random
            harness.core.pointee.atPoint = { point in
                guard left == nil else { return }
                points += 1
                if dies(points, point) { left = try? World(after: world, &noise) }
            }
            harness.turnOnce()
            harness.core.pointee.atPoint = nil
            random = noise
            if let left {
                deaths += 1
                world = left
                harness = try world.start(manner)
            }
            rounds += 1
            guard rounds < 100_000 else { return (["it does not end"], points, deaths) }
        }
        return (guest.verdict(world.device), points, deaths)
    }

    private static let isFull = getenv("DEMUX_TEST_FULL") != nil

    @Test("at each point of the way, once: every request is carried out exactly once", arguments: [Accountant.Manner.later, .held])
    func everywhere(manner: Accountant.Manner) throws {
        var random = SplitMix(state: 0x5eed_0051)
        let guest = ScriptedGuest(length: 12, longest: 1500, manner: manner, &random)
        let whole = try play(guest, manner, &random) { _, _ in false }
        #expect(whole.wrong.isEmpty)
        // Each one, or an odd part of them.
        for point in stride(from: 1, through: whole.points, by: Self.isFull ? 1 : 13) {
            let (wrong, _, deaths) = try play(guest, manner, &random) { number, _ in number == point }
            #expect(wrong.isEmpty && deaths == 1, "death at point \(point): \(wrong)")
        }
    }

    @Test("one death after another, also while the last one is made good", arguments: 0..<8)
    func chains(seed: Int) throws {
        var random = SplitMix(state: 0x5eed_0052 + UInt64(seed))
        let manner: Accountant.Manner = seed % 2 == 0 ? .later : .held
        for _ in 0..<(Self.isFull ? 100 : 2) {
            let guest = ScriptedGuest(length: 20, longest: 2500, manner: manner, &random)
            var choice = SplitMix(state: random.next())
            let (wrong, _, deaths) = try play(guest, manner, &random) { _, _ in choice.next() % 16 == 0 }
            #expect(wrong.isEmpty && deaths > 0, "seed \(seed): \(wrong)")
        }
    }

    @Test("at the same point every time, whichever it is", arguments: Core.Point.allCases)
    func eachKind(point: Core.Point) throws {
        var random = SplitMix(state: 0x5eed_0053)
        let guest = ScriptedGuest(length: 10, longest: 1200, manner: .held, &random)
        var count = 0
        let (wrong, _, deaths) = try play(guest, .held, &random) { _, here in
            guard here == point else { return false }
            count += 1
            // Not every time: who dies before anything is committed gets nowhere.
            return count % 3 == 0
        }
        #expect(wrong.isEmpty && deaths > 0, "\(wrong)")
    }
}

private func zip<A, B>(_ a: A?, _ b: B?) -> (A, B)? {
    if let a, let b { (a, b) } else { nil }
}

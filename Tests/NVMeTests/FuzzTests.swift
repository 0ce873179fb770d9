import SeededNumbers
import Testing

@testable import NVMe

@Suite("NVMe and a hostile guest")
struct FuzzTests {
    /// A command that is likely to get some way.
    private func command(_ numbers: inout SplitMix) -> [UInt8] {
        var bytes = (0..<64).map { _ in UInt8(truncatingIfNeeded: numbers.next() & numbers.next() & numbers.next()) }
        bytes[0] = numbers.pick([0, 1, 1, 2, 2, 8, 4, 5, 5, 6, 8, 9, 10, 12, 0x55])
        if numbers.below(8) != 0 { bytes[1] = 0 }
        func set(_ place: Int, _ value: UInt64, _ count: Int) {
            for index in 0..<count { bytes[place + index] = UInt8(truncatingIfNeeded: value >> UInt64(index * 8)) }
        }
        if numbers.below(8) != 0 { set(4, numbers.pick([0, 1, 1, 1, 0xffff_ffff]), 4) }
        let addresses: [UInt64] = [0, 0x1000, 0x8000, 0x9000, 0x8ff8, 0x40000, 0x40200, 0xff000, 0xffe00, 0x100000, .max, .max & ~0xfff, numbers.next()]
        set(24, numbers.pick(addresses), 8)
        set(32, numbers.pick(addresses), 8)
        if numbers.below(4) != 0 {
            set(40, numbers.pick([numbers.below(20), numbers.below(20) | numbers.below(70) << 16, numbers.next() & 0xffff_ffff]), 4)
            set(44, numbers.pick([0, 1, 3, numbers.below(20) << 16 | 3]), 4)
            set(48, numbers.pick([0, 7, 15, 31, 255, 256, 0xffff, numbers.next() & 0xffff_ffff]), 4)
        }
        // Half of them are in order as far as that goes.
        if bytes[0] <= 8, numbers.below(2) == 0 {
            bytes[1] = 0
            set(4, 1, 4)
            set(24, numbers.pick([0x40000, 0x40200, 0x50000]), 8)
            set(32, numbers.pick([0x41000, 0x8000, 0x9000]), 8)
            set(40, numbers.below(60), 8)
            set(48, numbers.pick([0, 1, 3, 7, 15]), 4)
        }
        return bytes
    }

    /// Queues 1 to `count`, of 16 entries, by commands in the admin queue's first places.
    private func makeQueues(_ guest: Guest, _ count: Int) {
        for queue in 1...count {
            guest.put(0, 0x05, prp1: UInt64(Guest.completion(queue)), [15 << 16 | UInt32(queue), 3 | UInt32(queue) << 16])
            guest.put(0, 0x01, prp1: UInt64(Guest.submission(queue)), [15 << 16 | UInt32(queue), 1 | UInt32(queue) << 16])
        }
        guest.ring(0)
    }

    @Test("100,000 accesses and commands without sense neither trap nor leave the controller stuck", arguments: [1, 2, 3] as [UInt64])
    func nonsense(seed: UInt64) {
        var numbers = SplitMix(state: seed)
        let guest = Guest(blocks: 64)
        guest.start()
        guest.disksAtOnce = false
        for step in 0..<100_000 {
            switch numbers.below(20) {
            case 0..<8:
                // A command somewhere in a queue.
                let queue = Int(numbers.below(3))
                let place = Guest.submission(queue) + Int(numbers.below(16)) * 64
                guest.memory.bytes.replaceSubrange(place..<(place + 64), with: command(&numbers))
                guest.write(0x1000 + queue * 8, numbers.below(17))
            case 8..<11:
                // Mostly a driver that takes what it gets.
                let queue = Int(numbers.below(3))
                let completion = guest.controller.state.completion(queue)
                let tail = completion.exists ? completion.posted % UInt64(completion.size) : 0
                guest.write(0x1004 + queue * 8, numbers.below(4) == 0 ? numbers.below(17) : tail)
            case 11: guest.write(0x1000 + Int(numbers.below(0x100)) * 4, numbers.next() & numbers.next())
            case 12..<16: guest.finishOne()
            case 16:
                _ = guest.read(Int(numbers.below(0x4000)), size: numbers.pick([1, 2, 4, 8, 3, 0]))
                if numbers.below(16) == 0 { guest.write(Int(numbers.below(0x40)), numbers.next(), size: numbers.pick([1, 2, 4, 8])) }
            case 17:
                let place = Int(numbers.below(1 << 17)) & ~7
                guest.memory.store(0x8000 + place % 0x2000, numbers.pick([0x40000, 0x8000, 0x9000, numbers.next()]))
            case 18:
                guest.disk.outcome = numbers.below(8) == 0 ? numbers.pick([.failed, .full]) : .done
                if numbers.below(50) == 0 { guest.replaceController() }
            default:
                guard numbers.below(20) == 0 || guest.read(0x1c) != 1 else { continue }
                if numbers.below(8) == 0 {
                    // What another process left may be anything.
                    for _ in 0..<16 { guest.state[Int(numbers.below(UInt64(guest.state.count)))] = UInt8(truncatingIfNeeded: numbers.next()) }
                    guest.state.storeBytes(of: 0, toByteOffset: 12, as: UInt32.self)
                    guest.replaceController()
                }
                guest.write(0x14, 0)
                while !guest.disk.waiting.isEmpty { guest.finishOne() }
                guest.write(0x14, 0)
                guest.enable()
                if numbers.below(4) != 0 { makeQueues(guest, 2) }
            }
            #expect(guest.disk.waiting.count <= Controller.mostJobs)
            if step % 10_000 == 0 { _ = guest.controller.interruptLine }
        }
        // It was not all refused.
        for kind in [DiskJob.Kind.read, .write(durable: false), .zero(mayDiscard: false, durable: false), .flush] {
            #expect(guest.disk.kinds.count(where: { $0 == kind }) > 100)
        }
        guest.disk.outcome = .done
        guest.write(0x14, 0)
        while !guest.disk.waiting.isEmpty { guest.finishOne() }
        guest.disksAtOnce = true
        #expect(guest.read(0x1c) == 0)
        guest.start()
        #expect(guest.transfer(2, block: 1, count: 8) == [0, 0])
    }
}

extension SplitMix {
    mutating func below(_ bound: UInt64) -> UInt64 { next() % bound }
    mutating func pick<T>(_ choices: [T]) -> T { choices[Int(below(UInt64(choices.count)))] }
}

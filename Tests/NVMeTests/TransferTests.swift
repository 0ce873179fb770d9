import Testing

@testable import NVMe

@Suite("NVMe reads and writes")
struct TransferTests {
    private func pattern(_ count: Int, seed: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 7) ^ ($0 >> 8) &+ seed) } }

    @Test("what is written is read back, from one block to the largest transfer", arguments: [1, 7, 8, 9, 16, 17, 255, 256])
    func roundTrip(count: Int) {
        let guest = Guest()
        guest.start()
        let data = pattern(count * 512, seed: count)
        guest.memory.bytes.replaceSubrange(Guest.data..<(Guest.data + data.count), with: data)
        #expect(guest.transfer(1, block: 33, count: count) == [0, 0])
        #expect(Array(guest.disk.content[(33 * 512)..<(33 * 512 + data.count)]) == data)
        #expect(guest.transfer(2, block: 33, count: count, at: 0x80000) == [0, 0])
        #expect(Array(guest.memory.bytes[0x80000..<(0x80000 + data.count)]) == data)
        #expect(guest.memory.bytes[0x80000 + data.count] == 0)
    }

    @Test("pages in any order, a beginning inside a page, and a list that goes on in another page")
    func scattered() {
        let guest = Guest()
        guest.start()
        let data = pattern(32768, seed: 1)
        guest.disk.content.replaceSubrange(0..<32768, with: data)
        // 0x200 bytes in the first page, then seven pages and the rest. The list's page has room for three entries: two pages and the next list.
        let pages = [0x60000, 0x50000, 0x70000, 0x52000, 0x64000, 0x62000, 0x7a000, 0x58000]
        for (index, page) in pages[..<2].enumerated() { guest.memory.store(0x8fe8 + index * 8, UInt64(page)) }
        guest.memory.store(0x8ff8, UInt64(0xa000))
        for (index, page) in pages[2...].enumerated() { guest.memory.store(0xa000 + index * 8, UInt64(page)) }
        #expect(guest.status(1, 2, namespace: 1, prp1: UInt64(Guest.data + 0xe00), prp2: 0x8fe8, [0, 0, 63]) == [0, 0])
        var found = Array(guest.memory.bytes[(Guest.data + 0xe00)..<(Guest.data + 0x1000)])
        for page in pages { found += guest.memory.bytes[page..<(page + 4096)] }
        #expect(Array(found[..<32768]) == data)
    }

    @Test("wrong pointers have their status, and nothing is transferred")
    func wrongPointers() {
        let guest = Guest()
        guest.start()
        func read(_ prp1: UInt64, _ prp2: UInt64, _ blocks: UInt32) -> [UInt16]? {
            guest.status(1, 2, namespace: 1, prp1: prp1, prp2: prp2, [0, 0, blocks - 1])
        }
        let data = UInt64(Guest.data)
        #expect(read(data + 1, 0, 1) == [0, 0x13])
        #expect(read(1 << 30, 0, 1) == [0, 0x04])
        #expect(read(.max - 0xfff, 0, 1) == [0, 0x04])
        #expect(read(.max & ~3, .max & ~0xfff, 8) == [0, 0x04])
        #expect(read(data, data + 8, 16) == [0, 0x13])
        #expect(read(data, 0x8004, 32) == [0, 0x13])
        #expect(read(data, 1 << 40, 32) == [0, 0x04])
        guest.memory.store(0x8000, UInt64(0x5_0008))
        #expect(read(data, 0x8000, 32) == [0, 0x13])
        // A list that would go on in the middle of a page, and one that leads to itself: the length ends it.
        guest.memory.store(0x8ff8, UInt64(0x8ff8))
        #expect(read(data, 0x8ff8, 32) == [0, 0x13])
        guest.memory.store(0x8ff8, UInt64(0x8000))
        for index in 0..<511 { guest.memory.store(0x8000 + index * 8, UInt64(0x8000)) }
        #expect(read(data, 0x8ff8, 32) == [0, 0])
        #expect(guest.status(1, 1, namespace: 1, prp1: 1 << 30, [0, 0, 0]) == [0, 0x04])
        #expect(!guest.disk.kinds.contains(.write(durable: false)))
    }

    @Test("blocks that are not there, other namespaces, transfers that are too long")
    func bounds() {
        let guest = Guest(blocks: 100)
        guest.start()
        #expect(guest.transfer(2, block: 99, count: 1) == [0, 0])
        #expect(guest.transfer(2, block: 100, count: 1) == [0, 0x80])
        #expect(guest.transfer(2, block: 99, count: 2) == [0, 0x80])
        #expect(guest.transfer(1, block: .max, count: 1) == [0, 0x80])
        #expect(guest.transfer(1, block: .max - 1, count: 2) == [0, 0x80])
        #expect(guest.status(1, 2, namespace: 2, prp1: UInt64(Guest.data), [0, 0, 0]) == [0, 0x0b])
        #expect(guest.status(1, 2, namespace: 0, prp1: UInt64(Guest.data), [0, 0, 0]) == [0, 0x0b])
        #expect(guest.status(1, 2, namespace: 1, prp1: UInt64(Guest.data), [0, 0, 256]) == [0, 0x02])
        #expect(guest.status(1, 8, namespace: 1, [0, 0, 100]) == [0, 0x80])
        #expect(guest.status(1, 0x55, namespace: 1) == [0, 0x01])
        #expect(guest.status(1, 2, namespace: 1, prp1: UInt64(Guest.data), [0, 0, 0], flags: 0x80) == [0, 0x02])
    }

    @Test("a write is durable with FUA, without a write cache, and after a flush; not before")
    func durability() {
        let guest = Guest()
        guest.start()
        func put(_ byte: UInt8, _ block: UInt64, durable: Bool = false) {
            guest.memory.bytes[Guest.data] = byte
            #expect(guest.transfer(1, block: block, count: 1, durable: durable) == [0, 0])
        }
        put(1, 1)
        #expect(guest.disk.stable[512] == 0)
        #expect(guest.status(1, 0, namespace: 1) == [0, 0])
        #expect(guest.disk.stable[512] == 1)
        put(2, 2, durable: true)
        #expect(guest.disk.stable[1024] == 2)
        #expect(guest.status(0, 0x09, [0x06, 0]) == [0, 0])
        put(3, 3)
        #expect(guest.disk.stable[1536] == 3)
        #expect(guest.status(1, 0, namespace: 3) == [0, 0x0b])
        #expect(guest.status(1, 0, namespace: .max) == [0, 0])
    }

    @Test("blocks are zeroed, and may be given back when the guest says so")
    func zeroes() {
        let guest = Guest()
        guest.start()
        for index in guest.disk.content.indices { guest.disk.content[index] = 0xff }
        #expect(guest.status(1, 8, namespace: 1, [2, 0, 3 | 1 << 25]) == [0, 0])
        #expect(guest.status(1, 8, namespace: 1, [10, 0, 1]) == [0, 0])
        #expect(guest.disk.content[1024..<3072].allSatisfy { $0 == 0 } && guest.disk.content[1023] == 0xff && guest.disk.content[3072] == 0xff)
        #expect(guest.disk.kinds.suffix(2) == [.zero(mayDiscard: true, durable: false), .zero(mayDiscard: false, durable: false)])
    }

    @Test("a read-only disk says so, and takes no write")
    func readOnly() {
        let guest = Guest(readOnly: true)
        guest.start()
        #expect(guest.transfer(1, block: 0, count: 1) == [0, 0x20])
        #expect(guest.status(1, 8, namespace: 1, [0, 0, 0]) == [0, 0x20])
        #expect(guest.transfer(2, block: 0, count: 1) == [0, 0])
        #expect(guest.status(0, 6, namespace: 1, prp1: UInt64(Guest.data), [0]) == [0, 0])
        #expect(guest.memory.bytes[Guest.data + 99] == 1)
    }

    @Test("the storage's faults reach the guest", arguments: [DiskOutcome.failed, .full])
    func faults(outcome: DiskOutcome) {
        let guest = Guest()
        guest.start()
        guest.disk.outcome = outcome
        #expect(guest.transfer(1, block: 0, count: 1) == (outcome == .full ? [0, 0x81] : [2, 0x80]))
        #expect(guest.transfer(2, block: 0, count: 1) == (outcome == .full ? [0, 0x81] : [2, 0x81]))
    }

    @Test("a full completion queue holds completions back, and loses none")
    func fullQueue() {
        let guest = Guest()
        guest.start(entries: 4)
        var identifiers: [UInt16] = []
        for round in 0..<3 {
            for _ in 0..<3 { identifiers.append(guest.put(1, 0, namespace: 1)) }
            guest.ring(1)
            if round == 0 { #expect(guest.take(1, acknowledge: false).count == 3) }
        }
        // Three stand in the queue, six wait.
        #expect(guest.take(1, acknowledge: false).isEmpty)
        guest.write(0x100c, 3)
        var found = guest.take(1).map(\.identifier)
        while found.count < 6 {
            let more = guest.take(1)
            #expect(!more.isEmpty)
            guard !more.isEmpty else { break }
            found += more.map(\.identifier)
        }
        #expect(found.sorted() == Array(identifiers[3...]))
    }

    @Test("as many commands are under way as there are slots, and the others follow")
    func depth() {
        let guest = Guest()
        guest.start(entries: 64)
        guest.disksAtOnce = false
        for number in 0..<50 { guest.put(1, 2, namespace: 1, prp1: UInt64(Guest.data), [UInt32(number), 0, 0]) }
        guest.ring(1)
        #expect(guest.disk.waiting.count == ControllerState.ioSlotCount)
        // Admin commands have slots of their own.
        #expect(guest.status(0, 0x0a, [7]) == [0, 0])
        for _ in 0..<50 { guest.finishOne() }
        #expect(guest.take(1).count == 50)
    }

    @Test("a queue that lies nowhere is a fatal state until a reset")
    func lostQueue() {
        let guest = Guest()
        guest.enable()
        #expect(guest.status(0, 0x05, prp1: 1 << 32, [15 << 16 | 1, 3]) == [0, 0])
        #expect(guest.status(0, 0x01, prp1: 0x9000, [15 << 16 | 1, 1 | 1 << 16]) == [0, 0])
        guest.write(0x1008, 1)
        #expect(guest.read(0x1c) == 3)
        #expect(guest.run(0, 0x0a, [7]) == nil)
        guest.write(0x14, 0)
        guest.start()
        #expect(guest.transfer(2, block: 0, count: 1) == [0, 0])
    }
}

import Host
import Platform
import SeededNumbers
import Testing

@Suite("Small values")
struct ValueTests {
    @Test("a set of vCPUs holds each once and gives the lowest first", arguments: 1...20)
    func vcpuSet(seed: Int) {
        var random = SplitMix(state: UInt64(seed))
        var set = VCPUSet()
        var model = Set<Int>()
        for _ in 0..<60 {
            let index = Int.random(in: 0..<128, using: &random)
            set.insert(index)
            model.insert(index)
            for probe in 0..<128 { #expect(set.contains(probe) == model.contains(probe)) }
        }
        var out: [Int] = []
        while let index = set.popFirst() { out.append(index) }
        #expect(out == model.sorted())
        #expect(set.isEmpty)
    }

    @Test("all-ones has the access's size")
    func allOnes() {
        #expect([1, 2, 4, 8].map { AccessSize.allOnes($0) } == [0xff, 0xffff, 0xffff_ffff, .max])
        #expect((0...20).filter { AccessSize.isValid($0) } == [1, 2, 4, 8])
        #expect(AccessSize.allOnes(0) == .max)
        #expect(IORequest(kind: .portIO, direction: .read, address: 0, size: 2).allOnes == 0xffff)
    }

    @Test("counters are kept in the page where the document says")
    func counters() {
        let page = Page()
        let counters = CounterPage(page: page.base)
        counters.initialize()
        #expect(page.base.load(as: UInt64.self) == CounterPage.magic)
        #expect(page.base.load(fromByteOffset: 8, as: UInt64.self) == UInt64(Counter.allCases.count))
        for (index, counter) in Counter.allCases.enumerated() {
            counters.add(counter, UInt64(index) + 1)
            counters.add(counter)
            #expect(counters.read(counter) == UInt64(index) + 2)
            #expect(page.base.load(fromByteOffset: 16 + index * 8, as: UInt64.self) == UInt64(index) + 2)
        }
        #expect(Set(Counter.allCases.map(\.name)).count == Counter.allCases.count)
    }

    /// Four pages of RAM from 0x1000 on.
    private final class FewPages: GuestMemory {
        var bytes = [UInt8](repeating: 0, count: 0x4000)
        private func index(_ address: GuestAddress, _ offset: Int) -> Int? {
            let place = address.rawValue &+ UInt64(offset)
            return place >= 0x1000 && place < 0x5000 ? Int(place - 0x1000) : nil
        }
        func read(_ address: GuestAddress, into destination: UnsafeMutableRawBufferPointer) -> Bool {
            var complete = true
            for offset in destination.indices {
                if let place = index(address, offset) { destination[offset] = bytes[place] } else { (destination[offset], complete) = (0xff, false) }
            }
            return complete
        }
        func write(_ address: GuestAddress, from source: UnsafeRawBufferPointer) -> Bool {
            var complete = true
            for offset in source.indices {
                if let place = index(address, offset) { bytes[place] = source[offset] } else { complete = false }
            }
            return complete
        }
        func invalidate() {}
    }

    @Test("values are loaded and stored little-endian, and only where all of them is RAM")
    func loadAndStore() {
        let memory = FewPages()
        #expect(memory.store(GuestAddress(0x1ffe), value: 0x8877_6655_4433_2211, size: 4))
        #expect(memory.bytes[0xffe..<0x1003] == [0x11, 0x22, 0x33, 0x44, 0])
        #expect(memory.load(GuestAddress(0x1fff), size: 2) == 0x3322)
        #expect(memory.load(GuestAddress(0xfff), size: 2) == nil)
        #expect(memory.load(GuestAddress(0x4fff), size: 8) == nil)
        #expect(!memory.store(GuestAddress(0x4fff), value: 0x1234, size: 2))
        #expect(memory.bytes[0x3fff] == 0x34)
        // Sizes that no access has must not reach beyond the value.
        #expect(memory.load(GuestAddress(0x2000), size: 4096) != nil)
    }

    @Test("an event-channel of memory and doorbells carries a request and its answer")
    func eventFDChannel() throws {
        let slots = try SharedMemory(name: "slots", length: 4096)
        let ringMemory = try SharedMemory(name: "ring", length: 4096)
        let kick = try EventFD()
        let done = try EventFD()
        let host = SlotPageOwner(try slots.map(what: "slots"))
        let posted = SlotPageOwner(try ringMemory.map(what: "ring"))
        let channel = ChannelBox(try EventFDChannel(
            slots: slots, ring: try ringMemory.map(what: "ring"), kick: EventFD(adopting: try kick.descriptor.duplicate()),
            done: EventFD(adopting: try done.descriptor.duplicate()), vcpuCount: 500))
        #expect(channel.vcpuCount == 128)
        try channel.bind()
        #expect(!channel.acknowledge())
        let page = SlotPage(page: host.mapping.base)
        #expect(page.submit(2, IORequest(kind: .portIO, direction: .write, address: 0x80, data: 1, size: 1)))
        #expect(BufferedRing(page: posted.mapping.base).post(BufferedEntry(type: 1, direction: .write, size: 1, address: 1, data: 2)))
        kick.ring()
        kick.ring()
        #expect(channel.acknowledge())
        #expect(!channel.acknowledge())
        #expect(channel.ring?.next()?.data == 2)
        #expect(channel.slots.take(2)?.address == 0x80)
        channel.slots.complete(2, data: 9)
        channel.notify(2)
        let rung = done.clear()
        #expect(rung)
        #expect(page.collect(2) == 9)
    }
}

/// Keeps a mapping, which cannot be copied into a macro's expansion.
private final class SlotPageOwner {
    let mapping: Mapping
    init(_ mapping: consuming Mapping) { self.mapping = mapping }
}

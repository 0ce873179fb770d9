import CEmulatorHeader
import Host
import Platform
import SeededNumbers
import Testing

@Suite("The Swift host and a C emulator share pages")
struct PageTests {
    @Test("What the host submits, C takes and answers, and the host collects")
    func slot() throws {
        let memory = try SharedMemory(name: "test-slots", length: 4096)
        let mapping = try memory.map(what: "slots")
        let host = SlotPage(page: mapping.base)
        let slots = mapping.base.assumingMemoryBound(to: dmx_slot.self)
        for kind in [IORequest.Kind.portIO, .copy, .pciConfig, .timeOffset, .invalidate] {
            for pointer in [false, true] {
                for backwards in [false, true] {
                    let sent = IORequest(
                        kind: kind, direction: pointer == backwards ? .read : .write, address: 0x1234_5678_9abc_def0, data: 0x1122_3344_5566_7788,
                        size: 4, count: 7, dataIsPointer: pointer, backwards: backwards)
                    #expect(host.submit(127, sent))
                    var got = dmx_request()
                    #expect(dmx_slot_take(slots + 127, &got))
                    #expect(!dmx_slot_take(slots + 127, &got))
                    #expect(got.type == kind.rawValue && got.size == 4 && got.count == 7)
                    #expect(got.address == sent.address && got.data == sent.data)
                    #expect(got.read == (sent.direction == .read) && got.data_is_pointer == pointer && got.backwards == backwards)
                    #expect(host.collect(127) == nil)
                    #expect(dmx_slot_answer(slots + 127, 42))
                    #expect(host.collect(127) == 42)
                }
            }
        }
        #expect(!dmx_slot_answer(slots, 1))
    }

    @Test("An answer for a slot that the host took back is dropped")
    func takenBack() throws {
        let memory = try SharedMemory(name: "test-slots", length: 4096)
        let mapping = try memory.map(what: "slots")
        let host = SlotPage(page: mapping.base)
        let slots = mapping.base.assumingMemoryBound(to: dmx_slot.self)
        var got = dmx_request()
        #expect(host.submit(0, IORequest(kind: .portIO, direction: .read, address: 1, data: 9, size: 1)))
        #expect(dmx_slot_take(slots, &got))
        host.clear(0)
        #expect(!dmx_slot_answer(slots, 5))
        #expect(host.state(0) == IORequest.State.none)
        #expect(slots.pointee.data == 9)
    }

    @Test("What the host posts, C takes in order, across the end of the ring and while the host rewinds it")
    func ring() throws {
        let memory = try SharedMemory(name: "test-ring", length: 4096)
        let mapping = try memory.map(what: "ring")
        let host = BufferedRing(page: mapping.base)
        let ring = mapping.base.assumingMemoryBound(to: dmx_ring.self)
        var generator = SplitMix(state: 3)
        var expected: [BufferedEntry] = []
        var posted = dmx_posted()
        #expect(dmx_ring_next(ring, &posted) == DMX_RING_EMPTY)
        for _ in 0..<5000 {
            let size = UInt32(1) << UInt32(generator.next() % 4)
            let data = generator.next() & (size == 8 ? UInt64.max : 0xffff_ffff)
            let entry = BufferedEntry(type: 1, direction: .write, size: size, address: generator.next() & 0xfffff, data: data)
            if host.post(entry) { expected.append(entry) }
            while expected.count > 300, let next = expected.first {
                #expect(dmx_ring_next(ring, &posted) == DMX_RING_ENTRY)
                #expect(posted.address == next.address && posted.data == next.data && posted.size == next.size && posted.type == 1 && !posted.read)
                expected.removeFirst()
            }
        }
        for next in expected {
            #expect(dmx_ring_next(ring, &posted) == DMX_RING_ENTRY)
            #expect(posted.data == next.data)
        }
        #expect(dmx_ring_next(ring, &posted) == DMX_RING_EMPTY)
        #expect(host.waiting == 0)
    }

    @Test("A ring whose pointers are too far apart gives nothing")
    func brokenRing() throws {
        let memory = try SharedMemory(name: "test-ring", length: 4096)
        let mapping = try memory.map(what: "ring")
        var posted = dmx_posted()
        for (read, write) in [(UInt32(0), UInt32(512)), (5, 4), (.max, 600)] {
            BufferedRing(page: mapping.base).reset(read: read, write: write)
            #expect(dmx_ring_next(mapping.base.assumingMemoryBound(to: dmx_ring.self), &posted) == DMX_RING_BROKEN)
        }
    }

    @Test("Only memory of the agreed length whose size is sealed is mapped")
    func seals() throws {
        let sealed = try SharedMemory(name: "test-page", length: 4096)
        let page = dmx_map_page(sealed.descriptor.raw)
        #expect(page != nil)
        let large = try SharedMemory(name: "test-page", length: 8192)
        #expect(dmx_map_page(large.descriptor.raw) == nil)
        let bell = try EventFD()
        #expect(dmx_map_page(bell.descriptor.raw) == nil)
    }

    @Test("A doorbell rung by either side is heard by the other")
    func bells() throws {
        let bell = try EventFD()
        #expect(dmx_bell_prepare(bell.descriptor.raw))
        #expect(!dmx_bell_clear(bell.descriptor.raw))
        bell.ring()
        bell.ring()
        #expect(dmx_bell_clear(bell.descriptor.raw))
        #expect(!dmx_bell_clear(bell.descriptor.raw))
        dmx_bell_ring(bell.descriptor.raw)
        let heard = bell.clear()
        #expect(heard)
    }
}

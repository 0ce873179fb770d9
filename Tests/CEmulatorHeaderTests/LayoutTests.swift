import CEmulatorHeader
import CIoreq
import CLinux
import EmulatorProtocol
import Host
import Platform
import Testing

@Suite("Protocols/demux_emulator.h says the same as the Swift side")
struct LayoutTests {
    @Test("A slot has the same fields at the same places")
    func slot() {
        #expect(MemoryLayout<dmx_slot>.size == MemoryLayout<demux_ioreq>.size)
        #expect(MemoryLayout<dmx_slot>.offset(of: \.address) == MemoryLayout<demux_ioreq>.offset(of: \.addr))
        #expect(MemoryLayout<dmx_slot>.offset(of: \.data) == MemoryLayout<demux_ioreq>.offset(of: \.data))
        #expect(MemoryLayout<dmx_slot>.offset(of: \.count) == MemoryLayout<demux_ioreq>.offset(of: \.count))
        #expect(MemoryLayout<dmx_slot>.offset(of: \.size) == MemoryLayout<demux_ioreq>.offset(of: \.size))
        #expect(MemoryLayout<dmx_slot>.offset(of: \.event_channel) == MemoryLayout<demux_ioreq>.offset(of: \.vp_eport))
        #expect(MemoryLayout<dmx_slot>.offset(of: \.bits) == MemoryLayout<demux_ioreq>.offset(of: \.bits))
        #expect(MemoryLayout<dmx_slot>.offset(of: \.type) == MemoryLayout<demux_ioreq>.offset(of: \.type))
    }

    @Test("The ring has the same fields at the same places")
    func ring() {
        #expect(MemoryLayout<dmx_ring>.size == MemoryLayout<demux_ring>.size)
        #expect(MemoryLayout<dmx_ring>.offset(of: \.read_pointer) == MemoryLayout<demux_ring>.offset(of: \.read_pointer))
        #expect(MemoryLayout<dmx_ring>.offset(of: \.write_pointer) == MemoryLayout<demux_ring>.offset(of: \.write_pointer))
        #expect(MemoryLayout<dmx_ring>.offset(of: \.entries) == MemoryLayout<demux_ring>.offset(of: \.entries))
        #expect(UInt32(DMX_RING_ENTRIES) == BufferedRing.capacity)
    }

    @Test("States, types and bits have the same values")
    func values() {
        #expect(UInt8(DMX_NONE) == IORequest.State.none.rawValue)
        #expect(UInt8(DMX_READY) == IORequest.State.ready.rawValue)
        #expect(UInt8(DMX_INPROCESS) == IORequest.State.inProcess.rawValue)
        #expect(UInt8(DMX_RESPONSE_READY) == IORequest.State.responseReady.rawValue)
        #expect(UInt8(DMX_PORT_IO) == IORequest.Kind.portIO.rawValue)
        #expect(UInt8(DMX_COPY) == IORequest.Kind.copy.rawValue)
        #expect(UInt8(DMX_PCI_CONFIG) == IORequest.Kind.pciConfig.rawValue)
        #expect(UInt8(DMX_TIME_OFFSET) == IORequest.Kind.timeOffset.rawValue)
        #expect(UInt8(DMX_INVALIDATE) == IORequest.Kind.invalidate.rawValue)
        #expect(Int(DMX_BITS_STATE) == Int(DEMUX_BITS_STATE))
        #expect(Int(DMX_BITS_DATA_IS_POINTER) == Int(DEMUX_BITS_DATA_IS_PTR))
        #expect(Int(DMX_BITS_READ) == Int(DEMUX_BITS_READ))
        #expect(Int(DMX_BITS_BACKWARDS) == Int(DEMUX_BITS_DF))
    }

    @Test("The limits are the same")
    func limits() {
        #expect(Int(DMX_PAGE_SIZE) == Int(DEMUX_PAGE_SIZE))
        #expect(Int(DMX_SLOTS) == VCPUID.limit)
        #expect(Int(DMX_LARGEST_PACKET) == Packet.largest)
        #expect(Int(DMX_LARGEST_PACKET) == MessageSocket.largestMessage)
        #expect(Int(DMX_MOST_DESCRIPTORS) == Int(DEMUX_MAX_DESCRIPTORS))
        #expect(Int(DMX_SEALS) == Int(DEMUX_SEAL_SIZE))
        for size: UInt32 in [0, 1, 2, 3, 4, 8, 16, .max] { #expect(dmx_all_ones(size) == AccessSize.allOnes(size)) }
    }

    @Test("The codes of errors are the same")
    func codes() {
        let words = [
            DMX_ERROR_MALFORMED, DMX_ERROR_UNSUPPORTED, DMX_ERROR_CLASH, DMX_ERROR_INVALID, DMX_ERROR_EXHAUSTED, DMX_ERROR_ORDER,
            DMX_ERROR_HOST,
        ]
        let codes: [Refusal.Code] = [.malformed, .unsupported, .clash, .invalid, .exhausted, .order, .host]
        #expect(words == codes.map(\.rawValue))
    }

    @Test("The classes of devices to unplug are the same")
    func unplugClasses() {
        let words = [DMX_UNPLUG_IDE_DISK, DMX_UNPLUG_SCSI_DISK, DMX_UNPLUG_NVME, DMX_UNPLUG_NIC, DMX_UNPLUG_AUX_DISK]
        #expect(words == UnplugClass.allCases.map(\.rawValue))
    }

    @Test("The counters page is the same, counter by counter")
    func counters() throws {
        let memory = try SharedMemory(name: "test-counters", length: CounterPage.length)
        let mapping = try memory.map(what: "counters")
        let swift = CounterPage(page: mapping.base)
        swift.initialize()
        let page = mapping.base.bindMemory(to: dmx_counters_page.self, capacity: 1)
        // DMX_COUNTERS_MAGIC is a macro that Swift cannot import.
        #expect(page.pointee.magic == CounterPage.magic)
        #expect(Int(DMX_COUNTERS) == Counter.allCases.count)
        let order: [(Int, Counter)] = [
            (Int(DMX_COUNT_REQUESTS), .requests), (Int(DMX_COUNT_PORT_READS), .portReads), (Int(DMX_COUNT_PORT_WRITES), .portWrites),
            (Int(DMX_COUNT_MEMORY_READS), .memoryReads), (Int(DMX_COUNT_MEMORY_WRITES), .memoryWrites),
            (Int(DMX_COUNT_CONFIG_READS), .configReads), (Int(DMX_COUNT_CONFIG_WRITES), .configWrites),
            (Int(DMX_COUNT_BUFFERED), .buffered), (Int(DMX_COUNT_INVALIDATIONS), .invalidations),
            (Int(DMX_COUNT_TIME_OFFSETS), .timeOffsets), (Int(DMX_COUNT_DEFERRED), .deferred), (Int(DMX_COUNT_MALFORMED), .malformed),
            (Int(DMX_COUNT_WAKEUPS), .wakeups), (Int(DMX_COUNT_SPURIOUS), .spurious),
        ]
        #expect(order.map(\.1) == Counter.allCases)
        for (index, counter) in order {
            dmx_count(page, UInt32(index), UInt64(index) + 1)
            #expect(swift.read(counter) == UInt64(index) + 1)
        }
        dmx_count_taken(page, 127)
        #expect((0..<VCPUID.limit).map { swift.taken($0) } == Array(repeating: 0, count: 127) + [1])
        // One that an older coordinator does not know is left alone.
        page.pointee.count = 3
        dmx_count(page, UInt32(DMX_COUNT_PORT_READS), 100)
        dmx_count(page, UInt32(DMX_COUNT_MEMORY_READS), 100)
        #expect(swift.read(.portReads) == 102)
        #expect(swift.read(.memoryReads) == 4)
    }

    @Test("What regions, state and input have in common is the same on both sides")
    func displays() {
        #expect(Int(DMX_LARGEST_STATE) == StateGrant.largest)
        #expect(Int(DMX_MOST_INPUT_EVENTS) == Input.most)
        #expect(UInt16(DMX_ABSOLUTE_EXTENT) == InputEvent.extent)
        #expect(dmx_region_bitmap_length(16 << 20) == 4096)
        #expect(dmx_region_bitmap_length(256 << 20) == 8192)
        let bits: [UInt8] = [0, 0b100]
        #expect(bits.withUnsafeBytes { dmx_region_page_is_dirty($0.baseAddress, 10) && !dmx_region_page_is_dirty($0.baseAddress, 11) })
    }
}

import Glibc
import Host
import LocalHost
import Platform
import Synchronization
import Testing

@Suite("What LocalHost hands out")
struct HandOutTests {
    private func taken(_ bag: DescriptorBag) throws -> OwnedDescriptor {
        guard let descriptor = bag.take() else { throw SystemError("take", "a descriptor", reason: "there is none left") }
        return descriptor
    }

    @Test("another process serves a server through the descriptors that attach carries", arguments: [false, true])
    func attachment(ring: Bool) throws {
        let guest = try Guest()
        let (id, _) = try guest.server([try Guest.ports(0x100, 4), try Guest.memory(0xa0000, 0x1000)], ring: ring)
        let bag = try guest.host.attachmentDescriptors(of: id)
        #expect(bag.count == (ring ? 4 : 3))
        let slots = try SharedMemory(adopting: try taken(bag), length: 4096, what: "the slots")
        let kick = EventFD(adopting: try taken(bag))
        let done = EventFD(adopting: try taken(bag))
        let ringMapping: Mapping?
        if ring {
            ringMapping = try SharedMemory(adopting: try taken(bag), length: 4096, what: "the ring").map(what: "the ring")
        } else {
            ringMapping = nil
        }
        let channel = ChannelBox(try EventFDChannel(slots: slots, ring: ringMapping, kick: kick, done: done, vcpuCount: 2))
        let vcpu = try guest.vcpu(1)
        let read = try guest.start { () throws(GuestError) in try vcpu.read(port: 0x100, size: 4) }
        try guest.serve(channel, until: read) { vcpu, request in UInt64(vcpu) << 16 | request.address }
        #expect(try read.value() == 0x10100)
        let posted = try guest.start { () throws(GuestError) in try vcpu.writeMemory(GuestAddress(0xa0010), size: 2, value: 0x1234) }
        if ring {
            try posted.value()
            #expect(channel.ring?.next() == BufferedEntry(type: 1, direction: .write, size: 2, address: 0xa0010, data: 0x1234))
        } else {
            try guest.serve(channel, until: posted) { _, _ in 0 }
            try posted.value()
        }
    }

    @Test("the guest's RAM is a sealed file whose regions are the guest's addresses")
    func sharedMemory() throws {
        let guest = try Guest()
        let shared = try guest.host.sharedMemory()
        #expect(shared.length == 4 << 20)
        let memory = try SharedMemory(adopting: try taken(shared.descriptors), length: Int(shared.length), what: "RAM")
        let mapping = try memory.map(what: "RAM")
        for region in shared.regions {
            for offset in [0, region.length - 8] {
                let address = GuestAddress(region.address.rawValue + offset)
                #expect(guest.host.memory.store(address, value: 0x1122_3344_5566_7788 ^ address.rawValue, size: 8))
                #expect(mapping.base.load(fromByteOffset: Int(region.offset + offset), as: UInt64.self) == 0x1122_3344_5566_7788 ^ address.rawValue)
            }
        }
    }

    @Test("memory beyond the MMIO hole continues at 4 GiB, and neither the hole nor the VGA window is RAM")
    func layout() throws {
        let guest = try Guest(memoryBytes: 0x1_0000_0000)
        let memory = guest.host.memory
        #expect(memory.regions.map(\.address.rawValue) == [0, 0xc0000, 0x1_0000_0000])
        #expect(memory.regions.map(\.length).reduce(0, +) == 0x1_0000_0000 - 0x20000)
        for (address, isRAM) in [
            (0, true), (0x9ffff, true), (0xa0000, false), (0xbffff, false), (0xc0000, true), (0xefff_ffff, true), (0xf000_0000, false),
            (0xffff_ffff, false), (0x1_0000_0000, true), (0x1_0fff_ffff, true), (0x1_1000_0000, false), (UInt64.max, false),
        ] as [(UInt64, Bool)] {
            #expect(memory.contains(GuestAddress(address), count: 1) == isRAM, "\(Hex.string(address))")
        }
        #expect(!memory.contains(GuestAddress(0x9fffc), count: 8))
        #expect(memory.store(GuestAddress(0x1_0000_0000), value: 0x77, size: 1))
        var bytes = [UInt8](repeating: 0, count: 8)
        let complete = bytes.withUnsafeMutableBytes { memory.read(GuestAddress(0x9fffc), into: $0) }
        #expect(!complete)
        #expect(bytes == [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
        let written = bytes.withUnsafeBytes { memory.write(GuestAddress(.max - 3), from: $0) }
        #expect(!written, "it wraps into low memory, and what is beyond the end was left out")
    }

    @Test("interrupt lines and messages are kept, bounded, and told to whoever listens")
    func interrupts() throws {
        let guest = try Guest()
        let seen = Mutex<[Interrupts.Event]>([])
        let interrupts = guest.host.interrupts
        interrupts.onEvent { event in seen.withLock { $0.append(event) } }
        try guest.host.setINTx(device: 5, pin: 1, asserted: true)
        try guest.host.setISAInterrupt(14, asserted: true)
        try guest.host.injectMSI(address: 0x12_0000_0000 | 0xfee0_1000, data: 0x4045)
        #expect(interrupts.intx(device: 5, pin: 1))
        #expect(!interrupts.intx(device: 5, pin: 0))
        #expect(interrupts.isa(14))
        try guest.host.setINTx(device: 5, pin: 1, asserted: false)
        try guest.host.setISAInterrupt(14, asserted: false)
        #expect(!interrupts.intx(device: 5, pin: 1))
        #expect(!interrupts.isa(14))
        #expect(
            seen.withLock { $0 } == [
                .intx(device: 5, pin: 1, asserted: true), .isa(line: 14, asserted: true),
                .message(Interrupts.Message(address: 0x12_fee0_1000, data: 0x4045)), .intx(device: 5, pin: 1, asserted: false),
                .isa(line: 14, asserted: false),
            ])
        interrupts.onEvent(nil)
        for number in 0..<3000 as Range<UInt32> { try guest.host.injectMSI(address: 0xfee0_0000, data: number << 16 | 0x20) }
        #expect(interrupts.messageCount == 3001)
        #expect(interrupts.messages.count <= Interrupts.keptMessages)
        #expect(interrupts.messages.last?.data == UInt32(2999 << 16 | 0x20))
    }

    @Test("event channel numbers are handed out lowest free first, the ring's right after vCPU 0's")
    func eventChannels() throws {
        let guest = try Guest(vcpus: 3)
        func numbers(_ server: (id: ServerID, channel: any SharedChannel)) -> [UInt32] { (0..<3).map { server.channel.slots.remotePort($0) } }
        let first = try guest.server([], ring: true)
        let second = try guest.server([])
        #expect(numbers(first) == [1, 3, 4])
        #expect(numbers(second) == [5, 6, 7])
        try guest.host.destroyServer(first.id)
        #expect(numbers(try guest.server([])) == [1, 2, 3])
    }

    @Test("a program's PCI accesses and its string operations go by the vCPU's own calls")
    func program() throws {
        let guest = try Guest()
        let address = try #require(PCIAddress(device: 4, function: 2))
        let server = try guest.server([.pci(address), try Guest.ports(0x100, 4)])
        let vcpu = try guest.vcpu()
        let run = try guest.start { () throws(GuestError) -> UInt64 in
            try vcpu.configWrite(address, register: 0x42, size: 2, value: 0xbeef)
            try vcpu.readString(port: 0x100, size: 2, count: 3, into: GuestAddress(0x2000))
            return try vcpu.configRead(address, register: 0x41, size: 1)
        }
        var requests: [IORequest] = []
        try guest.serve(server.channel, until: run) { _, request in
            requests.append(request)
            return 0x5a
        }
        #expect(try run.value() == 0x5a)
        #expect(
            requests == [
                IORequest(kind: .pciConfig, direction: .write, address: address.requestAddress | 0x42, data: 0xbeef, size: 2),
                IORequest(kind: .portIO, direction: .read, address: 0x100, data: 0x2000, size: 2, count: 3, dataIsPointer: true),
                IORequest(kind: .pciConfig, direction: .read, address: address.requestAddress | 0x41, size: 1),
            ])
    }
}

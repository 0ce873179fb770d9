import Testing

@testable import NVMe

@Suite("NVMe admin commands")
struct AdminTests {
    private func text(_ guest: Guest, _ place: Int, _ length: Int) -> String {
        String(decoding: guest.memory.bytes[(Guest.data + place)..<(Guest.data + place + length)], as: UTF8.self)
    }

    @Test("identify tells of the controller, its one namespace and the namespace's name")
    func identify() {
        let guest = Guest()
        guest.enable()
        let address = UInt64(Guest.data)
        #expect(guest.status(0, 0x06, prp1: address, [1]) == [0, 0])
        #expect(text(guest, 4, 20) == "S1" + String(repeating: " ", count: 18))
        #expect(text(guest, 24, 11) == "Demux NVMe ")
        #expect(guest.memory.load(Guest.data + 516, as: UInt32.self) == 1)
        #expect(guest.memory.bytes[Guest.data + 77] == 5 && guest.memory.bytes[Guest.data + 525] == 1)
        #expect(guest.status(0, 0x06, namespace: 1, prp1: address, [0]) == [0, 0])
        #expect(guest.memory.load(Guest.data, as: UInt64.self) == 2048)
        #expect(guest.memory.bytes[Guest.data + 130] == 9)
        #expect(guest.status(0, 0x06, namespace: 0, prp1: address, [2]) == [0, 0])
        #expect(guest.memory.load(Guest.data, as: UInt64.self) == 1)
        #expect(guest.status(0, 0x06, namespace: 1, prp1: address, [2]) == [0, 0])
        #expect(guest.memory.load(Guest.data, as: UInt64.self) == 0)
        #expect(guest.status(0, 0x06, namespace: 1, prp1: address, [3]) == [0, 0])
        #expect(guest.memory.load(Guest.data, as: UInt32.self) == 0x0801)
        #expect(guest.status(0, 0x06, namespace: 2, prp1: address, [0]) == [0, 0x0b])
        #expect(guest.status(0, 0x06, namespace: 1, prp1: address, [0x77]) == [0, 0x02])
        #expect(guest.status(0, 0x06, prp1: 1 << 40, [1]) == [0, 0x04])
        #expect(guest.status(0, 0x06, prp1: address + 2, [1]) == [0, 0x13])
    }

    @Test("a transfer that begins in the middle of a page goes on where PRP2 says")
    func split() {
        let guest = Guest()
        guest.enable()
        #expect(guest.status(0, 0x06, prp1: UInt64(Guest.data + 0xf00), prp2: UInt64(Guest.data + 0x4000), [1]) == [0, 0])
        #expect(guest.memory.load(Guest.data + 0xf00, as: UInt16.self) == 0x1234)
        #expect(guest.memory.bytes[Guest.data + 0x4000 + 512 - 0x100] == 0x66)
        #expect(guest.status(0, 0x06, prp1: UInt64(Guest.data + 0xf00), prp2: UInt64(Guest.data + 0x4004), [1]) == [0, 0x13])
    }

    @Test("queues are made and deleted, and each mistake has its status")
    func queues() {
        let guest = Guest()
        guest.enable()
        let page: UInt64 = 0x9000
        func make(_ opcode: UInt8, _ number: UInt32, entries: UInt32 = 16, _ word: UInt32, _ prp: UInt64 = page) -> [UInt16]? {
            guest.status(0, opcode, prp1: prp, [(entries &- 1) << 16 | number, word])
        }
        #expect(make(0x01, 1, 1 | 1 << 16) == [1, 0x00])
        #expect(make(0x05, 0, 1) == [1, 0x01])
        #expect(make(0x05, 16, 1) == [1, 0x01])
        #expect(make(0x05, 1, entries: 1, 1) == [1, 0x02])
        #expect(make(0x05, 1, entries: 1025, 1) == [1, 0x02])
        #expect(make(0x05, 1, 0) == [0, 0x02])
        #expect(make(0x05, 1, 3 | 16 << 16) == [1, 0x08])
        #expect(make(0x05, 1, 3, page + 8) == [0, 0x13])
        #expect(make(0x05, 1, entries: 1024, 3) == [0, 0])
        #expect(make(0x05, 1, 3) == [1, 0x01])
        #expect(make(0x01, 1, 1 | 2 << 16) == [1, 0x00])
        #expect(make(0x01, 1, 1 | 1 << 16) == [0, 0])
        #expect(make(0x01, 1, 1 | 1 << 16) == [1, 0x01])
        #expect(guest.status(0, 0x04, [1]) == [1, 0x0c])
        #expect(guest.status(0, 0x00, [2]) == [1, 0x01])
        #expect(guest.status(0, 0x00, [1]) == [0, 0])
        #expect(guest.status(0, 0x04, [1]) == [0, 0])
        #expect(guest.status(0, 0x04, [1]) == [1, 0x01])
    }

    @Test("a queue's deletion ends after its commands, and what was not taken stays undone")
    func deletion() {
        let guest = Guest()
        guest.start()
        guest.disksAtOnce = false
        let first = guest.put(1, 0x01, namespace: 1, prp1: UInt64(Guest.data), [3, 0, 0])
        guest.ring(1)
        #expect(guest.run(0, 0x00, [1]) == nil)
        guest.put(1, 0x01, namespace: 1, prp1: UInt64(Guest.data), [4, 0, 0])
        guest.ring(1)
        #expect(guest.disk.waiting.count == 1)
        guest.finishOne()
        #expect(guest.take(1, acknowledge: false).map(\.identifier) == [first])
        #expect(guest.take(0).map(\.status) == [[0, 0]])
        #expect(guest.disk.waiting.isEmpty)
    }

    @Test("features keep what is set, and a reset forgets it")
    func features() {
        let guest = Guest()
        guest.enable()
        #expect(guest.run(0, 0x0a, [0x07])?.result == 0x000e_000e)
        #expect(guest.run(0, 0x09, [0x07, 0x0001_0003])?.result == 0x0001_0003)
        #expect(guest.status(0, 0x05, prp1: 0x9000, [15 << 16 | 3, 3]) == [1, 0x01])
        #expect(guest.run(0, 0x09, [0x07, 0x00ff_00ff])?.result == 0x000e_000e)
        #expect(guest.status(0, 0x09, [0x07, 0xffff]) == [0, 0x02])
        #expect(guest.run(0, 0x0a, [0x06])?.result == 1)
        #expect(guest.status(0, 0x09, [0x06, 0]) == [0, 0])
        #expect(guest.disk.kinds.last == .flush)
        #expect(guest.run(0, 0x0a, [0x06])?.result == 0)
        #expect(guest.status(0, 0x09, [0x01, 0x0102_0305]) == [0, 0])
        #expect(guest.run(0, 0x0a, [0x01])?.result == 0x0102_0305)
        #expect(guest.status(0, 0x09, [0x02, 1]) == [0, 0x02])
        #expect(guest.run(0, 0x0a, [0x04])?.result == 343)
        #expect(guest.run(0, 0x0a, [0x09, 3])?.result == 3)
        #expect(guest.status(0, 0x09, [0x09, 0x1_0003]) == [0, 0])
        #expect(guest.run(0, 0x0a, [0x09, 3])?.result == 0x1_0003)
        #expect(guest.status(0, 0x09, [0x0b, 0x1ff]) == [0, 0])
        #expect(guest.status(0, 0x0a, [0x55]) == [0, 0x02])
        #expect(guest.status(0, 0x09, [1 << 31 | 0x01]) == [1, 0x0d])
        guest.write(0x14, 0)
        guest.enable()
        #expect(guest.run(0, 0x0a, [0x06])?.result == 1)
        guest.makeQueues(1)
        #expect(guest.status(0, 0x09, [0x07, 1]) == [0, 0x0c])
    }

    @Test("log pages: errors newest first, health, firmware, and no other")
    func logs() {
        let guest = Guest()
        guest.start()
        let address = UInt64(Guest.data)
        #expect(guest.transfer(2, block: 5000, count: 1) == [0, 0x80])
        #expect(guest.status(0, 0x02, prp1: address, [0x01 | 31 << 16]) == [0, 0])
        #expect(guest.memory.load(Guest.data, as: UInt64.self) == 1)
        #expect(guest.memory.load(Guest.data + 8, as: UInt16.self) == 1)
        #expect(guest.memory.load(Guest.data + 16, as: UInt64.self) == 5000)
        #expect(guest.transfer(2, block: 0, count: 8) == [0, 0])
        #expect(guest.status(0, 0x02, namespace: .max, prp1: address, [0x02 | 127 << 16]) == [0, 0])
        #expect(guest.memory.load(Guest.data + 1, as: UInt16.self) == 310)
        #expect(guest.memory.load(Guest.data + 64, as: UInt64.self) == 1)
        #expect(guest.status(0, 0x02, prp1: address, [0x03 | 127 << 16]) == [0, 0])
        #expect(text(guest, 8, 3) == "1.0")
        #expect(guest.status(0, 0x02, prp1: address, [0x70]) == [1, 0x09])
        #expect(guest.status(0, 0x02, prp1: address, [0x02 | 0xffff << 16, 0xffff, 0xffff_fffc, 0xffff_ffff]) == [0, 0x02])
    }

    @Test("the fifth event request is one too many, an abort aborts nothing, and what is not known is refused")
    func others() {
        let guest = Guest()
        guest.enable()
        for _ in 0..<4 { #expect(guest.run(0, 0x0c) == nil) }
        #expect(guest.status(0, 0x0c) == [1, 0x05])
        #expect(guest.run(0, 0x08, [1 << 16])?.result == 1)
        for opcode: UInt8 in [0x03, 0x0d, 0x10, 0x11, 0x15, 0x80, 0x81, 0xff] { #expect(guest.status(0, opcode) == [0, 0x01]) }
        #expect(guest.status(0, 0x0a, [7], flags: 0x40) == [0, 0x02])
        #expect(guest.status(0, 0x0a, [7], flags: 0x01) == [0, 0x02])
    }
}

import Testing

@testable import NVMe

@Suite("NVMe registers")
struct RegisterTests {
    @Test("capabilities and version say what is offered, in words and parts of them")
    func identity() {
        let guest = Guest()
        #expect(guest.read(0x00, size: 8) == 0x0000_0020_1401_03ff)
        #expect(guest.read(0x04) == 0x20)
        #expect(guest.read(0x02, size: 2) == 0x1401)
        #expect(guest.read(0x08) == 0x1_0300)
        #expect(guest.read(0x1c) == 0)
        #expect(guest.read(0x01, size: 4) == 0xffff_ffff)
        #expect(guest.read(0x3ffc) == 0)
    }

    @Test("the controller is ready once it is enabled with admin queues, and not without")
    func enabling() {
        let guest = Guest()
        guest.write(0x14, 0x46_0001)
        #expect(guest.read(0x1c) == 2)
        guest.write(0x14, 0)
        #expect(guest.read(0x1c) == 0)
        guest.enable()
        #expect(guest.read(0x1c) == 1)
        #expect(guest.read(0x28, size: 8) == 0x1000)
        guest.write(0x14, 0x46_0000)
        #expect(guest.read(0x1c) == 0)
        // What firmware and drivers set once, a reset keeps.
        #expect(guest.read(0x24) == 0xf_000f)
        #expect(guest.read(0x30, size: 8) == 0x2000)
    }

    @Test("a page size or command set that is not offered is a fatal state", arguments: [0x46_0081, 0x46_0011, 0x46_0801])
    func wrongConfiguration(value: UInt64) {
        let guest = Guest()
        guest.enable()
        guest.write(0x14, 0)
        guest.write(0x14, value)
        #expect(guest.read(0x1c) == 2)
    }

    @Test("a reset takes the queues away, and ends only when the disk has let go of what it was writing")
    func reset() {
        let guest = Guest()
        guest.start()
        guest.disksAtOnce = false
        guest.put(1, 0x01, namespace: 1, prp1: UInt64(Guest.data), [0, 0, 0])
        guest.ring(1)
        #expect(guest.disk.waiting.count == 1)
        guest.write(0x14, 0x46_0000)
        #expect(guest.read(0x1c) == 1)
        // Enabled again too early: it comes up after the reset.
        guest.write(0x14, 0x46_0001)
        #expect(guest.read(0x1c) == 1)
        guest.write(0x14, 0x46_0000)
        guest.finishOne()
        #expect(guest.read(0x1c) == 0)
        guest.disksAtOnce = true
        guest.enable()
        #expect(guest.take(0) == [])
        // The queue is gone: its doorbell is reported, not obeyed.
        guest.write(0x1008, 0)
        guest.put(0, 0x0c)
        guest.ring(0)
        #expect(guest.take(0).map(\.result) == [0x0001_0000])
    }

    @Test("a shutdown is complete when everything has been flushed")
    func shutdown() {
        let guest = Guest()
        guest.start()
        guest.memory.bytes[Guest.data] = 0x5a
        #expect(guest.transfer(1, block: 7, count: 1) == [0, 0])
        #expect(guest.disk.stable[7 * 512] == 0)
        guest.disksAtOnce = false
        guest.put(1, 0x01, namespace: 1, prp1: UInt64(Guest.data), [9, 0, 0])
        guest.ring(1)
        guest.write(0x14, 0x46_4001)
        #expect(guest.read(0x1c) == 0x5)
        // What is queued now is not taken any more.
        guest.put(1, 0x01, namespace: 1, prp1: UInt64(Guest.data), [11, 0, 0])
        guest.ring(1)
        guest.finishOne()
        #expect(guest.read(0x1c) == 0x5)
        #expect(guest.disk.waiting.map(\.kind) == [.flush])
        guest.finishOne()
        #expect(guest.read(0x1c) == 0x9)
        #expect(guest.disk.stable[7 * 512] == 0x5a && guest.disk.stable[9 * 512] == 0x5a && guest.disk.stable[11 * 512] == 0)
        guest.write(0x14, 0x46_0000)
        #expect(guest.read(0x1c) == 0)
    }

    @Test("the interrupt line follows what the guest has not taken, and the mask")
    func line() {
        let guest = Guest()
        guest.enable()
        #expect(!guest.line)
        guest.put(0, 0x0a, [0x07])
        guest.ring(0)
        #expect(guest.line)
        #expect(guest.takeMessages() == 1)
        #expect(guest.takeMessages() == 0)
        guest.write(0x0c, 1)
        #expect(!guest.line)
        #expect(guest.read(0x10) == 1)
        guest.write(0x10, 1)
        #expect(guest.line)
        _ = guest.take(0)
        #expect(!guest.line)
    }

    @Test("a doorbell beyond its queue is reported by an event, once until the log is read")
    func doorbells() {
        let guest = Guest()
        guest.enable()
        guest.put(0, 0x0c)
        guest.put(0, 0x0c)
        guest.ring(0)
        #expect(guest.take(0) == [])
        guest.write(0x1000, 16)
        #expect(guest.take(0).map(\.result) == [0x0001_0100])
        // A head that is ahead of what was completed.
        guest.write(0x1004, 9)
        #expect(guest.take(0) == [])
        guest.put(0, 0x02, prp1: UInt64(Guest.data), [0x01 | 15 << 16])
        guest.ring(0)
        #expect(guest.take(0).map(\.result).sorted() == [0, 0x0001_0100])
    }
}

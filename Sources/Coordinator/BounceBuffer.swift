import EmulatorProtocol
import Host
import Platform

/// The buffer through which an isolated emulator on Xen reaches guest memory: the coordinator copies, within bounds.
final class BounceBuffer {
    /// 64 KiB: sixteen pages a request.
    static let length = 65_536

    private let memory: MappedMemory
    private let guest: any GuestMemory

    init(name: String, memory guest: any GuestMemory) throws(SystemError) {
        memory = try MappedMemory(name: "demux-bounce-\(name)", length: Self.length, what: "the bounce buffer of \(name)")
        self.guest = guest
    }

    /// Takes over a predecessor's.
    init(adopting descriptor: consuming OwnedDescriptor, memory guest: any GuestMemory) throws(SystemError) {
        memory = try MappedMemory(adopting: descriptor, length: Self.length, what: "a bounce buffer")
        self.guest = guest
    }

    var descriptor: CInt { memory.descriptor }

    func duplicate() throws(SystemError) -> OwnedDescriptor { try memory.duplicate() }

    /// Copies as asked.
    /// - Throws: Refusal when the part of the buffer is out of bounds, or the guest's addresses are not all RAM.
    func copy(_ dma: DMA) throws(Refusal) {
        let asked = "dma \(dma.op.rawValue) of \(dma.length) bytes at \(Hex.string(dma.address.value))"
        guard dma.length >= 0, dma.offset >= 0, dma.length <= Self.length, dma.offset <= Self.length - dma.length else {
            throw Refusal(.invalid, asked: asked, message: "offset and length must lie in the buffer of \(Self.length) bytes")
        }
        // Sound: the bounds were just checked against the mapping's length.
        let part = UnsafeMutableRawBufferPointer(start: memory.base + dma.offset, count: dma.length)
        let address = GuestAddress(dma.address.value)
        let complete = dma.op == .read ? guest.read(address, into: part) : guest.write(address, from: UnsafeRawBufferPointer(part))
        guard complete else { throw Refusal(.invalid, asked: asked, message: "not all of it is the guest's RAM") }
    }
}

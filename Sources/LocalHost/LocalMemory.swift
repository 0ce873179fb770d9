import Glibc
import Host
import Platform

/// The guest's RAM: one memfd from guest-physical 0 on, with a hole for the legacy window 0xa0000–0xfffff as on a PC.
public final class LocalMemory: GuestMemory, @unchecked Sendable {
    // Sendable: the mapping never changes; its bytes are the guest's memory, which vCPUs and emulators share by nature.
    private let memory: SharedMemory
    private let mapping: Mapping
    /// Bytes of RAM, the hole included in the numbering.
    public let length: UInt64
    private static let hole: Range<UInt64> = 0xa0000..<0x100000

    init(length: UInt64) throws(SystemError) {
        let rounded = max(0x200000, (length &+ 4095) & ~4095)
        memory = try SharedMemory(name: "demux-guest-ram", length: Int(clamping: rounded))
        mapping = try memory.map(what: "the guest's RAM")
        self.length = rounded
    }

    /// Whether all the bytes are RAM.
    public func contains(_ address: GuestAddress, count: Int) -> Bool { run(address, count) == count }

    /// How many bytes from there on are RAM, at most `count`.
    private func run(_ address: GuestAddress, _ count: Int) -> Int {
        let first = address.rawValue
        guard first < length, !Self.hole.contains(first) else { return 0 }
        let end = first < Self.hole.lowerBound ? Self.hole.lowerBound : length
        return Int(min(UInt64(count), end - first))
    }

    public func read(_ address: GuestAddress, into destination: UnsafeMutableRawBufferPointer) -> Bool {
        guard let base = destination.baseAddress else { return true }
        var complete = true
        var done = 0
        while done < destination.count {
            let here = address.advanced(by: Int64(done))
            let count = run(here, destination.count - done)
            if count > 0 {
                // Sound: `run` keeps the part inside the mapping.
                memcpy(base + done, mapping.base + Int(here.rawValue), count)
                done += count
            } else {
                destination.storeBytes(of: 0xff, toByteOffset: done, as: UInt8.self)
                complete = false
                done += 1
            }
        }
        return complete
    }

    public func write(_ address: GuestAddress, from source: UnsafeRawBufferPointer) -> Bool {
        guard let base = source.baseAddress else { return true }
        var complete = true
        var done = 0
        while done < source.count {
            let here = address.advanced(by: Int64(done))
            let count = run(here, source.count - done)
            if count > 0 {
                memcpy(mapping.base + Int(here.rawValue), base + done, count)
                done += count
            } else {
                complete = false
                done += 1
            }
        }
        return complete
    }

    public func invalidate() {}

    /// For `attach`: the file and where it lies in the guest.
    func shared() throws(SystemError) -> SharedGuestMemory {
        let bag = DescriptorBag()
        bag.add(try memory.descriptor.duplicate())
        return SharedGuestMemory(
            descriptors: bag, length: length,
            regions: [
                SharedGuestMemory.Region(address: GuestAddress(0), length: Self.hole.lowerBound, offset: 0),
                SharedGuestMemory.Region(address: GuestAddress(Self.hole.upperBound), length: length - Self.hole.upperBound, offset: Self.hole.upperBound),
            ])
    }
}

import Glibc
import Host
import Platform

/// The guest's RAM: one memfd from guest-physical 0 on, without the legacy window 0xa0000–0xbffff, and continued at 4 GiB when
/// there is more than fits below the MMIO hole at 0xf0000000 (as libxl lays an HVM guest out).
public final class LocalMemory: GuestMemory, @unchecked Sendable {
    // Sendable: nothing here changes; the bytes are the guest's memory, which vCPUs and emulators share by nature.
    private let memory: SharedMemory
    private let mapping: Mapping
    /// Length of the file in bytes: what the guest has of RAM, the legacy window included.
    public let length: UInt64
    /// Where RAM lies, in ascending order; every edge is a page's.
    public let regions: [SharedGuestMemory.Region]

    /// Memory of devices that the guest finds beside its RAM, and never over it.
    let devices = LocalRegions()

    private static let window: Range<UInt64> = 0xa0000..<0xc0000
    private static let lowEnd: UInt64 = 0xf000_0000
    private static let highStart: UInt64 = 0x1_0000_0000

    init(length wanted: UInt64) throws(SystemError) {
        guard wanted <= 1 << 40 else {
            throw SystemError("create", "guest RAM of \(wanted) bytes", reason: "that is more than 1 TiB", remedy: "ask for less")
        }
        let length = max(0x200000, (wanted + 4095) & ~4095)
        memory = try SharedMemory(name: "demux-guest-ram", length: Int(clamping: length))
        mapping = try memory.map(what: "the guest's RAM")
        self.length = length
        let low = min(length, Self.lowEnd)
        var regions = [
            SharedGuestMemory.Region(address: GuestAddress(0), length: Self.window.lowerBound, offset: 0),
            SharedGuestMemory.Region(address: GuestAddress(Self.window.upperBound), length: low - Self.window.upperBound, offset: Self.window.upperBound),
        ]
        if length > low {
            regions.append(SharedGuestMemory.Region(address: GuestAddress(Self.highStart), length: length - low, offset: low))
        }
        self.regions = regions
    }

    /// Whether all the bytes are RAM, or memory of a device's that the guest uses as such.
    public func contains(_ address: GuestAddress, count: Int) -> Bool {
        var here = address
        var left = count
        while left > 0 {
            guard let run = place(here, left)?.run ?? devices.run(here.rawValue, left), run > 0 else { return false }
            here = here.advanced(by: Int64(run))
            left -= run
        }
        return true
    }

    /// Where a byte lies in the file, and how many of `count` bytes from there on lie beside it; nil when it is no RAM.
    private func place(_ address: GuestAddress, _ count: Int) -> (offset: Int, run: Int)? {
        for region in regions {
            let (distance, below) = address.rawValue.subtractingReportingOverflow(region.address.rawValue)
            guard !below, distance < region.length else { continue }
            return (Int(truncatingIfNeeded: region.offset + distance), Int(truncatingIfNeeded: min(UInt64(count), region.length - distance)))
        }
        return nil
    }

    public func read(_ address: GuestAddress, into destination: UnsafeMutableRawBufferPointer) -> Bool {
        guard let base = destination.baseAddress else { return true }
        var complete = true
        var done = 0
        while done < destination.count {
            let here = address.advanced(by: Int64(done))
            if let (offset, run) = place(here, destination.count - done) {
                // Sound: `place` keeps the part inside the mapping.
                memcpy(base + done, mapping.base + offset, run)
                done += run
            } else if let run = devices.read(here.rawValue, into: base + done, destination.count - done) {
                done += run
            } else {
                let run = min(destination.count - done, 4096 - here.pageOffset)
                memset(base + done, 0xff, run)
                complete = false
                done += run
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
            if let (offset, run) = place(here, source.count - done) {
                memcpy(mapping.base + offset, base + done, run)
                done += run
            } else if let run = devices.write(here.rawValue, from: base + done, source.count - done) {
                done += run
            } else {
                complete = false
                done += min(source.count - done, 4096 - here.pageOffset)
            }
        }
        return complete
    }

    public func invalidate() {}

    /// For `attach`: the file and where it lies in the guest.
    func shared() throws(SystemError) -> SharedGuestMemory {
        let bag = DescriptorBag()
        bag.add(try memory.descriptor.duplicate())
        return SharedGuestMemory(descriptors: bag, length: length, regions: regions)
    }
}

import Glibc
import Host
import Platform
import Synchronization

/// Memory of devices that the guest uses as RAM (video memory), wherever it is shown at the moment.
///
/// vCPUs copy under the lock, which makes the dirty bits exact: what was written before a `collect` is in it, what is written
/// after it is in the next one. A host without regions never takes the lock.
final class LocalRegions: Sendable {
    /// One region. What changes belongs to the lock of the LocalRegions that has it.
    private final class Region: @unchecked Sendable {
        // Sendable: see above.
        let number: Int
        let content: SharedMemory
        let mapping: Mapping
        let bitmap: SharedMemory
        let bits: Mapping
        let doorbell: EventFD?
        var first: UInt64?
        /// Pages written since the last `collect`; everything at first.
        var dirty: [UInt64]
        /// Whether the next write rings.
        var armed = false

        var length: UInt64 { UInt64(mapping.length) }

        init(number: Int, length: Int, hasDoorbell: Bool) throws(SystemError) {
            self.number = number
            content = try SharedMemory(name: "demux-region", length: length)
            mapping = try content.map(what: "a region's memory")
            let pages = length / 4096
            bitmap = try SharedMemory(name: "demux-region-dirty", length: ((pages + 7) / 8 + 4095) & ~4095)
            bits = try bitmap.map(what: "a region's dirty bitmap")
            doorbell = hasDoorbell ? try EventFD() : nil
            dirty = [UInt64](repeating: .max, count: (pages + 63) / 64)
            if pages & 63 != 0 { dirty[dirty.count - 1] = 1 &<< UInt64(pages & 63) &- 1 }
        }

        func note(_ offset: UInt64, _ count: Int) {
            let last = (offset &+ UInt64(count) &- 1) >> 12
            var page = offset >> 12
            while page <= last {
                dirty[Int(page >> 6)] |= 1 &<< (page & 63)
                page &+= 1
            }
            guard armed else { return }
            armed = false
            switch doorbell {
            // Under the lock that the host needs, too.
            case .some(let bell): bell.ringShared()
            case .none: break
            }
        }
    }

    private struct State {
        var regions: [Int: Region] = [:]
        var next = 1
    }

    private let state = Mutex(State())
    /// One change of the guest's address space after another: a real CPU is told without `state` being held.
    private let changing = Mutex<Void>(())
    /// How many are shown somewhere: looked at before each access that is not RAM's.
    private let shown = Atomic<Int>(0)

    // MARK: the guest's side

    /// How many of `count` bytes from an address on lie in one region; nil when the first does not lie in any.
    func run(_ address: UInt64, _ count: Int) -> Int? {
        guard shown.load(ordering: .acquiring) > 0 else { return nil }
        return state.withLock { Self.find(&$0, address, count)?.run }
    }

    /// Copies out of the region at an address; nil when none is there, otherwise how many bytes.
    func read(_ address: UInt64, into destination: UnsafeMutableRawPointer, _ count: Int) -> Int? {
        guard shown.load(ordering: .acquiring) > 0 else { return nil }
        let target = Transfer(destination)
        return state.withLock { state in
            guard let found = Self.find(&state, address, count) else { return nil }
            memcpy(target.pointer, found.region.mapping.base + Int(found.offset), found.run)
            return found.run
        }
    }

    /// Copies into the region at an address, and notes the pages.
    func write(_ address: UInt64, from source: UnsafeRawPointer, _ count: Int) -> Int? {
        guard shown.load(ordering: .acquiring) > 0 else { return nil }
        let origin = Transfer(UnsafeMutableRawPointer(mutating: source))
        return state.withLock { state in
            guard let found = Self.find(&state, address, count) else { return nil }
            memcpy(found.region.mapping.base + Int(found.offset), origin.pointer, found.run)
            found.region.note(found.offset, found.run)
            return found.run
        }
    }

    /// Takes a pointer under a lock.
    private struct Transfer: @unchecked Sendable {
        // Sendable: used by this thread only, within the call.
        let pointer: UnsafeMutableRawPointer
        init(_ pointer: UnsafeMutableRawPointer) { self.pointer = pointer }
    }

    private static func find(_ state: inout State, _ address: UInt64, _ count: Int) -> (region: Region, offset: UInt64, run: Int)? {
        for region in state.regions.values {
            guard let first = region.first, address >= first, address &- first < region.length else { continue }
            let offset = address &- first
            return (region, offset, Int(min(UInt64(max(count, 0)), region.length &- offset)))
        }
        return nil
    }

    // MARK: the control plane

    func make(length: Int, hasDoorbell: Bool) throws(SystemError) -> Int {
        let outcome: Result<Int, SystemError> = state.withLock { state in
            do throws(SystemError) {
                let number = state.next
                state.regions[number] = try Region(number: number, length: length, hasDoorbell: hasDoorbell)
                state.next += 1
                return .success(number)
            } catch {
                return .failure(error)
            }
        }
        return try outcome.get()
    }

    /// Duplicates of a region's memory, bitmap and, when it has one, doorbell; nil when there is no such region.
    func descriptors(of number: Int) throws(SystemError) -> DescriptorBag? {
        guard let region = state.withLock({ $0.regions[number] }) else { return nil }
        let bag = DescriptorBag()
        bag.add(try region.content.descriptor.duplicate())
        bag.add(try region.bitmap.descriptor.duplicate())
        switch region.doorbell {
        case .some(let bell): bag.add(try bell.descriptor.duplicate())
        case .none: break
        }
        return bag
    }

    enum Placing: Equatable {
        case placed
        case noSuchRegion
        /// What is there, in words.
        case taken(String)
        case refused(SystemError)
    }

    /// Shows a region at an address, or (nil) nowhere.
    /// - Parameter isRAM: whether the guest has RAM somewhere in these bytes.
    func place(_ number: Int, at address: UInt64?, isRAM: (UInt64, UInt64) -> Bool, space: (any GuestAddressSpace)?) -> Placing {
        changing.withLock { _ in
            let (region, clash) = state.withLock { state -> (Region?, String?) in
                guard let region = state.regions[number] else { return (nil, nil) }
                guard let address else { return (region, nil) }
                let other = state.regions.values.first { other in
                    guard other !== region, let first = other.first else { return false }
                    return first < address &+ region.length && address < first &+ other.length
                }
                return (region, other.map { "region \($0.number)" })
            }
            guard let region else { return .noSuchRegion }
            if let clash { return .taken(clash) }
            if let address, isRAM(address, region.length) { return .taken("the guest's RAM") }
            if let space {
                do throws(SystemError) {
                    if let address {
                        let memory = UnsafeMutableRawBufferPointer(start: region.mapping.base, count: region.mapping.length)
                        try space.map(region: number, at: GuestAddress(address), memory: memory)
                    } else {
                        try space.unmap(region: number)
                    }
                } catch {
                    return .refused(error)
                }
            }
            state.withLock { state in
                region.first = address
                shown.store(state.regions.values.count { $0.first != nil }, ordering: .releasing)
            }
            return .placed
        }
    }

    /// Fills a region's bitmap with what was written since the last time. False when there is no such region.
    func collect(_ number: Int, space: (any GuestAddressSpace)?) throws(SystemError) -> Bool {
        guard let region = state.withLock({ $0.regions[number] }) else { return false }
        let bits = region.bits.base
        state.withLock { _ in
            for (index, word) in region.dirty.enumerated() { bits.storeBytes(of: word, toByteOffset: index * 8, as: UInt64.self) }
            for index in region.dirty.indices { region.dirty[index] = 0 }
            region.armed = region.doorbell != nil
        }
        try space?.collectDirty(region: number, into: UnsafeMutableRawBufferPointer(start: bits, count: (Int(region.length) / 4096 + 7) / 8))
        return true
    }

    /// Where a region is, and how long; nil when there is none.
    func look(_ number: Int) -> (first: UInt64?, length: UInt64)? {
        state.withLock { state in state.regions[number].map { ($0.first, $0.length) } }
    }

    func remove(_ number: Int) {
        state.withLock { state in
            state.regions[number] = nil
            shown.store(state.regions.values.count { $0.first != nil }, ordering: .releasing)
        }
    }
}

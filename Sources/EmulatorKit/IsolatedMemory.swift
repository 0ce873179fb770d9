import EmulatorProtocol
import Glibc
import Host
import Platform

/// The guest's RAM as the coordinator shares it with an isolated emulator: a sealed memfd, mapped once.
final class SharedRAM: GuestMemory {
    private let mapping: Mapping
    /// Sorted by address, never overlapping, each wholly inside the mapping.
    private let regions: [Region]
    private let control: ControlConnection
    /// Whether pages that are written must be reported.
    var reportsWrites = false

    private struct Region {
        var first: UInt64
        var length: UInt64
        var offset: Int
    }

    /// How many regions a grant may have.
    private static let mostRegions = 64

    /// Checks everything that the peer says of the memory before it is believed.
    init(_ grant: MemoryGrant, descriptor: consuming OwnedDescriptor, control: ControlConnection) throws(SetupError) {
        guard let length = Int(exactly: grant.length.value), length > 0, !grant.regions.isEmpty, grant.regions.count <= Self.mostRegions else {
            throw Self.refused("it is said to have \(grant.length.value) bytes in \(grant.regions.count) regions")
        }
        var checked: [Region] = []
        for region in grant.regions {
            let (end, overflow) = region.offset.value.addingReportingOverflow(region.length.value)
            let (last, wraps) = region.address.value.addingReportingOverflow(region.length.value &- 1)
            guard region.length.value > 0, !overflow, end <= UInt64(length), !wraps, last <= UInt64(Int64.max),
                let offset = Int(exactly: region.offset.value)
            else {
                throw Self.refused("its region at \(Hex.string(region.address.value)) lies outside the file or the address space")
            }
            checked.append(Region(first: region.address.value, length: region.length.value, offset: offset))
        }
        checked.sort { $0.first < $1.first }
        for (left, right) in zip(checked, checked.dropFirst()) where right.first &- left.first < left.length {
            throw Self.refused("its regions at \(Hex.string(left.first)) and \(Hex.string(right.first)) overlap")
        }
        do {
            mapping = try SharedMemory(adopting: descriptor, length: length, what: "the guest's memory").map(what: "the guest's memory")
        } catch {
            throw SetupError(error)
        }
        regions = checked
        self.control = control
    }

    private static func refused(_ reason: String) -> SetupError {
        SetupError("use", "the guest's memory", reason: reason, remedy: "this is a fault of the coordinator's")
    }

    /// Walks through the pieces of a buffer that are RAM; false when some of it was not. `nil` stands for a hole.
    private func walk(_ address: UInt64, count: Int, _ body: (_ piece: UnsafeMutableRawPointer?, _ at: Int, _ length: Int) -> Void) -> Bool {
        var complete = true
        var done = 0
        var place = address
        while done < count {
            let left = count &- done
            var step = left
            var piece: UnsafeMutableRawPointer?
            // The first region that ends behind this place.
            var index = 0
            while index < regions.count, place >= regions[index].first, place &- regions[index].first >= regions[index].length { index += 1 }
            if index < regions.count {
                let region = regions[index]
                if place >= region.first {
                    let inside = place &- region.first
                    step = Int(min(UInt64(left), region.length &- inside))
                    piece = mapping.base + region.offset + Int(inside)
                } else {
                    step = Int(min(UInt64(left), region.first &- place))
                }
            }
            if piece == nil { complete = false }
            body(piece, done, step)
            done &+= step
            place = place &+ UInt64(step)
        }
        return complete
    }

    func read(_ address: GuestAddress, into destination: UnsafeMutableRawBufferPointer) -> Bool {
        guard let target = destination.baseAddress else { return true }
        return walk(address.rawValue, count: destination.count) { piece, at, length in
            if let piece { memcpy(target + at, piece, length) } else { memset(target + at, 0xff, length) }
        }
    }

    func write(_ address: GuestAddress, from source: UnsafeRawBufferPointer) -> Bool {
        guard let origin = source.baseAddress else { return true }
        let complete = walk(address.rawValue, count: source.count) { piece, at, length in
            if let piece { memcpy(piece, origin + at, length) }
        }
        if reportsWrites {
            let first = address.frame
            let last = address.advanced(by: Int64(source.count) &- 1).frame
            let pages = last.rawValue &- first.rawValue &+ 1
            control.send(Packet(.modified(Modified(gfn: first, count: Int(clamping: pages)))))
        }
        return complete
    }

    func invalidate() {}
}

/// Guest memory through the coordinator: each piece is copied by a `dma` request through a buffer that both map.
///
/// Slow, and it waits for the coordinator; for isolated emulators on Xen, which have no way to the guest's memory of their own.
final class BounceMemory: GuestMemory {
    /// How long one copy may take before the way is given up for good, in milliseconds.
    private static let patience: CInt = 10_000

    private let buffer: Mapping
    private let control: ControlConnection
    /// A copy that came late could land in a buffer used for another one.
    private var isBroken = false

    init(_ grant: MemoryGrant, descriptor: consuming OwnedDescriptor, control: ControlConnection) throws(SetupError) {
        guard let length = Int(exactly: grant.length.value), length > 0, length <= 1 << 30 else {
            throw SetupError("use", "the bounce buffer", reason: "it is said to have \(grant.length.value) bytes", remedy: "this is a fault of the coordinator's")
        }
        do {
            buffer = try SharedMemory(adopting: descriptor, length: length, what: "the bounce buffer").map(what: "the bounce buffer")
        } catch {
            throw SetupError(error)
        }
        self.control = control
    }

    private enum Outcome {
        case done
        /// Some of it was not RAM; the rest was copied, and what is missing reads as 0xff.
        case partly
        case nothing
    }

    private func copy(_ operation: DMA.Operation, _ address: GuestAddress, _ length: Int) -> Outcome {
        guard !isBroken, !control.isClosed else { return .nothing }
        guard let answer = control.request(.dma(DMA(operation, address: address, length: length, offset: 0)), milliseconds: Self.patience) else {
            isBroken = true
            return .nothing
        }
        switch answer.packet.body {
        case .ok: return .done
        case .error(let refusal) where refusal.code == .invalid: return .partly
        default: return .nothing
        }
    }

    func read(_ address: GuestAddress, into destination: UnsafeMutableRawBufferPointer) -> Bool {
        guard let target = destination.baseAddress else { return true }
        var complete = true
        var done = 0
        while done < destination.count {
            let step = min(buffer.length, destination.count - done)
            let outcome = copy(.read, address.advanced(by: Int64(done)), step)
            if outcome == .nothing { memset(target + done, 0xff, step) } else { memcpy(target + done, buffer.base, step) }
            if outcome != .done { complete = false }
            done += step
        }
        return complete
    }

    func write(_ address: GuestAddress, from source: UnsafeRawBufferPointer) -> Bool {
        guard let origin = source.baseAddress else { return true }
        var complete = true
        var done = 0
        while done < source.count {
            let step = min(buffer.length, source.count - done)
            memcpy(buffer.base, origin + done, step)
            if copy(.write, address.advanced(by: Int64(done)), step) != .done { complete = false }
            done += step
        }
        return complete
    }

    func invalidate() {}
}

import Host
import Platform

// One synchronous request, repetition by repetition.
extension Core {
    /// Takes a request up, or answers it at once when it is not one for the device.
    mutating func begin(_ slot: Int, _ request: IORequest) {
        progress &+= 1
        counters.add(.requests)
        counters.noteTaken(slot)
        if work[slot].phase == .idle { busy += 1 }
        work[slot].begun = observer.now()
        work[slot].block = 0
        work[slot].request = request
        work[slot].phase = .active
        work[slot].done = 0
        work[slot].sequence &+= 1
        work[slot].result = request.allOnes
        work[slot].early = nil
        work[slot].chunkFirst = 0
        work[slot].chunkCount = 0
        work[slot].complained = false
        work[slot].isHeld = false
        let read = request.direction == .read
        let widest: UInt32
        switch request.kind {
        case .invalidate:
            counters.add(.invalidations)
            guestMemory?.invalidate()
            return finish(slot, request.data)
        case .timeOffset:
            return  // handed out by `advance`
        case .portIO:
            counters.add(read ? .portReads : .portWrites)
            widest = 4
        case .copy:
            counters.add(read ? .memoryReads : .memoryWrites)
            widest = 8
        case .pciConfig:
            counters.add(read ? .configReads : .configWrites)
            widest = 4
        case nil:
            return refuse(slot, "its type is not known")
        }
        if !AccessSize.isValid(request.size) || request.size > widest { return refuse(slot, "its size is not one such an access has") }
        if request.count == 0 || request.count > Self.mostRepetitions { return refuse(slot, "its number of repetitions is absurd") }
        if request.dataIsPointer && guestMemory == nil {
            return refuse(slot, "its data is in guest memory, to which this emulator has no access")
        }
    }

    /// Answers with nothing carried out: all-ones, or the write dropped.
    private mutating func refuse(_ slot: Int, _ why: StaticString) {
        malformed(slot, why)
        work[slot].result = AccessSize.allOnes(work[slot].request.size)
        finish(slot)
    }

    /// Counts a request as malformed, once, and logs it if that was not done too often.
    private mutating func malformed(_ slot: Int, _ why: StaticString) {
        guard !work[slot].complained else { return }
        work[slot].complained = true
        counters.add(.malformed)
        guard complaints.allows(at: EventLoop.now()) else { return }
        complain("vCPU \(slot): \(work[slot].request.words): \(why)")
        _ = complaints.takeSuppressed()
    }

    /// The next access of a slot's request for the device; nothing when the slot is answered, waits, or has had its slice.
    mutating func advance(_ slot: Int) -> Step {
        guard work[slot].phase == .active else { return .nothing }
        let kind = work[slot].request.kind
        if kind == .timeOffset {
            counters.add(.timeOffsets)
            value = work[slot].request.data
            work[slot].sequence &+= 1
            work[slot].early = nil
            dispatched = slot
            isChanged = true
            return .timeOffset
        }
        while work[slot].phase == .active {
            if sliceLeft == 0 {
                runnable.insert(slot)
                // A successor has no more than this slice to do again.
                if isChanged { commit() }
                return .nothing
            }
            sliceLeft -= 1
            if work[slot].request.dataIsPointer && work[slot].done >= work[slot].chunkFirst &+ work[slot].chunkCount { openChunk(slot) }
            let size = work[slot].request.size
            let place: (window: UInt16, offset: UInt64, block: UInt8)?
            switch kind {
            case .portIO: place = ports.find(work[slot].request.address, size: size)
            case .copy: place = memory.find(steppedAddress(slot), size: size)
            default:
                configAccess(slot)
                continue
            }
            guard let place else {
                malformed(slot, "no claim of this emulator covers it")
                deliver(slot, .max)
                continue
            }
            progress &+= 1
            work[slot].block = place.block
            if hasTables, tableAccess(slot, place.window, Int(truncatingIfNeeded: place.offset)) { continue }
            work[slot].sequence &+= 1
            work[slot].early = nil
            dispatched = slot
            isChanged = true
            access = Access(window: Window(index: place.window), offset: Int(truncatingIfNeeded: place.offset), size: Int(size))
            if work[slot].request.direction == .read { return .read }
            value = written(slot)
            return .write
        }
        return .nothing
    }

    /// Where the present repetition of an MMIO access is.
    private mutating func steppedAddress(_ slot: Int) -> UInt64 {
        let request = work[slot].request
        let way = UInt64(work[slot].done) &* UInt64(request.size)
        return request.backwards ? request.address &- way : request.address &+ way
    }

    /// The value that the present repetition writes.
    mutating func written(_ slot: Int) -> UInt64 {
        let request = work[slot].request
        guard request.dataIsPointer else { return request.data & AccessSize.allOnes(request.size) }
        // By size: a copy of a length that is only known at run time is a call into the C library for each repetition.
        let place = staged(slot)
        switch request.size {
        case 1: return UInt64(place.loadUnaligned(as: UInt8.self))
        case 2: return UInt64(place.loadUnaligned(as: UInt16.self))
        case 4: return UInt64(place.loadUnaligned(as: UInt32.self))
        default: return place.loadUnaligned(as: UInt64.self)
        }
    }

    /// Takes the value of the present repetition and goes on to the next, or answers the slot after the last.
    mutating func deliver(_ slot: Int, _ value: UInt64) {
        let request = work[slot].request
        take(slot, value, request)
        goOn(slot, request)
    }

    /// Takes the value of the present repetition, and keeps the guest waiting.
    mutating func hold(_ slot: Int, _ value: UInt64) {
        take(slot, value, work[slot].request)
        work[slot].phase = .waiting
        work[slot].isHeld = true
    }

    /// Goes on after `hold`.
    mutating func release(_ slot: Int) {
        work[slot].isHeld = false
        goOn(slot, work[slot].request)
    }

    /// - Parameter request: the slot's, which the caller has read already.
    @inline(__always)
    private mutating func take(_ slot: Int, _ value: UInt64, _ request: IORequest) {
        if request.direction == .read {
            let cut = value & AccessSize.allOnes(request.size)
            work[slot].result = cut
            if request.dataIsPointer {
                // What was staged may have been committed meanwhile.
                if work[slot].done >= work[slot].chunkFirst &+ work[slot].chunkCount { openChunk(slot) }
                let place = staged(slot)
                switch request.size {
                case 1: place.storeBytes(of: UInt8(truncatingIfNeeded: cut), as: UInt8.self)
                case 2: place.storeBytes(of: UInt16(truncatingIfNeeded: cut), as: UInt16.self)
                case 4: place.storeBytes(of: UInt32(truncatingIfNeeded: cut), as: UInt32.self)
                default: place.storeBytes(of: cut, as: UInt64.self)
                }
            }
        }
        work[slot].done &+= 1
    }

    @inline(__always)
    private mutating func goOn(_ slot: Int, _ request: IORequest) {
        let last = work[slot].done >= request.count
        if request.dataIsPointer && request.direction == .read && (last || work[slot].done >= work[slot].chunkFirst &+ work[slot].chunkCount) {
            flushChunk(slot)
        }
        if last { finish(slot) }
    }

    // MARK: the buffer in guest memory

    /// Where the present repetition's bytes are in the staging buffer: a multiple of its size, so that all of them are inside. Backwards,
    /// the first repetition is the highest.
    private mutating func staged(_ slot: Int) -> UnsafeMutableRawPointer {
        // Read in place: a copy of the whole item is a call into the C library.
        let item = work + slot
        let position = item.pointee.done &- item.pointee.chunkFirst
        let place = item.pointee.request.backwards ? item.pointee.chunkCount &- 1 &- position : position
        // Folded into the buffer, whatever the counts say.
        let offset = Int(truncatingIfNeeded: place &* item.pointee.request.size) & (Self.stagingLength - 1)
        return staging + slot * Self.stagingLength + offset
    }

    /// The lowest guest-physical byte of the present chunk, and its length.
    private mutating func chunk(_ slot: Int) -> (address: GuestAddress, length: Int) {
        let item = work[slot]
        let size = UInt64(item.request.size)
        let way = item.request.backwards ? UInt64(item.chunkFirst &+ item.chunkCount &- 1) &* size : UInt64(item.chunkFirst) &* size
        let address = item.request.backwards ? item.request.data &- way : item.request.data &+ way
        return (GuestAddress(address), min(Int(item.chunkCount) &* Int(size), Self.stagingLength))
    }

    /// Stages the next repetitions: a page's worth at most, so that a bounce buffer or a mapping is asked once for many.
    private mutating func openChunk(_ slot: Int) {
        let request = work[slot].request
        work[slot].chunkFirst = work[slot].done
        work[slot].chunkCount = min(request.count &- work[slot].done, UInt32(Self.stagingLength) / max(request.size, 1))
        guard request.direction == .write, let guest = guestMemory else { return }
        let (address, length) = chunk(slot)
        let target = UnsafeMutableRawBufferPointer(start: staging + slot * Self.stagingLength, count: length)
        if !guest.read(address, into: target) { malformed(slot, "its data is not in the guest's memory") }
    }

    /// Writes what was read from the device, as much as there is, into the guest's buffer. What comes after it is staged anew.
    mutating func flushChunk(_ slot: Int) {
        let item = work + slot
        let ready = item.pointee.done &- item.pointee.chunkFirst
        guard item.pointee.request.dataIsPointer, item.pointee.request.direction == .read, ready > 0, ready <= item.pointee.chunkCount,
            let guest = guestMemory
        else { return }
        // Backwards, the first repetitions are at the end.
        let skipped = item.pointee.request.backwards ? Int(item.pointee.chunkCount &- ready) &* Int(item.pointee.request.size) : 0
        item.pointee.chunkCount = ready
        let (address, length) = chunk(slot)
        let place = min(skipped, Self.stagingLength)
        let source = UnsafeRawBufferPointer(start: staging + slot * Self.stagingLength + place, count: min(length, Self.stagingLength - place))
        if !guest.write(address, from: source) { malformed(slot, "its data is not in the guest's memory") }
        item.pointee.chunkFirst = item.pointee.done
        item.pointee.chunkCount = 0
        point(.flushed)
    }

    // MARK: the answer

    /// Answers with the last value read, or leaves the data of a write or of a buffer as it was.
    mutating func finish(_ slot: Int) {
        let request = work[slot].request
        finish(slot, request.direction == .read && !request.dataIsPointer ? work[slot].result : request.data)
    }

    mutating func finish(_ slot: Int, _ data: UInt64) {
        work[slot].answer = data
        guard area.isOn else { return giveAnswer(slot) }
        work[slot].phase = .answering
        finished.insert(slot)
    }
}

import CIoreq
import Glibc
import Platform

/// A distribution of latencies, in nanoseconds once a snapshot has been taken of it. Whoever wrote it may have written anything: no number in it
/// is used before it was bounded.
public struct LatencyHistogram: Equatable, Sendable {
    /// Accesses in each bucket.
    public private(set) var buckets: [UInt64]
    /// The sum of the latencies, in nanoseconds.
    public private(set) var sum: Double
    /// The longest one ever, in nanoseconds.
    public private(set) var longest: Double
    /// Nanoseconds of one tick, of which the buckets are powers.
    private var nanosecondsPerTick: Double

    public static let bucketCount = Int(DEMUX_OBSERVE_BUCKETS)

    /// One without any.
    public init(nanosecondsPerTick: Double = 1) {
        buckets = Array(repeating: 0, count: Self.bucketCount)
        sum = 0
        longest = 0
        self.nanosecondsPerTick = nanosecondsPerTick
    }

    init(buckets: [UInt64], sum: UInt64, longest: UInt64, nanosecondsPerTick: Double) {
        self.buckets = buckets
        self.sum = Double(sum) * nanosecondsPerTick
        self.longest = Double(longest) * nanosecondsPerTick
        self.nanosecondsPerTick = nanosecondsPerTick
    }

    /// How many accesses there were.
    public var count: UInt64 { buckets.reduce(0, &+) }

    /// The lowest tick of a bucket; eight buckets for each power of two.
    static func lowest(_ bucket: Int) -> Double { edges[min(max(bucket, 0), bucketCount)] }

    // In floating point: the last buckets are beyond 64 bits.
    private static let edges: [Double] = (0...bucketCount).map { bucket in
        guard bucket >= 8 else { return Double(bucket) }
        var edge = Double(8 + bucket % 8)
        for _ in 1..<(bucket / 8) { edge *= 2 }
        return edge
    }

    /// The latency that this part of the accesses stays below, in nanoseconds: the middle of its bucket, and never above the longest. Nil when
    /// there are none.
    public func quantile(_ part: Double) -> Double? {
        let total = count
        guard total > 0 else { return nil }
        let wished = (Double(total) * part).rounded(.up)
        // What does not fit 64 bits is all of them.
        let rank = wished < 1e19 ? min(total, UInt64(max(1, wished))) : total
        var seen: UInt64 = 0
        for (index, number) in buckets.enumerated() {
            seen &+= number
            guard seen >= rank, number > 0 else { continue }
            let middle = (Self.lowest(index) + Self.lowest(index + 1)) / 2 * nanosecondsPerTick
            return longest > 0 ? min(middle, longest) : middle
        }
        return longest
    }

    /// The upper end of the highest bucket that holds something, and never above the longest ever.
    public var highest: Double? {
        guard let index = buckets.lastIndex(where: { $0 > 0 }) else { return nil }
        let end = Self.lowest(index + 1) * nanosecondsPerTick
        return longest > 0 ? min(end, longest) : end
    }

    /// How many were at most this long, by whole buckets.
    public func count(upTo nanoseconds: Double) -> UInt64 {
        var total: UInt64 = 0
        for (index, number) in buckets.enumerated() {
            guard Self.lowest(index + 1) * nanosecondsPerTick <= nanoseconds else { break }
            total &+= number
        }
        return total
    }

    /// Adds another one's accesses.
    public mutating func add(_ other: LatencyHistogram) {
        for index in buckets.indices { buckets[index] &+= other.buckets[index] }
        sum += other.sum
        longest = max(longest, other.longest)
        if nanosecondsPerTick == 1 { nanosecondsPerTick = other.nanosecondsPerTick }
    }

    /// What came since an earlier snapshot of the same; all of it when that one was of another process.
    public func since(_ earlier: LatencyHistogram?) -> LatencyHistogram {
        guard let earlier, !zip(buckets, earlier.buckets).contains(where: { $0 < $1 }) else { return self }
        var result = self
        for index in buckets.indices { result.buckets[index] -= earlier.buckets[index] }
        result.sum = max(0, sum - earlier.sum)
        return result
    }
}

/// One request out of the ring.
public struct TraceEntry: Equatable, Sendable {
    /// CLOCK_MONOTONIC, in nanoseconds.
    public var time: Double
    /// From its being taken to its answer, in nanoseconds.
    public var duration: Double
    /// nil: a posted write.
    public var slot: Int?
    public var type: UInt8
    public var direction: IORequest.Direction
    public var address: UInt64
    /// What was read or written; a guest-physical address when `isPointer`.
    public var value: UInt64
    public var size: UInt32
    public var count: UInt32
    public var isPointer: Bool
    public var isBackwards: Bool
    public var isLate: Bool

    public var kind: IORequest.Kind? { IORequest.Kind(rawValue: type) }

    public init(
        time: Double, duration: Double, slot: Int?, type: UInt8, direction: IORequest.Direction, address: UInt64, value: UInt64, size: UInt32,
        count: UInt32 = 1, isPointer: Bool = false, isBackwards: Bool = false, isLate: Bool = false
    ) {
        self.time = time
        self.duration = duration
        self.slot = slot
        self.type = type
        self.direction = direction
        self.address = address
        self.value = value
        self.size = size
        self.count = count
        self.isPointer = isPointer
        self.isBackwards = isBackwards
        self.isLate = isLate
    }
}

/// The observation memory as anybody else has it. It is read with pread and never mapped: that touches no page the emulator has not touched, and a
/// writer that shrinks the file cannot end the reader.
public final class ObservationReader {
    private let descriptor: OwnedDescriptor
    /// Entries of the ring that were read or left out.
    private var read: UInt64 = 0

    public init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    /// What was counted, of each window.
    public struct Snapshot: Sendable {
        public struct Window: Sendable {
            /// nil: everything that has no histogram of its own.
            public let range: IORange?
            public let latencies: LatencyHistogram
        }
        public let windows: [Window]

        /// All windows together.
        public var total: LatencyHistogram {
            var result = LatencyHistogram()
            for window in windows { result.add(window.latencies) }
            return result
        }
    }

    private struct Clock {
        let baseTicks: UInt64
        let baseNanoseconds: Double
        let nanosecondsPerTick: Double

        func time(_ ticks: UInt64) -> Double {
            let way = Double(Int64(bitPattern: ticks &- baseTicks)) * nanosecondsPerTick
            return baseNanoseconds + way
        }
    }

    /// Copies what is there now; nil when it is no observation memory of a version that is known, or its clock is not set yet.
    public func snapshot() -> Snapshot? {
        let page = MemoryLayout<demux_observe_head>.size
        let blockLength = MemoryLayout<demux_observe_block>.size
        guard let bytes = copy(0, page + ObservationPage.blocks * blockLength) else { return nil }
        return bytes.withUnsafeBytes { raw -> Snapshot? in
            guard let clock = Self.clock(raw) else { return nil }
            let table = 256
            var windows: [Snapshot.Window] = []
            for index in 0..<ObservationPage.blocks {
                let entry = table + index * MemoryLayout<demux_observe_window>.size
                let range = Self.range(
                    kind: raw.loadUnaligned(fromByteOffset: entry + 16, as: UInt32.self), first: raw.loadUnaligned(fromByteOffset: entry, as: UInt64.self),
                    last: raw.loadUnaligned(fromByteOffset: entry + 8, as: UInt64.self))
                if range == nil && index > 0 { continue }
                let block = page + index * blockLength
                let buckets = (0..<LatencyHistogram.bucketCount).map { raw.loadUnaligned(fromByteOffset: block + 64 + $0 * 8, as: UInt64.self) }
                if index == 0 && !buckets.contains(where: { $0 > 0 }) { continue }
                windows.append(
                    .init(
                        range: index == 0 ? nil : range,
                        latencies: LatencyHistogram(
                            buckets: buckets, sum: raw.loadUnaligned(fromByteOffset: block + 8, as: UInt64.self),
                            longest: raw.loadUnaligned(fromByteOffset: block + 16, as: UInt64.self), nanosecondsPerTick: clock.nanosecondsPerTick)))
            }
            return Snapshot(windows: windows)
        }
    }

    // MARK: the ring

    /// Leaves out what is in the ring by now.
    public func skipTraces() { if let now = traced() { read = now } }

    /// The entries that came since the last call, oldest first, at most a ring's worth, and how many were overwritten before they could be read.
    public func takeTraces() -> (entries: [TraceEntry], lost: UInt64) {
        let capacity = UInt64(DEMUX_OBSERVE_TRACES)
        let entryLength = MemoryLayout<demux_observe_trace>.size
        guard let head = copy(0, 256), let clock = head.withUnsafeBytes({ Self.clock($0) }), let end = traced() else { return ([], 0) }
        // A writer that goes back has begun anew.
        if end < read { read = 0 }
        let begin = end - read > capacity ? end - capacity : read
        var lost = begin - read
        guard begin < end, let ring = copy(MemoryLayout<demux_observe_memory>.size - Int(capacity) * entryLength, Int(capacity) * entryLength) else {
            read = end
            return ([], lost)
        }
        var entries: [TraceEntry] = []
        entries.reserveCapacity(Int(end - begin))
        ring.withUnsafeBytes { raw in
            for number in begin..<end {
                let place = Int(number % capacity) * entryLength
                // Overwritten while the ring was copied, or never written.
                guard raw.loadUnaligned(fromByteOffset: place, as: UInt64.self) == number + 1 else {
                    lost += 1
                    continue
                }
                entries.append(Self.entry(raw, place, clock))
            }
        }
        // One of them may have been half overwritten with its number not changed yet.
        if let after = traced(), after > begin, after - begin >= capacity {
            let gone = min(entries.count, Int(clamping: after - begin - capacity + 1))
            entries.removeFirst(gone)
            lost += UInt64(gone)
        }
        read = end
        return (entries, lost)
    }

    private static func entry(_ raw: UnsafeRawBufferPointer, _ place: Int, _ clock: Clock) -> TraceEntry {
        func word(_ offset: Int) -> UInt64 { raw.loadUnaligned(fromByteOffset: place + offset, as: UInt64.self) }
        func half(_ offset: Int) -> UInt32 { raw.loadUnaligned(fromByteOffset: place + offset, as: UInt32.self) }
        func byte(_ offset: Int) -> UInt8 { raw.load(fromByteOffset: place + offset, as: UInt8.self) }
        let flags = byte(50)
        return TraceEntry(
            time: clock.time(word(8)), duration: Double(word(16)) * clock.nanosecondsPerTick, slot: byte(49) == ObservationPage.postedSlot ? nil : Int(byte(49)),
            type: byte(48), direction: flags & 1 != 0 ? .read : .write, address: word(24), value: word(32), size: half(44), count: half(40),
            isPointer: flags & 2 != 0, isBackwards: flags & 4 != 0, isLate: flags & 8 != 0)
    }

    private func traced() -> UInt64? {
        guard let head = copy(0, 256) else { return nil }
        return head.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: MemoryLayout<demux_observe_head>.offset(of: \.traced) ?? 0, as: UInt64.self) }
    }

    // MARK: checking

    /// Nanoseconds of ticks. The rate is measured against this process's own clock, over the time since the emulator wrote its two; its own
    /// measurement counts when that gives something else altogether.
    private static func clock(_ raw: UnsafeRawBufferPointer) -> Clock? {
        guard raw.loadUnaligned(as: UInt64.self) == demux_observe_magic,
            raw.loadUnaligned(fromByteOffset: 8, as: UInt32.self) == UInt32(DEMUX_OBSERVE_VERSION)
        else { return nil }
        let kind = raw.loadUnaligned(fromByteOffset: 16, as: UInt32.self)
        let rate = Double(raw.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
        let ticks = raw.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
        let base = Double(raw.loadUnaligned(fromByteOffset: 40, as: UInt64.self))
        switch kind {
        case UInt32(DEMUX_OBSERVE_CLOCK_MONOTONIC): return Clock(baseTicks: ticks, baseNanoseconds: base, nanosecondsPerTick: 1)
        case UInt32(DEMUX_OBSERVE_CLOCK_TSC):
            // No processor counts slower than this, nor faster.
            guard rate >= 1e6, rate <= 1e11 else { return nil }
            let elapsed = Double(EventLoop.now()) - base
            let counted = Double(demux_observe_ticks() &- ticks)
            let measured = elapsed > 0 ? counted / elapsed * 1e9 : 0
            let agreed = abs(measured - rate) <= rate / 50 ? measured : rate
            return Clock(baseTicks: ticks, baseNanoseconds: base, nanosecondsPerTick: 1e9 / agreed)
        default: return nil
        }
    }

    private static func range(kind: UInt32, first: UInt64, last: UInt64) -> IORange? {
        switch kind {
        case 1:
            guard let low = UInt16(exactly: first), let high = UInt16(exactly: last) else { return nil }
            return PortRange(first: low, last: high).map(IORange.ports)
        case 2: return MMIORange(first: GuestAddress(first), last: GuestAddress(last)).map(IORange.memory)
        case 3: return .pci(PCIAddress(requestAddress: first))
        default: return nil
        }
    }

    /// Bytes as they are now; nil when the file is shorter.
    private func copy(_ offset: Int, _ length: Int) -> [UInt8]? {
        var failed = false
        let raw = descriptor.raw
        let bytes = [UInt8](unsafeUninitializedCapacity: length) { buffer, initialized in
            initialized = max(0, pread(raw, buffer.baseAddress, length, off_t(offset)))
            failed = initialized != length
        }
        return failed ? nil : bytes
    }
}

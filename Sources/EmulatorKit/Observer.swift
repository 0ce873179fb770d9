import EmulatorProtocol
import Host
import Platform

/// What the serving loop tells of itself beside the counters: how long each request took, and while somebody traces, each request.
struct Observer {
    private let page: ObservationPage?
    private let slowMilliseconds: UInt64
    /// From so many ticks on a request is worth a line in the log.
    private var slowTicks = UInt64.max
    fileprivate var slowLines = RateLimit(burst: 5, interval: 10_000_000_000)
    /// The posted write that the device has now; only while somebody traces.
    private var posted: (entry: BufferedEntry, begun: UInt64, block: UInt8)?

    init(_ page: ObservationPage?, slowMilliseconds: Int) {
        self.page = page
        self.slowMilliseconds = UInt64(clamping: max(slowMilliseconds, 0))
    }

    /// Settles the clock, before anything is served.
    mutating func start() {
        guard let page else { return }
        page.calibrate()
        slowTicks = slowMilliseconds == 0 ? .max : page.ticks(milliseconds: slowMilliseconds)
    }

    /// Ticks; 0 when nobody wants to know.
    @inline(__always)
    mutating func now() -> UInt64 { page?.now() ?? 0 }

    var isTracing: Bool { mutating get { page?.isTracing ?? false } }

    /// A posted write is handed to the device. Its time counts for nobody but a tracer: the guest does not wait for it.
    mutating func began(_ entry: BufferedEntry, block: UInt8) { posted = (entry, now(), block) }

    mutating func endPosted() {
        guard let posted, let page else { return }
        self.posted = nil
        var request = IORequest(kind: .copy, direction: posted.entry.direction, address: posted.entry.address, data: posted.entry.data, size: posted.entry.size)
        request.type = posted.entry.type
        page.trace(
            request, value: posted.entry.data, slot: ObservationPage.postedSlot, block: posted.block, begun: posted.begun,
            duration: Self.ticks(from: posted.begun, to: page.now()), late: false)
    }

    /// Counts a request that was answered.
    /// - Returns: its ticks when it was slow.
    @inline(__always)
    mutating func finished(_ item: UnsafeMutablePointer<SlotWork>, _ slot: Int, _ data: UInt64) -> UInt64? {
        guard let page else { return nil }
        let ticks = Self.ticks(from: item.pointee.begun, to: page.now())
        page.record(item.pointee.block, ticks: ticks)
        if page.isTracing {
            page.trace(
                item.pointee.request, value: data, slot: UInt8(truncatingIfNeeded: slot), block: item.pointee.block, begun: item.pointee.begun,
                duration: ticks, late: item.pointee.isLate)
        }
        return ticks >= slowTicks ? ticks : nil
    }

    func milliseconds(_ ticks: UInt64) -> UInt64 { page?.milliseconds(ticks: ticks) ?? 0 }

    /// The counters of two processors may differ by a little: a request never took less than nothing.
    @inline(__always)
    private static func ticks(from begin: UInt64, to end: UInt64) -> UInt64 { end > begin ? end &- begin : 0 }
}

extension Core {
    /// A slot was answered.
    @inline(__always)
    mutating func observe(_ slot: Int, _ data: UInt64) {
        if let ticks = observer.finished(work + slot, slot, data) { reportSlow(slot, ticks) }
        work[slot].isLate = false
    }

    @inline(never)
    private mutating func reportSlow(_ slot: Int, _ ticks: UInt64) {
        guard observer.slowLines.allows(at: EventLoop.now()) else { return }
        let held = observer.slowLines.takeSuppressed()
        control.send(
            Packet(
                .log(
                    Log(
                        .warning, "slow: \(work[slot].request.words) on vCPU \(slot) took \(observer.milliseconds(ticks)) ms" + (held > 0 ? " (and \(held) more before it)" : ""),
                        event: "slow"))))
    }
}

/// Which of the histograms a window has. There are 31; what comes after them shares the one of everything else.
final class ObservedWindows {
    private let page: ObservationPage?
    private var blocks: [Int: UInt8] = [:]

    init(_ page: ObservationPage?) { self.page = page }

    /// The number under which a function's configuration space has one.
    static func configuration(of function: Int) -> Int { 0x1_0000 + function }

    /// A window's histogram, which it keeps wherever it is moved; says there where it is now.
    func block(of window: some BinaryInteger, _ range: IORange) -> UInt8 {
        guard let page else { return 0 }
        let number = Int(window)
        guard let block = blocks[number] ?? (blocks.count + 1 < ObservationPage.blocks ? UInt8(blocks.count + 1) : nil) else { return 0 }
        blocks[number] = block
        page.setWindow(Int(block), range)
        return block
    }
}

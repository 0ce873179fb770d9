import CIoreq
import Glibc
import Platform

/// The observation memory as its writer has it, an emulator that serves: latency histograms of its windows, and a ring of the last requests that
/// is written only while somebody traces. Plain stores; nothing on the way of a request allocates, locks or counts references.
///
/// A view: whoever makes one keeps the mapping alive for as long.
public struct ObservationPage: @unchecked Sendable {
    // Sendable: single untorn words written by one process and read by others.
    /// Bytes of the whole memory; pages that nothing is written to cost nothing.
    public static let length = MemoryLayout<demux_observe_memory>.size
    /// Histograms: the first one is of everything that has none of its own.
    public static let blocks = Int(DEMUX_OBSERVE_BLOCKS)
    /// The slot of an access that came through the ring of posted writes.
    public static let postedSlot: UInt8 = 255

    @usableFromInline let memory: UnsafeMutablePointer<demux_observe_memory>
    /// Whether ticks are the time-stamp counter's, and not nanoseconds.
    @usableFromInline let countsCycles: Bool

    /// - Parameter base: `length` bytes, page-aligned, zero or as an earlier process left them.
    public init(base: UnsafeMutableRawPointer) {
        memory = base.bindMemory(to: demux_observe_memory.self, capacity: 1)
        countsCycles = demux_observe_has_clock() != 0
    }

    /// Writes the header; what an emulator does before it serves. The clock's rate follows with `calibrate`.
    public func initialize() {
        memory.pointee.head.version = UInt32(DEMUX_OBSERVE_VERSION)
        memory.pointee.head.clock = UInt32(countsCycles ? DEMUX_OBSERVE_CLOCK_TSC : DEMUX_OBSERVE_CLOCK_MONOTONIC)
        memory.pointee.head.ticks_per_second = countsCycles ? 0 : 1_000_000_000
        memory.pointee.head.base_ticks = now()
        memory.pointee.head.base_nanoseconds = EventLoop.now()
        memory.pointee.head.magic = demux_observe_magic
    }

    /// Compares the counter with CLOCK_MONOTONIC over the time since `initialize`, a fifth of a millisecond at least; a reader that comes later
    /// compares over a longer time.
    public func calibrate() {
        guard countsCycles else { return }
        let first = (ticks: memory.pointee.head.base_ticks, time: memory.pointee.head.base_nanoseconds)
        while EventLoop.now() &- first.time < 200_000 { demux_cpu_relax() }
        let ticks = demux_observe_ticks() &- first.ticks
        let time = EventLoop.now() &- first.time
        memory.pointee.head.ticks_per_second = UInt64(Double(ticks) / Double(max(time, 1)) * 1e9)
    }

    /// The clock of everything in this memory.
    @inlinable
    public func now() -> UInt64 { countsCycles ? demux_observe_ticks() : EventLoop.now() }

    /// Ticks of a time, once calibrated.
    public func ticks(milliseconds: UInt64) -> UInt64 {
        let (product, overflow) = (memory.pointee.head.ticks_per_second / 1000).multipliedReportingOverflow(by: milliseconds)
        return overflow || product == 0 ? .max : product
    }

    /// Milliseconds of a number of ticks.
    public func milliseconds(ticks: UInt64) -> UInt64 { ticks / max(memory.pointee.head.ticks_per_second / 1000, 1) }

    /// Says what a histogram is of.
    public func setWindow(_ block: Int, _ range: IORange) {
        let window = demux_observe_window_at(memory, UInt32(truncatingIfNeeded: block))
        switch range {
        case .ports(let ports): window?.pointee = .init(first: UInt64(ports.first), last: UInt64(ports.last), kind: 1, reserved: 0)
        case .memory(let range): window?.pointee = .init(first: range.first.rawValue, last: range.last.rawValue, kind: 2, reserved: 0)
        case .pci(let address): window?.pointee = .init(first: address.requestAddress, last: address.requestAddress, kind: 3, reserved: 0)
        }
    }

    /// Adds a latency to a histogram; an index outside them is folded into them.
    @inlinable
    public func record(_ block: UInt8, ticks: UInt64) { demux_observe_record(memory, UInt32(block), ticks) }

    /// Whether somebody wants the ring to be written.
    @inlinable
    public var isTracing: Bool { demux_observe_tracing(UnsafePointer(UnsafeRawPointer(memory).assumingMemoryBound(to: demux_observe_head.self))) != 0 }

    /// Switches the ring on or off: the coordinator's to do.
    public func setTracing(_ on: Bool) {
        demux_observe_set_tracing(UnsafeMutableRawPointer(memory).assumingMemoryBound(to: demux_observe_head.self), on ? 1 : 0)
    }

    /// Writes one request into the ring.
    /// - Parameter slot: `postedSlot` for one of the ring of posted writes.
    public func trace(_ request: IORequest, value: UInt64, slot: UInt8, block: UInt8, begun: UInt64, duration: UInt64, late: Bool) {
        var entry = demux_observe_trace()
        entry.begun = begun
        entry.duration = duration
        entry.address = request.address
        entry.value = value
        entry.count = request.count
        entry.size = request.size
        entry.type = request.type
        entry.slot = slot
        entry.flags = (request.direction == .read ? 1 : 0) | (request.dataIsPointer ? 2 : 0) | (request.backwards ? 4 : 0) | (late ? 8 : 0)
        entry.block = block
        demux_observe_add_trace(memory, entry)
    }
}

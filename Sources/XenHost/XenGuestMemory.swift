import CXen
import Glibc
import Host

/// The guest's memory by foreign mappings, with a small cache of them.
///
/// Mapped in aligned runs of 16 pages, at most 64 runs (4 MiB) at a time, found by their number alone: a look-up is one
/// comparison and the cache cannot grow. Everything is dropped on `invalidate`, which Xen asks for when the guest gives
/// pages back. Not for several threads at once.
public final class XenGuestMemory: GuestMemory {
    private static let pagesPerRun = 16
    private static let runCount = 64
    /// 48 bits of guest-physical address: more than a guest can have, and few enough that dom0's kernel, which shifts
    /// frame numbers into page-table entries, cannot take one number for another.
    private static let frameLimit: UInt64 = 1 << 36

    private struct Run {
        /// The first frame divided by the pages of a run.
        var number: UInt64
        var base: UnsafeMutableRawPointer
        /// A bit for each page that is RAM.
        var present: UInt16
    }

    private let handles: XenHandles
    private var runs: [Run?]
    private var frames: [xen_pfn_t]
    private var errors: [CInt]
    /// Whether writes must be reported to Xen: the guest is being logged (saved or migrated).
    public var dirtyLogging = false

    init(_ handles: XenHandles) {
        self.handles = handles
        runs = [Run?](repeating: nil, count: Self.runCount)
        frames = [xen_pfn_t](repeating: 0, count: Self.pagesPerRun)
        errors = [CInt](repeating: 0, count: Self.pagesPerRun)
    }

    deinit { invalidate() }

    public func invalidate() {
        for place in runs.indices { drop(place) }
    }

    public func read(_ address: GuestAddress, into destination: UnsafeMutableRawBufferPointer) -> Bool {
        var complete = true
        var done = 0
        while done < destination.count {
            let here = address.advanced(by: Int64(done))
            let length = min(4096 - here.pageOffset, destination.count - done)
            let part = UnsafeMutableRawBufferPointer(rebasing: destination[done..<(done + length)])
            if let page = page(here.frame) {
                part.copyMemory(from: UnsafeRawBufferPointer(start: page + here.pageOffset, count: length))
            } else {
                part.initializeMemory(as: UInt8.self, repeating: 0xff)
                complete = false
            }
            done += length
        }
        return complete
    }

    public func write(_ address: GuestAddress, from source: UnsafeRawBufferPointer) -> Bool {
        var complete = true
        var done = 0
        var modified: (first: GFN, count: Int)?
        while done < source.count {
            let here = address.advanced(by: Int64(done))
            let length = min(4096 - here.pageOffset, source.count - done)
            if let page = page(here.frame) {
                UnsafeMutableRawBufferPointer(start: page + here.pageOffset, count: length)
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[done..<(done + length)]))
                modified = (modified?.first ?? here.frame, (modified?.count ?? 0) + 1)
            } else {
                complete = false
                report(modified)
                modified = nil
            }
            done += length
        }
        report(modified)
        return complete
    }

    /// Reports pages after their bytes are there, or they could be sent without them and never again. A failure means that
    /// the guest is gone.
    private func report(_ modified: (first: GFN, count: Int)?) {
        guard dirtyLogging, let modified else { return }
        try? handles.markModified(modified.first, count: modified.count)
    }

    /// Where a frame is mapped; nil when it is not RAM.
    private func page(_ frame: GFN) -> UnsafeMutableRawPointer? {
        guard frame.rawValue < Self.frameLimit else { return nil }
        let number = frame.rawValue / UInt64(Self.pagesPerRun)
        let index = Int(frame.rawValue % UInt64(Self.pagesPerRun))
        let place = Int(number % UInt64(Self.runCount))
        if let run = runs[place], run.number == number, run.present >> index & 1 != 0 { return run.base + index * 4096 }
        // Not mapped, or not RAM when it was: it can be by now, and nobody would have told us.
        drop(place)
        guard let run = mapRun(number) else { return nil }
        runs[place] = run
        return run.present >> index & 1 != 0 ? run.base + index * 4096 : nil
    }

    private func mapRun(_ number: UInt64) -> Run? {
        for index in frames.indices { frames[index] = xen_pfn_t(number &* UInt64(Self.pagesPerRun) &+ UInt64(index)) }
        guard let base = xenforeignmemory_map(
            handles.foreignMemory.raw, UInt32(handles.domain.rawValue), PROT_READ | PROT_WRITE, Self.pagesPerRun, frames, &errors)
        else { return nil }
        var present: UInt16 = 0
        for (index, error) in errors.enumerated() where error == 0 { present |= 1 &<< UInt16(index) }
        guard present != 0 else {
            xenforeignmemory_unmap(handles.foreignMemory.raw, base, Self.pagesPerRun)
            return nil
        }
        return Run(number: number, base: base, present: present)
    }

    private func drop(_ place: Int) {
        guard let run = runs[place] else { return }
        xenforeignmemory_unmap(handles.foreignMemory.raw, run.base, Self.pagesPerRun)
        runs[place] = nil
    }
}

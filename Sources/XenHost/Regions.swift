import CXen
import Glibc
import Host
import Platform

/// What a direct emulator does with guest memory that belongs to its device.
extension XenHandles {
    /// 48 bits of guest-physical address.
    private static let frameLimit: UInt64 = 1 << 36

    private func checked(_ operation: String, _ first: GFN, _ pages: Int) throws(HostError) -> UInt64 {
        guard pages > 0, pages <= 1 << 24, first.rawValue < Self.frameLimit, Self.frameLimit - first.rawValue >= UInt64(pages) else {
            throw HostError(operation, "\(pages) pages at \(first) of \(domain)", .invalid, detail: "a guest cannot have such a range")
        }
        return first.rawValue
    }

    func mapRegion(first: GFN, pages: Int) throws(HostError) -> RegionMemory {
        let start = try checked("map", first, pages)
        let frames = (0..<UInt64(pages)).map { xen_pfn_t(start &+ $0) }
        var errors = [CInt](repeating: 0, count: pages)
        guard let base = xenforeignmemory_map(foreignMemory.raw, UInt32(domain.rawValue), PROT_READ | PROT_WRITE, pages, frames, &errors) else {
            throw failure("map", "\(pages) pages at \(first) of \(domain)", .domain)
        }
        if let missing = errors.firstIndex(where: { $0 != 0 }) {
            xenforeignmemory_unmap(foreignMemory.raw, base, pages)
            throw HostError(
                "map", "\(pages) pages at \(first) of \(domain)", .failed(-errors[missing]), detail: "the guest has no memory at page \(missing) of them",
                remedy: "an emulator that died while it moved its memory leaves it torn: start the guest anew")
        }
        // The handles live as long as a mapping made with them.
        return RegionMemory(base: base, length: pages * 4096) { [self] base, length in
            xenforeignmemory_unmap(foreignMemory.raw, base, length / 4096)
        }
    }

    /// XEN_DMOP_relocate_memory. Xen frees what is at the target.
    func relocate(from source: GFN, to target: GFN, pages: Int) throws(HostError) {
        let from = try checked("move", source, pages)
        let to = try checked("move to", target, pages)
        guard xendevicemodel_relocate_memory(deviceModel.raw, domain.rawValue, UInt32(pages), from, to) == 0 else {
            throw failure("move", "\(pages) pages of \(domain) from \(source) to \(target)", .domain)
        }
    }

    /// By mapping them for a moment: Xen has no other question for it that a restricted process may ask.
    func framesPresent(first: GFN, pages: Int, stride step: Int = 1) -> Int {
        guard let start = try? checked("look at", first, pages) else { return 0 }
        var wanted = stride(from: 0, to: pages, by: max(step, 1)).map { xen_pfn_t(start &+ UInt64($0)) }
        if step > 1 { wanted.append(xen_pfn_t(start &+ UInt64(pages - 1))) }
        var found = 0
        var done = 0
        while done < wanted.count {
            let count = min(512, wanted.count - done)
            let frames = Array(wanted[done..<(done + count)])
            var errors = [CInt](repeating: 0, count: count)
            if let base = xenforeignmemory_map(foreignMemory.raw, UInt32(domain.rawValue), PROT_READ, count, frames, &errors) {
                found += errors.reduce(0) { $0 + ($1 == 0 ? 1 : 0) }
                xenforeignmemory_unmap(foreignMemory.raw, base, count)
            }
            done += count
        }
        return found
    }

    /// XEN_DMOP_track_dirty_vram.
    func dirtyPages(first: GFN, pages: Int, into bitmap: UnsafeMutablePointer<UInt64>) throws(HostError) {
        let start = try checked("ask for the dirty pages of", first, pages)
        let words = (pages + 63) / 64
        for word in 0..<words { bitmap[word] = 0 }
        let result = bitmap.withMemoryRebound(to: UInt.self, capacity: words) {
            xendevicemodel_track_dirty_vram(deviceModel.raw, domain.rawValue, start, UInt32(pages), $0)
        }
        if result == 0 { return }
        // "Not tracked yet, or not any more": all of them.
        guard errno == ENODATA else { throw failure("ask for the dirty pages of", "\(pages) pages at \(first) of \(domain)", .domain) }
        for word in 0..<words { bitmap[word] = .max }
    }

    func stopDirtyTracking() throws(HostError) {
        // A bitmap has to be there although nothing is written to it (EFAULT).
        var unused: UInt = 0
        guard xendevicemodel_track_dirty_vram(deviceModel.raw, domain.rawValue, 0, 0, &unused) == 0 else {
            throw failure("end dirty tracking of", "\(domain)", .domain)
        }
    }
}

/// Memory of devices as the coordinator keeps it: it gives the guest the memory, at a place of its own, and knows where it is.
extension XenHost: RegionHost {
    /// Frames with nothing at them that nothing of the guest's will come to.
    func freeHome(pages: Int) throws(HostError) -> GFN {
        let operation = "find room for", subject = "\(pages) pages of a device in \(domain)"
        let info: XenControl.DomainInfo?
        do {
            let control = try XenControl()
            info = try control.info(domain)
        } catch {
            throw HostError(operation, subject, .failed(error.code), detail: error.reason, remedy: error.remedy)
        }
        guard let info else { throw HostError(operation, subject, .noSuchDomain, detail: "the guest is gone") }
        var random = SystemRandomNumberGenerator()
        let homes = RegionHomes(maximumPages: info.maximumPages, taken: regions.values.compactMap { $0.homeFrames })
        let found = homes.find(pages: pages, random: &random) { handles.framesPresent(first: GFN($0.lowerBound), pages: $0.count) == 0 }
        guard let found else {
            throw HostError(operation, subject, .invalid, detail: "the guest has memory of its own wherever it was looked for", remedy: "start the guest anew")
        }
        return found
    }

    private func pages(_ length: UInt64) throws(HostError) -> Int {
        guard length > 0, length & 4095 == 0, length <= 1 << 36 else {
            throw HostError("make", "a region of \(length) bytes", .invalid, detail: "it has not whole pages, or more than 64 GiB")
        }
        return Int(length / 4096)
    }

    public func makeRegion(length: UInt64) throws(HostError) -> HostRegion {
        let count = try pages(length)
        let home = try freeHome(pages: count)
        try give(first: home, pages: count)
        return keep(length, gfn: home, home: home)
    }

    public func adoptRegion(length: UInt64, at gfn: GFN) throws(HostError) -> HostRegion {
        let count = try pages(length)
        let found = handles.framesPresent(first: gfn, pages: count)
        guard found == count else {
            throw HostError(
                "adopt", "a region of \(count) pages at \(gfn)", .invalid, detail: "the guest has memory in \(found) of them only",
                remedy: "was it saved by the same version?")
        }
        let home = RegionHomes.mayBeHome(gfn) ? gfn : try freeHome(pages: count)
        return keep(length, gfn: gfn, home: home)
    }

    private func keep(_ length: UInt64, gfn: GFN, home: GFN) -> HostRegion {
        let region = HostRegion(number: nextRegion, length: length, gfn: gfn, home: home, hasDoorbell: false)
        regions[nextRegion] = region
        nextRegion += 1
        return region
    }

    public func regionDescriptors(of region: Int) throws(HostError) -> DescriptorBag {
        _ = try known(region, "hand out")
        return DescriptorBag()
    }

    public func placeRegion(_ region: Int, at gfn: GFN?) throws(HostError) {
        let present = try known(region, "note the place of")
        regions[region]?.gfn = gfn ?? present.home
    }

    public func collectDirty(_ region: Int) throws(HostError) {
        throw HostError(
            "ask for the dirty pages of", "region \(region)", .invalid, detail: "on Xen a direct emulator does that itself", remedy: "XEN_DMOP_track_dirty_vram")
    }

    public func removeRegion(_ region: Int) throws(HostError) {
        let present = try known(region, "remove")
        if let gfn = present.gfn { try depopulate(first: gfn, pages: Int(present.length / 4096)) }
        regions[region] = nil
    }

    private func known(_ region: Int, _ operation: String) throws(HostError) -> HostRegion {
        guard let present = regions[region] else { throw HostError(operation, "region \(region)", .invalid, detail: "there is none of that number") }
        return present
    }
}

import Host
import Platform

/// Guest memory beyond the toolstack's, through libxenctrl; it is loaded for the one call, because most guests never need it.
extension XenHost: PopulatingHost {
    public func populate(first: GFN, pages: Int) throws(HostError) {
        let (end, overflow) = first.rawValue.addingReportingOverflow(UInt64(clamping: pages))
        guard pages > 0, !overflow else { throw HostError("give \(domain)", "\(pages) pages at \(first)", .invalid, detail: "a guest cannot have such a range") }
        // A region that is elsewhere now comes back.
        if let region = regions.values.first(where: { $0.homeFrames?.overlaps(first.rawValue..<end) ?? false }) {
            throw HostError(
                "give \(domain)", "\(pages) pages at \(first)", .invalid, detail: "region \(region.number) has its home there",
                remedy: "let the coordinator choose the frames")
        }
        try give(first: first, pages: pages)
    }

    public func freeFrames(pages: Int) throws(HostError) -> GFN { try freeHome(pages: pages) }

    /// Gives memory without looking whose place it is.
    func give(first: GFN, pages: Int) throws(HostError) {
        do {
            let control = try XenControl()
            try control.populate(domain, first: first, pages: pages)
        } catch {
            throw HostError("give \(domain)", "\(pages) pages at \(first)", .failed(error.code), detail: error.reason, remedy: error.remedy)
        }
    }

    public func depopulate(first: GFN, pages: Int) throws(HostError) {
        do {
            let control = try XenControl()
            try control.release(domain, first: first, pages: pages)
        } catch {
            throw HostError("take back from \(domain)", "\(pages) pages at \(first)", .failed(error.code), detail: error.reason, remedy: error.remedy)
        }
    }
}

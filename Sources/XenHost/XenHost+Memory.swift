import Host
import Platform

/// Guest memory beyond the toolstack's, through libxenctrl; it is loaded for the one call, because most guests never need it.
extension XenHost: PopulatingHost {
    public func populate(first: GFN, pages: Int) throws(HostError) {
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

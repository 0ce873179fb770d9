import Glibc
import Host
import Platform
import XenHost

/// xenstore and libxenctrl.
extension XenCases {
    func store() throws {
        let store = try XenStore()
        let path = "/tool/demux-conformance"
        tap.equal("a path that is not there reads as nothing", try store.read(path), nil)
        try store.watch(path, token: "ours")
        tap.equal("a watch fires at once", next(store, "ours"), path)
        try store.write("\(path)/a", "one")
        tap.equal("a watch fires for a path under it", next(store, "ours"), "\(path)/a")
        tap.equal("what was written is read", try store.read("\(path)/a"), "one")
        tap.equal("and listed", try store.list(path), ["a"])
        try store.letRead(path, by: host.domain)
        try store.unwatch(path, token: "ours")
        try store.remove(path)
        try store.remove(path)
        tap.equal("what was removed is gone", try store.read("\(path)/a"), nil)
        tap.check("the guest is alive", store.isAlive(host.domain))
        tap.check("a domain that does not exist is not", DomainID(0x7000).map { !store.isAlive($0) } ?? false)
        try store.watch(XenStore.releaseDomain, token: "release")
        tap.equal("@releaseDomain can be watched", next(store, "release"), XenStore.releaseDomain)
        try store.watch(XenStore.introduceDomain, token: "introduce")
        tap.equal("@introduceDomain can be watched", next(store, "introduce"), XenStore.introduceDomain)
    }

    /// The path of the next event with this token.
    private func next(_ store: borrowing XenStore, _ token: String) -> String? {
        let end = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < end {
            var entry = pollfd(fd: store.descriptor, events: Int16(POLLIN), revents: 0)
            _ = poll(&entry, 1, 1000)
            while let event = try? store.nextEvent() { if event.token == token { return event.path } }
        }
        return nil
    }

    func control() throws {
        let control = try XenControl()
        tap.note("loaded \(control.libraryName)")
        guard let before = try control.info(host.domain) else { return tap.check("the guest's state is known", false) }
        tap.note("\(before)")
        tap.check("the guest is a running HVM one", before.hvm && !before.dying && !before.shutdown && !before.ended && before.pages > 1000)
        tap.check("a domain that does not exist has no state", try DomainID(0x7000).map { try control.info($0) == nil } ?? false)

        // Above 4 GiB: no RAM there.
        let hole = GFN(0x14_0000)
        try control.populate(host.domain, first: hole, pages: 64)
        tap.equal("64 pages more", try control.info(host.domain)?.pages, before.pages + 64)
        tap.check("they are memory", memory.store(hole.address.advanced(by: 0x3fffc), value: 0xabcd_ef01, size: 4))
        tap.equal("and keep what is written", memory.load(hole.address.advanced(by: 0x3fffc), size: 4), 0xabcd_ef01)
        memory.invalidate()
        tap.equal("all 64 are taken back", try control.release(host.domain, first: hole, pages: 64), 64)
        let after = try control.info(host.domain)
        tap.check("afterwards it is as before", after?.pages == before.pages && after?.maximumPages == before.maximumPages, "\(String(describing: after))")
        tap.check("and there is no memory there", memory.load(hole.address, size: 4) == nil)
        do {
            // 8 GiB, more than there is, and than the guest's page tables have room for: Xen gives what it can before it fails.
            try control.populate(host.domain, first: hole, pages: 1 << 21)
            tap.check("more memory than there is is refused", false)
        } catch {
            tap.check("more memory than there is is refused", true)
            tap.note("\(error)")
        }
        let failed = try control.info(host.domain)
        // The one page is Xen's doing: see XenControl.populate.
        tap.check(
            "and nothing of it is kept", failed.map { $0.pages <= before.pages + 1 && $0.maximumPages == before.maximumPages } ?? false,
            "\(String(describing: failed))")
    }
}

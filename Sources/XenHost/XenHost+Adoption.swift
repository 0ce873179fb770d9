import Host

/// What a predecessor's process had made in Xen is there still: it needs only be known and mapped again.
extension XenHost: AdoptingHost {
    public func adoptServer(_ server: ServerID) throws(HostError) { keep(try ServerPages(handles, server: server, ring: true), of: server) }

    public func adoptRegion(_ region: HostRegion) {
        regions[region.number] = region
        nextRegion = max(nextRegion, region.number &+ 1)
    }
}

import Platform

/// A host that can give the guest memory of a device's, which the guest then uses as RAM: video memory. Both do, each in its way.
///
/// On LocalHost a region is a memfd that the emulator maps, and the host puts it where the guest wants it. On Xen it is guest memory at
/// frames that the host chose; the direct emulator maps it and moves it itself (XEN_DMOP_relocate_memory), and the host only notes where it is.
public protocol RegionHost: Host {
    /// Makes a region of whole pages.
    /// - Throws: when there is no room; nothing is kept then, and the remedy names the setting to change.
    func makeRegion(length: UInt64) throws(HostError) -> HostRegion

    /// Takes a region over that is in the guest's memory already: the guest was restored. Xen only.
    func adoptRegion(length: UInt64, at gfn: GFN) throws(HostError) -> HostRegion

    /// Duplicates of a region's descriptors, in the order of the emulator protocol's `region`: memory, dirty bitmap, doorbell; none on Xen.
    func regionDescriptors(of region: Int) throws(HostError) -> DescriptorBag

    /// Puts a region at a frame, or (nil) takes it out of the guest's sight. On Xen: notes what the emulator has done.
    func placeRegion(_ region: Int, at gfn: GFN?) throws(HostError)

    /// Fills the region's dirty bitmap with the pages that the guest has written since the last time; all of them at first. LocalHost only.
    func collectDirty(_ region: Int) throws(HostError)

    /// Takes a region away for good.
    func removeRegion(_ region: Int) throws(HostError)
}

/// A region as the host knows it.
public struct HostRegion: Equatable, Sendable {
    /// The host's number for it.
    public var number: Int
    /// Bytes.
    public var length: UInt64
    /// Where it is in the guest; nil: nowhere.
    public var gfn: GFN?
    /// Where it is put when it shall be nowhere: on Xen, frames that are its own. Nil on LocalHost, where it is then in no place.
    public var home: GFN?
    /// Whether its doorbell is rung at the first write after `collectDirty`.
    public var hasDoorbell: Bool

    /// The frames of `home`; nil on LocalHost.
    public var homeFrames: Range<UInt64>? {
        guard let home else { return nil }
        let (end, overflow) = home.rawValue.addingReportingOverflow(length / 4096)
        return overflow ? nil : home.rawValue..<end
    }

    public init(number: Int, length: UInt64, gfn: GFN?, home: GFN? = nil, hasDoorbell: Bool) {
        self.number = number
        self.home = home
        self.length = length
        self.gfn = gfn
        self.hasDoorbell = hasDoorbell
    }
}

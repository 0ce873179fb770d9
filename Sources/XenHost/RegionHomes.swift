import Host

/// Where memory of devices lives while the guest shall not see it: at frames that are no part of its memory and of none
/// of its BARs.
///
/// libxc walks every frame up to the highest that a guest ever had, each time the guest is saved, and writes 8 bytes
/// for each: a home far up makes
/// a save slow and large. A home must not be where the guest's firmware, its kernel or QEMU put something by
/// themselves, either. So the places are, in
/// this order:
/// - the area at 0xfc000000 that hvmloader reports as reserved: no kernel puts RAM there, no BAR comes there, and it is below
///   Xen's own pages, which every HVM guest has;
/// - above 4 GiB and as much memory as the guest may have: its RAM ends below that, however hvmloader lays it out, and
///   so does what QEMU puts behind it;
/// - anywhere, drawn by lot: a guest can put memory of its own at some places, and cannot know at which.
///
/// Nothing that a guest can raise, such as its highest frame, decides where a place is.
struct RegionHomes {
    /// What nobody uses of the reserved area. hvmloader allocates from 0xfc001000 upwards and from 0xfe000000 downwards (the
    /// shared-info page): each of the two keeps some MiB. 0xfe700000 to 0xfe800000 is the guest's own (Linux has its shared-info
    /// page there); from 0xfec00000 on there are the APICs.
    static let reserved: [Range<UInt64>] = [0xf_ce00..<0xf_de00, 0xf_e000..<0xf_e600]
    private static let fourGibibytes: UInt64 = 0x10_0000
    /// 48 bits of address.
    private static let end: UInt64 = 1 << 36
    /// 39 bits: what every processor has that runs HVM guests.
    private static let farEnd: UInt64 = 1 << 27
    private static let tries = 16
    /// Frames of 2 MiB: what is not in one superpage with a home stays in one.
    private static let alignment: UInt64 = 512

    /// The first frame above all that the guest's memory can reach.
    private let above: UInt64
    private let taken: [Range<UInt64>]

    /// - Parameters:
    ///   - maximumPages: what the toolstack allows the guest.
    ///   - taken: homes of other regions, wherever these are at present.
    init(maximumPages: UInt64, taken: [Range<UInt64>]) {
        above = Self.aligned(Self.fourGibibytes + min(maximumPages, Self.end / 2))
        self.taken = taken
    }

    /// Whether a region that a saved guest had here was at its home; before the present places there was one at 64 GiB.
    static func mayBeHome(_ gfn: GFN) -> Bool { reserved.contains { $0.contains(gfn.rawValue) } || gfn.rawValue >= fourGibibytes }

    /// Finds frames for a region.
    /// - Parameters:
    ///   - pages: 1 to 2^24.
    ///   - isFree: says whether the guest has nothing at any of these frames.
    /// - Returns: the first frame; nil when all places looked at are taken.
    func find<Generator: RandomNumberGenerator>(pages: Int, random: inout Generator, isFree: (Range<UInt64>) -> Bool) -> GFN? {
        guard pages > 0, pages <= 1 << 24 else { return nil }
        let step = Self.aligned(UInt64(pages))
        for area in Self.reserved {
            for first in stride(from: area.lowerBound, to: area.upperBound, by: Int(Self.alignment)) {
                if let home = home(first, pages, below: area.upperBound, isFree) { return home }
            }
        }
        var (first, tries) = (above, 0)
        while tries < Self.tries {
            if let home = home(first, pages, below: Self.end, isFree) { return home }
            // Our own regions are no obstacles that somebody put there.
            if !overlapsTaken(first, pages) { tries += 1 }
            first += step
        }
        let last = min(max(Self.farEnd, above * 2), Self.end) - step
        guard last > first else { return nil }
        for _ in 0..<Self.tries {
            let drawn = UInt64.random(in: first / Self.alignment...last / Self.alignment, using: &random) * Self.alignment
            if let home = home(drawn, pages, below: Self.end, isFree) { return home }
        }
        return nil
    }

    private func home(_ first: UInt64, _ pages: Int, below end: UInt64, _ isFree: (Range<UInt64>) -> Bool) -> GFN? {
        let frames = first..<first + UInt64(pages)
        guard frames.upperBound <= end, !overlapsTaken(first, pages), isFree(frames) else { return nil }
        return GFN(first)
    }

    private func overlapsTaken(_ first: UInt64, _ pages: Int) -> Bool { taken.contains { $0.overlaps(first..<first + UInt64(pages)) } }

    private static func aligned(_ frame: UInt64) -> UInt64 { (frame + (alignment - 1)) & ~(alignment - 1) }
}

import Host
import SeededNumbers
import Testing

@testable import XenHost

@Suite("Where memory of devices lives")
struct RegionHomesTests {
    private let small = RegionHomes(maximumPages: 0x4000, taken: [])

    private func find(_ homes: RegionHomes, _ pages: Int, occupied: [Range<UInt64>] = []) -> UInt64? {
        var random = SplitMix(state: 12)
        return homes.find(pages: pages, random: &random) { frames in !occupied.contains { $0.overlaps(frames) } }?.rawValue
    }

    @Test("16 MiB of video memory live in the reserved area, below the highest frame that every guest has")
    func videoMemory() throws {
        let home = try #require(find(small, 4096))
        #expect(home == 0xf_ce00)
        #expect(home + 4096 <= 0xf_ec00)
    }

    @Test("hvmloader's allocations, from both ends of its area, the guest's own page and the APICs have their places to themselves")
    func othersPlaces() {
        for area in RegionHomes.reserved {
            for others in [0xf_c001..<0xf_c800, 0xf_df00..<0xf_e000, 0xf_e700..<0xf_e800, 0xf_ec00..<0x10_0000] as [Range<UInt64>] {
                #expect(!area.overlaps(others))
            }
        }
    }

    @Test("a second region lives behind the first one's home, although nothing is there at present")
    func second() {
        #expect(find(RegionHomes(maximumPages: 0x4000, taken: [0xf_ce00..<0xf_de00]), 32) == 0xf_e000)
    }

    @Test("what the reserved area has no room for lives above 4 GiB and all memory that the guest may have", arguments: [0x4000, 0x10_0000, 0x400_0000] as [UInt64])
    func large(maximumPages: UInt64) throws {
        let home = try #require(find(RegionHomes(maximumPages: maximumPages, taken: []), 16_384))
        #expect(home == 0x10_0000 + maximumPages)
    }

    @Test("memory of the guest's own is passed by")
    func passedBy() {
        #expect(find(small, 32, occupied: [0xf_ce00..<0xf_ce01]) == 0xf_d000)
        #expect(find(small, 4096, occupied: [0xf_ce00..<0xf_ce01]) == 0x10_4000)
        #expect(find(small, 4096, occupied: [0xf_ce00..<0xf_ec00, 0x10_4fff..<0x10_5000]) == 0x10_5000)
    }

    @Test("a guest that has put a page at every place that it can know of cannot move a region out of reach")
    func outOfReach() throws {
        // Its highest frame is the highest that there is, and a page in every place near.
        let known = [0xf_c000..<0xf_ec00, 0x10_0000..<0x20_0000, (1 << 36) - 1..<1 << 36] as [Range<UInt64>]
        let home = try #require(find(small, 4096, occupied: known))
        #expect(home >= 0x20_0000)
        #expect(home + 4096 <= 1 << 27)
    }

    @Test("places, sizes and taken homes of every kind: a home is free, aligned, and no address lies beyond 48 bits")
    func anything() {
        var random = SplitMix(state: 3)
        for _ in 0..<2000 {
            let taken = (0..<Int.random(in: 0...6, using: &random)).map { _ in
                let first = Bool.random(using: &random) ? UInt64.random(in: 0xf_d000...0xf_ebff, using: &random) : UInt64.random(in: 0...1 << 36, using: &random)
                return first..<first + UInt64.random(in: 1...8192, using: &random)
            }
            let maximum = UInt64.random(in: 0...UInt64.max >> UInt64.random(in: 0...63, using: &random), using: &random)
            let pages = Int.random(in: -1...(1 << 24) + 1, using: &random) >> Int.random(in: 0...24, using: &random)
            guard let home = RegionHomes(maximumPages: maximum, taken: taken).find(pages: pages, random: &random, isFree: { $0.lowerBound % 3 != 0 }) else { continue }
            let frames = home.rawValue..<home.rawValue + UInt64(pages)
            #expect(frames.upperBound <= 1 << 36)
            #expect(home.rawValue % 512 == 0 && home.rawValue % 3 != 0)
            #expect(!taken.contains { $0.overlaps(frames) })
            #expect(RegionHomes.mayBeHome(home))
        }
    }

    @Test("a saved guest's region counts as being at home in all places that are homes or were, and not in a BAR's or the legacy window's")
    func restored() {
        for home in [0xf_ce00, 0xf_e000, 0x10_4000, 0x100_0000] as [UInt64] { #expect(RegionHomes.mayBeHome(GFN(home))) }
        for other in [0xa0, 0xf_1000, 0xf_c000, 0xf_dfff, 0xf_e700] as [UInt64] { #expect(!RegionHomes.mayBeHome(GFN(other))) }
    }
}

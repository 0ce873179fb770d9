import Host
import Testing

@Suite("Ranges and addresses")
struct RangesTests {
    @Test("a port range is never empty and never passes port 0xffff")
    func ports() {
        #expect(PortRange(first: 5, last: 4) == nil)
        #expect(PortRange(first: 5, count: 0) == nil)
        #expect(PortRange(first: 5, count: -1) == nil)
        #expect(PortRange(first: 0xffff, count: 2) == nil)
        #expect(PortRange(first: 1, count: 0x10000) == nil)
        #expect(PortRange(first: 0, count: .max) == nil)
        #expect(PortRange(first: 0, count: 0x10000)?.last == 0xffff)
        #expect(PortRange(first: 0xffff, count: 1)?.count == 1)
        #expect(PortRange(first: 0x500, count: 32)?.description == "ports 0x500-0x51f")
    }

    @Test("an MMIO range is never empty and never passes the last address")
    func memory() {
        #expect(MMIORange(first: GuestAddress(2), last: GuestAddress(1)) == nil)
        #expect(MMIORange(first: GuestAddress(2), length: 0) == nil)
        #expect(MMIORange(first: GuestAddress(.max), length: 2) == nil)
        #expect(MMIORange(first: GuestAddress(.max), length: 1)?.length == 1)
        #expect(MMIORange(first: GuestAddress(0), last: GuestAddress(.max))?.length == .max)
        #expect(MMIORange(first: GuestAddress(0xa0000), length: 0x20000)?.last == GuestAddress(0xbffff))
    }

    @Test("two ranges overlap exactly when some number is in both, and contain as their numbers do")
    func relations() throws {
        for (a, b, c, d) in (0..<5).flatMap({ a in (a..<5).flatMap { b in (0..<5).flatMap { c in (c..<5).map { d in (a, b, c, d) } } } }) {
            let left = try #require(PortRange(first: UInt16(a), last: UInt16(b)))
            let right = try #require(PortRange(first: UInt16(c), last: UInt16(d)))
            let common = Set(a...b).intersection(c...d)
            #expect(left.overlaps(right) == !common.isEmpty)
            #expect(left.contains(right) == (common.count == d - c + 1))
            let low = try #require(MMIORange(first: GuestAddress(UInt64(a)), last: GuestAddress(UInt64(b))))
            let high = try #require(MMIORange(first: GuestAddress(UInt64(c)), last: GuestAddress(UInt64(d))))
            #expect(low.overlaps(high) == !common.isEmpty)
            #expect(low.contains(high) == (common.count == d - c + 1))
            #expect(IORange.ports(left).overlaps(.ports(right)) == !common.isEmpty)
            #expect(!IORange.ports(left).overlaps(.memory(high)))
        }
    }

    @Test("a PCI address survives the request address of Xen, and every request address is some PCI address")
    func pci() throws {
        let address = try #require(PCIAddress(segment: 0x1234, bus: 0x56, device: 31, function: 7))
        #expect(address.requestAddress == 0x1234_56ff_0000_0000)
        #expect(PCIAddress(requestAddress: address.requestAddress | 0xffff_ffff) == address)
        #expect(PCIAddress(device: 32) == nil)
        #expect(PCIAddress(device: 0, function: 8) == nil)
        var state: UInt64 = 1
        for _ in 0..<1000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let any = PCIAddress(requestAddress: state)
            #expect(any.requestAddress == state & 0xffff_ffff_0000_0000)
            #expect(PCIAddress(parsing: any.description) == any)
        }
    }

    @Test("a PCI address is read as lspci writes it", arguments: [
        ("5", 0, 0, 5, 0), ("1f", 0, 0, 0x1f, 0), ("05.3", 0, 0, 5, 3), ("02:05.3", 0, 2, 5, 3), ("1234:ff:1f.7", 0x1234, 0xff, 0x1f, 7),
    ] as [(String, UInt16, UInt8, UInt8, UInt8)])
    func parsing(_ text: String, _ segment: UInt16, _ bus: UInt8, _ device: UInt8, _ function: UInt8) {
        #expect(PCIAddress(parsing: text) == PCIAddress(segment: segment, bus: bus, device: device, function: function))
    }

    @Test("what is no PCI address is refused", arguments: ["", ".", ":", "20", "5.8", "5.", ".1", "100:5", "1:2:3:4", "5.1.1", "x", " 5", "+5", "-0", "0:+5.0", "10000:0:5"])
    func refusing(_ text: String) { #expect(PCIAddress(parsing: text) == nil) }

    @Test("numbers are read as people write them, and nothing else is", arguments: [
        ("0", 0), ("10", 10), ("0x10", 16), ("0XfF", 255), ("18446744073709551615", .max), ("0xffffffffffffffff", .max),
        ("", nil), ("0x", nil), ("+1", nil), ("-1", nil), ("0x+1", nil), (" 1", nil), ("1 ", nil), ("1f", nil), ("18446744073709551616", nil), ("1_0", nil),
    ] as [(String, UInt64?)])
    func hex(_ text: String, _ value: UInt64?) { #expect(Hex.parse(text) == value) }

    @Test("identifiers exist only within their limits")
    func identifiers() {
        #expect(DomainID(0x7fef) != nil)
        #expect(DomainID(0x7ff0) == nil)
        #expect(DomainID(-1) == nil)
        #expect(ServerID(7) != nil)
        #expect(ServerID(8) == nil)
        #expect(VCPUID(127)?.index == 127)
        #expect(VCPUID(128) == nil)
        #expect(GuestAddress(0x12345).frame == GFN(0x12))
        #expect(GuestAddress(0x12345).pageOffset == 0x345)
        #expect(GuestAddress(4).advanced(by: -8) == GuestAddress(.max - 3))
        #expect(GFN(.max).address == GuestAddress(0xffff_ffff_ffff_f000))
    }
}

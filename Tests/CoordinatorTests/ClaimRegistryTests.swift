import EmulatorProtocol
import Host
import Logging
import Platform
import SeededNumbers
import Testing

@testable import Coordinator

private func ports(_ first: UInt16, _ last: UInt16) throws -> IORange { .ports(try #require(PortRange(first: first, last: last))) }

@Suite("The claim registry")
struct ClaimRegistryTests {
    @Test("A clash names both owners and both ranges")
    func clash() throws {
        var registry = ClaimRegistry()
        _ = try registry.claim(try ports(0x500, 0x51f), owner: .emulator("a"), label: "registers")
        let second = try ports(0x510, 0x52f)
        let refusal = try #require(throws: Refusal.self) { try registry.claim(second, owner: .emulator("b"), label: "more") }
        #expect(refusal.code == .clash)
        #expect(refusal.asked.contains("emulator 'b'") && refusal.asked.contains("0x510-0x52f"))
        #expect(refusal.clash == Refusal.Clash(owner: "emulator 'a'", range: "ports 0x500-0x51f"))
    }

    @Test("A range over QEMU's is refused unless it was declared")
    func overQEMU() throws {
        var registry = ClaimRegistry()
        registry.noteQEMU(try ports(0x10, 0x1f), label: "Xen platform device")
        let wanted = try ports(0x10, 0x13)
        #expect(throws: Refusal.self) { try registry.claim(wanted, owner: .emulator("a"), label: "x") }
        _ = try registry.claim(wanted, owner: .emulator("a"), label: "x", interposing: [try ports(0x10, 0x1f)])
        #expect(registry.interpositions.map(\.emulator) == ["a"])
        #expect(registry.interpositions.first?.over.contains("Xen platform device") == true)
    }

    @Test("The coordinator's own ports lie over QEMU's, are shown so, and no emulator can have them")
    func coordinatorsOwn() throws {
        var registry = ClaimRegistry()
        let range = try ports(0x10, 0x1f)
        registry.noteQEMU(range, label: "Xen platform device")
        _ = try registry.claim(range, owner: .coordinator, label: "PV unplug", interposing: [range])
        #expect(registry.interpositions.map(\.emulator) == ["(coordinator)"])
        let refusal = try #require(throws: Refusal.self) { try registry.claim(try ports(0x12, 0x12), owner: .emulator("a"), label: "x", interposing: [range]) }
        #expect(refusal.clash?.owner == "the coordinator")
    }

    @Test("A declared interposition does not cover a wider claim")
    func tooWide() throws {
        var registry = ClaimRegistry()
        registry.noteQEMU(try ports(0x10, 0x1f), label: "Xen platform device")
        let wide = try ports(0x10, 0x1f)
        let declared = try ports(0x10, 0x13)
        #expect(throws: Refusal.self) { try registry.claim(wide, owner: .emulator("a"), label: "x", interposing: [declared]) }
    }

    @Test("A claim given back can be had by another, and only its owner can give it back")
    func release() throws {
        var registry = ClaimRegistry()
        let range = try ports(0x500, 0x500)
        let number = try registry.claim(range, owner: .emulator("a"), label: "")
        #expect(registry.release(number, owner: .emulator("b")) == nil)
        #expect(registry.release(number, owner: .emulator("a"))?.range == range)
        _ = try registry.claim(range, owner: .emulator("b"), label: "")
    }

    @Test("Free PCI devices are handed out from the top and never one that QEMU has")
    func freeDevices() throws {
        var registry = ClaimRegistry()
        registry.noteQEMU(.pci(try #require(PCIAddress(device: 31))), label: "something")
        #expect(registry.freeDevice() == PCIAddress(device: 30))
        for device in UInt8(4)...30 {
            _ = try registry.claim(.pci(try #require(PCIAddress(device: device))), owner: .emulator("a"), label: "")
        }
        #expect(registry.freeDevice() == nil)
    }

    @Test("Random claims and releases never leave two owners on one port")
    func randomClaims() throws {
        var generator = SplitMix(state: 7)
        var registry = ClaimRegistry()
        for _ in 0..<5000 {
            let owner = ClaimRegistry.Owner.emulator("e\(generator.next() % 4)")
            if generator.next() % 3 == 0, let entry = registry.entries.randomElement(using: &generator) {
                _ = registry.release(entry.number, owner: owner)
            } else if let range = PortRange(first: UInt16(generator.next() % 200), count: Int(generator.next() % 8)) {
                _ = try? registry.claim(.ports(range), owner: owner, label: "")
            }
            let entries = registry.entries
            let doubled = entries.enumerated().contains { index, left in
                entries[(index + 1)...].contains { left.range.overlaps($0.range) }
            }
            #expect(!doubled)
            if entries.count > 25 { registry.releaseAll(of: .emulator("e0")) }
        }
    }
}

@Suite("The log book")
struct LogBookTests {
    @Test("Control characters are escaped and long lines cut")
    func escaping() {
        #expect(PrintableText.escaped("a\u{1b}[31m\nb") == "a\\x1b[31m\\x0ab")
        #expect(PrintableText.escaped(String(repeating: "x", count: 5000)).utf8.count <= PrintableText.longest + 8)
    }

    @Test("A source that floods is cut off and the number of lost lines is said")
    func flood() {
        let book = LogBook(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        for index in 0..<10_000 { book.record(source: "loud", level: .info, text: "line \(index)") }
        #expect(book.last(100_000).count < 2_000)
    }
}

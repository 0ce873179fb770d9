import Host
import LocalHost
import Logging
import Platform
import Specification
import Testing
import Unplug

@testable import Coordinator

@Suite("The platform device and a coordinator's successor")
struct PlatformAdoptionTests {
    private static let ports = PortRange(first: 0xc100, count: 256).map(IORange.ports)
    private static let memory = MMIORange(first: GuestAddress(0xf200_0000), length: 16 << 20).map(IORange.memory)

    /// One that a guest has just switched on.
    private static var device: PlatformDevice {
        var device = PlatformDevice(id: 0x0001_5853, classAndRevision: 0xff80_0001, subsystem: 0x0001_5853, interruptPin: 1)
        device.writeConfiguration(0x10, size: 4, value: 0xc100)
        device.writeConfiguration(0x14, size: 4, value: 0xf200_0000)
        device.writeConfiguration(4, size: 2, value: 3)
        return device
    }

    private func context() throws -> GuestContext {
        try GuestContext(
            loop: EventLoop(), host: LocalHost(domain: try #require(DomainID(1))), logBook: LogBook(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }),
            allowsDirect: false, restrictedTo: nil, unplug: UnplugSpecification())
    }

    @Test("Whichever of a write's claims the one before had written down when it was killed, the successor has both BARs", arguments: 0...2)
    func adopted(written: Int) throws {
        let context = try context()
        let place = try #require(PCIAddress(device: 2))
        let all = try [.pci(place), #require(Self.ports), #require(Self.memory)]
        for range in all.prefix(1 + written) { _ = try context.registry.claim(range, owner: .coordinator, label: "", interposing: [range]) }
        context.platform.adopt(SavedPlatform(address: place, device: Self.device))
        #expect(context.registry.claims(of: .coordinator).map(\.range) == all)
        #expect(context.platform.serves(OwnAccess(space: .ports, address: 0xc104, size: 4)))
        #expect(context.platform.read(OwnAccess(space: .memory, address: 0xf200_0000, size: 8)) == 0)
    }

    @Test("What a restored guest's BARs overlap with is the emulator's, which claims after the device's place is known")
    func restored() throws {
        let context = try context()
        let place = try #require(PCIAddress(device: 2))
        try context.platform.present(SavedPlatform(address: place, device: Self.device))
        let taken = try #require(PortRange(first: 0xc110, count: 4))
        _ = try context.registry.claim(.ports(taken), owner: .emulator("a"), label: "")
        context.platform.follow()
        #expect(context.registry.claims(of: .coordinator).map(\.range) == [.pci(place), try #require(Self.memory)])
    }
}

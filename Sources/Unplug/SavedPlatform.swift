import Host

/// Where the Xen platform device is and what the guest has made of it, as it is saved with the guest.
public struct SavedPlatform: Equatable, Sendable {
    /// Its function, on bus 0.
    public var address: PCIAddress
    /// With its BARs where the guest has put them.
    public var device: PlatformDevice

    /// One at a place.
    public init(address: PCIAddress, device: PlatformDevice) {
        self.address = address
        self.device = device
    }

    /// Its record's content (Protocols/saved-state.md): the place as a PCI request address, then the header.
    public var bytes: [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: address.requestAddress >> UInt64($0 * 8)) } + device.header }

    /// Reads a record's content; nil when it is none of such a device.
    public init?(bytes: [UInt8]) {
        guard bytes.count == 8 + PlatformDevice.headerLength, let device = PlatformDevice(header: Array(bytes.dropFirst(8))) else { return nil }
        let place = bytes.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let address = PCIAddress(requestAddress: place)
        // One on another bus would be behind a bridge, and none is.
        guard address.requestAddress == place, address.segment == 0, address.bus == 0 else { return nil }
        self.init(address: address, device: device)
    }
}

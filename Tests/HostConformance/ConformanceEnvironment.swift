import Host

/// Which addresses of the guest the cases may use. Nobody else may serve them, except the `window`.
public struct ConformanceEnvironment: Sendable {
    /// 256 ports, from a multiple of 256 on.
    public var firstPort: UInt16
    /// 64 KiB of guest-physical addresses without RAM, page-aligned.
    public var firstMemory: UInt64
    /// A device on bus 0.
    public var pciDevice: UInt8
    /// RAM for string operations: page-aligned, 0x30000 bytes.
    public var buffers: UInt64
    /// 16 KiB within 0xa0000 to 0xbffff, where Xen posts single writes. An emulator with a lower server id may have it too.
    public var window: UInt64
    /// How long a case waits for the guest before it gives up: only a guard against hanging.
    public var patience: Duration

    public init(
        firstPort: UInt16 = 0x600, firstMemory: UInt64 = 0xfeda_0000, pciDevice: UInt8 = 0x1d, buffers: UInt64 = 0x30000,
        window: UInt64 = 0xb0000, patience: Duration = .seconds(60)
    ) {
        self.firstPort = firstPort
        self.firstMemory = firstMemory
        self.pciDevice = pciDevice
        self.buffers = buffers
        self.window = window
        self.patience = patience
    }
}

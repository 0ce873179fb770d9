/// What a PCI function is: its identity, its BARs and its capabilities, written down once in `Setup.add`.
///
/// Follows the PCI Local Bus Specification 3.0, chapter 6; a type-0 header with 256 bytes of configuration space.
public struct PCIDescription: Sendable {
    /// A base address register.
    public struct BAR: Equatable, Sendable {
        enum Kind: Equatable, Sendable { case ports, memory32, memory64 }
        let kind: Kind
        /// Bytes, a power of two.
        let size: UInt64
        let prefetchable: Bool
        let claimed: Bool
        /// What the guest finds there without asking the emulator.
        var region: DeviceRegion?

        /// I/O ports; `count` is rounded up to a power of two from 4 to 256.
        public static func ports(_ count: Int) -> BAR {
            BAR(kind: .ports, size: Self.power(count, from: 4, to: 256), prefetchable: false, claimed: true)
        }

        /// Memory below 4 GiB; `bytes` is rounded up to a power of two from 16 bytes to 1 GiB.
        /// - Parameter claimed: false for a BAR that the guest reaches without asking the emulator, because the emulator
        ///   has guest memory moved there (`Emulator.moved` says where).
        public static func memory(_ bytes: Int, prefetchable: Bool = false, claimed: Bool = true) -> BAR {
            BAR(kind: .memory32, size: Self.power(bytes, from: 16, to: 1 << 30), prefetchable: prefetchable, claimed: claimed)
        }

        /// Memory anywhere, which takes this BAR's register and the next; up to 1 TiB.
        public static func memory64(_ bytes: Int, prefetchable: Bool = true, claimed: Bool = true) -> BAR {
            BAR(kind: .memory64, size: Self.power(bytes, from: 16, to: 1 << 40), prefetchable: prefetchable, claimed: claimed)
        }

        /// A region's memory: shown to the guest wherever it puts the BAR, before its write completes, and reached without a request. The
        /// BAR has the size of the region; of a length that is not a power of two, the rest is nobody's.
        /// - Parameter wide: whether it can be anywhere, and takes the next register too.
        public static func region(_ region: DeviceRegion, wide: Bool = false, prefetchable: Bool = true) -> BAR {
            let size = Self.power(region.length, from: 4096, to: wide ? 1 << 40 : 1 << 30)
            return BAR(kind: wide ? .memory64 : .memory32, size: size, prefetchable: prefetchable, claimed: false, region: region)
        }

        /// A power of two that holds `value`, within limits that are powers of two.
        static func power(_ value: Int, from least: UInt64, to most: UInt64) -> UInt64 {
            var size = least
            while size < most, size < UInt64(clamping: value) { size <<= 1 }
            return size
        }
    }

    /// Which INTx line a function drives.
    public enum Pin: UInt8, Sendable { case a = 1, b, c, d }

    /// Message-signalled interrupts (specification, section 6.8.1).
    public struct MessageInterrupts: Equatable, Sendable {
        /// Whether the address has 64 bits.
        public var wide: Bool
        /// Whether the guest can mask single vectors.
        public var maskable: Bool
        /// Vectors asked for: 1, 2, 4, 8, 16 or 32.
        public var vectors: Int
        public init(wide: Bool = true, maskable: Bool = false, vectors: Int = 1) {
            self.wide = wide
            self.maskable = maskable
            self.vectors = vectors
        }
    }

    /// MSI-X (specification, section 6.8.2): a message for each vector, in a table inside a BAR of claimed memory. The kit answers the
    /// accesses to the table and to the pending bits; the device never sees them.
    public struct MessageTable: Equatable, Sendable {
        /// 1 to 16.
        public var vectors: Int
        /// The BAR that holds both.
        public var bar: Int
        /// Where the table begins, 16 bytes for each vector; a multiple of 8.
        public var tableOffset: Int
        /// Where the pending bits are, 8 bytes; a multiple of 8.
        public var pendingOffset: Int
        public init(vectors: Int, bar: Int, tableOffset: Int, pendingOffset: Int) {
            self.vectors = vectors
            self.bar = bar
            self.tableOffset = tableOffset
            self.pendingOffset = pendingOffset
        }
    }

    /// A capability of the device's own; the header with the link to the next one is added.
    public struct Capability: Sendable {
        /// The capability's id: 0x09 for a vendor's own, 0x01 for power management.
        public var id: UInt8
        /// What follows the two bytes of header, at most 190 bytes.
        public var bytes: [UInt8]
        /// For each byte the bits that the guest can change; missing ones are read-only.
        public var writable: [UInt8]
        public init(id: UInt8, bytes: [UInt8], writable: [UInt8] = []) {
            self.id = id
            self.bytes = bytes
            self.writable = writable
        }
    }

    public var vendor: UInt16
    public var device: UInt16
    /// Base class, subclass and programming interface: 0x030000 is a VGA controller.
    public var classCode: UInt32
    public var revision: UInt8
    public var subsystemVendor: UInt16
    public var subsystem: UInt16
    /// BAR 0 to 5.
    public var bars: [Int: BAR] = [:]
    /// Bytes of the expansion ROM's BAR, a power of two from 2048; nil: none.
    public var romSize: Int?
    /// nil: the function has no interrupt line.
    public var interruptPin: Pin?
    /// nil: no such capability.
    public var messageInterrupts: MessageInterrupts?
    /// nil: no such capability.
    public var messageTable: MessageTable?
    public var capabilities: [Capability] = []
    /// What a person calls it in `demux status`.
    public var label: String

    /// - Parameters:
    ///   - subsystemVendor: the vendor itself when left out.
    ///   - subsystem: the device itself when left out.
    public init(
        vendor: UInt16, device: UInt16, classCode: UInt32, revision: UInt8 = 0, subsystemVendor: UInt16? = nil, subsystem: UInt16? = nil,
        label: String = "function"
    ) {
        self.vendor = vendor
        self.device = device
        self.classCode = classCode
        self.revision = revision
        self.subsystemVendor = subsystemVendor ?? vendor
        self.subsystem = subsystem ?? device
        self.label = label
    }
}

/// A PCI function of this emulator, as the device knows it.
public struct PCIFunction: Hashable, Sendable {
    let index: Int

    /// The window of BAR `number`, 0 to 5. A number without a BAR gives a window that no access ever names.
    public func bar(_ number: Int) -> Window { Window(index: Self.window(index, (0..<6).contains(number) ? number : 7)) }

    /// The window of the expansion ROM.
    public var rom: Window { Window(index: Self.window(index, 6)) }

    /// Windows of BARs are numbered apart from plain claims': eight for each function.
    static let firstWindow = 0x8000
    static func window(_ function: Int, _ bar: Int) -> UInt16 { UInt16(truncatingIfNeeded: firstWindow + function * 8 + bar) }
}

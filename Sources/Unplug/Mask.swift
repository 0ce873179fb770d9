import EmulatorProtocol

/// What a guest writes to port 0x10 in 16 bits: which devices it has drivers of its own for (Protocols/unplug.md).
public struct UnplugMask: OptionSet, Hashable, Sendable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Every IDE and SCSI disk, but no CD-ROM.
    public static let disks = UnplugMask(rawValue: 1)
    public static let nics = UnplugMask(rawValue: 2)
    /// Every IDE disk but the primary master; `disks` overrides it.
    public static let auxiliaryDisks = UnplugMask(rawValue: 4)
    public static let nvme = UnplugMask(rawValue: 8)

    /// The classes of devices that it names; bits without a meaning name none.
    public var classes: Set<UnplugClass> {
        var classes: Set<UnplugClass> = []
        // Whoever loses every disk loses the auxiliary ones too: an emulator may have declared nothing but these.
        if contains(.disks) { classes.formUnion([.ideDisk, .scsiDisk, .auxDisk]) }
        if contains(.nics) { classes.insert(.nic) }
        if contains(.auxiliaryDisks) { classes.insert(.auxDisk) }
        if contains(.nvme) { classes.insert(.nvme) }
        return classes
    }

    /// The fewest bits with which a guest would ask for at least these classes.
    public init(_ classes: Set<UnplugClass>) {
        self = []
        if classes.contains(.ideDisk) || classes.contains(.scsiDisk) { insert(.disks) }
        if classes.contains(.nic) { insert(.nics) }
        if classes.contains(.auxDisk), !contains(.disks) { insert(.auxiliaryDisks) }
        if classes.contains(.nvme) { insert(.nvme) }
    }
}

/// What a device is to the PV unplug protocol (Protocols/unplug.md): a guest whose own drivers have taken over has the devices of some
/// classes removed.
public enum UnplugClass: String, Codable, CaseIterable, Hashable, Sendable {
    /// A disk behind an IDE controller, other than a CD-ROM.
    case ideDisk = "ide-disk"
    case scsiDisk = "scsi-disk"
    case nvme
    case nic
    /// A disk other than the first IDE one.
    case auxDisk = "aux-disk"
}

extension Set<UnplugClass> {
    /// In the order of the protocol.
    public var ordered: [UnplugClass] { UnplugClass.allCases.filter(contains) }

    /// For people: "ide-disk, nic".
    public var text: String { ordered.map(\.rawValue).joined(separator: ", ") }
}

/// Tells an emulator to remove its devices of these classes; answered by ok with their names once nothing of them is in flight.
public struct Unplug: Codable, Equatable, Sendable {
    public var classes: [UnplugClass]
    public init(classes: [UnplugClass]) { self.classes = classes }
}

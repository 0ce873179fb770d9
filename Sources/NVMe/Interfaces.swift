/// The guest's memory as a controller reaches it, by guest-physical address. Nothing outside the guest's RAM is touched.
public protocol ControllerMemory: AnyObject {
    /// Copies guest memory into a buffer. False when some of it is not RAM.
    func read(_ address: UInt64, into destination: UnsafeMutableRawBufferPointer) -> Bool
    /// Copies a buffer into guest memory. False when some of it is not RAM.
    func write(_ address: UInt64, from source: UnsafeRawBufferPointer) -> Bool
    /// Has the state kept as it is now: something is about to be written that the guest acts upon, and after which a successor must not do again what led
    /// to it. Whoever keeps each of the state's stores anyway does nothing.
    func commitState()
}

extension ControllerMemory {
    public func commitState() {}
}

/// What a controller stores to. Work is begun here and its end told by `Controller.finished`, never from within `begin`.
public protocol ControllerDisk: AnyObject {
    /// Takes a job on. A controller has at most `Controller.mostJobs` under way.
    func begin(_ job: DiskJob)
}

/// One transfer between a buffer and the disk, or a flush. Jobs that are under way at the same time may be done in any order; a flush
/// covers those that had ended when it was begun.
public struct DiskJob: @unchecked Sendable {
    // Sendable: the buffer is the disk's alone until the job's end has been told.
    public enum Kind: Equatable, Sendable {
        case read
        /// - Parameter durable: whether it has to be on stable storage when it ends.
        case write(durable: Bool)
        /// Blocks that read as zero afterwards, without a buffer.
        /// - Parameter mayDiscard: whether their storage may be given back.
        case zero(mayDiscard: Bool, durable: Bool)
        /// Everything written by jobs that had ended is to be on stable storage.
        case flush
    }

    /// To be given to `Controller.finished`.
    public let number: Int
    public let kind: Kind
    /// Bytes from the disk's start; the whole job lies inside the disk.
    public let offset: UInt64
    public let length: Int
    /// `length` bytes for a read or a write.
    public let buffer: UnsafeMutableRawPointer?

    public init(number: Int, kind: Kind, offset: UInt64 = 0, length: Int = 0, buffer: UnsafeMutableRawPointer? = nil) {
        self.number = number
        self.kind = kind
        self.offset = offset
        self.length = length
        self.buffer = buffer
    }
}

/// How a job ended.
public enum DiskOutcome: Equatable, Sendable {
    case done
    /// The host's storage has no room.
    case full
    case failed
}

/// What a disk is.
public struct DiskGeometry: Equatable, Sendable {
    /// Blocks of 512 bytes, at least one.
    public var blocks: UInt64
    public var isReadOnly: Bool

    public init(blocks: UInt64, isReadOnly: Bool) {
        self.blocks = blocks
        self.isReadOnly = isReadOnly
    }
}

/// Who a controller says it is.
public struct ControllerIdentity: Equatable, Sendable {
    /// PCI's numbers of the vendor and of the subsystem's vendor.
    public var vendor: UInt16
    public var subsystemVendor: UInt16
    /// Printable ASCII, up to 20 characters.
    public var serial: String
    /// Up to 40.
    public var model: String
    /// Up to 8.
    public var firmware: String

    public init(vendor: UInt16, subsystemVendor: UInt16, serial: String, model: String = "Demux NVMe", firmware: String = "1.0") {
        self.vendor = vendor
        self.subsystemVendor = subsystemVendor
        self.serial = serial
        self.model = model
        self.firmware = firmware
    }
}

/// How `Controller.quiesce` ended.
public enum QuiesceOutcome: Equatable, Sendable {
    /// Everything acknowledged is on stable storage, and the controller answers nothing any more.
    case removed
    /// The flush failed: the controller goes on as before.
    case failed
}

import CIoreq

/// One request as it was in a vCPU's slot when it was copied; never looked at in place, because a hostile guest's other
/// vCPUs could change it through a mapping of their own. Follows struct ioreq (xen/include/public/hvm/ioreq.h).
public struct IORequest: Equatable, Sendable {
    /// The types of request (IOREQ_TYPE_*).
    public enum Kind: UInt8, Sendable {
        case portIO = 0
        case copy = 1
        case pciConfig = 2
        case timeOffset = 7
        case invalidate = 8
    }

    /// The states of a slot (STATE_IOREQ_*, STATE_IORESP_READY).
    public enum State: UInt8, Sendable {
        case none = 0
        case ready = 1
        case inProcess = 2
        case responseReady = 3
    }

    public enum Direction: Sendable { case write, read }

    /// Port, guest-physical address or PCI request address.
    public var address: UInt64
    /// The value, or the guest-physical address of the buffer when `dataIsPointer`.
    public var data: UInt64
    /// Repetitions; 1 for a single access, 0 for an INVALIDATE.
    public var count: UInt32
    /// Bytes of one repetition: 1, 2, 4 or 8.
    public var size: UInt32
    /// The type byte as it was found: not every value is a `Kind`.
    public var type: UInt8
    public var direction: Direction
    public var dataIsPointer: Bool
    /// The direction flag: addresses go down from repetition to repetition.
    public var backwards: Bool

    public init(
        kind: Kind, direction: Direction, address: UInt64, data: UInt64 = 0, size: UInt32, count: UInt32 = 1,
        dataIsPointer: Bool = false, backwards: Bool = false
    ) {
        self.address = address
        self.data = data
        self.count = count
        self.size = size
        self.type = kind.rawValue
        self.direction = direction
        self.dataIsPointer = dataIsPointer
        self.backwards = backwards
    }

    @inlinable
    init(copying slot: UnsafePointer<demux_ioreq>, bits: UInt8) {
        address = slot.pointee.addr
        data = slot.pointee.data
        count = slot.pointee.count
        size = slot.pointee.size
        type = slot.pointee.type
        direction = bits & UInt8(DEMUX_BITS_READ) != 0 ? .read : .write
        dataIsPointer = bits & UInt8(DEMUX_BITS_DATA_IS_PTR) != 0
        backwards = bits & UInt8(DEMUX_BITS_DF) != 0
    }

    public var kind: Kind? { Kind(rawValue: type) }

    /// All-ones of the access's size: what a read gives that nobody answers. 64 bits for a size that is not valid.
    public var allOnes: UInt64 { AccessSize.allOnes(size) }

    /// The bit-field byte with this state.
    func bits(state: State) -> UInt8 {
        state.rawValue
            | (dataIsPointer ? UInt8(DEMUX_BITS_DATA_IS_PTR) : 0)
            | (direction == .read ? UInt8(DEMUX_BITS_READ) : 0)
            | (backwards ? UInt8(DEMUX_BITS_DF) : 0)
    }
}

extension IORequest {
    /// What it is answered with when nobody serves it: all-ones for a read. One with a pointer keeps it: its buffer stays as it is.
    public var unservedAnswer: UInt64 { direction == .read && !dataIsPointer ? allOnes : data }
}

/// Sizes that an access can have.
public enum AccessSize {
    @inlinable
    public static func isValid(_ size: UInt32) -> Bool { size == 1 || size == 2 || size == 4 || size == 8 }

    /// The mask of a value of that many bytes; all 64 bits from 8 on and for sizes that no access has.
    @inlinable
    public static func allOnes(_ size: UInt32) -> UInt64 {
        switch size {
        case 1: 0xff
        case 2: 0xffff
        case 4: 0xffff_ffff
        default: .max
        }
    }
}

extension IORequest {
    /// What was asked, for a log line: "a port write of 4 bytes at 0x500", "a PCI configuration read of 2 bytes at 0000:00:03.0 register 0xa".
    public var words: String {
        let verb = direction == .read ? "read" : "write"
        let what = switch kind {
        case .portIO: "a port \(verb)"
        case .copy: "an MMIO \(verb)"
        case .pciConfig: "a PCI configuration \(verb)"
        case .timeOffset: "a clock change"
        case .invalidate: "an invalidation"
        case nil: "a \(verb) of type \(type)"
        }
        let place = kind == .pciConfig ? "\(PCIAddress(requestAddress: address)) register \(Hex.string(address & 0xffff_ffff))" : Hex.string(address)
        return "\(what) of \(size) bytes at \(place)" + (count == 1 ? "" : ", \(count) times") + (dataIsPointer ? ", with a buffer" : "")
    }
}

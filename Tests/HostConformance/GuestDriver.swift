import Host

/// One access that the guest makes: what a program inside it does with one instruction.
public struct GuestAccess: Equatable, Sendable {
    /// The instruction. The raw values are the opcodes of the rig's agent (Tests/XenRig/guest/mailbox.h).
    public enum Operation: UInt8, Sendable {
        /// `in` from `address`.
        case portRead = 1
        /// `out` of `value` to `address`.
        case portWrite = 2
        /// `rep ins`: port `address` to `buffer`.
        case repIns = 3
        /// `rep outs`: `buffer` to port `address`.
        case repOuts = 4
        /// A load from guest-physical `address`.
        case memoryRead = 5
        /// A store of `value` to guest-physical `address`.
        case memoryWrite = 6
        /// `rep movs` from RAM at `buffer` to `address`.
        case repMovsOut = 7
        /// `rep movs` from `address` to RAM at `buffer`.
        case repMovsIn = 8
        /// `rep stos` of `value` to `address`.
        case repStos = 9
        /// CF8 = `address` without its two low bits, then `in` from CFC + those two bits.
        case pciRead = 10
        /// CF8 = `address` without its two low bits, then `out` of `value` to CFC + those two bits.
        case pciWrite = 11
        /// `rep movs` from `address` to the address in `value`, neither of them RAM.
        case repMovsBetween = 13
    }

    public var operation: Operation
    /// Port, guest-physical address, or the value for CF8.
    public var address: UInt64
    public var value: UInt64
    /// Bytes of one element: 1, 2 or 4; also 8 for memoryRead and memoryWrite.
    public var size: UInt32
    /// Elements of a string operation; 1 otherwise.
    public var count: UInt32
    /// Guest-physical address of a string operation's RAM side.
    public var buffer: UInt64
    /// The direction flag: `address` and `buffer` are those of the first, highest element.
    public var backwards: Bool

    public init(
        _ operation: Operation, _ address: UInt64, value: UInt64 = 0, size: UInt32, count: UInt32 = 1, buffer: UInt64 = 0,
        backwards: Bool = false
    ) {
        self.operation = operation
        self.address = address
        self.value = value
        self.size = size
        self.count = count
        self.buffer = buffer
        self.backwards = backwards
    }
}

/// How an access ended.
public enum GuestOutcome: Equatable, Sendable {
    /// It is done; the value is what a read gave, zero-extended, and of no meaning for the others.
    case done(UInt64)
    /// The driver cannot make such an access.
    case refused
    /// The guest is gone; why, in words.
    case crashed(String)
}

/// Makes accesses as the guest: on Xen through an agent inside a real one, on LocalHost through its vCPUs. Each vCPU has at
/// most one access under way. Called from one thread.
public protocol GuestDriver: AnyObject {
    /// How many vCPUs take accesses, from vCPU 0 on.
    var vcpuCount: Int { get }

    /// The guest's RAM, as the guest sees it.
    var memory: any GuestMemory { get }

    /// Readable when an access may have ended, when the driver can tell; nil means "look from time to time".
    /// `outcome` takes what made it readable.
    var waitDescriptor: CInt? { get }

    /// Hands an access to a vCPU and returns at once. False when the one before is still under way.
    func start(_ access: GuestAccess, on vcpu: Int) -> Bool

    /// How the vCPU's access ended; nil while it is under way, or when none was started.
    func outcome(of vcpu: Int) -> GuestOutcome?

    /// Puts a region somewhere, or nowhere, as its emulator would: on Xen the emulator moves it and the host notes it.
    func place(_ region: inout HostRegion, at gfn: GFN?, on host: any RegionHost) throws(HostError)
}

extension GuestDriver {
    public func place(_ region: inout HostRegion, at gfn: GFN?, on host: any RegionHost) throws(HostError) {
        try host.placeRegion(region.number, at: gfn)
        region.gfn = gfn
    }
}

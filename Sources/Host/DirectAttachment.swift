/// What a direct emulator needs from its host, in one value: the channel it serves and the guest it acts on.
///
/// XenHost's `XenDirect` conforms; EmulatorKit is generic over it, so that an emulator's `main` names it and neither
/// target knows the other. The conforming type is itself the channel, and nothing in the serving loop goes
/// through an existential.
public protocol DirectAttachment: Channel, ~Copyable {
    /// Opens every handle, maps the server's pages, restricts all handles to the one domain and, when asked, gives up
    /// the uid and gid for good; in this order, because a handle opened after the restriction would not be restricted.
    /// The notifications are connected later, by `bind`, when the server is enabled.
    /// - Throws: HostError when a handle cannot be opened, the server is not there, or the rights could not be dropped.
    init(_ request: DirectRequest) throws(HostError)

    /// The guest's memory and interrupts. Keeps its handles for as long as somebody holds it.
    var guest: any DirectGuest { get }
}

/// Which server of which guest a direct emulator attaches to, and whom it becomes.
public struct DirectRequest: Equatable, Sendable {
    public var domain: DomainID
    public var server: ServerID
    /// Slots in use, 1 to 128.
    public var vcpus: Int
    /// Whether the server has a ring of posted writes.
    public var ring: Bool
    /// The user to become once all handles are open; nil: stay.
    public var uid: UInt32?
    /// The group to become; nil: stay.
    public var gid: UInt32?

    public init(domain: DomainID, server: ServerID, vcpus: Int, ring: Bool, uid: UInt32? = nil, gid: UInt32? = nil) {
        self.domain = domain
        self.server = server
        self.vcpus = vcpus
        self.ring = ring
        self.uid = uid
        self.gid = gid
    }
}

/// What a direct emulator does to its guest besides answering requests.
public protocol DirectGuest: AnyObject {
    /// The guest's memory. Writes are reported as modified while dirty logging is on.
    var memory: any GuestMemory { get }

    /// Drives an INTx line of a device on bus 0: `device` 0 to 31, `pin` 0 (INTA) to 3 (INTD).
    func setINTx(device: UInt8, pin: UInt8, asserted: Bool) throws(HostError)

    /// Drives an ISA interrupt line, 0 to 15.
    func setISAInterrupt(_ line: UInt8, asserted: Bool) throws(HostError)

    /// Sends a message-signalled interrupt: all 64 address bits, 32 data bits.
    func injectMSI(address: UInt64, data: UInt32) throws(HostError)

    /// Whether writes to guest memory must be reported to the host (XEN_DMOP_modified_memory): the guest is being migrated.
    func setDirtyLogging(_ on: Bool)

    /// Reports pages that the emulator wrote through a mapping of its own, while dirty logging is on.
    func markModified(_ first: GFN, count: Int) throws(HostError)

    // MARK: regions

    /// Maps frames of the guest's that the coordinator gave it for a device (emulator protocol, `region`). The mapping stays right
    /// wherever the frames' memory is moved.
    func mapRegion(first: GFN, pages: Int) throws(HostError) -> RegionMemory

    /// Moves the memory of `pages` frames to others; where it was, the guest's accesses are requests again. Nothing may have memory there: it
    /// would be lost. Takes long for many pages (microseconds each), and has moved some of them when it fails.
    func relocate(from source: GFN, to target: GFN, pages: Int) throws(HostError)

    /// How many of the frames that are looked at have memory: every `stride`th of them, and the last one. Looking costs as much as moving.
    func framesPresent(first: GFN, pages: Int, stride: Int) -> Int

    /// Which pages the guest has written since the last call on the same range: gets and clears. The first call on a range says all of
    /// them. A domain has one such range, another one replaces it. The domain is paused for the call.
    /// - Parameter bitmap: one bit a page, the first one in bit 0; whole 64-bit words, each of which is stored.
    func dirtyPages(first: GFN, pages: Int, into bitmap: UnsafeMutablePointer<UInt64>) throws(HostError)

    /// Ends that: the guest writes at full speed again.
    func stopDirtyTracking() throws(HostError)
}

/// Memory of a region as this process sees it, for as long as somebody holds it.
public final class RegionMemory: @unchecked Sendable {
    // Sendable: immutable; the bytes are shared with the guest by nature.
    /// The first byte.
    public let base: UnsafeMutableRawPointer
    /// Length in bytes.
    public let length: Int
    private let release: @Sendable (UnsafeMutableRawPointer, Int) -> Void

    /// - Parameter release: unmaps it; called once.
    public init(base: UnsafeMutableRawPointer, length: Int, release: @escaping @Sendable (UnsafeMutableRawPointer, Int) -> Void) {
        self.base = base
        self.length = length
        self.release = release
    }

    deinit { release(base, length) }
}

/// What an emulator serves: the slots, the ring and the notifications of one ioreq server.
///
/// Two kinds: `EventFDChannel` (memfd pages and eventfds; LocalHost and isolated emulators) and XenHost's `XenChannel`
/// (Xen's own pages and event channels). A serving loop is generic over it, so that an emulator is written once.
/// Nothing here allocates or takes a lock once the channel is bound.
public protocol Channel: ~Copyable {
    /// The synchronous slots.
    var slots: SlotPage { get }
    /// The ring of posted writes; nil for a server without one.
    var ring: BufferedRing? { get }
    /// How many vCPUs have a slot, 1 to 128.
    var vcpuCount: Int { get }
    /// Readable when there may be something to serve.
    var waitDescriptor: CInt { get }
    /// Connects the notifications, once the server is enabled (Xen's event-channel numbers are valid only then).
    mutating func bind() throws(HostError)
    /// Lets go of the notifications, so that another process can connect them; `bind` connects them again. What Xen would tell meanwhile is lost: whoever
    /// binds looks at everything.
    mutating func unbind()
    /// Takes the notifications that have come. True when there was one; a spurious one is harmless, because the caller
    /// then looks at every slot and at the ring.
    mutating func acknowledge() -> Bool
    /// Tells the host that a vCPU's answer is ready.
    func notify(_ vcpu: Int)
    /// The slots that the last `acknowledge` named, when the channel can tell; nil means "look at all".
    /// (One event channel a vCPU on Xen; one doorbell for all elsewhere.)
    var named: VCPUSet? { get }
}

extension Channel where Self: ~Copyable {
    public var named: VCPUSet? { nil }
    /// Nothing needs to be let go of where doorbells can be shared.
    public mutating func unbind() {}
}

/// A channel held by reference, for control-plane code that keeps several of different kinds.
public protocol SharedChannel: AnyObject {
    var slots: SlotPage { get }
    var ring: BufferedRing? { get }
    var vcpuCount: Int { get }
    var waitDescriptor: CInt { get }
    func bind() throws(HostError)
    func acknowledge() -> Bool
    func notify(_ vcpu: Int)
}

/// Owns a channel and lends it by reference.
public final class ChannelBox<Owned: Channel & ~Copyable>: SharedChannel {
    private var owned: Owned
    public init(_ owned: consuming Owned) { self.owned = owned }
    public var slots: SlotPage { owned.slots }
    public var ring: BufferedRing? { owned.ring }
    public var vcpuCount: Int { owned.vcpuCount }
    public var waitDescriptor: CInt { owned.waitDescriptor }
    public func bind() throws(HostError) { try owned.bind() }
    public func acknowledge() -> Bool { owned.acknowledge() }
    public func notify(_ vcpu: Int) { owned.notify(vcpu) }
}

/// A set of vCPUs in two words: no allocation.
public struct VCPUSet: Equatable, Sendable {
    private var low: UInt64 = 0
    private var high: UInt64 = 0

    public init() {}

    /// vCPUs 0 up to, but not including, `count`; at most all 128.
    public init(first count: Int) {
        low = count >= 64 ? .max : (1 &<< UInt64(truncatingIfNeeded: max(count, 0))) &- 1
        high = count >= 128 ? .max : count <= 64 ? 0 : (1 &<< UInt64(truncatingIfNeeded: count &- 64)) &- 1
    }

    /// Those that are in either set.
    public func union(_ other: VCPUSet) -> VCPUSet {
        var both = self
        both.low |= other.low
        both.high |= other.high
        return both
    }

    public var isEmpty: Bool { low | high == 0 }

    public mutating func insert(_ index: Int) {
        if index < 64 { low |= 1 &<< UInt64(truncatingIfNeeded: index) } else { high |= 1 &<< UInt64(truncatingIfNeeded: index &- 64) }
    }

    public func contains(_ index: Int) -> Bool {
        (index < 64 ? low >> UInt64(truncatingIfNeeded: index) : high >> UInt64(truncatingIfNeeded: index &- 64)) & 1 != 0
    }

    /// The lowest one; -1: it is empty.
    public var first: Int { low != 0 ? low.trailingZeroBitCount : high != 0 ? high.trailingZeroBitCount &+ 64 : -1 }

    /// Takes the lowest one out; nil when empty.
    public mutating func popFirst() -> Int? {
        if low != 0 {
            let index = low.trailingZeroBitCount
            low &= low &- 1
            return index
        }
        if high != 0 {
            let index = high.trailingZeroBitCount
            high &= high &- 1
            return index &+ 64
        }
        return nil
    }
}

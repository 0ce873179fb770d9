/// `attach` grants memory in which latencies are counted and requests traced (section 8.1), to an emulator that said "observe" in hello.
public struct ObserveGrant: Codable, Equatable, Sendable {
    /// Bytes of the memory.
    public var length: Int
    /// A request that takes at least this many milliseconds is worth a line in the log; nil: none is.
    public var slow: Int?
    public init(length: Int, slow: Int? = nil) {
        self.length = length
        self.slow = slow
    }
}

/// Memory of a device that the guest uses as RAM: video memory. And the state that outlives its process.

/// What the coordinator keeps of an emulator's registers; the memfd is the last descriptor beside `attach`.
public struct StateGrant: Codable, Equatable, Sendable {
    /// The most bytes an emulator may ask for: 1 MiB.
    public static let largest = 1 << 20
    /// Bytes, as `hello` asked.
    public var length: Int
    /// Whether it is all zero: no predecessor has written to it.
    public var fresh: Bool
    /// The version of the device's state that is in it, as the emulator that wrote it said in `hello`; nil: it is fresh, or not known.
    public var version: Int?
    /// Whether it came with a saved guest: no request of it is under way any more. Nil: no.
    public var restored: Bool?
    public init(length: Int, fresh: Bool, version: Int? = nil, restored: Bool? = nil) {
        self.length = length
        self.fresh = fresh
        self.version = version
        self.restored = restored
    }
}

/// Asks for a region. The same label gives a successor, or a restored guest's emulator, the same memory again.
public struct RegionRequest: Codable, Equatable, Sendable {
    /// Bytes; whole pages.
    public var length: HexNumber
    public var label: String
    public init(length: UInt64, label: String) {
        self.length = HexNumber(length)
        self.label = label
    }
}

/// A region that was granted.
public struct RegionGrant: Codable, Equatable, Sendable {
    public var region: Int
    /// Where it is in the guest now, as a frame number; nil: nowhere.
    public var gfn: HexNumber?
    /// Where it is when it is nowhere that the guest asked for, as a frame number: on Xen memory is always somewhere. Nil elsewhere.
    public var home: HexNumber?
    /// Whether the doorbell is rung at the first write after a `region-dirty`.
    public var doorbell: Bool
    /// Whether a predecessor had it: its content is the guest's.
    public var adopted: Bool
    public init(region: Int, gfn: UInt64?, home: UInt64? = nil, doorbell: Bool, adopted: Bool) {
        self.region = region
        self.home = home.map { HexNumber($0) }
        self.gfn = gfn.map { HexNumber($0) }
        self.doorbell = doorbell
        self.adopted = adopted
    }
}

/// Puts a region somewhere, or (nil) nowhere. A direct emulator has moved it itself, and tells where to.
public struct RegionPlace: Codable, Equatable, Sendable {
    public var region: Int
    /// Guest-physical; a page's first byte.
    public var address: HexNumber?
    public init(region: Int, address: UInt64?) {
        self.region = region
        self.address = address.map { HexNumber($0) }
    }
}

/// Has the bitmap filled with the pages written since the last time.
public struct RegionDirty: Codable, Equatable, Sendable {
    public var region: Int
    public init(region: Int) { self.region = region }
}

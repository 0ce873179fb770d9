import Host

/// Any packet of the emulator protocol (Protocols/emulator-protocol.md): a JSON object with a `type`; requests carry an `id`, the
/// answer carries the same number as `re`.
public struct Packet: Equatable, Sendable {
    /// The number of a request; nil for a message that is not answered.
    public var id: UInt32?
    /// The request that this answers.
    public var re: UInt32?
    public var body: Message

    public init(_ body: Message, id: UInt32? = nil, re: UInt32? = nil) {
        self.body = body
        self.id = id
        self.re = re
    }
}

/// What is said. The emulator sends: hello, claim, unclaim, pci, ready, intx, msi, memory, dma, modified, populate, depopulate, log. The
/// coordinator sends: attach, start, pause, resume, release, vcpu, dirtyLogging, unplug, adopted, quit. Both send ok and error. A display asks for region, regionPlace, regionDirty
/// and surface, and is told surfaceReader and modeHint; an exporter is told surface, surfaceReader, inputMode and vnc, and sends input, modeHint and vncStatus.
public enum Message: Equatable, Sendable {
    case hello(Hello)
    case attach(Attach)
    case claim(Claim)
    case unclaim(Unclaim)
    case pci(PCIRequest)
    case ready
    case start
    case pause
    case resume
    case release
    case vcpu(VCPUChange)
    case intx(INTx)
    case msi(MSI)
    case memory
    case dma(DMA)
    case modified(Modified)
    case populate(Populate)
    case depopulate(Populate)
    case dirtyLogging(DirtyLogging)
    case log(Log)
    case region(RegionRequest)
    case regionPlace(RegionPlace)
    case regionDirty(RegionDirty)
    case surface(SurfaceSize)
    case surfaceReader(SurfaceReaderChange)
    case modeHint(SurfaceSize)
    case input(Input)
    case inputMode(InputMode)
    case vnc(VNCCommand)
    case vncStatus(VNCStatus)
    case unplug(Unplug)
    /// Another coordinator has taken over: everything that was asked of the last one and not answered is to be asked again, with the same
    /// numbers, before this is answered.
    case adopted
    case quit
    case ok(Reply)
    case error(Refusal)

    /// Types with a name that later versions of the protocol give a meaning to: refused with `unsupported` today.
    public static let reserved = [
        "state", "state-commit", "save", "restore",
    ]
}

/// The first message on a connection, from the emulator.
public struct Hello: Codable, Equatable, Sendable {
    /// Protocol versions it speaks.
    public var versions: [Int]
    /// What it is called: 1 to 32 letters, digits, '-' and '_'. The specification's name wins over it.
    public var name: String
    /// How it can be attached.
    public var modes: [AttachMode]
    /// What it can do beyond version 1's minimum; unknown words are ignored.
    public var capabilities: [String]
    /// Bytes of state that shall outlive the process; nil: none.
    public var state: Int?
    /// The version of that state's layout; nil: 1.
    public var stateVersion: Int?
    /// The versions of a predecessor's state that it goes on from; nil: its own only.
    public var stateAccepts: [Int]?
    /// What its devices are to the PV unplug protocol; nil: nothing that is ever unplugged.
    public var unplug: [UnplugClass]?

    private enum CodingKeys: String, CodingKey {
        case versions, name, modes, capabilities, state, unplug
        case stateVersion = "state-version"
        case stateAccepts = "state-accepts"
    }

    public init(
        versions: [Int] = [1], name: String, modes: [AttachMode], capabilities: [String] = [], state: Int? = nil, stateVersion: Int? = nil,
        stateAccepts: [Int]? = nil, unplug: [UnplugClass]? = nil
    ) {
        self.stateVersion = stateVersion
        self.stateAccepts = stateAccepts
        self.unplug = unplug
        self.versions = versions
        self.name = name
        self.modes = modes
        self.capabilities = capabilities
        self.state = state
    }
}

/// How an emulator reaches its requests.
public enum AttachMode: String, Codable, Sendable {
    /// It maps Xen's own page and answers Xen itself.
    case direct
    /// It gets memfd pages and two eventfds; the host or a relay is behind them.
    case isolated
    /// It serves no requests: it shows the scan-out to viewers. `server` and `vcpus` mean nothing.
    case exporter
}

/// The coordinator's answer to hello. Descriptors beside it, in this order: the counters page; when isolated then also the
/// slots page, the kick eventfd, the done eventfd and, when `ring`, the ring page; an exporter's listeners; then the state's memfd; at the end the observation memory.
public struct Attach: Codable, Equatable, Sendable {
    public var version: Int
    public var mode: AttachMode
    public var domain: UInt16
    /// The ioreq server, 0 to 7.
    public var server: UInt16
    /// Slots in use, 1 to 128.
    public var vcpus: Int
    /// Whether there is a ring of posted writes.
    public var ring: Bool
    /// The name under which the coordinator shows it.
    public var name: String
    /// The specification's `options`, all as text.
    public var options: [String: String]
    /// The user to become after opening handles (direct emulators); nil: stay.
    public var uid: UInt32?
    public var gid: UInt32?
    /// The state that outlives the process, when `hello` asked for some.
    public var state: StateGrant?
    /// An exporter's sockets.
    public var listeners: [Listener]?
    /// Memory to count latencies in, when `hello` said "observe"; its descriptor comes after all others.
    public var observe: ObserveGrant?

    public init(
        version: Int = 1, mode: AttachMode, domain: DomainID, server: ServerID, vcpus: Int, ring: Bool, name: String,
        options: [String: String] = [:], uid: UInt32? = nil, gid: UInt32? = nil, state: StateGrant? = nil, listeners: [Listener]? = nil, observe: ObserveGrant? = nil
    ) {
        self.state = state
        self.observe = observe
        self.listeners = listeners
        self.version = version
        self.mode = mode
        self.domain = domain.rawValue
        self.server = server.rawValue
        self.vcpus = vcpus
        self.ring = ring
        self.name = name
        self.options = options
        self.uid = uid
        self.gid = gid
    }
}

/// The two kinds of plain range.
public enum Space: String, Codable, Sendable {
    case pio, mmio
}

/// A range that the emulator wants, answered by ok with the claim's number or by error. `first` and `last` are included.
public struct Claim: Codable, Equatable, Sendable {
    public var space: Space
    public var first: HexNumber
    public var last: HexNumber
    /// What a person calls it: "registers", "BAR1".
    public var label: String

    public init(_ range: IORange, label: String) {
        switch range {
        case .ports(let ports):
            (space, first, last) = (.pio, HexNumber(UInt64(ports.first)), HexNumber(UInt64(ports.last)))
        case .memory(let memory):
            (space, first, last) = (.mmio, HexNumber(memory.first.rawValue), HexNumber(memory.last.rawValue))
        case .pci(let address):  // Claimed by `pci`, never by `claim`; kept total so that no caller can trap.
            (space, first, last) = (.mmio, HexNumber(address.requestAddress), HexNumber(address.requestAddress))
        }
        self.label = label
    }

    /// The range as a checked value; nil when it is empty or does not fit the space.
    public var range: IORange? {
        switch space {
        case .pio:
            guard let low = UInt16(exactly: first.value), let high = UInt16(exactly: last.value) else { return nil }
            return PortRange(first: low, last: high).map(IORange.ports)
        case .mmio:
            return MMIORange(first: GuestAddress(first.value), last: GuestAddress(last.value)).map(IORange.memory)
        }
    }
}

/// Gives a claim back.
public struct Unclaim: Codable, Equatable, Sendable {
    public var claim: Int
    public init(claim: Int) { self.claim = claim }
}

/// Asks for a PCI function. Answered by ok with its address and claim.
public struct PCIRequest: Codable, Equatable, Sendable {
    /// The wished place ("00:05.0"); nil: any free device. What the specification says wins.
    public var slot: String?
    public var label: String
    public init(slot: String? = nil, label: String) {
        self.slot = slot
        self.label = label
    }
}

/// The level of an interrupt line. With `pin` ("A" to "D") the line of the emulator's PCI function; with `isa` an ISA line.
public struct INTx: Codable, Equatable, Sendable {
    public var function: String?
    public var pin: String?
    public var isa: UInt8?
    public var asserted: Bool
    public init(function: PCIAddress, pin: UInt8, asserted: Bool) {
        self.function = "\(function)"
        self.pin = ["A", "B", "C", "D"][Int(pin & 3)]
        self.asserted = asserted
    }
    public init(isa: UInt8, asserted: Bool) {
        self.isa = isa
        self.asserted = asserted
    }
}

/// One message-signalled interrupt.
public struct MSI: Codable, Equatable, Sendable {
    public var address: HexNumber
    public var data: HexNumber
    public init(address: UInt64, data: UInt32) {
        self.address = HexNumber(address)
        self.data = HexNumber(UInt64(data))
    }
}

/// A copy between guest memory and the bounce buffer that the answer to `memory` brought.
public struct DMA: Codable, Equatable, Sendable {
    public enum Operation: String, Codable, Sendable { case read, write }
    public var op: Operation
    public var address: HexNumber
    /// Bytes; at most the buffer's length.
    public var length: Int
    /// Place in the bounce buffer, in bytes.
    public var offset: Int
    public init(_ op: Operation, address: GuestAddress, length: Int, offset: Int) {
        self.op = op
        self.address = HexNumber(address.rawValue)
        self.length = length
        self.offset = offset
    }
}

/// Pages that the emulator wrote while dirty logging was on.
public struct Modified: Codable, Equatable, Sendable {
    public var gfn: HexNumber
    public var count: Int
    public init(gfn: GFN, count: Int) {
        self.gfn = HexNumber(gfn.rawValue)
        self.count = count
    }
}

/// Frames that the guest shall have memory at (populate), or no longer (depopulate).
public struct Populate: Codable, Equatable, Sendable {
    /// The first frame; nil, for populate: wherever the coordinator likes best.
    public var gfn: HexNumber?
    /// Pages of 4096 bytes, from `gfn` on.
    public var count: Int
    public init(gfn: GFN?, count: Int) {
        self.gfn = gfn.map { HexNumber($0.rawValue) }
        self.count = count
    }
}

public struct DirtyLogging: Codable, Equatable, Sendable {
    public var on: Bool
    public init(on: Bool) { self.on = on }
}

public struct VCPUChange: Codable, Equatable, Sendable {
    public enum Change: String, Codable, Sendable { case added, gone }
    public var vcpu: Int
    public var change: Change
    public init(vcpu: Int, change: Change) {
        self.vcpu = vcpu
        self.change = change
    }
}

/// A line for the guest's log.
public struct Log: Codable, Equatable, Sendable {
    public enum Level: String, Codable, Sendable { case debug, info, warning, error, guest }
    /// `guest`: what the guest's own software printed, as Emulators/Debug collects it.
    public var level: Level
    public var message: String
    /// What kind of event it tells of, for programs: "slow", a request that took long.
    public var event: String?
    public init(_ level: Level, _ message: String, event: String? = nil) {
        self.level = level
        self.message = message
        self.event = event
    }
}

/// A request that was carried out.
public struct Reply: Codable, Equatable, Sendable {
    /// claim, pci: the claim's number.
    public var claim: Int?
    /// pci: the function's address.
    public var address: String?
    /// memory: what the descriptor beside the answer is.
    public var memory: MemoryGrant?
    /// region: what was granted.
    public var region: RegionGrant?
    /// unplug: the names of the devices that are gone.
    public var removed: [String]?
    /// populate: the first frame, chosen by the coordinator or not.
    public var gfn: HexNumber?
    public init(
        claim: Int? = nil, address: PCIAddress? = nil, memory: MemoryGrant? = nil, region: RegionGrant? = nil, removed: [String]? = nil, gfn: GFN? = nil
    ) {
        self.gfn = gfn.map { HexNumber($0.rawValue) }
        self.removed = removed
        self.claim = claim
        self.region = region
        self.address = address.map { "\($0)" }
        self.memory = memory
    }
}

/// How an emulator reaches guest memory.
public struct MemoryGrant: Codable, Equatable, Sendable {
    public enum Kind: String, Codable, Sendable {
        /// The descriptor is the guest's RAM, laid out as `regions` says.
        case shared
        /// The descriptor is a buffer of `length` bytes; `dma` copies.
        case bounce
        /// No descriptor: a direct emulator maps the guest's pages itself.
        case foreign
    }
    public struct Region: Codable, Equatable, Sendable {
        public var address: HexNumber
        public var length: HexNumber
        public var offset: HexNumber
        public init(address: GuestAddress, length: UInt64, offset: UInt64) {
            self.address = HexNumber(address.rawValue)
            self.length = HexNumber(length)
            self.offset = HexNumber(offset)
        }
    }
    public var kind: Kind
    /// Length of the descriptor's file in bytes.
    public var length: HexNumber
    public var regions: [Region]
    public init(kind: Kind, length: UInt64 = 0, regions: [Region] = []) {
        self.kind = kind
        self.length = HexNumber(length)
        self.regions = regions
    }
}

/// A number of up to 64 bits, as text ("0xfee00000"): many JSON readers cannot hold one. Decimal text is accepted.
public struct HexNumber: Codable, Equatable, Sendable {
    public var value: UInt64
    public init(_ value: UInt64) { self.value = value }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let value = Hex.parse(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text.prefix(40))' is not a number like \"0x500\"")
        }
        self.value = value
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(Hex.string(value))
    }
}

import FoundationEssentials
import Platform
import Specification

/// What the `demux` command asks a guest's coordinator, over its control socket: one JSON object a packet each way.
public enum ControlRequest: Codable, Equatable, Sendable {
    case status
    /// The last lines of the guest's log, at most that many.
    case logs(lines: Int)
    /// Starts one more emulator in the running guest.
    case attach(EmulatorSpecification)
    /// Takes an emulator away in the safe order.
    case detach(name: String)
    /// Starts an emulator's program again: one that has ended, or (where another process can go on from what it keeps) one that serves.
    case restart(name: String)
    /// Puts another program in a running emulator's place; the guest sees a pause. When that cannot be, the old one goes on.
    case replace(name: String, change: ProgramChange)
    /// Makes this connection a reader of the guest's surface (Protocols/surface.md) until it is closed. Answered by `surface`, or by
    /// `failed` when the guest has no display of ours. The connection is for nothing else afterwards.
    case surface
    /// Hands this connection the observation memory of each emulator (Protocols/emulator-protocol.md, section 8.1), and each successor's, until it
    /// is closed: an `observed` for each, then `done`, then one for each process that takes an emulator's place. While a connection with a `trace`
    /// is open, the emulators that it names write their requests into the ring.
    case observe(trace: TraceWish?)
    /// Asks the guest to show another number of pixels: a hint that its driver may follow. Answered by `done` or `failed`.
    case displayMode(width: Int, height: Int)
    /// Has the devices of these classes removed, as the guest's own drivers would; a dry run only says which.
    case unplug(classes: [String], dryRun: Bool)
    /// Ends the guest's emulators and the coordinator (LocalHost guests; on Xen the toolstack does it).
    case stop
}

public enum ControlReply: Codable, Equatable, Sendable {
    case status(GuestStatus)
    case lines([String])
    case done(String)
    /// A surface's size in pixels. The first one, which answers the request, has beside it: the surface (read-only), the reader's page, and
    /// the reader's ends of the doorbells `frame` and `want`; when there is no surface yet, width and height are 0 and the first
    /// descriptor is missing. Later ones, at each change of mode, have the new surface alone.
    case surface(width: Int, height: Int)
    /// An emulator's process that serves. Beside it: its observation memory, read-only, when there is one.
    case observed(ObservedEmulator)
    /// Not carried out: what was attempted, why it failed, what to do.
    case failed(String)
}

/// Whose requests are to be traced.
public enum TraceWish: Codable, Equatable, Sendable {
    case all
    case only(name: String)

    public func includes(_ name: String) -> Bool {
        switch self {
        case .all: true
        case .only(let wanted): wanted == name
        }
    }
}

/// An emulator whose observation memory is handed out.
public struct ObservedEmulator: Codable, Equatable, Sendable {
    public var name: String
    public var pid: Int32
    /// Whether there is any: not every emulator counts its latencies.
    public var kept: Bool
    public init(name: String, pid: Int32, kept: Bool) {
        self.name = name
        self.pid = pid
        self.kept = kept
    }
}

/// What of an emulator's specification is to be another: nil leaves it as it is.
public struct ProgramChange: Codable, Equatable, Sendable {
    /// An absolute path.
    public var program: String
    public var arguments: [String]?
    /// Beside those that it has, or in place of one of the same name.
    public var options: [String: String]?
    /// How long the guest's accesses may be made to wait for it, in milliseconds.
    public var successorWithinMilliseconds: Int?

    public init(program: String, arguments: [String]? = nil, options: [String: String]? = nil, successorWithinMilliseconds: Int? = nil) {
        self.program = program
        self.arguments = arguments
        self.options = options
        self.successorWithinMilliseconds = successorWithinMilliseconds
    }

    public func applied(to emulator: EmulatorSpecification) -> EmulatorSpecification {
        var changed = emulator
        changed.program = program
        if let arguments { changed.arguments = arguments }
        if let options { changed.options.merge(options) { $1 } }
        if let successorWithinMilliseconds { changed.successorWithinMilliseconds = min(max(successorWithinMilliseconds, 0), 60_000) }
        return changed
    }
}

/// A guest as its coordinator sees it.
public struct GuestStatus: Codable, Equatable, Sendable {
    public var domain: UInt16
    public var name: String
    /// "xen" or "local".
    public var host: String
    public var coordinatorPID: Int32
    public var specification: String
    public var vcpus: Int
    public var qemu: QEMUStatus?
    /// How many times another coordinator had to take the guest over; nil: never.
    public var adoptions: Int?
    /// Why the guest cannot go on as it should; nil: nothing is known to be wrong.
    public var broken: String?
    public var emulators: [EmulatorStatus]
    /// Overlaps with QEMU that the specification declares, or that were found.
    public var interpositions: [Interposition]
    /// The guest's screen; nil when nothing of ours shows one.
    public var display: DisplayStatus?
    /// Our VNC server; nil when there is none.
    public var vnc: ExporterStatus?
    /// What the guest has unplugged; nil while it has said nothing about it.
    public var unplug: UnplugStatus?
    /// Messages that came on the control socket and are none, by kind as in `EmulatorStatus.faults`; nil: none.
    public var faults: [String: UInt64]?

    public init(
        domain: UInt16, name: String, host: String, coordinatorPID: Int32, specification: String, vcpus: Int, qemu: QEMUStatus? = nil,
        adoptions: Int? = nil, broken: String? = nil, emulators: [EmulatorStatus] = [], interpositions: [Interposition] = [], display: DisplayStatus? = nil, vnc: ExporterStatus? = nil, unplug: UnplugStatus? = nil,
        faults: [String: UInt64]? = nil
    ) {
        self.faults = faults
        self.unplug = unplug
        self.adoptions = adoptions
        self.broken = broken
        self.domain = domain
        self.name = name
        self.host = host
        self.coordinatorPID = coordinatorPID
        self.specification = specification
        self.vcpus = vcpus
        self.qemu = qemu
        self.emulators = emulators
        self.interpositions = interpositions
        self.display = display
        self.vnc = vnc
    }
}

public struct QEMUStatus: Codable, Equatable, Sendable {
    public struct Slot: Codable, Equatable, Sendable {
        public var address: String
        public var what: String
        public init(address: String, what: String) {
            self.address = address
            self.what = what
        }
    }
    public var pid: Int32
    public var program: String
    /// "starting", "running", "ended: …".
    public var state: String
    public var slots: [Slot]
    /// Whether query-pci has confirmed the slots.
    public var confirmed: Bool
    public init(pid: Int32, program: String, state: String, slots: [Slot], confirmed: Bool) {
        self.pid = pid
        self.program = program
        self.state = state
        self.slots = slots
        self.confirmed = confirmed
    }
}

public struct EmulatorStatus: Codable, Equatable, Sendable {
    public struct ClaimStatus: Codable, Equatable, Sendable {
        public var range: String
        public var label: String
        public init(range: String, label: String) {
            self.range = range
            self.label = label
        }
    }
    public var name: String
    public var program: String
    public var pid: Int32
    /// "starting", "serving", "paused", "restarting: …", "parked: …", "ended: …".
    public var state: String
    /// "direct", "isolated", "exporter".
    public var mode: String
    public var server: UInt16?
    public var claims: [ClaimStatus]
    /// By `Counter.name`.
    public var counters: [String: UInt64]
    /// How many processes have taken the place of one that died; nil: none.
    public var restarts: Int?
    /// The request that it has not answered for longer than its limit; nil: none.
    public var hung: HungStatus?
    /// Requests and posted writes that the coordinator has answered or dropped in its place; nil: none.
    public var parked: UInt64?
    /// How often another program has taken its place; nil: never.
    public var replacements: Int?
    /// What it has done against the protocol, and how often: "malformed-message", "forgotten-bell", "invalid-slot-state"; nil: nothing.
    public var faults: [String: UInt64]?
    public init(
        name: String, program: String, pid: Int32, state: String, mode: String, server: UInt16?, claims: [ClaimStatus], counters: [String: UInt64],
        restarts: Int? = nil, hung: HungStatus? = nil, parked: UInt64? = nil, replacements: Int? = nil, faults: [String: UInt64]? = nil
    ) {
        self.faults = faults
        self.hung = hung
        self.parked = parked
        self.replacements = replacements
        self.name = name
        self.program = program
        self.pid = pid
        self.state = state
        self.mode = mode
        self.server = server
        self.claims = claims
        self.counters = counters
        self.restarts = restarts
    }
}

/// A request that waits for an emulator or exporter that does not go on.
public struct HungStatus: Codable, Equatable, Sendable {
    /// "port write of 4 bytes at 0x500".
    public var request: String
    /// Where the guest's access waits; nil: it is an exporter, which has none.
    public var slot: Int?
    /// How long it has been seen to wait.
    public var seconds: Double
    public init(request: String, slot: Int?, seconds: Double) {
        self.request = request
        self.slot = slot
        self.seconds = seconds
    }
}

/// One of our ranges that outranks something of QEMU's.
public struct Interposition: Codable, Equatable, Sendable {
    public var emulator: String
    public var range: String
    /// What of QEMU's lies under it, as far as known.
    public var over: String
    public init(emulator: String, range: String, over: String) {
        self.emulator = emulator
        self.range = range
        self.over = over
    }
}

/// JSON for the control socket.
public enum ControlCodec {
    public static func encode(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(value)).map { [UInt8]($0) } ?? []
    }

    /// - Throws: SystemError with what is wrong with the packet.
    public static func decode<Value: Decodable>(_ type: Value.Type, from bytes: [UInt8]) throws(SystemError) -> Value {
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw SystemError("read", "a control message", reason: "\(error)", remedy: "the command and the coordinator must be of the same version")
        }
    }
}

/// Where a guest's sockets are.
public enum RunDirectory {
    /// `/run/demux`, or what DEMUX_RUN_DIR says (for guests without Xen, and tests).
    public static func base(environment: [String: String]) -> String {
        if let chosen = environment["DEMUX_RUN_DIR"], !chosen.isEmpty { return chosen }
        return "/run/demux"
    }

    public static func directory(domain: UInt16, base: String) -> String { "\(base)/\(domain)" }
    public static func controlSocket(domain: UInt16, base: String) -> String { "\(base)/\(domain)/control.sock" }
    /// Where the guest's VNC exporter listens for programs of this host; it speaks plain RFB there.
    public static func vncSocket(domain: UInt16, base: String) -> String { "\(base)/\(domain)/vnc.sock" }
}

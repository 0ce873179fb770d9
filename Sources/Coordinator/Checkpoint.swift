import EmulatorProtocol
import Host
import Keeping
import Platform
import Specification

/// What a coordinator's successor has to know: who owns what, which processes there are and on which server each serves. Descriptors are
/// not in it: the keeper holds those, under the names that are made here.
///
/// Claims are the journal that Xen cannot list. All the rest could be asked for, but not in the milliseconds that there are.
struct Checkpoint: Codable, Equatable, Sendable {
    /// Another version's cannot be taken over.
    static let version = 1

    var version = Checkpoint.version
    var guestName: String
    var specification: GuestSpecification
    var restrictedTo: Account?
    var dirtyLogging: Bool
    /// The coordinator's own server, and whether it serves its ports there.
    var ownServer: UInt16?
    var servesOwnPorts: Bool
    var reserved: [UInt16]
    var claims: [KeptClaim]
    var nextClaim: Int
    var emulators: [KeptEmulator]
    var holdings: [KeptHoldings]
    var unplug: KeptUnplug
    /// The platform device in QEMU's place, as it is saved with a guest; nil: QEMU's alone.
    var platform: [UInt8]?
    var surface: KeptSurface
    var vnc: KeptVNC?
    /// What the coordinator's owner adds, in a form of its own.
    var owner: String?

    struct Account: Codable, Equatable, Sendable {
        var uid: UInt32
        var gid: UInt32
    }
}

/// One entry of the claim registry.
struct KeptClaim: Codable, Equatable, Sendable {
    enum Owner: String, Codable, Sendable { case emulator, qemu, coordinator }
    enum Kind: String, Codable, Sendable { case ports, memory, pci }
    var number: Int
    var owner: Owner
    /// The emulator's.
    var name: String?
    var kind: Kind
    /// A PCI function: as its place is written.
    var place: String?
    var first: UInt64
    var last: UInt64
    var label: String
}

/// One process of an emulator, or the place of one that has ended.
struct KeptEmulator: Codable, Equatable, Sendable {
    enum Phase: String, Codable, Sendable { case starting, serving, paused, quitting, ended }
    struct Line: Codable, Equatable, Sendable {
        var device: UInt8
        var pin: UInt8
        var isa: UInt8?
    }
    struct Run: Codable, Equatable, Sendable {
        var first: UInt64
        var pages: Int
    }
    var specification: EmulatorSpecification
    var phase: Phase
    /// How it ended.
    var reason: String?
    /// What is to become of it after its death.
    var fate: RestartStatus?
    var isLeaving: Bool
    var pid: Int32?
    /// Under which its descriptors are held: "process/PID/".
    var prefix: String
    var mode: AttachMode
    var isSuccessor: Bool
    /// Another program is about to take its place.
    var isBeingReplaced: Bool
    var stateVersion: Int
    var capabilities: [String]
    var unplugClasses: [UnplugClass]
    /// Lines that it has ever asserted.
    var lines: [Line]
    var populated: [Run]
    var hasBounce: Bool
    var hasObservation: Bool
    /// Whether its pointer takes absolute places.
    var isAbsolute: Bool
    /// Its number as a reader of the scan-out.
    var reader: Int?
}

/// What outlives an emulator's processes.
struct KeptHoldings: Codable, Equatable, Sendable {
    struct Region: Codable, Equatable, Sendable {
        var label: String
        var number: Int
        var length: UInt64
        var gfn: UInt64?
        var home: UInt64?
        var hasDoorbell: Bool
    }
    var name: String
    var server: UInt16?
    /// Whether the server was enabled, and whether nobody is to come any more.
    var isOpen: Bool
    var isClosed: Bool
    var hasRelay: Bool
    /// Bytes of its state; nil: none.
    var state: Int?
    var isUsed: Bool
    var stateVersion: Int?
    var regions: [Region]
    var restarts: Int
    var replacements: Int
}

/// What the guest has said at the unplug ports.
struct KeptUnplug: Codable, Equatable, Sendable {
    var classes: [UnplugClass]
    var product: UInt16?
    var build: UInt32?
    var isBlacklisted: Bool
    var isROMLocked: Bool
}

/// The scan-out and who reads it.
struct KeptSurface: Codable, Equatable, Sendable {
    var display: String?
    var width: Int?
    var height: Int?
    /// The number that the next reader gets.
    var nextReader: Int
    var readers: [Int]
    /// Readers that the display knows and that are gone with the coordinator.
    var gone: [Int]
}

/// What the exporter's successor gets.
struct KeptVNC: Codable, Equatable, Sendable {
    struct Socket: Codable, Equatable, Sendable {
        var host: String?
        var port: UInt16?
        var path: String?
        /// What tells our file at the path from another.
        var device: UInt64?
        var inode: UInt64?
    }
    var sockets: [Socket]
    var password: String?
    /// Seconds since 1970; nil: never.
    var expiry: Int64?
    var isWithheld: Bool
}

/// What a process or an emulator has, after its prefix.
enum KeptPart {
    static let process = "pidfd"
    static let socket = "socket"
    static let bounce = "bounce"
    static let observation = "observe"
    /// Where its standard output and error are read.
    static let output = KeeperNames.outputPart
    static let counters = "counters"
    static let state = "state"
    /// Page, kick and done.
    static let relay = "relay"
    static let relayJournal = "relay.journal"
}

/// The names under which the keeper holds descriptors.
enum KeptName {
    static let checkpoint = "checkpoint"
    static let folder = "folder"
    static let control = "control.listener"
    static let scanout = "scanout"
    /// Of one process: a number may come again, the moment does not.
    static let processes = "process/"
    static func process(_ pid: Int32) -> String { processes + "\(pid)-\(EventLoop.now())/" }
    static func holdings(_ emulator: String) -> String { "holdings/\(emulator)/" }
    static func reader(_ number: Int) -> String { "reader/\(number)/" }
    static func listener(_ index: Int) -> String { "vnc/\(index)" }
}

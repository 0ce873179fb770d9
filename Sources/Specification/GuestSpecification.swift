import EmulatorProtocol
import Host

/// What a guest's specification says, once it has been read and checked (Sources/SpecificationFile reads the YAML).
///
/// It travels from the short-lived `demux` command to the coordinator as JSON, so that the coordinator needs no YAML.
public struct GuestSpecification: Codable, Equatable, Sendable {
    /// The file it came from, for messages.
    public var source: String
    /// QEMU's program, for guests on Xen.
    public var qemu: String
    /// Whether a failure to start one of our emulators fails the guest; always so for now, named for later policies.
    public var emulators: [EmulatorSpecification]
    /// The guest's display, one more emulator; nil: QEMU's VGA, if any. On Xen the toolstack gives it its slot and its memory.
    public var display: EmulatorSpecification?
    /// What shows the display to viewers; nil: nobody of ours.
    public var vnc: VNCSpecification?
    /// What happens when the guest unplugs its emulated devices.
    public var unplug: UnplugSpecification
    /// What a LocalHost guest has; ignored on Xen, where the toolstack says it.
    public var local: LocalGuest

    public static let defaultQEMU = "/usr/libexec/xen-qemu-system-i386"

    public init(
        source: String, qemu: String = defaultQEMU, emulators: [EmulatorSpecification] = [], local: LocalGuest = LocalGuest(),
        display: EmulatorSpecification? = nil, vnc: VNCSpecification? = nil, unplug: UnplugSpecification = UnplugSpecification()
    ) {
        self.unplug = unplug
        self.source = source
        self.qemu = qemu
        self.emulators = emulators
        self.local = local
        self.display = display
        self.vnc = vnc
    }

    /// Everything that serves a part of the guest, the display first; the exporter is none.
    public var allEmulators: [EmulatorSpecification] { (display.map { [$0] } ?? []) + emulators }
}

/// The machine of a guest without Xen.
public struct LocalGuest: Codable, Equatable, Sendable {
    /// 1 to 128.
    public var vcpus: Int
    /// 1 to 4096.
    public var memoryMiB: Int
    /// What the vCPUs do: "idle", "demo" or "display-demo".
    public var program: String
    /// What plays the guest's first vCPU in "display-demo".
    public var engine: Engine
    /// An absolute path: the ROM that the first vCPU begins with on KVM.
    public var firmware: String?

    /// What makes a guest's accesses.
    public enum Engine: String, Codable, CaseIterable, Sendable {
        /// KVM when there is a firmware and guest code runs here, otherwise the script.
        case auto
        /// The guest's own code.
        case kvm
        /// A script that makes the accesses such code would make.
        case script
    }

    public init(vcpus: Int = 1, memoryMiB: Int = 16, program: String = "idle", engine: Engine = .auto, firmware: String? = nil) {
        self.vcpus = vcpus
        self.memoryMiB = memoryMiB
        self.program = program
        self.engine = engine
        self.firmware = firmware
    }
}

/// What happens when an emulator's process dies without having been told to end.
public enum RestartPolicy: String, Codable, Sendable, CaseIterable {
    /// Another process takes its place. One that exits with status 0 meant to.
    case onFailure = "on-failure"
    case never
}

/// What happens when an emulator does not answer a request for longer than its limit.
public enum HungPolicy: String, Codable, Sendable, CaseIterable {
    /// Its process is killed, and what follows is what follows any death.
    case restart
    /// It is said in the log and in the status.
    case report
}

/// One emulator process.
public struct EmulatorSpecification: Codable, Equatable, Sendable {
    /// 1 to 32 letters, digits, '-' and '_'; unique in the guest.
    public var name: String
    /// An absolute path.
    public var program: String
    public var arguments: [String]
    /// nil: direct on Xen when the emulator can, isolated otherwise.
    public var mode: AttachMode?
    /// Handed to the emulator with `attach`.
    public var options: [String: String]
    /// The PCI slot it gets, whatever it wishes: "00:05.0" or "5".
    public var pciSlot: String?
    /// Ranges in which it is meant to outrank QEMU ("ports 0x10-0x1f", "mmio 0xa0000-0xbffff", "pci 00:03.0").
    public var interpose: [String]
    /// How long it may take from its start to `ready`, in milliseconds.
    public var readyWithinMilliseconds: Int
    /// The user it becomes (a number); nil: as the guest's restriction says, otherwise it stays.
    public var uid: UInt32?
    public var gid: UInt32?
    /// Whether another process takes its place when it dies; nil: when it has state that outlives it.
    public var restart: RestartPolicy?
    /// With which classes all of its devices are unplugged; nil: each with its own. A disk that the guest has as a PV disk as well has to go with
    /// the disks whatever it is.
    public var unplugAs: [UnplugClass]?
    /// What happens when it hangs; nil: it is killed when another process takes its place then, and reported otherwise.
    public var whenHung: HungPolicy?
    /// How long a request may wait in it before it is said to hang, in milliseconds.
    public var hungAfterMilliseconds: Int

    public static let defaultHungAfterMilliseconds = 5000
    /// How long the guest's accesses wait for a successor of one that died before the coordinator answers them itself, in milliseconds.
    public var successorWithinMilliseconds: Int
    /// Successors within a minute; whoever dies more often is left dead.
    public var restartLimit: Int
    /// The longest wait between a death and its successor's start, in milliseconds. The first one within a minute never waits.
    public var restartDelayMilliseconds: Int

    public init(
        name: String, program: String, arguments: [String] = [], mode: AttachMode? = nil, options: [String: String] = [:],
        pciSlot: String? = nil, interpose: [String] = [], readyWithinMilliseconds: Int = 5000, uid: UInt32? = nil, gid: UInt32? = nil,
        restart: RestartPolicy? = nil, unplugAs: [UnplugClass]? = nil, whenHung: HungPolicy? = nil, hungAfterMilliseconds: Int = defaultHungAfterMilliseconds,
        successorWithinMilliseconds: Int = 250, restartLimit: Int = 10, restartDelayMilliseconds: Int = 5000
    ) {
        self.unplugAs = unplugAs
        self.whenHung = whenHung
        self.hungAfterMilliseconds = hungAfterMilliseconds
        self.successorWithinMilliseconds = successorWithinMilliseconds
        self.restartLimit = restartLimit
        self.restartDelayMilliseconds = restartDelayMilliseconds
        self.name = name
        self.program = program
        self.arguments = arguments
        self.mode = mode
        self.options = options
        self.pciSlot = pciSlot
        self.interpose = interpose
        self.readyWithinMilliseconds = readyWithinMilliseconds
        self.uid = uid
        self.gid = gid
        self.restart = restart
    }

    /// Whether a text can be an emulator's name.
    public static func isName(_ text: String) -> Bool {
        (1...32).contains(text.utf8.count)
            && text.utf8.allSatisfy { ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7a) || ($0 >= 0x30 && $0 <= 0x39) || $0 == 0x2d || $0 == 0x5f }
    }
}

/// Ranges as a person writes them.
public enum RangeText {
    /// Reads "ports 0x10-0x1f", "mmio 0xa0000-0xbffff" or "pci 00:03.0"; a single number is a range of one. Nil for
    /// anything else.
    public static func parse(_ text: String) -> IORange? {
        let words = text.split(separator: " ")
        guard words.count == 2 else { return nil }
        if words[0] == "pci" { return PCIAddress(parsing: words[1]).map(IORange.pci) }
        let ends = words[1].split(separator: "-", omittingEmptySubsequences: false)
        guard (1...2).contains(ends.count), let first = Hex.parse(ends[0]), let last = Hex.parse(ends[ends.count - 1]) else { return nil }
        switch words[0] {
        case "ports":
            guard let low = UInt16(exactly: first), let high = UInt16(exactly: last) else { return nil }
            return PortRange(first: low, last: high).map(IORange.ports)
        case "mmio": return MMIORange(first: GuestAddress(first), last: GuestAddress(last)).map(IORange.memory)
        default: return nil
        }
    }
}

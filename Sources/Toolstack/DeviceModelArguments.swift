import Host

/// The arguments that libxl starts a device model with, read once and kept word for word.
///
/// What libxl 4.17 writes is in tools/libs/light/libxl_dm.c (libxl__build_device_model_args_new); what QEMU 7.2 makes of it is in
/// qemu-options.hx. Whatever is not understood here is handed on as it came.
public struct DeviceModelArguments: Equatable, Sendable {
    /// The guest; nil only in a probe.
    public let domain: DomainID?
    /// The guest's name; empty when libxl gave none.
    public let guestName: String
    /// Where libxl expects the monitor `libxl-cmd`; nil for a device model in a stub domain, and in some probes.
    public let monitor: MonitorSocket?
    /// Where xenstat looks for the monitor `libxenstat-cmd`; it stays QEMU's.
    public let statisticsMonitor: MonitorSocket?
    public let machine: Machine
    /// What Demux itself was told.
    public let settings: DemuxSettings
    /// Whether libxl only asks what the program can do, with no guest: such a call goes straight to QEMU.
    public let isProbe: Bool

    /// All options, ours taken out.
    private(set) var line: QEMUCommandLine

    /// The monitor's name in libxl's arguments, and the name of the one that Demux adds for itself.
    static let libxlMonitor = "libxl-cmd"
    static let statisticsMonitorName = "libxenstat-cmd"
    static let demuxMonitor = "demux-cmd"

    /// Reads the arguments, without the program's own name.
    /// - Throws: ArgumentError for what Demux has to understand and does not.
    public init(_ arguments: [String]) throws(ArgumentError) {
        line = QEMUCommandLine(arguments)
        settings = try DemuxSettings(line.ours)
        machine = Machine(line)
        monitor = try Self.socket(Self.libxlMonitor, in: line)
        statisticsMonitor = try Self.socket(Self.statisticsMonitorName, in: line)
        guestName = line.value("name").flatMap { OptionList(parsing: $0).value(of: "guest", first: true) } ?? ""

        let domains = line.all("xen-domid")
        isProbe = domains.isEmpty && machine.type == "none"
        if domains.count > 1 {
            throw ArgumentError("-xen-domid", reason: "it is given \(domains.count) times", remedy: "take it out of device_model_args: libxl gives it")
        }
        if let option = domains.first {
            guard let number = Int(option.value ?? ""), let id = DomainID(number) else {
                throw ArgumentError(
                    option.tokens.joined(separator: " "), reason: "it is not the number of a domain", remedy: "a domain's number is 0 to \(0x7fef)")
            }
            domain = id
        } else if isProbe {
            domain = nil
        } else {
            throw ArgumentError(
                arguments.first ?? "", reason: "there is no -xen-domid among the arguments",
                remedy: "name this program in device_model_override, so that libxl starts it; `demux run` starts a guest without Xen")
        }
        if line.has("daemonize") {
            throw ArgumentError("-daemonize", reason: "Demux has to see when QEMU ends", remedy: "take it out of device_model_args")
        }
        if line.all("chardev").contains(where: { $0.list["id"] == Self.demuxMonitor }) {
            throw ArgumentError(
                "-chardev …,id=\(Self.demuxMonitor)", reason: "this name is kept for Demux's own monitor",
                remedy: "choose another id in device_model_args")
        }
    }

    /// The arguments for a QEMU whose screen is shown as the plan says: with a display of ours, QEMU's graphics card and its ways to show it
    /// are gone, and every other PCI device is pinned where it would have been beside the card.
    /// - Throws: ArgumentError when a device cannot be kept at its place.
    public func adapted(to plan: DisplayPlan) throws(ArgumentError) -> DeviceModelArguments {
        guard case .ours(let ours) = plan else { return self }
        var adapted = self
        adapted.line.options = try optionsWithoutCard(ours)
        return adapted
    }

    /// Everything but Demux's own settings, as it came: what a probe is passed on with.
    public var unchanged: [String] { line.tokens }

    /// Whether QEMU waits for `cont` before it runs the guest (`-S`, which libxl gives together with dm_restrict).
    public var startsPaused: Bool { line.has("S") }

    /// How much memory QEMU is told of, in MiB: the guest's, less its video memory. Nil when it is not a plain number.
    public var memoryMiB: Int? { line.value("m").flatMap { OptionList(parsing: $0).value(of: "size", first: true) }.flatMap { Int($0) } }

    /// The vCPUs at the start and at most, from `-smp 1,maxcpus=2`; one when libxl says nothing.
    public var vcpus: (present: Int, most: Int) {
        guard let list = line.value("smp").map(OptionList.init(parsing:)) else { return (1, 1) }
        let present = list.value(of: "cpus", first: true).flatMap { Int($0) }
        let most = list["maxcpus"].flatMap { Int($0) }
        return (present ?? most ?? 1, max(present ?? 1, most ?? 1))
    }

    /// The descriptor from which QEMU reads its saved state (`-incoming fd:15`); nil when the guest starts afresh.
    public var incoming: CInt? {
        guard let value = line.value("incoming"), value.hasPrefix("fd:") else { return nil }
        return Self.descriptor(value.dropFirst(3))
    }

    /// The descriptors that QEMU must inherit under their own numbers: what is named with `fd` anywhere but in the
    /// monitors, which are rewritten. Ascending.
    public var inheritedDescriptors: [CInt] {
        var found: Set<CInt> = []
        if let incoming { found.insert(incoming) }
        for option in line.options {
            switch option.name {
            case "chardev":
                let list = option.list
                if list["id"] == Self.libxlMonitor { continue }
                if let number = list["fd"].flatMap(Self.descriptor) { found.insert(number) }
            case "netdev", "net", "nic", "add-fd", "iscsi", "fsdev", "spice":
                let list = option.list
                for key in ["fd", "fds", "vhostfd", "vhostfds", "sock_fd"] {
                    for text in (list[key] ?? "").split(separator: ":") {
                        if let number = Self.descriptor(text) { found.insert(number) }
                    }
                }
            default: break
            }
        }
        return found.filter { $0 > 2 }.sorted()
    }

    static func descriptor(_ text: some StringProtocol) -> CInt? {
        guard let number = CInt(text), number >= 0 else { return nil }
        return number
    }

    private static func socket(_ id: String, in line: QEMUCommandLine) throws(ArgumentError) -> MonitorSocket? {
        let options = line.all("chardev").filter { $0.list["id"] == id }
        guard let option = options.first else { return nil }
        let text = option.tokens.joined(separator: " ")
        guard options.count == 1 else {
            throw ArgumentError(text, reason: "there are \(options.count) of this name", remedy: "take it out of device_model_args: libxl gives it")
        }
        let list = option.list
        if let path = list["path"], !path.isEmpty { return .path(path) }
        if let number = list["fd"].flatMap(descriptor) { return .descriptor(number) }
        throw ArgumentError(text, reason: "it has neither a path nor a descriptor", remedy: "Demux knows libxl of Xen 4.13 and later")
    }
}

/// Where a monitor of QEMU's listens.
public enum MonitorSocket: Equatable, Sendable, CustomStringConvertible {
    /// QEMU makes the socket.
    case path(String)
    /// QEMU inherits a socket that listens already.
    case descriptor(CInt)

    /// As a property of `-chardev socket`.
    var part: OptionList.Part {
        switch self {
        case .path(let path): OptionList.Part(key: "path", value: path)
        case .descriptor(let number): OptionList.Part(key: "fd", value: String(number))
        }
    }

    public var description: String {
        switch self {
        case .path(let path): path
        case .descriptor(let number): "descriptor \(number)"
        }
    }
}

/// The machine that QEMU builds.
public struct Machine: Equatable, Sendable {
    /// "xenfv", "pc", "none", …; empty when the arguments name none.
    public let type: String
    /// Whether it has the xen-platform device of its own accord.
    public var hasPlatformDevice: Bool { type == "xenfv" || type.hasPrefix("xenfv-") }
    /// Whether it is a PC with the i440FX host bridge and PIIX3, whose PCI slots Demux knows.
    public var isI440FX: Bool { hasPlatformDevice || type == "pc" || type.hasPrefix("pc-i440fx") }

    init(_ line: QEMUCommandLine) {
        var type = ""
        // -machine may be given several times; QEMU merges them.
        for option in line.options where option.name == "machine" || option.name == "M" {
            if let name = option.list.value(of: "type", first: true) { type = name }
        }
        self.type = type
    }
}

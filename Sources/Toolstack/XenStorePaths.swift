import Host

/// The places in xenstore that libxl 4.17 writes, watches or reads for a device model (libxl_dm.c, libxl_internal.c), as seen
/// from domain 0. Only names: whoever has a xenstore handle uses them.
public struct XenStorePaths: Equatable, Sendable {
    public let domain: DomainID

    public init(domain: DomainID) { self.domain = domain }

    /// The guest's own folder.
    public var guest: String { "/local/domain/\(domain.rawValue)" }

    // MARK: Written for libxl

    /// The device model's folder in domain 0: libxl makes it before the start and removes it first of all when it destroys the guest,
    /// so that its going is the sign that the guest is being destroyed.
    public var deviceModel: String { "/local/domain/0/device-model/\(domain.rawValue)" }
    /// libxl waits 60 s for `running` here. QEMU writes it itself, except when it is restricted.
    public var state: String { "\(deviceModel)/state" }
    /// What `state` has to say.
    public static let stateRunning = "running"
    /// What we write into `state` when QEMU, or the last coordinator, has died under the guest.
    public static let stateBroken = "broken"
    /// Why, in words; there is no such key while nothing is wrong.
    public var broken: String { "\(deviceModel)/demux-broken" }
    /// A folder in which QEMU names the back ends that it serves.
    public var backends: String { "\(deviceModel)/backends" }

    // MARK: Written by libxl

    /// The process that gets SIGHUP when the guest is destroyed: the program that libxl started.
    public var processID: String { "\(guest)/image/device-model-pid" }
    /// The uid whose every process is killed when the guest is destroyed, in place of that SIGHUP.
    public var killUID: String { "\(guest)/image/device-model-kill-uid" }
    /// The domain that the device model runs in, for stub domains.
    public var deviceModelDomain: String { "\(guest)/image/device-model-domid" }
    /// The guest's name.
    public var name: String { "\(guest)/name" }
    /// Where `xl vncviewer` looks, from the reply of `query-vnc`.
    public var vncListen: String { "\(guest)/console/vnc-listen" }
    public var vncPort: String { "\(guest)/console/vnc-port" }
    public var vncPassword: String { "\(guest)/console/vnc-pass" }
    /// A serial port's terminal, from the reply of `query-chardev`.
    public func serialTerminal(_ port: Int) -> String { "\(guest)/serial/\(port)/tty" }
    /// What the guest is told to do ("poweroff", "suspend", …).
    public var shutdownRequest: String { "\(guest)/control/shutdown" }
    /// The firmware that hvmloader loads.
    public var firmware: String { "\(guest)/hvmloader/bios" }

    // MARK: Watches

    /// Fires when any domain ends or is released; says nothing of which.
    public static let released = "@releaseDomain"
    /// Fires when any domain is introduced.
    public static let introduced = "@introduceDomain"

    // MARK: Files

    /// libxl's monitor, and xenstat's; libxl removes both when it destroys the guest.
    public func monitor(runFolder: String = "/var/run/xen") -> String { "\(runFolder)/qmp-libxl-\(domain.rawValue)" }
    public func statisticsMonitor(runFolder: String = "/var/run/xen") -> String { "\(runFolder)/qmp-libxenstat-\(domain.rawValue)" }
}

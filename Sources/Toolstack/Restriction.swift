import Glibc

extension DeviceModelArguments {
    /// What dm_restrict and device_model_user ask of the device model.
    ///
    /// With dm_restrict, libxl 4.17 (libxl_dm.c, libxl_linux.c) also puts the program into mount and IPC namespaces of its own,
    /// limits the size of a file to 256 KiB (see `InheritedLimits`), opens libxl-cmd's socket itself, adds `-S`, and waits
    /// for `query-status` to say "prelaunch" ("paused" in a restore). When it knows a uid that only this guest's device model
    /// has, it writes `image/device-model-kill-uid`, and destroying the guest then means SIGKILL for every process of that
    /// uid: the process in `device-model-pid` gets no signal. A coordinator that stays root has to see by itself that
    /// QEMU was killed or that the domain is going.
    public struct Restriction: Equatable, Sendable {
        /// `-xen-domid-restrict`: QEMU's Xen handles serve this guest only.
        public let toDomain: Bool
        /// `-runas`: the user QEMU becomes once it is set up. The emulators should become the same one: libxl kills by it.
        public let user: RunAs?
        /// `-chroot`: an empty folder in which QEMU locks itself.
        public let chroot: String?
    }

    /// The value of `-runas`.
    public enum RunAs: Equatable, Sendable {
        /// "131075:131072"; libxl writes it from the base of a range plus the domain's number.
        case ids(uid: uid_t, gid: gid_t)
        /// A user's name.
        case name(String)

        init(_ text: String) {
            let halves = text.split(separator: ":", omittingEmptySubsequences: false)
            if halves.count == 2, let uid = uid_t(halves[0]), let gid = gid_t(halves[1]) {
                self = .ids(uid: uid, gid: gid)
            } else {
                self = .name(text)
            }
        }

        /// The numbers; a name is looked up among the users of this machine.
        /// - Throws: ArgumentError when there is no such user.
        public func resolve() throws(ArgumentError) -> (uid: uid_t, gid: gid_t) {
            switch self {
            case .ids(let uid, let gid): return (uid, gid)
            case .name(let name):
                // One thread asks, once, at the start: the shared buffer of getpwnam is enough.
                guard let entry = getpwnam(name) else {
                    throw ArgumentError("-runas \(name)", reason: "there is no such user", remedy: "add the user, or change device_model_user")
                }
                return (entry.pointee.pw_uid, entry.pointee.pw_gid)
            }
        }
    }

    /// Nil when QEMU runs as root and unrestricted.
    public var restriction: Restriction? {
        // QEMU 9 and later: -run-with chroot=DIR,user=NAME in place of -chroot and -runas.
        let newer = line.all("run-with").map(\.list)
        let user = line.value("runas") ?? newer.compactMap { $0["user"] }.last
        let chroot = line.value("chroot") ?? newer.compactMap { $0["chroot"] }.last
        let toDomain = line.has("xen-domid-restrict")
        guard toDomain || user != nil || chroot != nil else { return nil }
        return Restriction(toDomain: toDomain, user: user.map(RunAs.init), chroot: chroot)
    }
}

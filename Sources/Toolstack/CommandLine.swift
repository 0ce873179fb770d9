/// QEMU's command line cut into its options. Nothing is lost: the tokens of all options, one after the other, are the list again.
struct QEMUCommandLine: Equatable, Sendable {
    /// An option with the tokens that it was given as: its name and, when it takes one, its value.
    struct Option: Equatable, Sendable {
        /// Without its dashes; empty for a token that is no option (QEMU takes such a one for a disk).
        let name: String
        var value: String?
        /// As they were given.
        var tokens: [String]

        /// The value as a list of properties.
        var list: OptionList { OptionList(parsing: value ?? "") }

        /// The same option with another value.
        func with(value: String) -> Option { Option(name: name, value: value, tokens: [tokens[0], value]) }
    }

    var options: [Option] = []
    /// Tokens that begin with `--demux-`: ours, never QEMU's.
    var ours: [String] = []

    static let ourPrefix = "--demux-"

    init(_ tokens: [String]) {
        var index = tokens.startIndex
        while index < tokens.endIndex {
            let token = tokens[index]
            index += 1
            if token.hasPrefix(Self.ourPrefix) {
                ours.append(token)
                continue
            }
            guard token.hasPrefix("-"), token != "-", token != "--" else {
                options.append(Option(name: "", value: token, tokens: [token]))
                continue
            }
            // QEMU takes one dash and two alike.
            let name = String(token.drop { $0 == "-" })
            if index < tokens.endIndex, Self.takesValue(name, next: tokens[index]) {
                options.append(Option(name: name, value: tokens[index], tokens: [token, tokens[index]]))
                index += 1
            } else {
                options.append(Option(name: name, value: nil, tokens: [token]))
            }
        }
    }

    /// All tokens again, ours left out.
    var tokens: [String] { options.flatMap(\.tokens) }

    func all(_ name: String) -> [Option] { options.filter { $0.name == name } }
    func has(_ name: String) -> Bool { options.contains { $0.name == name } }
    /// The last value: QEMU lets a later one replace an earlier one.
    func value(_ name: String) -> String? { options.last { $0.name == name }?.value }

    /// Whether the next token is the option's value. What libxl writes is known, so that a guest may be named "-S" or
    /// "--demux-x"; of an option that is not known, the next token is the value unless it looks like an option.
    private static func takesValue(_ name: String, next: String) -> Bool {
        if withoutValue.contains(name) { return false }
        if withValue.contains(name) { return true }
        return !next.hasPrefix("-")
    }

    /// qemu-options.hx of QEMU 7.2, what is marked as taking nothing.
    private static let withoutValue: Set<String> = [
        "S", "daemonize", "enable-kvm", "full-screen", "h", "help", "mem-prealloc", "no-acpi", "no-fd-bootchk", "no-hpet", "no-reboot",
        "no-shutdown", "no-user-config", "nodefaults", "nographic", "nouserconfig", "old-param", "only-migratable", "portrait",
        "preconfig", "s", "singlestep", "snapshot", "usb", "version", "win2k-hack", "xen-attach", "xen-domid-restrict", "semihosting",
        "enable-fips", "audio-help", "no-quit", "ctrl-grab", "alt-grab", "no-frame", "sdl", "curses",
    ]

    /// What libxl gives a value to, and what people commonly add.
    private static let withValue: Set<String> = [
        "xen-domid", "chardev", "mon", "name", "vnc", "display", "k", "kernel", "initrd", "append", "device", "serial", "spice", "boot",
        "usbdevice", "smp", "netdev", "net", "nic", "object", "chroot", "run-with", "runas", "incoming", "machine", "M", "m", "drive",
        "sandbox", "vga", "global", "cpu", "accel", "bios", "L", "D", "d", "trace", "parallel", "monitor", "qmp", "qmp-pretty",
        "add-fd", "blockdev", "audiodev", "audio", "fw_cfg", "smbios", "acpitable", "pidfile", "rtc", "uuid", "watchdog-action", "action",
        "icount", "gdb", "msg", "set", "readconfig", "numa", "overcommit", "tpmdev", "fsdev", "virtfs", "cdrom", "hda", "hdb", "hdc",
        "hdd", "fda", "fdb", "pflash", "debugcon", "echr", "option-rom", "mem-path", "loadvm", "compat", "plugin", "dtb", "sd", "mtdblock",
        "rotate", "iscsi", "dfilter", "seed", "dump-vmstate", "prom-env",
    ]
}

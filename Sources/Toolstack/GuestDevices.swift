/// The devices that libxl's arguments describe, for those who need to know of them; QEMU gets the arguments themselves.
extension DeviceModelArguments {
    /// A graphics card.
    public struct Graphics: Equatable, Sendable {
        /// "VGA", "cirrus-vga", "qxl-vga", …
        public let device: String
        /// Its memory in MiB, where libxl gives it (`vgamem_mb`).
        public let memoryMiB: Int?
    }

    /// An emulated network card.
    public struct NIC: Equatable, Sendable {
        public let model: String
        public let id: String
        public let mac: String
        /// The tap device in the host, and the bridge it belongs to; nil for another kind of back end.
        public let interface: String?
        public let bridge: String?
    }

    /// A `-drive`.
    public struct Disk: Equatable, Sendable {
        /// nil for an empty CD drive.
        public let file: String?
        public let format: String?
        /// "ide", "none", …
        public let interface: String
        public let id: String?
        public let index: Int?
        public let isReadOnly: Bool
    }

    /// The cards, first one first.
    public var graphics: [Graphics] { line.options.compactMap(Graphics.init) }

    /// The emulated network cards, in their order.
    public var nics: [NIC] {
        let backends = line.all("netdev").map(\.list)
        return line.all("device").map(\.list).compactMap { list in
            guard let back = list["netdev"], let model = list.value(of: "driver", first: true) else { return nil }
            let backend = backends.last { $0["id"] == back }
            return NIC(model: model, id: list["id"] ?? "", mac: list["mac"] ?? "", interface: backend?["ifname"], bridge: backend?["br"])
        }
    }

    /// The drives, in their order.
    public var disks: [Disk] {
        line.all("drive").map(\.list).map { list in
            Disk(
                file: list["file"], format: list["format"], interface: list["if"] ?? "ide", id: list["id"],
                index: list["index"].flatMap { Int($0) }, isReadOnly: list["readonly"] == "on")
        }
    }
}

extension DeviceModelArguments.Graphics {
    /// Nil when the option is no graphics card.
    init?(_ option: QEMUCommandLine.Option) {
        guard option.name == "device" || option.name == "vga" else { return nil }
        let list = option.list
        guard let name = list.value(of: option.name == "device" ? "driver" : "type", first: true) else { return nil }
        if option.name == "device" ? !PCIDeviceTypes.isGraphics(name) : name == "none" { return nil }
        self.init(device: name, memoryMiB: list["vgamem_mb"].flatMap { Int($0) })
    }
}

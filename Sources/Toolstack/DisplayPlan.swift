import Host

/// Who shows the guest's screen, worked out from libxl's arguments.
public enum DisplayPlan: Equatable, Sendable {
    /// The guest has no graphics card that libxl knows of (`vga="none"`): QEMU gets its arguments as they came.
    case none
    /// QEMU keeps its graphics card, and with it its VNC; the text says why.
    case qemu(String)
    /// Our display stands where QEMU's standard VGA would have stood.
    case ours(OurDisplay)

    /// What our display and its exporter are to be.
    public struct OurDisplay: Equatable, Sendable {
        /// Video memory in MiB: a power of two. libxl has set as much aside (`videoram`), beyond what QEMU is told with `-m`.
        public let memoryMiB: Int
        /// The place that QEMU's VGA would have had; 00:03.0 on libxl's ordinary machines.
        public let slot: PCIAddress
        /// What `-vnc` asked for; nil with `vnc=0`: a display that nobody sees yet.
        public let exporter: VNCPlan?
        /// The option in the command line that is the card.
        let option: Int

        /// The video memory to make when a person asked for `wanted` MiB; nil: what libxl has set aside.
        /// - Throws: ArgumentError that names `videoram` when libxl has set aside less.
        public func memory(wanted: Int?) throws(ArgumentError) -> Int {
            guard let wanted else { return memoryMiB }
            guard wanted <= memoryMiB else {
                throw ArgumentError(
                    "vgamem_mb=\(memoryMiB)", reason: "the display is to have \(wanted) MiB of video memory, and libxl has set \(memoryMiB) aside",
                    remedy: "write videoram=\(wanted) in the guest's configuration, or ask for less under 'display: memory:'")
            }
            return wanted
        }
    }

    /// Works out who has the display.
    /// - Parameter isWanted: whether the guest's specification lets us take the standard VGA's place.
    /// - Throws: ArgumentError for arguments that ask our exporter for what it does not do.
    public init(_ arguments: DeviceModelArguments, isWanted: Bool) throws(ArgumentError) {
        let line = arguments.line
        let cards = line.options.indices.filter { DeviceModelArguments.Graphics(line.options[$0]) != nil }
        guard isWanted else {
            self = .qemu("the specification says so")
            return
        }
        guard let option = cards.first, let card = DeviceModelArguments.Graphics(line.options[option]) else {
            self = .none
            return
        }
        if let reason = Self.reasonToKeep(card, among: cards.count, arguments) {
            self = .qemu(reason)
            return
        }
        guard let slot = PCISlotPlan(arguments).functions.first(where: { $0.option == option })?.address else {
            self = .qemu("the place of its standard VGA is not known")
            return
        }
        self = .ours(
            OurDisplay(
                memoryMiB: try Self.memory(line.options[option]), slot: slot, exporter: try VNCPlan(line), option: option))
    }

    /// Why QEMU keeps its card; nil when ours takes its place.
    private static func reasonToKeep(_ card: DeviceModelArguments.Graphics, among count: Int, _ arguments: DeviceModelArguments) -> String? {
        if count > 1 { return "the guest has \(count) graphics cards" }
        // -vga std is -device VGA under its older name.
        guard card.device == "VGA" || card.device == "std" else { return "its card is \(card.device), not the standard VGA" }
        guard arguments.machine.isI440FX else { return "the PCI slots of the machine '\(arguments.machine.type)' are not known" }
        let line = arguments.line
        for option in line.options {
            switch option.name {
            // They show QEMU's own card, and without one they show nothing.
            case "spice", "sdl", "curses": return "-\(option.name) shows it"
            case "display":
                let kind = option.list.value(of: "type", first: true) ?? ""
                if kind != "none" && !kind.hasPrefix("vnc") { return "-display \(kind) shows it" }
            default: break
            }
        }
        return nil
    }

    /// QEMU's rule (hw/display/vga.c): 16 MiB unless said otherwise, made a power of two.
    private static func memory(_ option: QEMUCommandLine.Option) throws(ArgumentError) -> Int {
        guard let text = option.list["vgamem_mb"] else { return 16 }
        guard let number = Int(text), (1...256).contains(number) else {
            throw ArgumentError(
                option.tokens.joined(separator: " "), reason: "the video memory of our display is 1 to 256 MiB",
                remedy: "change videoram in the guest's configuration")
        }
        var power = 1
        while power < number { power *= 2 }
        return power
    }
}

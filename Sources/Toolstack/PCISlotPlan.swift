import Host

/// The places on PCI bus 0 that QEMU will take, worked out from its arguments before it runs.
///
/// Xen routes configuration accesses by server id alone, so that two emulators with the same slot are a silent clash; and
/// the emulators' slots are given out before QEMU can be asked. The rules are QEMU's for an i440FX machine (hw/i386/pc_piix.c,
/// hw/pci/pci.c): devices are made in the order of the arguments, and one without `addr=` takes the first slot whose function 0
/// is free. What comes out is confirmed later with `query-pci`.
public struct PCISlotPlan: Equatable, Sendable {
    /// A function that QEMU will have.
    public struct Function: Equatable, Sendable {
        public let address: PCIAddress
        /// What it is: "VGA", "PIIX3 USB controller".
        public let name: String
        /// The id it has in QEMU; empty for those without.
        public let id: String
        /// The option of the command line that makes it; nil for what the machine has of its own accord.
        let option: Int?
    }

    /// In the order in which QEMU makes them.
    public private(set) var functions: [Function] = []
    /// Arguments whose effect on the slots is not known: until `query-pci` has been asked, the plan is a guess.
    public private(set) var uncertain: [String] = []

    /// The device numbers on bus 0 that are taken, whatever function.
    public var slots: Set<UInt8> { Set(functions.map(\.address.device)) }

    /// Works out the slots.
    public init(_ arguments: DeviceModelArguments) {
        let line = arguments.line
        if !arguments.machine.isI440FX { uncertain.append("-machine \(arguments.machine.type)") }

        place("i440FX host bridge", device: 0)
        place("PIIX3 ISA bridge", device: 1)
        // -vga, then -net nic and -nic, belong to the machine itself and come before every -device.
        if let vga = line.value("vga").map(OptionList.init(parsing:))?.value(of: "type", first: true), vga != "none" {
            place("\(vga) graphics", device: nil, option: line.options.lastIndex { $0.name == "vga" })
        } else if !line.has("vga"), !line.has("nodefaults"), !arguments.hasGraphicsDevice {
            place("default graphics", device: nil)
        }
        for (option, model, device) in Self.machineNICs(line) { place(model, device: device, option: option) }
        place("PIIX3 IDE controller", device: 1, function: 1)
        if line.has("usb") || line.machineProperty("usb") == "on" { place("PIIX3 USB controller", device: 1, function: 2) }
        if !line.has("no-acpi"), line.machineProperty("acpi") != "off" { place("PIIX4 power management", device: 1, function: 3) }
        if arguments.machine.hasPlatformDevice { place("xen-platform", device: nil) }
        if line.machineProperty("igd-passthru") == "on" { place("ISA bridge for a passed-through Intel GPU", device: 0x1f) }

        for index in line.options.indices where line.options[index].name == "device" { add(line.options[index], index) }
        for index in line.options.indices where line.options[index].name == "virtfs" { place("virtio-9p", device: nil, option: index) }
        // QEMU turns these into -device at the end of the list.
        for index in line.options.indices where line.options[index].name == "drive" && line.options[index].list["if"] == "virtio" {
            place("virtio-blk", device: nil, option: index)
        }
    }

    /// What is in the plan and not in QEMU, and the other way round.
    public func differences(from found: [PCIFunctionReport]) -> (missing: [Function], unexpected: [PCIFunctionReport]) {
        let actual = Set(found.map(\.address))
        let planned = Set(functions.map(\.address))
        return (functions.filter { !actual.contains($0.address) }, found.filter { $0.address.bus == 0 && !planned.contains($0.address) })
    }

    private mutating func add(_ option: QEMUCommandLine.Option, _ index: Int) {
        let list = option.list
        guard let type = list.value(of: "driver", first: true), !type.hasPrefix("{") else {
            uncertain.append(option.tokens.joined(separator: " "))
            return
        }
        switch PCIDeviceTypes.kind(of: type) {
        case .other: return
        case .pci: break
        case .unknown:
            uncertain.append(option.tokens.joined(separator: " "))
            // A place given on a PCI bus says that it is a PCI device after all; otherwise none is set aside.
            guard list["addr"] != nil else { return }
        }
        // Behind another bridge it is not on bus 0, where the guest's emulators are.
        if let bus = list["bus"], bus != "pci.0", bus != "pci" { return }
        guard let text = list["addr"] else {
            place(type, device: nil, id: list["id"] ?? "", option: index)
            return
        }
        guard let (device, function) = Self.address(text) else {
            uncertain.append(option.tokens.joined(separator: " "))
            return
        }
        place(type, device: device, function: function, id: list["id"] ?? "", option: index)
    }

    /// At a given place, or at the first slot that QEMU would find free.
    private mutating func place(_ name: String, device: UInt8?, function: UInt8 = 0, id: String = "", option: Int? = nil) {
        let free = device ?? (0..<32).first { slot in !functions.contains { $0.address.device == slot && $0.address.function == 0 } }
        guard let free, let address = PCIAddress(device: free, function: function) else {
            uncertain.append("\(name): all 32 slots are taken")
            return
        }
        functions.append(Function(address: address, name: name, id: id, option: option))
    }

    /// Reads `addr=`: "5", "0x1d", "1d.7", "0x1d.0x7", in hexadecimal with or without 0x (hw/core/qdev-properties-system.c).
    static func address(_ text: String) -> (device: UInt8, function: UInt8)? {
        func number(_ text: some StringProtocol) -> UInt8? {
            UInt8(text.hasPrefix("0x") || text.hasPrefix("0X") ? text.dropFirst(2) : text[...], radix: 16)
        }
        let halves = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(halves.count), let device = number(halves[0]), device < 32 else { return nil }
        guard halves.count == 2 else { return (device, 0) }
        guard let function = number(halves[1]), function < 8 else { return nil }
        return (device, function)
    }

    /// The PCI cards that `-net nic` and `-nic` make: their option, their model, and the place that `-net nic,addr=` gives.
    private static func machineNICs(_ line: QEMUCommandLine) -> [(option: Int, model: String, device: UInt8?)] {
        line.options.indices.compactMap { index in
            let option = line.options[index]
            let list = option.list
            guard let kind = list.value(of: "type", first: true) else { return nil }
            guard option.name == "net" && kind == "nic" || option.name == "nic" && kind != "none" else { return nil }
            let model = list["model"] ?? "e1000"
            guard PCIDeviceTypes.kind(of: model) == .pci || model == "virtio" else { return nil }
            return (index, model, option.name == "net" ? list["addr"].flatMap(address)?.device : nil)
        }
    }
}

extension QEMUCommandLine {
    /// A property of `-machine`; the last one given counts.
    func machineProperty(_ key: String) -> String? {
        options.compactMap { $0.name == "machine" || $0.name == "M" ? $0.list[key] : nil }.last
    }
}

extension DeviceModelArguments {
    fileprivate var hasGraphicsDevice: Bool {
        line.all("device").contains { PCIDeviceTypes.isGraphics($0.list.value(of: "driver", first: true) ?? "") }
    }
}

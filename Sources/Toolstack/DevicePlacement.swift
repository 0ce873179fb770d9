import Host

/// Keeps devices that are plugged into QEMU at run time out of the PCI slots of our emulators, which QEMU takes for free.
///
/// libxl plugs passed-through devices in by `device_add` and leaves the slot to QEMU unless the guest's configuration names one; what QEMU
/// then chooses it reads back with `query-pci`. A function that two servers have is silent in Xen.
public struct DevicePlacement {
    private let isOurs: (PCIAddress) -> Bool
    private let isQEMUs: (UInt8) -> Bool
    private let added: () -> Void

    /// - Parameters:
    ///   - isOurs: whether an emulator of ours has this function of bus 0.
    ///   - isQEMUs: whether QEMU has any function of this device of bus 0.
    ///   - added: called when QEMU has taken one, so that its slots can be asked for again.
    public init(isOurs: @escaping (PCIAddress) -> Bool, isQEMUs: @escaping (UInt8) -> Bool, added: @escaping () -> Void) {
        self.isOurs = isOurs
        self.isQEMUs = isQEMUs
        self.added = added
    }

    /// What becomes of a command; nil when it plugs in no PCI device of bus 0.
    public func decide(_ command: QMPCommand) -> QMPVerdict? {
        guard command.name == "device_add", case .object(var members)? = command.arguments, let driver = members["driver"]?.text,
            PCIDeviceTypes.kind(of: driver) == .pci
        else { return nil }
        if let bus = members["bus"]?.text, bus != "pci.0", bus != "pci" { return nil }
        let added = added
        let watch: QMPWatch = { reply in
            if reply["return"] != nil { added() }
            return true
        }
        if let given = members["addr"] {
            let place = given.text.flatMap(PCISlotPlan.address) ?? given.integer.flatMap { UInt8(exactly: $0) }.map { ($0 >> 3, $0 & 7) }
            guard let (device, function) = place, let address = PCIAddress(device: device, function: function), isOurs(address) else {
                return .watch(watch)
            }
            return .answer(command.refusal("PCI: slot \(device) function \(function) not available for \(driver), in use by an emulator of Demux's"))
        }
        // QEMU begins at 0 as well, whose first two it has itself.
        let free = (UInt8(2)..<32).first { device in
            !isQEMUs(device) && !(UInt8(0)..<8).contains { PCIAddress(device: device, function: $0).map(isOurs) ?? false }
        }
        guard let free else { return .answer(command.refusal("PCI: no slot/function available for \(driver), all in use or reserved")) }
        members["addr"] = .string(String(free, radix: 16))
        return .replace(command.with(arguments: .object(members)), watch: watch)
    }
}

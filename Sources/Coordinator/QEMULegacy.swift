import Host

/// The fixed ports and windows of QEMU's PC machine under Xen, so that a clash is found before QEMU is started.
///
/// From QEMU's hw/i386/pc_piix.c and the devices it makes; the PIC, PIT, RTC's periodic part, IO-APIC and HPET are Xen's own
/// and never reach a server. What QEMU adds at run time (BARs) is the guest's choice and not here.
public enum QEMULegacy {
    private static let ports: [(UInt16, UInt16, String)] = [
        (0x00, 0x0f, "DMA controller"), (0x10, 0x1f, "Xen platform device"), (0x60, 0x60, "keyboard controller"),
        (0x61, 0x61, "PC speaker"), (0x64, 0x64, "keyboard controller"), (0x70, 0x71, "RTC"), (0x80, 0x8f, "DMA pages"),
        (0x92, 0x92, "port 92"), (0xc0, 0xdf, "DMA controller"), (0x170, 0x177, "IDE secondary"), (0x1f0, 0x1f7, "IDE primary"),
        (0x376, 0x376, "IDE secondary"), (0x3f0, 0x3f7, "floppy and IDE primary"), (0x3f8, 0x3ff, "COM1"),
        (0xae00, 0xae13, "ACPI PCI hotplug"), (0xaf00, 0xaf1f, "ACPI CPU hotplug"), (0xcf9, 0xcf9, "reset control"),
    ]
    private static let vgaPorts: [(UInt16, UInt16, String)] = [(0x1ce, 0x1d0, "DISPI"), (0x3b0, 0x3df, "VGA")]

    /// What QEMU will have.
    /// - Parameters:
    ///   - vga: whether it has a VGA of its own.
    ///   - directKernel: whether it loads a kernel itself (`-kernel`), which brings fw_cfg.
    public static func ranges(vga: Bool, directKernel: Bool) -> [(IORange, String)] {
        var table = ports
        if vga { table += vgaPorts }
        if directKernel { table.append((0x510, 0x51b, "fw_cfg")) }
        var found: [(IORange, String)] = table.compactMap { entry in
            PortRange(first: entry.0, last: entry.1).map { (.ports($0), entry.2) }
        }
        if vga, let window = MMIORange(first: GuestAddress(0xa0000), last: GuestAddress(0xbffff)) {
            found.append((.memory(window), "VGA window"))
        }
        return found
    }
}

/// Which of QEMU's device types are PCI functions.
///
/// The table is QEMU 7.2's (`qemu-system-i386 -device help`), aliases included; the tests compare it with the QEMU that is installed.
enum PCIDeviceTypes {
    enum Kind: Equatable {
        /// Takes a place on a PCI bus.
        case pci
        /// Sits on another bus (USB, IDE, SCSI, ISA, …).
        case other
        /// Not in the table: it may take a place.
        case unknown
    }

    static func kind(of type: String) -> Kind {
        if pci.contains(type) { return .pci }
        if type.hasSuffix("-pci") || type.hasSuffix("-pci-transitional") || type.hasSuffix("-pci-non-transitional") { return .pci }
        if other.contains(type) { return .other }
        let otherPrefixes = ["usb-", "isa-", "scsi-", "ide-", "hda-", "virtserial", "virtconsole", "ccid-", "ipmi-", "tpm-", "u2f-"]
        // usb-ehci alone is a PCI function of that name, and stands in the table.
        if otherPrefixes.contains(where: type.hasPrefix) || type.hasSuffix("-device") || type.hasSuffix("-cpu") { return .other }
        return .unknown
    }

    static func isGraphics(_ type: String) -> Bool { graphics.contains(type) }

    private static let graphics: Set<String> = [
        "VGA", "cirrus-vga", "qxl-vga", "qxl", "secondary-vga", "bochs-display", "ati-vga", "vmware-svga", "virtio-vga", "virtio-vga-gl",
        "virtio-gpu-pci", "virtio-gpu-gl-pci", "virtio-gpu", "virtio-gpu-gl", "isa-vga", "isa-cirrus-vga", "ramfb",
    ]

    private static let pci: Set<String> = [
        // Graphics.
        "VGA", "cirrus-vga", "qxl-vga", "qxl", "secondary-vga", "bochs-display", "ati-vga", "vmware-svga", "virtio-vga", "virtio-vga-gl",
        "virtio-gpu", "virtio-gpu-gl", "vhost-user-vga",
        // Network.
        "e1000", "e1000-82540em", "e1000-82544gc", "e1000-82545em", "e1000e", "i82550", "i82551", "i82557a", "i82557b", "i82557c",
        "i82558a", "i82558b", "i82559a", "i82559b", "i82559c", "i82559er", "i82562", "i82801", "ne2k_pci", "pcnet", "rtl8139", "tulip",
        "vmxnet3", "pvrdma", "rocker", "igb", "virtio-net",
        // Storage.
        "lsi53c810", "lsi53c895a", "lsi", "ahci", "ich9-ahci", "am53c974", "dc390", "megasas", "megasas-gen2", "mptsas1068", "nvme",
        "piix3-ide", "piix4-ide", "pvscsi", "virtio-blk", "virtio-scsi", "virtio-9p",
        // USB controllers.
        "ich9-usb-ehci1", "ich9-usb-ehci2", "ich9-usb-uhci1", "ich9-usb-uhci2", "ich9-usb-uhci3", "ich9-usb-uhci4", "ich9-usb-uhci5",
        "ich9-usb-uhci6", "nec-usb-xhci", "qemu-xhci", "pci-ohci", "piix3-usb-uhci", "piix4-usb-uhci", "usb-ehci",
        // Sound.
        "AC97", "ac97", "ES1370", "es1370", "intel-hda", "ich9-intel-hda",
        // Xen's own; the first two take no accelerator to be named, the others one to be made.
        "xen-pvdevice", "xen-platform", "xen-pci-passthrough",
        // Bridges.
        "pci-bridge", "pci-bridge-seat", "pcie-pci-bridge", "pcie-root-port", "ioh3420", "i82801b11-bridge", "x3130-upstream",
        "xio3130-downstream", "pxb", "pxb-pcie", "pxb-cxl", "cxl-rp", "cxl-upstream", "cxl-downstream", "vfio-pci-igd-lpc-bridge",
        // The rest.
        "virtio-serial", "virtio-balloon", "virtio-rng", "virtio-iommu", "virtio-keyboard", "virtio-mouse", "virtio-tablet",
        "virtio-input-host", "pci-serial", "pci-serial-2x", "pci-serial-4x", "pci-testdev", "edu", "ivshmem-plain", "ivshmem-doorbell",
        "tpci200", "vfio-pci-nohotplug", "i6300esb", "pci-ipmi-bt", "pci-ipmi-kcs", "acpi-erst", "AMDVI-PCI", "ctucan_pci", "kvaser_pci",
        "mioe3680_pci", "pcm3680_pci", "x-pci-proxy-dev", "cxl-type3",
    ]

    private static let other: Set<String> = [
        "floppy", "sd-card", "nvme-ns", "nvme-subsys", "nvdimm", "pc-dimm", "virtio-mem", "virtio-pmem", "ne2k_isa", "i8042", "ipoctal232",
        "vmmouse", "ramfb", "sga", "adlib", "cs4231a", "gus", "sb16", "amd-iommu", "intel-iommu", "guest-loader", "loader", "hv-syndbg",
        "hyperv-testdev", "i2c-ddc", "mc146818rtc", "pc-testdev", "pvpanic", "smbus-ipmi", "vmcoreinfo", "vmgenid", "ib700", "vmbus-bridge",
        "vhost-scsi", "vhost-user-blk", "vhost-user-scsi", "vhost-user-input", "vhost-user-rng", "vhost-user-gpu",
    ]
}

import Host

/// What the well-known registers of a PC are called. Pure tables: whoever serves a port is not known here.
enum RegisterNames {
    /// A port's name; nil for one that has no name that everybody knows.
    static func port(_ port: UInt64) -> String? {
        if let exact = ports[port] { return exact }
        for (range, name) in portRanges where range.contains(port) { return "\(name)+\(port - range.lowerBound)" }
        return nil
    }

    private static let ports: [UInt64: String] = [
        0x20: "PIC 1 command", 0x21: "PIC 1 mask", 0xa0: "PIC 2 command", 0xa1: "PIC 2 mask",
        0x40: "PIT channel 0", 0x41: "PIT channel 1", 0x42: "PIT channel 2", 0x43: "PIT control",
        0x60: "keyboard data", 0x61: "system control B (speaker, NMI)", 0x64: "keyboard command/status",
        0x70: "CMOS index", 0x71: "CMOS data", 0x80: "POST code", 0x92: "system control A (A20)", 0xb2: "SMI command", 0xb3: "SMI status",
        0xe9: "debug port", 0x402: "firmware debug port", 0x510: "fw_cfg selector", 0x511: "fw_cfg data",
        0x3f6: "IDE 1 control", 0x376: "IDE 2 control", 0xcf8: "PCI configuration address", 0xcf9: "reset control",
        0x3b4: "CRTC index (mono)", 0x3b5: "CRTC data (mono)", 0x3ba: "input status 1 (mono)",
        0x3c0: "VGA attribute index/data", 0x3c1: "VGA attribute data", 0x3c2: "VGA misc output/input status 0", 0x3c3: "VGA enable",
        0x3c4: "VGA sequencer index", 0x3c5: "VGA sequencer data", 0x3c6: "VGA DAC mask", 0x3c7: "VGA DAC read index/state",
        0x3c8: "VGA DAC write index", 0x3c9: "VGA DAC data", 0x3ca: "VGA feature control", 0x3cc: "VGA misc output",
        0x3ce: "VGA graphics index", 0x3cf: "VGA graphics data", 0x3d4: "VGA CRTC index", 0x3d5: "VGA CRTC data", 0x3da: "VGA input status 1",
        0x1ce: "DISPI index", 0x1cf: "DISPI data", 0x1d0: "DISPI data",
    ]

    private static let portRanges: [(ClosedRange<UInt64>, String)] = [
        (0x00...0x0f, "DMA 1"), (0x10...0x1f, "Xen platform"), (0x81...0x8f, "DMA page"), (0xc0...0xdf, "DMA 2"),
        (0x170...0x177, "IDE 2"), (0x1f0...0x1f7, "IDE 1"), (0x2f8...0x2ff, "COM2"), (0x378...0x37f, "LPT1"),
        (0x3f0...0x3f7, "floppy"), (0x3f8...0x3ff, "COM1"), (0xcfc...0xcff, "PCI configuration data"),
    ]

    /// A guest-physical address's name.
    static func memory(_ address: UInt64) -> String? {
        switch address {
        case 0xa0000...0xaffff: "VGA memory A+\(Hex.string(address - 0xa0000))"
        case 0xb0000...0xb7fff: "VGA memory B0+\(Hex.string(address - 0xb0000))"
        case 0xb8000...0xbffff: "VGA text memory+\(Hex.string(address - 0xb8000))"
        case 0xfec0_0000...0xfec0_0fff: "I/O APIC+\(Hex.string(address - 0xfec0_0000))"
        case 0xfed0_0000...0xfed0_03ff: "HPET+\(Hex.string(address - 0xfed0_0000))"
        case 0xfee0_0000...0xfee0_0fff: "local APIC+\(Hex.string(address - 0xfee0_0000))"
        default: nil
        }
    }

    /// A register of configuration space.
    static func configuration(_ register: UInt64) -> String {
        switch register {
        case 0x00, 0x01: "vendor"
        case 0x02, 0x03: "device"
        case 0x04, 0x05: "command"
        case 0x06, 0x07: "status"
        case 0x08: "revision"
        case 0x09...0x0b: "class"
        case 0x0c: "cache line size"
        case 0x0d: "latency timer"
        case 0x0e: "header type"
        case 0x0f: "self test"
        case 0x10...0x27: "BAR\((register - 0x10) / 4)"
        case 0x28...0x2b: "CardBus pointer"
        case 0x2c, 0x2d: "subsystem vendor"
        case 0x2e, 0x2f: "subsystem"
        case 0x30...0x33: "ROM"
        case 0x34: "capabilities"
        case 0x3c: "interrupt line"
        case 0x3d: "interrupt pin"
        case 0x3e, 0x3f: "latencies"
        case 0x40...0xff: "device's own"
        default: "beyond 256"
        }
    }

    static let dispi = ["ID", "XRES", "YRES", "BPP", "ENABLE", "BANK", "VIRT_WIDTH", "VIRT_HEIGHT", "X_OFFSET", "Y_OFFSET", "VIDEO_MEMORY_64K"]
    static let sequencer = ["reset", "clocking mode", "map mask", "character map", "memory mode"]
    static let graphics = [
        "set/reset", "enable set/reset", "colour compare", "rotate", "read map", "mode", "miscellaneous", "colour don't care", "bit mask",
    ]
    static let crtc = [
        "horizontal total", "horizontal display end", "blank start", "blank end", "retrace start", "retrace end", "vertical total", "overflow",
        "preset row", "maximum scan line", "cursor start", "cursor end", "start address high", "start address low", "cursor place high",
        "cursor place low", "vertical retrace start", "vertical retrace end", "vertical display end", "offset", "underline", "vertical blank start",
        "vertical blank end", "mode control", "line compare",
    ]
    static let cmos: [UInt8: String] = [
        0x00: "seconds", 0x02: "minutes", 0x04: "hours", 0x06: "weekday", 0x07: "day", 0x08: "month", 0x09: "year", 0x0a: "status A", 0x0b: "status B",
        0x0c: "status C", 0x0d: "status D", 0x0f: "shutdown status", 0x10: "floppy types", 0x12: "disk types", 0x15: "base memory", 0x17: "extended memory",
        0x30: "extended memory", 0x32: "century", 0x34: "memory above 16 MiB", 0x38: "boot order", 0x3d: "boot order", 0x5b: "memory above 4 GiB", 0x5f: "processors",
    ]
}

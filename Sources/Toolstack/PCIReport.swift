import Host

/// A PCI function that QEMU has, as `query-pci` tells.
public struct PCIFunctionReport: Equatable, Sendable {
    public let address: PCIAddress
    public let vendor: UInt16
    public let device: UInt16
    /// Base class and subclass: 0x0300 is a VGA card.
    public let classCode: UInt16
    /// The id it has in QEMU; empty for those without.
    public let id: String
    /// Its BARs and its ROM.
    public let regions: [Region]

    /// A BAR, wherever it is.
    public struct Region: Equatable, Sendable {
        /// 0 to 5; 6 is the ROM.
        public let bar: Int
        /// Memory, or I/O ports.
        public let isMemory: Bool
        /// Bytes, or ports.
        public let size: Int64
    }

    /// Reads the reply of `query-pci` (qapi/pci.json): all functions, those behind bridges included. Nil when it is not one.
    ///
    /// QEMU gives no segment: an i440FX machine has one.
    public static func list(from reply: JSONValue) -> [PCIFunctionReport]? {
        guard let buses = reply.elements else { return nil }
        var found: [PCIFunctionReport] = []
        // Buses still to be read; a bridge's devices are put at the end, so that deep nesting costs no stack.
        var waiting = buses.map { $0["devices"] }
        while !waiting.isEmpty {
            guard let devices = waiting.removeFirst()?.elements else { return nil }
            for device in devices {
                guard let bus = device["bus"]?.integer.flatMap(UInt8.init(exactly:)),
                    let slot = device["slot"]?.integer.flatMap(UInt8.init(exactly:)),
                    let function = device["function"]?.integer.flatMap(UInt8.init(exactly:)),
                    let address = PCIAddress(bus: bus, device: slot, function: function)
                else { return nil }
                func number(_ outer: String, _ inner: String) -> UInt16 {
                    device[outer]?[inner]?.integer.flatMap(UInt16.init(exactly:)) ?? 0xffff
                }
                found.append(
                    PCIFunctionReport(
                        address: address, vendor: number("id", "vendor"), device: number("id", "device"),
                        classCode: number("class_info", "class"), id: device["qdev_id"]?.text ?? "",
                        regions: (device["regions"]?.elements ?? []).compactMap { region in
                            guard let bar = region["bar"]?.integer, let size = region["size"]?.integer, let type = region["type"]?.text else { return nil }
                            return Region(bar: Int(clamping: bar), isMemory: type == "memory", size: size)
                        }))
                if let behind = device["pci_bridge"]?["devices"] { waiting.append(behind) }
            }
        }
        return found
    }
}

/// Ports `first` to `last`, both included: never empty, never out of the 64 Ki ports.
public struct PortRange: Hashable, Sendable, CustomStringConvertible {
    public let first: UInt16
    public let last: UInt16

    /// - Returns: nil when `last` comes before `first`.
    public init?(first: UInt16, last: UInt16) {
        guard first <= last else { return nil }
        self.first = first
        self.last = last
    }

    /// - Returns: nil when the range is empty or passes port 0xffff.
    public init?(first: UInt16, count: Int) {
        guard count > 0, let last = UInt16(exactly: Int(first) + count - 1) else { return nil }
        self.init(first: first, last: last)
    }

    public var count: Int { Int(last) - Int(first) + 1 }
    public func overlaps(_ other: PortRange) -> Bool { first <= other.last && other.first <= last }
    public func contains(_ other: PortRange) -> Bool { first <= other.first && other.last <= last }
    public var description: String { "ports \(Hex.string(first))-\(Hex.string(last))" }
}

/// Guest-physical bytes `first` to `last`, both included: never empty.
public struct MMIORange: Hashable, Sendable, CustomStringConvertible {
    public let first: GuestAddress
    public let last: GuestAddress

    /// - Returns: nil when `last` comes before `first`.
    public init?(first: GuestAddress, last: GuestAddress) {
        guard first <= last else { return nil }
        self.first = first
        self.last = last
    }

    /// - Returns: nil when the range is empty or passes the last address.
    public init?(first: GuestAddress, length: UInt64) {
        guard length > 0 else { return nil }
        let (last, overflow) = first.rawValue.addingReportingOverflow(length - 1)
        guard !overflow else { return nil }
        self.init(first: first, last: GuestAddress(last))
    }

    /// Length in bytes; UInt64.max for the one range (all of it) whose length does not fit.
    public var length: UInt64 {
        let span = last.rawValue - first.rawValue
        return span == .max ? .max : span + 1
    }

    public func overlaps(_ other: MMIORange) -> Bool { first <= other.last && other.first <= last }
    public func contains(_ other: MMIORange) -> Bool { first <= other.first && other.last <= last }
    public var description: String { "MMIO \(first)-\(last)" }
}

/// The place of a PCI function: segment, bus, device 0 to 31, function 0 to 7.
public struct PCIAddress: Hashable, Sendable, CustomStringConvertible {
    public let segment: UInt16
    public let bus: UInt8
    public let device: UInt8
    public let function: UInt8

    public init?(segment: UInt16 = 0, bus: UInt8 = 0, device: UInt8, function: UInt8 = 0) {
        guard device < 32, function < 8 else { return nil }
        self.segment = segment
        self.bus = bus
        self.device = device
        self.function = function
    }

    /// Takes apart the address of an IOREQ_TYPE_PCI_CONFIG request: segment 63..48, bus 47..40, device 39..35,
    /// function 34..32 (xen/include/public/hvm/ioreq.h). Every value is a valid one.
    public init(requestAddress: UInt64) {
        segment = UInt16(truncatingIfNeeded: requestAddress >> 48)
        bus = UInt8(truncatingIfNeeded: requestAddress >> 40)
        device = UInt8(truncatingIfNeeded: requestAddress >> 35) & 31
        function = UInt8(truncatingIfNeeded: requestAddress >> 32) & 7
    }

    /// The request address of register 0 of this function.
    public var requestAddress: UInt64 {
        UInt64(segment) << 48 | UInt64(bus) << 40 | UInt64(device) << 35 | UInt64(function) << 32
    }

    /// Reads "0000:00:05.0", "00:05.0" or "5" (a device on bus 0), in hexadecimal as lspci writes it.
    public init?(parsing text: some StringProtocol) {
        let colons = text.split(separator: ":", omittingEmptySubsequences: false)
        guard (1...3).contains(colons.count), let place = colons.last else { return nil }
        let dots = place.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(dots.count), let device = Hex.digits(dots[0], as: UInt8.self) else { return nil }
        var function: UInt8 = 0
        if dots.count == 2 {
            guard let number = Hex.digits(dots[1], as: UInt8.self) else { return nil }
            function = number
        }
        var bus: UInt8 = 0
        if colons.count >= 2 {
            guard let number = Hex.digits(colons[colons.count - 2], as: UInt8.self) else { return nil }
            bus = number
        }
        var segment: UInt16 = 0
        if colons.count == 3 {
            guard let number = Hex.digits(colons[0], as: UInt16.self) else { return nil }
            segment = number
        }
        self.init(segment: segment, bus: bus, device: device, function: function)
    }

    public var description: String {
        func pad(_ value: some BinaryInteger, _ width: Int) -> String {
            let digits = String(value, radix: 16)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        return "\(pad(segment, 4)):\(pad(bus, 2)):\(pad(device, 2)).\(function)"
    }
}

/// What an ioreq server can be given: a range of one of the three kinds that Xen routes.
public enum IORange: Hashable, Sendable, CustomStringConvertible {
    case ports(PortRange)
    case memory(MMIORange)
    case pci(PCIAddress)

    /// Whether some access could fall into both. Ranges of different kinds never overlap.
    public func overlaps(_ other: IORange) -> Bool {
        switch (self, other) {
        case (.ports(let left), .ports(let right)): left.overlaps(right)
        case (.memory(let left), .memory(let right)): left.overlaps(right)
        case (.pci(let left), .pci(let right)): left == right
        default: false
        }
    }

    public var description: String {
        switch self {
        case .ports(let range): range.description
        case .memory(let range): range.description
        case .pci(let address): "PCI \(address)"
        }
    }
}

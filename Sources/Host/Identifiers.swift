/// A Xen domain, 0 to 0x7fef (xen/include/public/xen.h, DOMID_FIRST_RESERVED).
public struct DomainID: Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt16

    /// - Returns: nil when the number is in Xen's reserved range.
    public init?(_ value: some BinaryInteger) {
        guard let narrow = UInt16(exactly: value), narrow < 0x7ff0 else { return nil }
        rawValue = narrow
    }

    public var description: String { "domain \(rawValue)" }
}

/// An ioreq server of one domain. Xen 4.17 has eight, 0 to 7; in an overlap the higher one gets the access.
public struct ServerID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// How many servers a domain can have (MAX_NR_IOREQ_SERVERS).
    public static let limit = 8

    public let rawValue: UInt16

    public init?(_ value: some BinaryInteger) {
        guard let narrow = UInt16(exactly: value), narrow < UInt16(Self.limit) else { return nil }
        rawValue = narrow
    }

    public static func < (left: ServerID, right: ServerID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "ioreq server \(rawValue)" }
}

/// A virtual CPU, 0 to 127 (HVM_MAX_VCPUS: the slots that fit one ioreq page).
public struct VCPUID: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// How many slots one page holds.
    public static let limit = 128

    public let rawValue: UInt8

    public init?(_ value: some BinaryInteger) {
        guard let narrow = UInt8(exactly: value), narrow < UInt8(Self.limit) else { return nil }
        rawValue = narrow
    }

    /// As an index into the slots.
    public var index: Int { Int(rawValue) }

    public static func < (left: VCPUID, right: VCPUID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "vCPU \(rawValue)" }
}

/// A guest-physical address, in bytes.
public struct GuestAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64

    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The page it lies in.
    public var frame: GFN { GFN(rawValue >> 12) }
    /// Its place within the page, 0 to 4095.
    public var pageOffset: Int { Int(truncatingIfNeeded: rawValue & 0xfff) }

    /// The address that many bytes on, wrapping at 2^64 as an address bus would.
    public func advanced(by bytes: Int64) -> GuestAddress { GuestAddress(rawValue &+ UInt64(bitPattern: bytes)) }

    public static func < (left: GuestAddress, right: GuestAddress) -> Bool { left.rawValue < right.rawValue }
    public var description: String { Hex.string(rawValue) }
}

/// A guest frame number: a guest-physical address divided by 4096.
public struct GFN: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64

    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The first byte of the frame, wrapping for numbers that no machine has.
    public var address: GuestAddress { GuestAddress(rawValue &<< 12) }

    public static func < (left: GFN, right: GFN) -> Bool { left.rawValue < right.rawValue }
    public var description: String { "gfn \(Hex.string(rawValue))" }
}

/// Numbers as people in this field write them.
public enum Hex {
    /// "0x500".
    public static func string(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }

    /// Reads "0x…" or decimal digits; nil for anything else, signs and spaces included, and for what does not fit.
    public static func parse(_ text: some StringProtocol) -> UInt64? {
        let hexadecimal = text.hasPrefix("0x") || text.hasPrefix("0X")
        let digits = hexadecimal ? text.dropFirst(2) : text[...]
        guard let first = digits.first, first.isHexDigit else { return nil }
        return UInt64(digits, radix: hexadecimal ? 16 : 10)
    }

    /// Reads bare hexadecimal digits. (The standard library's initialisers take a sign too.)
    static func digits<Value: FixedWidthInteger>(_ text: some StringProtocol, as type: Value.Type) -> Value? {
        text.first?.isHexDigit == true ? Value(text, radix: 16) : nil
    }
}

import Host

/// The unplug ports, 0x10 to 0x1f, as a value: what a guest reads there, and what its writes mean. It removes nothing itself.
///
/// The accesses are those of Xen's docs/misc/hvm-emulated-unplug.pandoc; Protocols/unplug.md has them in a table. Whatever else a guest
/// does there reads as all-ones and is dropped.
public struct UnplugPorts: Equatable, Sendable {
    public static let firstPort: UInt16 = 0x10
    public static let lastPort: UInt16 = 0x1f
    /// Read from 0x10: the protocol is spoken here.
    public static let magic: UInt16 = 0x49d2
    /// Read from 0x10: the driver that has named itself must not go on.
    public static let blacklistedMagic: UInt16 = 0xd249
    /// Read from 0x12: the version in which a driver names itself before it unplugs.
    public static let version: UInt8 = 1
    /// The longest line of the guest's that is kept in one piece, in bytes.
    public static let longestLine = 512

    /// The driver, once it has named itself.
    public private(set) var product: UInt16?
    public private(set) var build: UInt32?
    /// Whether the driver must not go on. For whoever knows the blacklists to say, after `.named`.
    public var isBlacklisted = false
    /// Bit 0: the ROM area is read-only.
    public private(set) var flags: UInt8 = 0
    private var line: [UInt8] = []

    /// What a write asks for.
    public enum Effect: Equatable, Sendable {
        case none
        /// Devices are to be removed before the write completes.
        case unplug(UnplugMask)
        /// The driver has named itself, or its build: the blacklists are to be looked at.
        case named
        /// The ROM area is to be locked, or unlocked.
        case lockROM(Bool)
        /// The guest's driver has logged a line. Its characters are the bytes: nothing is known of their encoding.
        case line(String)
    }

    public init() {}

    /// As a saved guest had it.
    public init(product: UInt16?, build: UInt32?, isBlacklisted: Bool, isROMLocked: Bool) {
        self.product = product
        self.build = build
        self.isBlacklisted = isBlacklisted
        flags = isROMLocked ? 1 : 0
    }

    /// What a read of 1, 2 or 4 bytes gives.
    /// - Parameter port: 0x10 to 0x1f.
    public func read(port: UInt16, size: Int) -> UInt32 {
        switch (port, size) {
        case (0x10, 1): UInt32(flags)
        case (0x10, 2): UInt32(isBlacklisted ? Self.blacklistedMagic : Self.magic)
        case (0x12, 1): UInt32(Self.version)
        default: UInt32(truncatingIfNeeded: AccessSize.allOnes(UInt32(size)))
        }
    }

    /// Takes a write of 1, 2 or 4 bytes; bits beyond its size are not looked at.
    /// - Parameter port: 0x10 to 0x1f.
    public mutating func write(port: UInt16, size: Int, value: UInt32) -> Effect {
        switch (port, size) {
        case (0x10, 1):
            let locked = value & 1 != 0
            guard locked != (flags & 1 != 0) else { return .none }
            flags = locked ? 1 : 0
            return .lockROM(locked)
        case (0x10, 2): return .unplug(UnplugMask(rawValue: UInt16(truncatingIfNeeded: value)))
        case (0x10, 4):
            build = value
            return .named
        case (0x12, 1): return log(UInt8(truncatingIfNeeded: value))
        case (0x12, 2):
            product = UInt16(truncatingIfNeeded: value)
            // Another driver: the build that the last one gave is not this one's.
            build = nil
            return .named
        default: return .none
        }
    }

    private mutating func log(_ byte: UInt8) -> Effect {
        let ends = byte == 0x0a
        if !ends { line.append(byte) }
        guard ends || line.count >= Self.longestLine else { return .none }
        if line.last == 0x0d { line.removeLast() }
        defer { line.removeAll(keepingCapacity: true) }
        return line.isEmpty ? .none : .line(line.reduce(into: "") { $0.unicodeScalars.append(Unicode.Scalar($1)) })
    }
}

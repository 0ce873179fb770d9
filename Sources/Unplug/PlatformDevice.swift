import Host

/// The Xen platform device as a guest sees it: the header of its configuration space, 256 ports at BAR0 and 16 MiB of memory at BAR1, in which drivers
/// have Xen put pages of its own. Whoever serves this stands in QEMU's place, so that what a guest writes to the ports reaches every emulator.
///
/// Follows QEMU's hw/i386/xen/xen_platform.c and the PCI Local Bus Specification 3.0, chapter 6. The device's interrupt is none of its business: Xen
/// itself raises that of the function that the guest's driver has named (HVM_PARAM_CALLBACK_IRQ).
public struct PlatformDevice: Equatable, Sendable {
    /// XenSource's, whoever made the device's ids.
    public static let vendor: UInt16 = 0x5853
    /// Bytes of a type-0 header.
    public static let headerLength = 64
    /// Ports behind BAR0.
    public static let portCount = 256
    /// Bytes behind BAR1.
    public static let memoryLength: UInt64 = 16 << 20

    private enum Register {
        static let command = 0x04
        static let classAndRevision = 0x08
        static let ports = 0x10
        static let memory = 0x14
        static let subsystem = 0x2c
        static let interrupt = 0x3c
    }

    /// Bits that the guest can change.
    private static let writable: [UInt8] = {
        var bits = [UInt8](repeating: 0, count: headerLength)
        // I/O and memory decoding, bus master, SERR#, INTx off.
        (bits[Register.command], bits[Register.command + 1]) = (0x07, 0x05)
        bits[0x0c] = 0xff  // cache line size
        for place in Register.ports + 1..<Register.ports + 4 { bits[place] = 0xff }
        bits[Register.memory + 3] = 0xff
        bits[Register.interrupt] = 0xff
        return bits
    }()

    /// The 64 bytes of the header.
    public private(set) var header: [UInt8]

    /// One that the guest has not touched yet.
    /// - Parameters:
    ///   - id: register 0x00, device and vendor.
    ///   - classAndRevision: register 0x08.
    ///   - subsystem: register 0x2c.
    ///   - interruptPin: register 0x3d; 1 is INTA.
    public init(id: UInt32, classAndRevision: UInt32, subsystem: UInt32, interruptPin: UInt8) {
        header = [UInt8](repeating: 0, count: Self.headerLength)
        for (register, value) in [(0, id), (Register.classAndRevision, classAndRevision), (Register.subsystem, subsystem)] {
            for index in 0..<4 { header[register + index] = UInt8(truncatingIfNeeded: value >> UInt32(index * 8)) }
        }
        header[Register.ports] = 0x01
        header[Register.memory] = 0x08
        header[Register.interrupt + 1] = interruptPin
    }

    /// As a saved guest, or one whose coordinator was killed, had it.
    /// - Returns: nil when these are not the bytes of such a device's header.
    public init?(header old: [UInt8]) {
        guard old.count == Self.headerLength else { return nil }
        func register(_ place: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(old[place + $1]) << UInt32($1 * 8) } }
        self.init(
            id: register(0), classAndRevision: register(Register.classAndRevision), subsystem: register(Register.subsystem),
            interruptPin: old[Register.interrupt + 1])
        for place in header.indices { header[place] |= old[place] & Self.writable[place] }
        guard header == old, register(0) & 0xffff == UInt32(Self.vendor) else { return nil }
    }

    /// What a read of configuration space gives; nothing is behind the header.
    /// - Parameter size: 1, 2 or 4 bytes.
    public func readConfiguration(_ register: Int, size: Int) -> UInt32 {
        (0..<size).reduce(0) { value, index in
            let place = register &+ index
            return value | UInt32(header.indices.contains(place) ? header[place] : 0) << UInt32(index * 8)
        }
    }

    /// Takes a write to configuration space.
    /// - Parameter size: 1, 2 or 4 bytes.
    public mutating func writeConfiguration(_ register: Int, size: Int, value: UInt32) {
        for index in 0..<size {
            let place = register &+ index
            guard header.indices.contains(place) else { continue }
            header[place] = header[place] & ~Self.writable[place] | UInt8(truncatingIfNeeded: value >> UInt32(index * 8)) & Self.writable[place]
        }
    }

    /// The first of the ports; nil while they are not decoded, are being sized, or are where none can be.
    public var firstPort: UInt16? {
        let base = readConfiguration(Register.ports, size: 4) & ~0xff
        guard header[Register.command] & 1 != 0, base != 0 else { return nil }
        return UInt16(exactly: base)
    }

    /// Where the memory begins; nil while it is not decoded, is being sized, or is where none can be.
    public var memoryBase: UInt32? {
        let base = readConfiguration(Register.memory, size: 4) & 0xff00_0000
        // The last 16 MiB below 4 GiB are the firmware's and the APICs', and what a register that is being sized reads as.
        guard header[Register.command] & 2 != 0, base != 0, base != 0xff00_0000 else { return nil }
        return base
    }
}

/// The platform device's ports: an older form of the unplug ports, for drivers that know no other.
extension UnplugPorts {
    /// What a read of 1, 2 or 4 bytes gives.
    /// - Parameter offset: from BAR0.
    public func readWindow(_ offset: Int, size: Int) -> UInt32 {
        let ones = UInt32(truncatingIfNeeded: AccessSize.allOnes(UInt32(size)))
        return offset == 0 ? ones & ~0xff | UInt32(flags) : ones
    }

    /// Takes a write of 1, 2 or 4 bytes. As in QEMU it is a byte's place that has a meaning, and SUSE's drivers write 4 bytes; at 8, what names no
    /// devices is a byte of a log line.
    /// - Parameter offset: from BAR0.
    public mutating func writeWindow(_ offset: Int, size: Int, value: UInt32) -> Effect {
        for index in 0..<size {
            let byte = UInt8(truncatingIfNeeded: value >> UInt32(index * 8))
            switch (offset + index, byte) {
            case (0, _): return write(port: Self.firstPort, size: 1, value: UInt32(byte))
            case (4, 1): return .unplug([.disks, .nics])
            case (8, 1): return .unplug(.disks)
            case (8, 2): return .unplug(.nics)
            case (8, _): return write(port: Self.firstPort + 2, size: 1, value: UInt32(byte))
            default: continue
            }
        }
        return .none
    }
}

/// BAR2: EDID at 0, the VGA's ports 0x3c0–0x3df at 0x400, DISPI's registers at 0x500, QEMU's extension at 0x600.
private enum BAR {
    static let ports = 0x400..<0x420
    static let dispi = 0x500..<0x516
    static let extensionLength = 0x600
    static let byteOrder = 0x604
    static let littleEndian: UInt32 = 0x1e1e_1e1e
    static let bigEndian: UInt32 = 0xbebe_bebe
}

extension VGADevice {
    /// A read of BAR2. What is wider than a register is split into aligned parts, lowest first.
    /// - Returns: all-ones where nothing is.
    public mutating func readRegisters(_ offset: Int, size: Int) -> UInt64 {
        var (value, done) = (UInt64(0), 0)
        let size = min(max(size, 0), 8)
        while done < size {
            let place = (offset & (Self.registersLength - 1)) &+ done
            let part = Self.part(place, size &- done)
            value |= UInt64(readRegister(place, part)) << UInt64(done &* 8)
            done &+= part
        }
        return value
    }

    /// A write to BAR2. What is wider than a register is split into aligned parts, lowest first.
    public mutating func writeRegisters(_ offset: Int, size: Int, value: UInt64) {
        var done = 0
        let size = min(max(size, 0), 8)
        while done < size {
            let place = (offset & (Self.registersLength - 1)) &+ done
            let part = Self.part(place, size &- done)
            writeRegister(place, part, UInt32(truncatingIfNeeded: value >> UInt64(done &* 8)))
            done &+= part
        }
    }

    /// The largest aligned part at a place: ports and DISPI take two bytes at most.
    private static func part(_ place: Int, _ left: Int) -> Int {
        if place & 3 == 0 && left >= 4 && place >= BAR.extensionLength { return 4 }
        return place & 1 == 0 && left >= 2 ? 2 : 1
    }

    private mutating func readRegister(_ place: Int, _ size: Int) -> UInt32 {
        let ones: UInt32 = size >= 4 ? .max : (1 << UInt32(size &* 8)) &- 1
        if place < BAR.ports.lowerBound {
            guard place < EDID.length else { return ones }
            let low = UInt32(edid[place])
            return size == 1 || place &+ 1 >= EDID.length ? low : low | UInt32(edid[place &+ 1]) << 8
        }
        if BAR.ports.contains(place) {
            let port = UInt16(truncatingIfNeeded: place &- BAR.ports.lowerBound &+ 0x3c0)
            let low = UInt32(readByte(port))
            return size == 1 ? low : low | UInt32(readByte(port &+ 1)) << 8
        }
        if BAR.dispi.contains(place) {
            state.scalars.pointee.dispiIndex = UInt16(truncatingIfNeeded: (place &- BAR.dispi.lowerBound) >> 1)
            return UInt32(readDISPI()) & ones
        }
        let word: UInt32
        switch place & ~3 {
        case BAR.extensionLength: word = 8
        case BAR.byteOrder: word = state.scalars.pointee.bigEndian != 0 ? BAR.bigEndian : BAR.littleEndian
        default: return ones
        }
        return word >> UInt32((place & 3) &* 8) & ones
    }

    private mutating func writeRegister(_ place: Int, _ size: Int, _ value: UInt32) {
        if BAR.ports.contains(place) {
            let port = UInt16(truncatingIfNeeded: place &- BAR.ports.lowerBound &+ 0x3c0)
            writeByte(port, UInt8(truncatingIfNeeded: value))
            if size == 2 { writeByte(port &+ 1, UInt8(truncatingIfNeeded: value >> 8)) }
        } else if BAR.dispi.contains(place) {
            state.scalars.pointee.dispiIndex = UInt16(truncatingIfNeeded: (place &- BAR.dispi.lowerBound) >> 1)
            writeDISPI(size == 1 ? UInt16(value & 0xff) : UInt16(truncatingIfNeeded: value))
        } else if place == BAR.byteOrder && size == 4 && (value == BAR.bigEndian || value == BAR.littleEndian) {
            state.scalars.pointee.bigEndian = value == BAR.bigEndian ? 1 : 0
            changedRegisters = true
        }
    }
}

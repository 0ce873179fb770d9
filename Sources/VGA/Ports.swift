/// The bits of the registers that exist.
private enum Bits {
    static let sequencer: [8 of UInt8] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0xff]
    static let graphics: [16 of UInt8] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff, 0, 0, 0, 0, 0, 0, 0]
    /// Of status register 1: display disabled, vertical retrace.
    static let retrace: UInt8 = 0x09
}

extension VGADevice {
    /// Ports 0x3b0–0x3df and 0x1ce–0x1d0. A wide access to VGA ports is one to each byte's port, lowest first; DISPI takes 16 bits only.
    /// - Returns: all-ones where nothing is.
    public mutating func readPort(_ port: UInt16, size: Int) -> UInt64 {
        if size == 1 { return UInt64(readByte(port)) }
        if port < 0x3b0 {
            guard size == 2 else { return .max }
            switch port {
            case 0x1ce: return UInt64(state.scalars.pointee.dispiIndex)
            case 0x1cf, 0x1d0: return UInt64(readDISPI())
            default: return .max
            }
        }
        var value: UInt64 = 0
        for byte in 0..<min(max(size, 0), 8) {
            value |= UInt64(readByte(port &+ UInt16(truncatingIfNeeded: byte))) << UInt64(byte &* 8)
        }
        return value
    }

    /// Ports 0x3b0–0x3df and 0x1ce–0x1d0. A word written to an index port is the index, then the data.
    public mutating func writePort(_ port: UInt16, size: Int, value: UInt64) {
        if size == 1 { return writeByte(port, UInt8(truncatingIfNeeded: value)) }
        if port < 0x3b0 {
            guard size == 2 else { return }
            switch port {
            case 0x1ce: state.scalars.pointee.dispiIndex = UInt16(truncatingIfNeeded: value)
            case 0x1cf, 0x1d0: writeDISPI(UInt16(truncatingIfNeeded: value))
            default: break
            }
            return
        }
        for byte in 0..<min(max(size, 0), 8) {
            writeByte(port &+ UInt16(truncatingIfNeeded: byte), UInt8(truncatingIfNeeded: value >> UInt64(byte &* 8)))
        }
    }

    /// The CRTC and status 1 answer at 3bx or at 3dx, as the misc output register says.
    private var hiddenPorts: UInt16 { state.scalars.pointee.miscOutput & 1 != 0 ? 0x3b0 : 0x3d0 }

    mutating func readByte(_ port: UInt16) -> UInt8 {
        if port & 0xfff0 == hiddenPorts { return 0xff }
        let scalars = state.scalars
        switch port {
        case 0x3c0: return scalars.pointee.attributeIsData == 0 ? scalars.pointee.attributeIndex & 0x3f : 0
        case 0x3c1:
            let index = Int(scalars.pointee.attributeIndex & 0x1f)
            return index < 21 ? state.ar[index] : 0
        case 0x3c4: return scalars.pointee.sequencerIndex & 7
        case 0x3c5: return state.sr[Int(scalars.pointee.sequencerIndex & 7)]
        case 0x3c6: return options.beyondQEMU ? ~scalars.pointee.pelMaskOff : 0
        case 0x3c7: return scalars.pointee.dacState
        case 0x3c8: return scalars.pointee.dacWrite
        case 0x3c9:
            let part = min(scalars.pointee.dacPart, 2)
            let value = state.palette[Int(scalars.pointee.dacRead) &* 3 &+ Int(part)]
            scalars.pointee.dacPart = part == 2 ? 0 : part &+ 1
            if part == 2 { scalars.pointee.dacRead &+= 1 }
            return value
        case 0x3ca: return scalars.pointee.featureControl
        case 0x3cc: return scalars.pointee.miscOutput
        case 0x3ce: return scalars.pointee.graphicsIndex & 15
        case 0x3cf: return state.gr[Int(scalars.pointee.graphicsIndex & 15)]
        case 0x3b4, 0x3d4: return scalars.pointee.crtcIndex
        case 0x3b5, 0x3d5: return state.cr[Int(scalars.pointee.crtcIndex)]
        case 0x3ba, 0x3da:
            // Toggled, not timed: who waits for the retrace waits two reads.
            scalars.pointee.status1 = (scalars.pointee.status1 & Bits.retrace) ^ Bits.retrace
            scalars.pointee.attributeIsData = 0
            return scalars.pointee.status1
        case 0x3c0...0x3cf: return 0
        default: return 0xff
        }
    }

    mutating func writeByte(_ port: UInt16, _ value: UInt8) {
        if port & 0xfff0 == hiddenPorts { return }
        let scalars = state.scalars
        switch port {
        case 0x3c0: writeAttribute(value)
        case 0x3c2: scalars.pointee.miscOutput = value & ~0x10
        case 0x3c4: scalars.pointee.sequencerIndex = value & 7
        case 0x3c5:
            let index = Int(scalars.pointee.sequencerIndex & 7)
            set(state.sr + index, value & Bits.sequencer[index])
            updateWindow()
        case 0x3c6:
            if scalars.pointee.pelMaskOff != ~value {
                scalars.pointee.pelMaskOff = ~value
                changedRegisters = true
            }
        case 0x3c7:
            scalars.pointee.dacRead = value
            scalars.pointee.dacPart = 0
            scalars.pointee.dacState = 3
        case 0x3c8:
            scalars.pointee.dacWrite = value
            scalars.pointee.dacPart = 0
            scalars.pointee.dacState = 0
        case 0x3c9: writeColour(value)
        case 0x3ce: scalars.pointee.graphicsIndex = value & 15
        case 0x3cf:
            let index = Int(scalars.pointee.graphicsIndex & 15)
            set(state.gr + index, value & Bits.graphics[index])
            applyDISPI()
            updateWindow()
        case 0x3b4, 0x3d4: scalars.pointee.crtcIndex = value
        case 0x3b5, 0x3d5: writeCRTC(value)
        case 0x3ba, 0x3da: scalars.pointee.featureControl = value & 0x10
        default: break
        }
    }

    @inline(__always) private mutating func set(_ register: UnsafeMutablePointer<UInt8>, _ value: UInt8) {
        if register.pointee != value {
            register.pointee = value
            changedRegisters = true
        }
    }

    private mutating func writeAttribute(_ value: UInt8) {
        let scalars = state.scalars
        let index = Int(scalars.pointee.attributeIndex & 0x1f)
        if scalars.pointee.attributeIsData == 0 {
            if (scalars.pointee.attributeIndex ^ value) & 0x20 != 0 { changedRegisters = true }
            scalars.pointee.attributeIndex = value & 0x3f
            scalars.pointee.attributeIsData = 1
            return
        }
        scalars.pointee.attributeIsData = 0
        switch index {
        case 0..<16: set(state.ar + index, value & 0x3f)
        case 0x10: set(state.ar + index, value & ~0x10)
        case 0x11: set(state.ar + index, value)
        case 0x12: set(state.ar + index, value & 0x3f)
        case 0x13, 0x14: set(state.ar + index, value & 0x0f)
        default: break
        }
    }

    /// A colour takes effect when its third part is there.
    private mutating func writeColour(_ value: UInt8) {
        let scalars = state.scalars
        switch scalars.pointee.dacPart {
        case 0:
            scalars.pointee.dacHeld0 = value
            scalars.pointee.dacPart = 1
        case 1:
            scalars.pointee.dacHeld1 = value
            scalars.pointee.dacPart = 2
        default:
            let colour = state.palette + Int(scalars.pointee.dacWrite) &* 3
            set(colour, scalars.pointee.dacHeld0)
            set(colour + 1, scalars.pointee.dacHeld1)
            set(colour + 2, value)
            scalars.pointee.dacPart = 0
            scalars.pointee.dacWrite &+= 1
        }
    }

    private mutating func writeCRTC(_ value: UInt8) {
        let index = Int(state.scalars.pointee.crtcIndex)
        if index <= 7, state.cr[0x11] & 0x80 != 0 {
            // Protected, but for line compare's ninth bit.
            guard index == 7 else { return }
            set(state.cr + 7, state.cr[7] & ~0x10 | value & 0x10)
        } else {
            set(state.cr + index, value)
        }
        applyDISPI()
    }
}

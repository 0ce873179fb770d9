/// Bochs' extension: linear modes of any size, at ports 0x1ce–0x1d0 and in BAR2.
enum DISPI {
    static let id = 0
    static let width = 1
    static let height = 2
    static let depth = 3
    static let enable = 4
    static let bank = 5
    static let virtualWidth = 6
    static let virtualHeight = 7
    static let x = 8
    static let y = 9
    /// Video memory in 64 KiB: read-only, not among the registers.
    static let memory = 10

    static let oldestID: UInt16 = 0xb0c0
    static let newestID: UInt16 = 0xb0c5
    static let widest: UInt16 = 16000
    static let highest: UInt16 = 12000

    static let enabled: UInt16 = 0x01
    static let getCapabilities: UInt16 = 0x02
    static let dac8: UInt16 = 0x20
    static let keepMemory: UInt16 = 0x80
}

extension VGADevice {
    var dispiOn: Bool { state.dispi[DISPI.enable] & DISPI.enabled != 0 }

    /// The bits that a pixel takes in memory. After `fixDISPI` the depth is one of 4, 8, 15, 16, 24, 32.
    var dispiBits: Int {
        switch state.dispi[DISPI.depth] {
        case 4: 4
        case 15, 16: 16
        case 24: 24
        case 32: 32
        default: 8
        }
    }

    /// The width of the picture, even where the state's bytes say nonsense.
    var dispiWidth: Int { Int(min(max(state.dispi[DISPI.width] & ~7, 8), DISPI.widest)) }

    /// The height of the picture, even where the state's bytes say nonsense.
    var dispiHeight: Int { Int(min(max(state.dispi[DISPI.height], 1), DISPI.highest)) }

    /// Bytes from a line to the next.
    var dispiLineOffset: Int { Int(state.dispi[DISPI.virtualWidth]) &* dispiBits / 8 }

    /// The picture's first byte: a multiple of four, as QEMU has it.
    var dispiStart: Int {
        (Int(state.dispi[DISPI.x]) &* dispiBits / 8 &+ Int(state.dispi[DISPI.y]) &* dispiLineOffset) & ~3
    }

    func readDISPI() -> UInt16 {
        let index = Int(state.scalars.pointee.dispiIndex)
        if index == DISPI.memory { return UInt16(truncatingIfNeeded: size >> 16) }
        guard index < DISPI.memory else { return 0 }
        if state.dispi[DISPI.enable] & DISPI.getCapabilities != 0 {
            switch index {
            case DISPI.width: return DISPI.widest
            case DISPI.height: return DISPI.highest
            case DISPI.depth: return 32
            default: break
            }
        }
        return state.dispi[index]
    }

    mutating func writeDISPI(_ value: UInt16) {
        let index = Int(state.scalars.pointee.dispiIndex)
        switch index {
        case DISPI.id:
            if value >= DISPI.oldestID && value <= DISPI.newestID { state.dispi[index] = value }
        case DISPI.width, DISPI.height, DISPI.depth, DISPI.virtualWidth, DISPI.x, DISPI.y:
            // bochs-drm writes three of them at every update, with the values that they have.
            guard state.dispi[index] != value else { return }
            state.dispi[index] = value
            changedRegisters = true
            fixDISPI()
            applyDISPI()
            updateWindow()
        case DISPI.bank:
            let bank = value & UInt16(truncatingIfNeeded: (size >> 16) &- 1)
            state.dispi[index] = bank
            state.scalars.pointee.bank = bank
            updateWindow()
        case DISPI.enable: writeEnable(value)
        default: break
        }
    }

    private mutating func writeEnable(_ value: UInt16) {
        changedRegisters = true
        if value & DISPI.enabled != 0 && !dispiOn {
            state.dispi[DISPI.virtualWidth] = 0
            state.dispi[DISPI.x] = 0
            state.dispi[DISPI.y] = 0
            state.dispi[DISPI.enable] |= DISPI.enabled
            fixDISPI()
            applyDISPI()
            if value & DISPI.keepMemory == 0 {
                let bytes = min(Int(state.dispi[DISPI.height]) &* dispiLineOffset, size)
                memory.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
                touch(0, bytes)
            }
        } else {
            state.scalars.pointee.bank = 0
        }
        state.scalars.pointee.dac8 = value & DISPI.dac8 != 0 ? 1 : 0
        state.dispi[DISPI.enable] = value
        updateWindow()
    }

    /// There is no way to refuse a value: what cannot be becomes the nearest that can.
    func fixDISPI() {
        guard dispiOn else { return }
        let r = state.dispi
        switch r[DISPI.depth] {
        case 4, 8, 15, 16, 24, 32: break
        default: r[DISPI.depth] = 8
        }
        let bits = dispiBits
        let width = min(max(r[DISPI.width] & ~7, 8), DISPI.widest)
        let wide = max(min(r[DISPI.virtualWidth] & ~7, DISPI.widest), width)
        r[DISPI.width] = width
        r[DISPI.virtualWidth] = wide
        let line = Int(wide) &* bits / 8
        let most = size / line
        r[DISPI.height] = UInt16(truncatingIfNeeded: min(Int(min(max(r[DISPI.height], 1), DISPI.highest)), most))
        r[DISPI.x] = min(r[DISPI.x], DISPI.widest)
        r[DISPI.y] = min(r[DISPI.y], DISPI.highest)
        let shown = Int(r[DISPI.height]) &* line
        let across = Int(r[DISPI.x]) &* bits / 8
        if across &+ Int(r[DISPI.y]) &* line &+ shown > size {
            r[DISPI.y] = 0
            if across &+ shown > size { r[DISPI.x] = 0 }
        }
        r[DISPI.virtualHeight] = UInt16(truncatingIfNeeded: most)
    }

    /// While DISPI is on, the VGA's own registers say what fits its mode, whatever the guest writes into them.
    func applyDISPI() {
        guard dispiOn else { return }
        let (gr, cr) = (state.gr, state.cr)
        let height = Int(state.dispi[DISPI.height]) &- 1
        gr[6] = gr[6] & ~0x0c | 0x05
        gr[5] = gr[5] & ~0x60 | (state.dispi[DISPI.depth] == 4 ? 0 : 0x40)
        cr[0x17] |= 3
        cr[0x13] = UInt8(truncatingIfNeeded: dispiLineOffset >> 3)
        cr[0x01] = UInt8(truncatingIfNeeded: Int(state.dispi[DISPI.width] >> 3) &- 1)
        cr[0x12] = UInt8(truncatingIfNeeded: height)
        cr[0x07] = cr[0x07] & ~0x42 | UInt8(truncatingIfNeeded: height >> 7 & 0x02) | UInt8(truncatingIfNeeded: height >> 3 & 0x40) | 0x10
        cr[0x18] = 0xff
        cr[0x09] = cr[0x09] & ~0x9f | 0x40
    }

    /// The sequencer's registers as they act. In a linear mode of DISPI all planes are written and chained. (In its planar mode QEMU leaves
    /// both as an earlier mode had them, and nothing can be drawn after a reset; here the guest's own map mask counts.)
    func sequencer(_ index: Int) -> UInt8 {
        guard dispiOn else { return state.sr[index] }
        let planar = state.dispi[DISPI.depth] == 4
        switch index {
        case 1: return 0
        case 2: return planar ? state.sr[2] : 0x0f
        case 4: return planar ? state.sr[4] & ~8 : 8
        default: return state.sr[index]
        }
    }
}

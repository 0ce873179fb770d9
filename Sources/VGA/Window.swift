/// How the legacy window (0xa0000–0xbffff) reaches video memory: decoded when a register changes, not at each access.
struct WindowAccess {
    enum Way { case chained, oddEven, planar }

    var way = Way.planar
    /// Where the mapped part begins in the window, and its length.
    var start = 0
    var length = 0
    /// Bytes of the window's own counting that the bank adds.
    var bank = 0
    /// The planes that are written.
    var planes: UInt8 = 0
}

/// Four bits as the bytes of a word: all ones for a plane that is set.
@inline(__always) func planeMask(_ planes: UInt8) -> UInt32 { ((UInt32(planes & 15) &* 0x0020_4081) & 0x0101_0101) &* 0xff }

/// A byte on all four planes.
@inline(__always) private func everyPlane(_ byte: UInt8) -> UInt32 { UInt32(byte) &* 0x0101_0101 }

extension VGADevice {
    mutating func updateWindow() {
        switch state.gr[6] >> 2 & 3 {
        case 0: (window.start, window.length, window.bank) = (0, 0x20000, 0)
        case 1: (window.start, window.length, window.bank) = (0, 0x10000, Int(state.scalars.pointee.bank) << 16 & (size &- 1))
        case 2: (window.start, window.length, window.bank) = (0x10000, 0x8000, 0)
        default: (window.start, window.length, window.bank) = (0x18000, 0x8000, 0)
        }
        window.planes = sequencer(2) & 15
        if sequencer(4) & 8 != 0 {
            window.way = .chained
        } else {
            window.way = state.gr[5] & 0x10 != 0 ? .oddEven : .planar
        }
    }

    /// A read of the legacy window; a wide one is one of each byte, lowest first.
    /// - Parameter offset: bytes from 0xa0000.
    /// - Returns: all-ones where nothing is mapped.
    public mutating func readWindow(_ offset: Int, size: Int) -> UInt64 {
        if size == 1 { return UInt64(readWindowByte(offset)) }
        var value: UInt64 = 0
        for byte in 0..<min(max(size, 0), 8) { value |= UInt64(readWindowByte(offset &+ byte)) << UInt64(byte &* 8) }
        return value
    }

    /// A write to the legacy window; a wide one is one of each byte, lowest first.
    public mutating func writeWindow(_ offset: Int, size: Int, value: UInt64) {
        if size == 1 { return writeWindowByte(offset, UInt8(truncatingIfNeeded: value)) }
        for byte in 0..<min(max(size, 0), 8) { writeWindowByte(offset &+ byte, UInt8(truncatingIfNeeded: value >> UInt64(byte &* 8))) }
    }

    /// Where an access is in the window's own counting, bank included.
    @inline(__always) private func inWindow(_ offset: Int) -> Int? {
        let place = (offset & 0x1ffff) &- window.start
        return place >= 0 && place < window.length ? place &+ window.bank : nil
    }

    private mutating func readWindowByte(_ offset: Int) -> UInt8 {
        guard let place = inWindow(offset) else { return 0xff }
        switch window.way {
        case .chained: return memory.load(fromByteOffset: place & (size &- 1), as: UInt8.self)
        case .oddEven:
            let byte = (place & ~1) << 1 | place & 1 | Int(state.gr[4] & 2)
            return byte < size ? memory.load(fromByteOffset: byte, as: UInt8.self) : 0xff
        case .planar:
            guard place << 2 < size else { return 0xff }
            let latch = memory.load(fromByteOffset: place << 2, as: UInt32.self)
            state.scalars.pointee.latch = latch
            if state.gr[5] & 8 == 0 { return UInt8(truncatingIfNeeded: latch >> (UInt32(state.gr[4] & 3) &* 8)) }
            // Read mode 1: ones where all planes that count have the colour compared with.
            let different = (latch ^ planeMask(state.gr[2])) & planeMask(state.gr[7])
            let folded = different | different >> 16
            return ~UInt8(truncatingIfNeeded: folded | folded >> 8)
        }
    }

    private mutating func writeWindowByte(_ offset: Int, _ value: UInt8) {
        guard let place = inWindow(offset) else { return }
        switch window.way {
        case .chained:
            guard window.planes >> UInt8(place & 3) & 1 != 0 else { return }
            store(place & (size &- 1), value)
        case .oddEven:
            let plane = place & 1 | Int(state.gr[4] & 2)
            let byte = (place & ~1) << 1 | plane
            guard window.planes >> UInt8(plane) & 1 != 0, byte < size else { return }
            store(byte, value)
        case .planar:
            guard place << 2 < size else { return }
            let target = memory + place << 2
            let mask = planeMask(window.planes)
            let old = target.load(as: UInt32.self)
            let new = old & ~mask | planar(value) & mask
            guard new != old else { return }
            target.storeBytes(of: new, as: UInt32.self)
            touch(place << 2, 4)
        }
    }

    @inline(__always) private mutating func store(_ byte: Int, _ value: UInt8) {
        guard memory.load(fromByteOffset: byte, as: UInt8.self) != value else { return }
        memory.storeBytes(of: value, toByteOffset: byte, as: UInt8.self)
        touch(byte, 1)
    }

    /// What a byte written to the planes becomes, before the map mask.
    private func planar(_ value: UInt8) -> UInt32 {
        let gr = state.gr
        let latch = state.scalars.pointee.latch
        let turn = gr[3] & 7
        let turned = value >> turn | value << (8 &- turn)
        var bits = gr[8]
        var word: UInt32
        switch gr[5] & 3 {
        case 0:
            let set = planeMask(gr[1])
            word = everyPlane(turned) & ~set | planeMask(gr[0]) & set
        case 1: return latch
        case 2: word = planeMask(value)
        default:
            bits &= turned
            word = planeMask(gr[0])
        }
        switch gr[3] >> 3 & 3 {
        case 1: word &= latch
        case 2: word |= latch
        case 3: word ^= latch
        default: break
        }
        let mask = everyPlane(bits)
        return word & mask | latch & ~mask
    }
}

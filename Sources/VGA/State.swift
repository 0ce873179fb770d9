/// The registers of one VGA, in bytes that outlive the process: fixed places, no pointers, zero = fresh.
///
/// Whoever restores these bytes may restore anything. So every field is a number of which each value is legal, and each use
/// masks or clamps it.
struct State {
    /// What fits no table. All fields are naturally aligned; a test holds the offsets.
    struct Scalars {
        var version: UInt32
        /// The four latches, plane 0 lowest.
        var latch: UInt32
        var sequencerIndex: UInt8
        var graphicsIndex: UInt8
        /// With bit 5: the palette's address source; clear blanks the screen.
        var attributeIndex: UInt8
        /// The flip-flop of port 3c0: not zero when the next write is data.
        var attributeIsData: UInt8
        var crtcIndex: UInt8
        var miscOutput: UInt8
        var featureControl: UInt8
        var status1: UInt8
        var dacState: UInt8
        /// Which of red, green, blue comes next.
        var dacPart: UInt8
        var dacRead: UInt8
        var dacWrite: UInt8
        var dacHeld0: UInt8
        var dacHeld1: UInt8
        /// The pel mask's complement, so that fresh is 0xff.
        var pelMaskOff: UInt8
        /// Colours of 8 bits instead of 6 in the 256-colour modes.
        var dac8: UInt8
        var dispiIndex: UInt16
        /// The bank that the window shows, in 64 KiB. Not always the register's value: enabling resets it.
        var bank: UInt16
        /// The linear frame buffer's byte order: not zero for big-endian.
        var bigEndian: UInt8
        var reserved: UInt8
        /// The mode last asked for by a viewer; 0: none, the option holds.
        var hintWidth: UInt16
        var hintHeight: UInt16
        /// The size of the last picture that was not blank.
        var lastWidth: UInt16
        var lastHeight: UInt16
    }

    enum Place {
        static let dispi = 64
        static let sequencer = 96
        static let graphics = 112
        static let attribute = 128
        static let crtc = 256
        static let palette = 512
        static let end = 1280
    }

    static let version: UInt32 = 1
    static let length = 2048

    let base: UnsafeMutableRawPointer
    let scalars: UnsafeMutablePointer<Scalars>
    /// DISPI registers 0–9.
    let dispi: UnsafeMutablePointer<UInt16>
    let sr: UnsafeMutablePointer<UInt8>
    let gr: UnsafeMutablePointer<UInt8>
    let ar: UnsafeMutablePointer<UInt8>
    /// All 256: what is no register of the CRTC reads back what was written.
    let cr: UnsafeMutablePointer<UInt8>
    /// 256 colours of three bytes, as written.
    let palette: UnsafeMutablePointer<UInt8>

    /// - Parameter base: `length` bytes, aligned to 8.
    init(_ base: UnsafeMutableRawPointer) {
        self.base = base
        scalars = base.assumingMemoryBound(to: Scalars.self)
        dispi = (base + Place.dispi).assumingMemoryBound(to: UInt16.self)
        sr = (base + Place.sequencer).assumingMemoryBound(to: UInt8.self)
        gr = (base + Place.graphics).assumingMemoryBound(to: UInt8.self)
        ar = (base + Place.attribute).assumingMemoryBound(to: UInt8.self)
        cr = (base + Place.crtc).assumingMemoryBound(to: UInt8.self)
        palette = (base + Place.palette).assumingMemoryBound(to: UInt8.self)
        if scalars.pointee.version != Self.version { reset(keepingHint: false) }
    }

    /// What a reset of the machine leaves.
    func reset(keepingHint: Bool) {
        let (width, height) = keepingHint ? (scalars.pointee.hintWidth, scalars.pointee.hintHeight) : (0, 0)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: Self.length)
        scalars.pointee.version = Self.version
        scalars.pointee.hintWidth = width
        scalars.pointee.hintHeight = height
        dispi[DISPI.id] = DISPI.newestID
    }
}

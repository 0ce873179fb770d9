/// The standard VGA with Bochs' DISPI extension, as QEMU's `-device VGA` shows it to a guest (PCI 1234:1111, revision 2).
///
/// It knows no host: video memory and the bytes that hold its registers are the caller's, and it is told of accesses. Nothing that a
/// guest does, and nothing that these bytes hold when it starts, makes it trap or leave them; accesses allocate nothing.
///
/// Video memory is byte-interleaved: plane p of the VGA's address a is byte 4a + p, so that the linear frame buffer shows the same bytes.
/// Registers and DISPI behave as in QEMU 7.2 (`hw/display/vga.c`, `docs/specs/standard-vga.txt`) unless a comment says otherwise.
public struct VGADevice: ~Copyable {
    /// Bytes of the state, in which all registers are.
    public static let stateLength = State.length
    /// Bytes of BAR2.
    public static let registersLength = 4096
    /// The legacy window: bytes from 0xa0000.
    public static let windowLength = 0x20000

    /// Whether a register has changed that `render` has to look at. Cleared by it.
    public internal(set) var changedRegisters = true
    /// Whether the guest has written video memory through the window or the registers since the last `render`. (What it writes into the
    /// memory itself is not seen here.)
    public internal(set) var wroteMemory = false

    let memory: UnsafeMutableRawPointer
    /// A power of two, at least 1 MiB.
    let size: Int
    let state: State
    let options: VGAOptions
    let edid: UnsafeMutablePointer<UInt8>
    var window = WindowAccess()
    var renderer: Renderer

    /// - Parameters:
    ///   - memory: the video memory, which has to outlive the device, as has `state`. Of a size that is no power of two the largest one
    ///     below is used.
    ///   - state: `stateLength` bytes, aligned to 8: zero, or what a former device left in them.
    /// - Returns: nil when the memory is smaller than 1 MiB, or one of the two is not aligned to 8.
    public init?(memory: UnsafeMutableRawBufferPointer, state: UnsafeMutableRawPointer, options: VGAOptions = VGAOptions()) {
        guard let base = memory.baseAddress, memory.count >= 1 << 20, UInt(bitPattern: base) % 8 == 0, UInt(bitPattern: state) % 8 == 0 else {
            return nil
        }
        self.memory = base
        // More than DISPI's 16-bit register can tell is of no use.
        size = min(1 << (Int.bitWidth - 1 - memory.count.leadingZeroBitCount), 1 << 31)
        self.state = State(state)
        self.options = options
        edid = .allocate(capacity: EDID.length)
        edid.initialize(repeating: 0, count: EDID.length)
        renderer = Renderer(memory: base, size: size)
        adopt()
    }

    deinit { edid.deallocate() }

    /// What the machine's reset does: registers as at first, video memory as it is. A mode asked for by a viewer goes on being preferred.
    public mutating func reset() {
        state.reset(keepingHint: true)
        adopt()
    }

    /// A viewer would like the picture to have this size: the EDID prefers it from now on. The width is rounded down to a multiple of 8.
    /// - Returns: false when that size is none (64×64 to 8192×8192) or video memory is too small for it; then nothing changes.
    public mutating func modeHint(width: Int, height: Int) -> Bool {
        guard let mode = EDID.usable(VGAMode(width: width, height: height), memory: size) else { return false }
        state.scalars.pointee.hintWidth = UInt16(truncatingIfNeeded: mode.width)
        state.scalars.pointee.hintHeight = UInt16(truncatingIfNeeded: mode.height)
        makeEDID()
        return true
    }

    /// The next `render` draws everything: the pixels it is given hold nothing that an earlier one drew.
    public mutating func invalidate() { renderer.forget() }

    /// Takes the state's bytes up, whatever they hold.
    private mutating func adopt() {
        changedRegisters = true
        fixDISPI()
        applyDISPI()
        updateWindow()
        makeEDID()
        renderer.forget()
    }

    private func makeEDID() {
        let hint = VGAMode(width: Int(state.scalars.pointee.hintWidth), height: Int(state.scalars.pointee.hintHeight))
        let preferred = EDID.usable(hint, memory: size) ?? EDID.usable(options.preferred, memory: size) ?? EDID.fallback
        EDID.write(preferred: preferred, options: options, memory: size, to: edid)
    }

    /// Notes that bytes of video memory have changed.
    @inline(__always) mutating func touch(_ offset: Int, _ count: Int) {
        renderer.dirty.touch(offset, count)
        wroteMemory = true
    }
}

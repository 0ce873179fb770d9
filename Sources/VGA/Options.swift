/// The size of a picture in pixels.
public struct VGAMode: Hashable, Sendable {
    public var width: Int
    public var height: Int

    public init(width: Int, height: Int) {
        self.width = width
        self.height = height
    }
}

/// What the person who runs the guest chooses.
public struct VGAOptions: Sendable {
    /// The mode that the EDID prefers, until a viewer asks for another.
    public var preferred = VGAMode(width: 1024, height: 768)
    /// Further modes that the EDID lists. As many as there is room for (six) are taken.
    public var modes: [VGAMode] = []
    /// The monitor's name: what of it is printable ASCII, up to 13 characters.
    public var name = "Demux"
    /// What a VGA does and QEMU 7.2 does not: attribute blink, underline, pel panning, preset row and byte panning, the pel mask,
    /// the sequencer's screen-off bit, and a cursor that stops blinking. False to be compared with QEMU pixel by pixel.
    public var beyondQEMU = true

    public init() {}
}

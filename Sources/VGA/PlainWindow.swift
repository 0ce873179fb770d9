/// A part of the legacy window that is, for now, like plain memory: each byte reads back what was written, and nothing else happens. So
/// it can be backed with memory of the guest instead of being trapped.
public struct VGAPlainWindow: Hashable, Sendable {
    public enum Layout: Hashable, Sendable {
        /// Text: even bytes in one plane, odd bytes in the next; the first of them is 0 or 2.
        case oddEven(plane: Int)
        /// Mode 0x13: as the linear frame buffer.
        case chained
    }

    /// Bytes from 0xa0000.
    public let offset: Int
    public let length: Int
    public let layout: Layout

    /// - Parameters:
    ///   - offset: bytes from 0xa0000.
    ///   - length: bytes; what lies outside the legacy window is left out wherever it is used.
    public init(offset: Int, length: Int, layout: Layout) {
        self.offset = offset
        self.length = length
        self.layout = layout
    }
}

extension VGADevice {
    /// The part of the legacy window that is plain to the CPU; nil when all accesses have to come through `readWindow` and `writeWindow`.
    ///
    /// Compare it after each write of a register: when it changes, import what the guest wrote, and trap, or export anew. While
    /// DISPI is on, or a bank is selected, nothing is plain: the linear frame buffer would be a second view of the same bytes.
    public var plainWindow: VGAPlainWindow? {
        guard !dispiOn, window.bank == 0, window.length > 0 else { return nil }
        switch window.way {
        case .chained:
            guard window.planes == 15 else { return nil }
            return VGAPlainWindow(offset: window.start, length: window.length, layout: .chained)
        case .oddEven:
            let plane = Int(state.gr[4] & 2)
            guard window.planes >> UInt8(plane) & 3 == 3 else { return nil }
            return VGAPlainWindow(offset: window.start, length: window.length, layout: .oddEven(plane: plane))
        case .planar: return nil
        }
    }

    /// Whether the guest has switched DISPI on: the moment it did, video memory was cleared unless it asked for it to be kept.
    public var isDISPIOn: Bool { dispiOn }

    /// Copies what the guest would read in a plain window.
    /// - Parameter bytes: at least `plain.length` bytes; of fewer, as many as there are.
    public func exportPlainWindow(_ plain: VGAPlainWindow, to bytes: UnsafeMutableRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        let length = Self.length(plain, bytes.count)
        switch plain.layout {
        case .chained: base.copyMemory(from: memory, byteCount: length)
        case .oddEven(let plane):
            for pair in 0..<length / 2 {
                let word = memory.load(fromByteOffset: pair &* 4 &+ (plane & 2), as: UInt16.self)
                base.storeBytes(of: word, toByteOffset: pair &* 2, as: UInt16.self)
            }
        }
    }

    /// Takes over what the guest has written into the memory behind a plain window.
    /// - Parameters:
    ///   - bytes: that memory; it may change meanwhile.
    ///   - previous: what was last exported or imported, as many bytes; it is brought up to date. What differs is what the guest wrote.
    /// - Returns: the bytes of the window from the first that changed to the last; nil when none did.
    @discardableResult
    public mutating func importPlainWindow(
        _ plain: VGAPlainWindow, from bytes: UnsafeRawBufferPointer, previous: UnsafeMutableRawBufferPointer
    ) -> Range<Int>? {
        guard let base = bytes.baseAddress, let old = previous.baseAddress else { return nil }
        let length = Self.length(plain, min(bytes.count, previous.count))
        var (first, end) = (length, 0)
        var at = 0
        while at &+ 8 <= length {
            // Read once: the guest may be writing.
            let new = base.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            let different = new ^ old.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            if different != 0 {
                old.storeBytes(of: new, toByteOffset: at, as: UInt64.self)
                first = min(first, at)
                end = at &+ 8
                store(new, different, at, plain.layout)
            }
            at &+= 8
        }
        guard first < end else { return nil }
        return first..<end
    }

    /// Whole runs of eight bytes, inside the window and, with what odd/even doubles, inside 1 MiB.
    private static func length(_ plain: VGAPlainWindow, _ count: Int) -> Int { max(0, min(plain.length, count, windowLength)) & ~7 }

    private mutating func store(_ value: UInt64, _ different: UInt64, _ at: Int, _ layout: VGAPlainWindow.Layout) {
        for byte in 0..<8 where different >> UInt64(byte &* 8) & 0xff != 0 {
            let place = at &+ byte
            let target =
                switch layout {
                case .chained: place
                case .oddEven(let plane): (place & ~1) << 1 | place & 1 | (plane & 2)
                }
            memory.storeBytes(of: UInt8(truncatingIfNeeded: value >> UInt64(byte &* 8)), toByteOffset: target & (size &- 1), as: UInt8.self)
            touch(target & (size &- 1), 1)
        }
    }
}

import CSurface
import Platform

/// What has changed in a surface since a reader looked last.
public enum SurfaceChange: Hashable, Sendable {
    /// Any pixel may have changed: the first look, or the reader was too slow for the ring.
    case everything
    /// These pixels may have changed.
    case damage(SurfaceRectangle)
    /// The rectangle's pixels became those that the place from (`fromX`, `fromY`) on had before, seen in the order of the
    /// changes. A hint: it may always be taken as damage of the rectangle. Both lie in the surface.
    case copy(fromX: Int, fromY: Int, SurfaceRectangle)
}

/// A reader's side of a surface: an exporter, a screenshot, the web page.
///
/// The writer faces a guest and may be hostile: every number is clamped, no loop depends on one, and the size is the one
/// that came with the descriptor. The pixels may change while they are read; what changes is said again as damage.
public struct SurfaceReader: ~Copyable, @unchecked Sendable {
    // Sendable: one owner at a time; the memory is shared by nature.
    /// Pixels.
    public let width: Int
    public let height: Int
    /// Bytes from one line to the next.
    public let stride: Int
    private let surface: MappedSurface

    /// How many entries of the ring have been taken; nil before the first look.
    private var tail: UInt64?
    private var entries: [demux_surface_entry] = []
    private let lastCursor = LastCursor()

    /// The update that the last `take` covered: what belongs into `SurfaceReaderPage.saw`.
    public private(set) var taken: UInt64 = 0

    /// Checks seals, length and header, and maps the surface for reading.
    /// - Throws: SystemError when it is not sealed, or not of this size.
    public init(_ descriptor: consuming OwnedDescriptor, width: Int, height: Int) throws(SystemError) {
        surface = try MappedSurface(descriptor, width: width, height: height, writable: false)
        self.width = width
        self.height = height
        stride = SurfaceLayout.stride(width: width)
    }

    /// The first pixel of `height` lines of `stride` bytes: 32 bits each, 0x??RRGGBB as a native word; the highest byte is
    /// whatever the writer left there.
    public var pixels: UnsafeRawPointer { UnsafeRawPointer(surface.pixels) }

    /// The last published update; 0 when there has been none.
    public var frame: UInt64 { demux_surface_frame(surface.header) }

    /// Another surface replaces this one.
    public var isRetired: Bool { flags & UInt32(DEMUX_SURFACE_RETIRED) != 0 }

    /// The guest has switched the screen off; the pixels are what was shown last.
    public var isBlank: Bool { flags & UInt32(DEMUX_SURFACE_BLANK) != 0 }

    private var flags: UInt32 { demux_surface_flags(surface.header) }

    /// Gives what has changed since the last call, in order, and counts it as taken; the caller then reads the pixels.
    /// - Returns: false when nothing has changed, and `body` was not called.
    public mutating func take(_ body: (SurfaceChange) -> Void) -> Bool {
        // Before the ring: entries of a later update may be taken with this one, never the other way round.
        taken = frame
        let head = demux_surface_head(surface.header)
        defer { tail = head }
        guard let tail else {
            body(.everything)
            return true
        }
        let count = head &- tail
        if count == 0 { return false }
        entries.removeAll(keepingCapacity: true)
        // As unsigned numbers: a head that went backwards is far away, too.
        guard count < UInt64(SurfaceLayout.damageEntries) else {
            body(.everything)
            return true
        }
        for index in 0..<count { entries.append(demux_surface_peek(surface.header, tail &+ index)) }
        // The slot being filled now is that of the entry 1024 before: when it is one of ours, it may have been torn.
        guard demux_surface_head_again(surface.header) &- tail < UInt64(SurfaceLayout.damageEntries) else {
            body(.everything)
            return true
        }
        var said = false
        for entry in entries {
            guard let change = change(entry) else { continue }
            said = true
            body(change)
        }
        return said
    }

    /// An entry as what it can mean; nil when it touches no pixel.
    private func change(_ entry: demux_surface_entry) -> SurfaceChange? {
        let rectangle = SurfaceRectangle(entry)
        let clamped = rectangle.clamped(width: width, height: height)
        switch CInt(entry.kind) {
        case CInt(DEMUX_SURFACE_DAMAGE): return clamped.map { .damage($0) }
        case CInt(DEMUX_SURFACE_COPY):
            guard let clamped else { return nil }
            let source = SurfaceRectangle(x: Int(entry.source_x), y: Int(entry.source_y), width: rectangle.width, height: rectangle.height)
            guard clamped == rectangle, source.clamped(width: width, height: height) == source else { return .damage(clamped) }
            return .copy(fromX: source.x, fromY: source.y, rectangle)
        // A kind that a later version may bring.
        default: return .everything
        }
    }

    /// Changes whenever the cursor does, its place included.
    public var cursorSequence: UInt32 { demux_surface_cursor_sequence(surface.header) }

    /// The cursor to be drawn over the pixels; nil when there is none, or it has no sound shape. While the writer is changing
    /// it (or died doing so), the one read last.
    public func cursor() -> SurfaceCursor? {
        if let known = lastCursor.sequence, known == cursorSequence { return lastCursor.cursor }
        var found = demux_surface_cursor()
        var sequence: UInt32 = 0
        // A writer is done within a microsecond unless it was interrupted; nobody waits longer for it.
        for _ in 0..<8 {
            let whole = lastCursor.image.withUnsafeMutableBufferPointer {
                // Sound: the buffer has 64 × 64 words and is not empty.
                demux_surface_cursor_read(surface.header, &sequence, &found, $0.baseAddress)
            }
            if whole {
                lastCursor.keep(found, sequence)
                break
            }
        }
        return lastCursor.cursor
    }
}

/// The last cursor that was read whole.
private final class LastCursor {
    private(set) var sequence: UInt32?
    private(set) var cursor: SurfaceCursor?
    /// 64 lines of 64 pixels, as they stand in the surface.
    var image = [UInt32](repeating: 0, count: SurfaceLayout.cursorSide * SurfaceLayout.cursorSide)

    func keep(_ found: demux_surface_cursor, _ sequence: UInt32) {
        self.sequence = sequence
        let side = SurfaceLayout.cursorSide
        guard found.visible != 0, found.width <= side, found.height <= side else {
            cursor = nil
            return
        }
        let width = Int(found.width)
        var pixels: [UInt32] = []
        pixels.reserveCapacity(width * Int(found.height))
        for line in 0..<Int(found.height) { pixels += image[line * side..<line * side + width] }
        cursor = SurfaceCursor(
            x: found.x, y: found.y, hotX: Int(found.hot_x), hotY: Int(found.hot_y), width: width, height: Int(found.height), pixels: pixels)
    }
}

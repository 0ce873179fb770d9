import CSurface
import Platform

/// The display's side of a surface: the only one that writes it.
///
/// It never waits and reads nothing that a reader wrote. Order of work: write pixels, say which (`damage`, `copied`), and
/// `publish`; what was said becomes visible to readers only then, so that nobody takes a rectangle before its pixels.
public struct SurfaceWriter: ~Copyable, @unchecked Sendable {
    // Sendable: one owner at a time; the memory is shared by nature.
    /// Pixels.
    public let width: Int
    public let height: Int
    /// Bytes from one line to the next.
    public let stride: Int
    private let surface: MappedSurface

    /// What was said since the last `publish`.
    private var pending: [demux_surface_entry] = []
    /// The writer's own counts: what stands in the memory is for the readers.
    private var head: UInt64
    private var frame: UInt64
    private var cursorSequence: UInt32
    private var flags: UInt32

    /// More said between two `publish` than this becomes one rectangle around all of it.
    private static let mostPending = 256

    /// Maps a surface that the coordinator made, and goes on where an earlier writer of it stopped.
    /// - Throws: SystemError when it is not sealed, or not of this size.
    public init(_ descriptor: consuming OwnedDescriptor, width: Int, height: Int) throws(SystemError) {
        surface = try MappedSurface(descriptor, width: width, height: height, writable: true)
        self.width = width
        self.height = height
        stride = SurfaceLayout.stride(width: width)
        head = demux_surface_head(surface.header)
        frame = demux_surface_frame(surface.header)
        flags = demux_surface_flags(surface.header)
        // Odd when an earlier writer died while it changed the cursor: what it left counts as whole, readers check it anyway.
        let sequence = demux_surface_cursor_sequence(surface.header)
        cursorSequence = sequence & 1 == 0 ? sequence : sequence &+ 1
        if sequence != cursorSequence { demux_surface_store_cursor_sequence(surface.header, cursorSequence) }
        pending.reserveCapacity(Self.mostPending)
    }

    /// The first pixel of `height` lines of `stride` bytes: 32 bits each, 0x00RRGGBB as a native word.
    public var pixels: UnsafeMutableRawPointer { surface.pixels }

    /// Says that pixels have changed. What lies outside the surface is left out.
    public mutating func damage(_ rectangle: SurfaceRectangle) {
        guard let rectangle = rectangle.clamped(width: width, height: height) else { return }
        if let last = pending.last, last.kind == UInt16(DEMUX_SURFACE_DAMAGE) {
            let before = SurfaceRectangle(last)
            if before.contains(rectangle) { return }
            // Lines or columns that follow each other become one entry, without a pixel more.
            let joined = before.union(rectangle)
            let stacked = before.x == rectangle.x && before.width == rectangle.width && rectangle.y <= before.bottom && before.y <= rectangle.bottom
            let abreast = before.y == rectangle.y && before.height == rectangle.height && rectangle.x <= before.right && before.x <= rectangle.right
            if stacked || abreast || rectangle.contains(before) {
                pending[pending.count - 1] = demux_surface_entry(damage: joined)
                return
            }
        }
        add(demux_surface_entry(damage: rectangle))
    }

    /// Says that pixels are now those that another place of the surface had before: what was there and in the entries before
    /// this one. When the source is not wholly inside, it is said as damage.
    public mutating func copied(from x: Int, y: Int, to rectangle: SurfaceRectangle) {
        let source = SurfaceRectangle(x: x, y: y, width: rectangle.width, height: rectangle.height)
        guard rectangle.clamped(width: width, height: height) == rectangle, source.clamped(width: width, height: height) == source else {
            return damage(rectangle)
        }
        var entry = demux_surface_entry(damage: rectangle)
        entry.kind = UInt16(DEMUX_SURFACE_COPY)
        entry.source_x = UInt16(truncatingIfNeeded: x)
        entry.source_y = UInt16(truncatingIfNeeded: y)
        add(entry)
    }

    private mutating func add(_ entry: demux_surface_entry) {
        if pending.count >= Self.mostPending {
            // Damage of the pixels that a copy wrote is always as true as the copy.
            let all = pending.reduce(SurfaceRectangle(entry)) { $0.union(SurfaceRectangle($1)) }
            pending.removeAll(keepingCapacity: true)
            pending.append(demux_surface_entry(damage: all))
        } else {
            pending.append(entry)
        }
    }

    /// Makes visible what was said since the last time, and counts one update more. The caller then rings the readers.
    /// - Returns: the update's number; the first is 1.
    @discardableResult
    public mutating func publish() -> UInt64 {
        for entry in pending {
            demux_surface_push(surface.header, head, entry)
            head &+= 1
        }
        pending.removeAll(keepingCapacity: true)
        frame &+= 1
        demux_surface_store_frame(surface.header, frame)
        return frame
    }

    /// Shows a cursor, or none. Visible at once; the next `publish` and ring tell the readers to look.
    public mutating func setCursor(_ cursor: SurfaceCursor?) {
        demux_surface_cursor_begin(surface.header, cursorSequence)
        if let cursor {
            demux_surface_cursor_place(surface.header, cursor.x, cursor.y)
            demux_surface_cursor_shape(
                surface.header, UInt32(cursor.hotX), UInt32(cursor.hotY), UInt32(cursor.width), UInt32(cursor.height), cursor.pixels)
        }
        demux_surface_cursor_visible(surface.header, cursor == nil ? 0 : 1)
        demux_surface_cursor_end(surface.header, cursorSequence)
        cursorSequence &+= 2
    }

    /// Moves the cursor, shown or not.
    public mutating func moveCursor(x: Int32, y: Int32) {
        demux_surface_cursor_begin(surface.header, cursorSequence)
        demux_surface_cursor_place(surface.header, x, y)
        demux_surface_cursor_end(surface.header, cursorSequence)
        cursorSequence &+= 2
    }

    /// Says that another surface replaces this one; nothing is written to it afterwards. The caller then rings the readers.
    public mutating func retire() { set(UInt32(DEMUX_SURFACE_RETIRED), true) }

    /// Says whether the guest has switched the screen off.
    public mutating func setBlank(_ blank: Bool) { set(UInt32(DEMUX_SURFACE_BLANK), blank) }

    private mutating func set(_ flag: UInt32, _ on: Bool) {
        flags = on ? flags | flag : flags & ~flag
        demux_surface_store_flags(surface.header, flags)
    }
}

extension demux_surface_entry {
    /// For a rectangle that lies in a surface, whose sides fit 16 bits.
    init(damage rectangle: SurfaceRectangle) {
        self.init(
            x: UInt16(truncatingIfNeeded: rectangle.x), y: UInt16(truncatingIfNeeded: rectangle.y), width: UInt16(truncatingIfNeeded: rectangle.width),
            height: UInt16(truncatingIfNeeded: rectangle.height), kind: UInt16(DEMUX_SURFACE_DAMAGE), source_x: 0, source_y: 0, pad: 0)
    }
}

extension SurfaceRectangle {
    init(_ entry: demux_surface_entry) {
        self.init(x: Int(entry.x), y: Int(entry.y), width: Int(entry.width), height: Int(entry.height))
    }
}

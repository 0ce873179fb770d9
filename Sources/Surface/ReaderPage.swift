import CSurface
import Platform

/// A reader's page as it was received, checked and mapped.
private struct MappedReaderPage: ~Copyable, @unchecked Sendable {
    // Sendable: as Mapping is; every word that changes is read and written atomically.
    let mapping: Mapping
    let page: UnsafeMutablePointer<demux_reader_page>

    init(_ descriptor: consuming OwnedDescriptor, writable: Bool) throws(SystemError) {
        let memory = try SharedMemory(adopting: descriptor, length: Int(DEMUX_READER_PAGE_LENGTH), what: "a reader page")
        let mapping = try memory.map(writable: writable, what: "a reader page")
        // Sound: one whole page, aligned, mapped as long as this value lives.
        let page = mapping.base.bindMemory(to: demux_reader_page.self, capacity: 1)
        guard page.pointee.magic == demux_reader_magic, page.pointee.version == UInt32(DEMUX_READER_PAGE_VERSION) else {
            throw SystemError("accept", "a reader page", reason: "its header is not that of version \(DEMUX_READER_PAGE_VERSION)")
        }
        self.mapping = mapping
        self.page = page
    }
}

/// A reader's own side of its page: what it wants of the display.
public struct SurfaceReaderPage: ~Copyable, Sendable {
    private let mapped: MappedReaderPage
    private let frame: OwnedDescriptor
    private let want: OwnedDescriptor

    /// Maps the page that the coordinator gave this reader, and takes its two doorbells over.
    /// - Throws: SystemError when the page is not sealed, or not one.
    public init(_ page: consuming OwnedDescriptor, frame: consuming OwnedDescriptor, want: consuming OwnedDescriptor) throws(SystemError) {
        mapped = try MappedReaderPage(page, writable: true)
        self.frame = frame
        self.want = want
    }

    // A reader that ends in order wants nothing any more; for others the coordinator does the same.
    deinit {
        demux_reader_store_viewers(mapped.page, 0)
        SurfaceDoorbell.ring(want.raw)
    }

    /// Says for how many viewers (0: nobody, the display may stop all its work) and how many updates a second are wished
    /// (0: 60; else 1…240), and tells the display when that is new.
    public func set(viewers: UInt32, maxRate: UInt32) {
        let changed = demux_reader_viewers(mapped.page) != viewers || demux_reader_max_rate(mapped.page) != maxRate
        demux_reader_store_max_rate(mapped.page, maxRate)
        demux_reader_store_viewers(mapped.page, viewers)
        if changed { SurfaceDoorbell.ring(want.raw) }
    }

    /// Asks the display to look at once, and often for a moment: something is about to change, for somebody has just typed.
    public func wantsLook() { SurfaceDoorbell.ring(want.raw) }

    /// Says which update was taken last (`SurfaceReader.taken`). Rings nobody.
    public func saw(_ frame: UInt64) { demux_reader_store_seen(mapped.page, frame) }

    /// Readable when the display has published, or retired the surface.
    public var frameDescriptor: CInt { frame.raw }

    /// Takes the rings so far; to be called before the surface is looked at.
    /// - Returns: false when display and coordinator are gone: the descriptor stays readable, and is to be forgotten.
    @discardableResult
    public func clear() -> Bool { SurfaceDoorbell.clear(frame.raw) }
}

/// The display's side of one reader's page. Nothing here waits for the reader, and every value is clamped.
public struct SurfaceReaderWatch: ~Copyable, Sendable {
    private let mapped: MappedReaderPage
    private let frame: OwnedDescriptor
    private let want: OwnedDescriptor

    /// Maps a reader's page for reading.
    /// - Throws: SystemError when the page is not sealed, or not one.
    public init(_ page: consuming OwnedDescriptor, frame: consuming OwnedDescriptor, want: consuming OwnedDescriptor) throws(SystemError) {
        mapped = try MappedReaderPage(page, writable: false)
        self.frame = frame
        self.want = want
    }

    /// How many viewers the reader has; 0: it wants nothing.
    public var viewers: UInt32 { demux_reader_viewers(mapped.page) }

    /// Updates a second that it takes, 1…240.
    public var maxRate: Int {
        let wish = demux_reader_max_rate(mapped.page)
        return wish == 0 ? 60 : Int(min(wish, 240))
    }

    /// The update that it says it took last; any number. Never to be waited for.
    public var seen: UInt64 { demux_reader_seen(mapped.page) }

    /// Readable when the reader, or the coordinator for it, has changed the page.
    public var wantDescriptor: CInt { want.raw }

    /// Takes the rings so far; to be called before the page is looked at.
    /// - Returns: false when the other end is closed: the descriptor stays readable, and is to be forgotten.
    @discardableResult
    public func clearWant() -> Bool { SurfaceDoorbell.clear(want.raw) }

    /// Wakes the reader; never waits.
    public func ringFrame() { SurfaceDoorbell.ring(frame.raw) }
}

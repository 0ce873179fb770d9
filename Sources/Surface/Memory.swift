import CSurface
import Glibc
import Platform

/// The coordinator's side: it makes the memory that the display, the exporter and the others share.
public enum SurfaceMemory {
    /// A blank surface with its header written; its size is sealed.
    /// - Throws: SystemError for a size that no surface has, and when the kernel refuses.
    public static func create(width: Int, height: Int) throws(SystemError) -> SharedMemory {
        guard let length = SurfaceLayout.length(width: width, height: height) else {
            throw SystemError(
                "create", "a surface of \(width)×\(height)", reason: "its sides must be 1 to \(SurfaceLayout.largestSide) pixels and all of it at most "
                    + "\(SurfaceLayout.largestLength >> 20) MiB")
        }
        let memory = try SharedMemory(name: "demux-surface", length: length)
        // The display may get its descriptor at any time: nobody but its owner may open the file anew, and that for reading only.
        try memory.restrict()
        let mapping = try memory.map(what: "a new surface")
        let header = mapping.base.bindMemory(to: demux_surface_header.self, capacity: 1)
        header.pointee.magic = demux_surface_magic
        header.pointee.version = UInt32(DEMUX_SURFACE_VERSION)
        header.pointee.pixels_offset = UInt32(SurfaceLayout.pixelsOffset)
        header.pointee.width = UInt32(width)
        header.pointee.height = UInt32(height)
        header.pointee.stride = UInt32(SurfaceLayout.stride(width: width))
        header.pointee.format = UInt32(DEMUX_SURFACE_FORMAT_X8R8G8B8)
        header.pointee.length = UInt64(length)
        return memory
    }

    /// Takes over a surface that a predecessor made.
    public static func adopt(_ descriptor: consuming OwnedDescriptor, width: Int, height: Int) throws(SystemError) -> SharedMemory {
        guard let length = SurfaceLayout.length(width: width, height: height) else {
            throw SystemError("take over", "a surface of \(width)×\(height)", reason: "no surface has that size")
        }
        return try SharedMemory(adopting: descriptor, length: length, what: "a surface of \(width)×\(height)")
    }

    /// Takes over a reader's page that a predecessor made.
    public static func adoptReaderPage(_ descriptor: consuming OwnedDescriptor) throws(SystemError) -> SharedMemory {
        try SharedMemory(adopting: descriptor, length: Int(DEMUX_READER_PAGE_LENGTH), what: "a reader page")
    }

    /// A reader's page with its header written: nothing is wanted yet.
    public static func createReaderPage() throws(SystemError) -> SharedMemory {
        let memory = try SharedMemory(name: "demux-surface-reader", length: Int(DEMUX_READER_PAGE_LENGTH))
        try memory.restrict()
        let mapping = try memory.map(what: "a new reader page")
        let page = mapping.base.bindMemory(to: demux_reader_page.self, capacity: 1)
        page.pointee.magic = demux_reader_magic
        page.pointee.version = UInt32(DEMUX_READER_PAGE_VERSION)
        return memory
    }

    /// What the coordinator does when a reader has died: nothing is wanted any more. Afterwards it rings `want`.
    public static func resetReaderPage(_ memory: borrowing SharedMemory) throws(SystemError) {
        let mapping = try memory.map(what: "a reader page")
        let page = mapping.base.bindMemory(to: demux_reader_page.self, capacity: 1)
        demux_reader_store_viewers(page, 0)
    }
}

/// A mapped surface whose header has been checked.
struct MappedSurface: ~Copyable, @unchecked Sendable {
    // Sendable: as Mapping is; the words that change are read and written atomically.
    let mapping: Mapping
    let header: UnsafeMutablePointer<demux_surface_header>

    /// Checks seals and length before it maps, and the header afterwards.
    init(_ descriptor: consuming OwnedDescriptor, width: Int, height: Int, writable: Bool) throws(SystemError) {
        let what = "a surface of \(width)×\(height)"
        guard let length = SurfaceLayout.length(width: width, height: height) else {
            throw SystemError("accept", what, reason: "no surface has that size")
        }
        let memory = try SharedMemory(adopting: descriptor, length: length, what: what)
        let mapping = try memory.map(writable: writable, what: what)
        // Sound: the mapping is longer than a header, page-aligned, and stays as long as this value.
        let header = mapping.base.bindMemory(to: demux_surface_header.self, capacity: 1)
        let fields: [(String, UInt64, UInt64)] = [
            ("magic", header.pointee.magic, demux_surface_magic),
            ("version", UInt64(header.pointee.version), UInt64(DEMUX_SURFACE_VERSION)),
            ("place of the pixels", UInt64(header.pointee.pixels_offset), UInt64(SurfaceLayout.pixelsOffset)),
            ("width", UInt64(header.pointee.width), UInt64(width)),
            ("height", UInt64(header.pointee.height), UInt64(height)),
            ("stride", UInt64(header.pointee.stride), UInt64(SurfaceLayout.stride(width: width))),
            ("format", UInt64(header.pointee.format), UInt64(DEMUX_SURFACE_FORMAT_X8R8G8B8)),
            ("length", header.pointee.length, UInt64(length)),
        ]
        for (name, found, wanted) in fields where found != wanted {
            throw SystemError("accept", what, reason: "its header's \(name) is \(found), not \(wanted)")
        }
        self.mapping = mapping
        self.header = header
    }

    /// The first pixel. From here on sizes are those that were agreed, never the header's.
    var pixels: UnsafeMutableRawPointer { mapping.base + SurfaceLayout.pixelsOffset }
}

import CLinux
import Glibc
import Platform
import Surface
import Synchronization
import Testing

/// A surface with both of its ends, as coordinator, display and reader have them.
struct Ends: ~Copyable {
    let memory: SharedMemory
    var writer: SurfaceWriter
    var reader: SurfaceReader
    /// All of it, as a hostile writer could write it.
    let raw: Mapping

    init(width: Int = 64, height: Int = 48) throws {
        // All of them, or none: a value with several owners in it cannot be half made.
        let memory = try SurfaceMemory.create(width: width, height: height)
        let writer = try SurfaceWriter(memory.descriptor.duplicate(), width: width, height: height)
        let reader = try SurfaceReader(memory.readOnly(), width: width, height: height)
        let raw = try memory.map(what: "a surface under test")
        self.memory = memory
        self.writer = writer
        self.reader = reader
        self.raw = raw
    }

    /// What a reader gets now; nil when nothing is new.
    mutating func changes() -> [SurfaceChange]? {
        var found: [SurfaceChange] = []
        return reader.take { found.append($0) } ? found : nil
    }
}

/// A writer for another thread.
final class SharedWriter: Sendable {
    let writer: Mutex<SurfaceWriter>
    init(_ memory: borrowing SharedMemory, width: Int, height: Int) throws {
        writer = Mutex(try SurfaceWriter(memory.descriptor.duplicate(), width: width, height: height))
    }
}

func isReadable(_ descriptor: CInt) -> Bool {
    var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&waiting, 1, 0) == 1
}

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

/// The same numbers in every run.
struct FixedRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return (state >> 33) ^ state
    }
}

/// Runs a closure on a thread of its own; the result waits for its end.
func onThread(_ body: @escaping @Sendable () -> Void) -> () -> Void {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { argument in
            if let argument { Unmanaged<Box>.fromOpaque(argument).takeRetainedValue().body() }
            return nil
        }, Unmanaged.passRetained(Box(body)).toOpaque())
    let started = thread
    return { pthread_join(started, nil) }
}

func isReadable(_ descriptor: CInt) -> Bool {
    var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&waiting, 1, 0) == 1
}

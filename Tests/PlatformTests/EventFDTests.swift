import CLinux
import Glibc
import Platform
import TestTools
import Testing

@Suite("A doorbell that somebody shares who is not trusted")
struct EventFDTests {
    /// What somebody who has the same open file can do to it.
    private func makeWait(_ bell: borrowing EventFD, count: UInt64) {
        #expect(demux_set_nonblocking(bell.descriptor.raw, 0) >= 0)
        var count = count
        if count > 0 { #expect(write(bell.descriptor.raw, &count, 8) == 8) }
    }

    /// Whether something comes to its end on a thread of its own; the limit only keeps one that hangs from hanging the tests.
    private func ends(_ body: @escaping @Sendable () -> Void) throws -> Bool {
        let (reader, writer) = try Files.pipe()
        let hearing = OwnedDescriptor(adopting: reader)
        let telling = OwnedDescriptor(adopting: writer)
        let raw = telling.raw
        try TestThread {
            body()
            _ = write(raw, "x", 1)
        }.detach()
        var wait = pollfd(fd: hearing.raw, events: Int16(POLLIN), revents: 0)
        let inTime = poll(&wait, 1, 60_000) == 1
        // One that hangs may still write later: then its end stays open.
        if !inTime { _ = telling.release() }
        return inTime
    }

    @Test("it is rung without waiting although it is full and its O_NONBLOCK is off, and stays readable")
    func full() throws {
        let bell = try EventFD()
        makeWait(bell, count: .max - 1)
        let raw = bell.descriptor.raw
        #expect(try ends { for _ in 0..<3 { EventFD.ringShared(raw) } })
        #expect(EventFD.clearShared(raw) == .max)
    }

    @Test("it is cleared without waiting although it is empty and its O_NONBLOCK is off")
    func empty() throws {
        let bell = try EventFD()
        makeWait(bell, count: 0)
        let raw = bell.descriptor.raw
        #expect(try ends { _ = EventFD.clearShared(raw) })
        #expect(EventFD.clearShared(raw) == 0)
        makeWait(bell, count: 5)
        #expect(EventFD.clearShared(raw) == 5)
    }

    @Test("each ring counts, by many threads and far more often than the kernel's queue is long")
    func many() throws {
        let bell = try EventFD()
        let raw = bell.descriptor.raw
        let threads = try (0..<4).map { _ in try TestThread { for _ in 0..<2000 { EventFD.ringShared(raw) } } }
        for thread in threads { thread.join() }
        #expect(EventFD.clearShared(raw) == 8000)
        #expect(EventFD.clearShared(raw) == 0)
    }

    @Test("a loop that watches for edges is told of each ring although nobody ever reads")
    func edges() throws {
        let loop = try EventLoop()
        let bell = try EventFD()
        let raw = bell.descriptor.raw
        var told = 0
        try loop.watch(raw, for: [.readable, .edge]) { _ in told += 1 }
        for round in 1...3 {
            bell.ring()
            try loop.turn(limit: .seconds(60))
            #expect(told == round)
            // Nothing new, nothing told.
            try loop.turn(limit: .zero)
            #expect(told == round)
        }
        loop.forget(raw)
    }
}

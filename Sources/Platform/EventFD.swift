import CLinux
import Glibc

/// An eventfd used as a doorbell: any number of rings before a look count as one.
public struct EventFD: ~Copyable, Sendable {
    public let descriptor: OwnedDescriptor

    /// A new doorbell, non-blocking and close-on-exec.
    public init() throws(SystemError) {
        let raw = eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
        guard raw >= 0 else { throw SystemError("create", "an eventfd") }
        descriptor = OwnedDescriptor(adopting: raw)
    }

    /// Takes over one that another process made.
    public init(adopting descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    public borrowing func ring() { EventFD.ring(descriptor.raw) }

    /// Takes what has been rung so far; true when there was any.
    @discardableResult
    public borrowing func clear() -> Bool { EventFD.clear(descriptor.raw) }

    /// Rings a doorbell by number. A full counter (2^64-2 rings unseen) is still readable, so EAGAIN loses nothing.
    @inlinable
    public static func ring(_ raw: CInt) {
        var one: UInt64 = 1
        _ = write(raw, &one, 8)
    }

    @inlinable
    public static func clear(_ raw: CInt) -> Bool {
        var count: UInt64 = 0
        return read(raw, &count, 8) == 8
    }
}

/// Doorbells that somebody shares who is not trusted.
///
/// Both sides have the same open file, and with it O_NONBLOCK and the counter. Whoever shares it could switch the one off and fill or empty the other, and a plain
/// `write` or `read` here would wait for ever. These never wait, whatever the file's flags are and whatever is done to it meanwhile.
extension EventFD {
    /// Rings it. When the kernel itself counts an eventfd up, it waits for nobody: see `demux_ringer`.
    public static func ringShared(_ raw: CInt) {
        if let ringer = Ringer.ringer, demux_ringer_ring(ringer, raw) == 0 { return }
        // A kernel without such a queue, or without room for one more: the next best thing, which only a race defeats.
        var room = pollfd(fd: raw, events: Int16(POLLOUT), revents: 0)
        if poll(&room, 1, 0) == 1, room.revents & Int16(POLLOUT) != 0 { ring(raw) }
    }

    public borrowing func ringShared() { EventFD.ringShared(descriptor.raw) }

    /// Takes what has been rung so far; 0 when there was nothing.
    public static func clearShared(_ raw: CInt) -> UInt64 {
        var count: UInt64 = 0
        return demux_read_now(raw, &count, 8) == 8 ? count : 0
    }

    /// Takes what has been rung so far; true when there was any.
    @discardableResult
    public borrowing func clearShared() -> Bool { EventFD.clearShared(descriptor.raw) > 0 }
}

/// This process's queue for `ringShared`, made when it is first needed: a process that rings nobody's has none, and ends sooner for it.
private enum Ringer {
    static let ringer: demux_ringer? = {
        var ringer = demux_ringer()
        return demux_ringer_open(&ringer) == 0 ? ringer : nil
    }()
}

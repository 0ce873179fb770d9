import CLinux
import Glibc
import Platform

/// One direction of waking between a display and one reader: the two ends of a socket pair.
///
/// Not an eventfd: both sides would share its open file description, and with it O_NONBLOCK. A reader that was taken over
/// could switch that off, fill the counter, and so stop the display, which a guest waits for, in its next ring. Each end of a
/// socket pair is a file of its own, and is written with MSG_DONTWAIT whatever its flags say.
public struct SurfaceDoorbell: ~Copyable, Sendable {
    /// For who rings.
    public let ringing: OwnedDescriptor
    /// For who is woken: readable once it was rung.
    public let hearing: OwnedDescriptor

    /// A new pair; both ends non-blocking and close-on-exec.
    public init() throws(SystemError) {
        var ends: [CInt] = [-1, -1]
        let type = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw SystemError("create", "a doorbell") }
        ringing = OwnedDescriptor(adopting: ends[0])
        hearing = OwnedDescriptor(adopting: ends[1])
    }

    /// Takes over both ends of one that another process made.
    public init(adoptingRinging ringing: consuming OwnedDescriptor, hearing: consuming OwnedDescriptor) {
        self.ringing = ringing
        self.hearing = hearing
    }

    /// Rings by number: never waits, raises no signal. One that is full has been rung already, and one whose other end is
    /// closed has nobody to wake.
    public static func ring(_ raw: CInt) {
        var one: UInt64 = 1
        let sent = send(raw, &one, 1, CInt(MSG_DONTWAIT | MSG_NOSIGNAL))
        // An eventfd that the coordinator made keeps its meaning.
        if sent < 0 && errno == ENOTSOCK { EventFD.ring(raw) }
    }

    /// Takes what has been rung so far; more than a few hundred rings are left for the next time.
    /// - Returns: false when the other end is closed for good: the descriptor is readable for ever then, and no longer worth watching.
    public static func clear(_ raw: CInt) -> Bool {
        var bytes = (UInt64(0), UInt64(0), UInt64(0), UInt64(0), UInt64(0), UInt64(0), UInt64(0), UInt64(0))
        let size = MemoryLayout.size(ofValue: bytes)
        for _ in 0..<8 {
            let got = recv(raw, &bytes, size, CInt(MSG_DONTWAIT))
            if got < 0 {
                if errno == ENOTSOCK { _ = EventFD.clear(raw) }
                return true
            }
            if got == 0 { return false }
            if got < size { return true }
        }
        return true
    }
}

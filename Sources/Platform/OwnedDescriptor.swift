import CLinux
import Glibc

/// A file descriptor with one owner, closed when the owner goes away.
public struct OwnedDescriptor: ~Copyable, Sendable {
    /// The number, for calls that only use the descriptor. It must not be closed or kept beyond the owner's life.
    public let raw: CInt

    /// Takes over an open descriptor.
    public init(adopting raw: CInt) { self.raw = raw }

    deinit { _ = close(raw) }

    /// Gives up ownership: the caller closes it.
    public consuming func release() -> CInt {
        let raw = self.raw
        discard self
        return raw
    }

    /// A second descriptor for the same open file, close-on-exec.
    public borrowing func duplicate() throws(SystemError) -> OwnedDescriptor {
        let copy = demux_duplicate(raw)
        guard copy >= 0 else { throw SystemError("duplicate", "descriptor \(raw)") }
        return OwnedDescriptor(adopting: copy)
    }

    /// Keeps it from programs that this process starts.
    public borrowing func setCloseOnExec() { _ = demux_set_cloexec(raw, 1) }

    /// Makes reads and writes return EAGAIN instead of waiting.
    public borrowing func setNonBlocking(_ on: Bool) throws(SystemError) {
        guard demux_set_nonblocking(raw, on ? 1 : 0) >= 0 else { throw SystemError("change the mode of", "descriptor \(raw)") }
    }
}

/// Descriptors that came with a message, or go with one. Those that nobody takes are closed with the bag.
public final class DescriptorBag {
    private var held: [CInt]

    public init() { held = [] }

    init(adopting descriptors: [CInt]) { held = descriptors }

    deinit { for descriptor in held { _ = close(descriptor) } }

    /// How many are left.
    public var count: Int { held.count }

    /// The next descriptor, in the order in which they were sent; nil when none is left.
    public func take() -> OwnedDescriptor? {
        held.isEmpty ? nil : OwnedDescriptor(adopting: held.removeFirst())
    }

    /// Adds one at the end.
    public func add(_ descriptor: consuming OwnedDescriptor) { held.append(descriptor.release()) }

    /// The numbers, for sending them; they stay owned by the bag.
    public var raw: [CInt] { held }
}

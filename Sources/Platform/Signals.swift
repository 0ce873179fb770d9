import CLinux
import Glibc

/// Signals taken as events: blocked for the process and read from a descriptor.
public struct SignalDescriptor: ~Copyable {
    public let descriptor: OwnedDescriptor

    /// Blocks the signals and opens a descriptor for them. To be called before any thread is started.
    public init(_ numbers: [CInt]) throws(SystemError) {
        var set = sigset_t()
        sigemptyset(&set)
        for number in numbers { sigaddset(&set, number) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
        let raw = signalfd(-1, &set, CInt(SFD_CLOEXEC | SFD_NONBLOCK))
        guard raw >= 0 else { throw SystemError("watch for", "signals") }
        descriptor = OwnedDescriptor(adopting: raw)
    }

    /// The next signal that has come; nil when none is waiting.
    public borrowing func next() -> CInt? {
        var info = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        guard read(descriptor.raw, &info, size) == size else { return nil }
        return CInt(bitPattern: info.ssi_signo)
    }
}

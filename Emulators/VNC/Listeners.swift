import CLinux
import Glibc
import Platform

/// The sockets at which viewers come in. When there is no room for one more, nobody is accepted for a moment: they wait in the kernel's
/// queue, and trying again and again would take all the time.
final class Listeners {
    /// Connections accepted in one turn of the loop, so that others get theirs.
    private static let mostInTurn = 16
    private static let pause = Duration.milliseconds(100)

    private let loop: EventLoop
    private var sockets: [OwnedDescriptorBox] = []
    private var isPaused = false
    /// Somebody has come.
    var onAccept: (consuming OwnedDescriptor) -> Void = { _ in }
    /// There are no descriptors for those who come: somebody may have to go.
    var onFull: () -> Void = {}

    init(loop: EventLoop) { self.loop = loop }

    func add(_ descriptor: consuming OwnedDescriptor) throws(SystemError) {
        try descriptor.setNonBlocking(true)
        let socket = OwnedDescriptorBox(descriptor.release())
        sockets.append(socket)
        try loop.watch(socket.raw, for: .readable) { [unowned self] _ in self.accept(socket.raw) }
    }

    private func accept(_ listener: CInt) {
        for _ in 0..<Self.mostInTurn where !isPaused {
            let raw = demux_accept_nonblocking(listener)
            guard raw >= 0 else {
                if [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(errno) { stop() }
                return
            }
            let socket = OwnedDescriptor(adopting: raw)
            guard DescriptorReserve.allows(raw) else { return stop() }
            onAccept(socket)
        }
    }

    private func stop() {
        isPaused = true
        watch([])
        onFull()
        loop.after(Self.pause) { [weak self] in
            self?.isPaused = false
            self?.watch(.readable)
        }
    }

    private func watch(_ interest: EventLoop.Interest) { for socket in sockets { try? loop.change(socket.raw, to: interest) } }
}

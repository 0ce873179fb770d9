import CLinux
import Glibc
import Platform

/// Stands between libxl and QEMU's monitor `libxl-cmd`: it listens where libxl expects QEMU, and relays every connection to one of its own
/// at QEMU's private socket.
///
/// QEMU's monitor serves one client at a time and lets the others wait; so does this, in the order in which they came, with a
/// connection of its own for each. Bytes and descriptors arrive in the order in which they were sent, in both directions, as do
/// ends; a side that does not read makes the other side wait, with at most 64 KiB held for each direction.
///
/// Not Sendable: it belongs to the thread of its event loop.
public final class QMPFacade {
    /// The largest command that is looked into, in bytes; a longer one passes unseen. libxl's largest is below 1 KiB.
    static let commandLimit = 32_768
    /// How many clients may be there at a time, those waiting included; further ones wait in the kernel.
    public static let clientLimit = 64

    struct Hooks {
        var decide: ((QMPCommand) -> QMPVerdict)?
        var observe: ((QMPCommand) -> Void)?
        var trouble: ((SystemError) -> Void)?
    }

    private let loop: EventLoop
    private let listener: OwnedDescriptor
    /// Removed at the end, when the file is of our making.
    private let ownPath: String?
    private let qemuPath: String
    private var hooks = Hooks()
    private var isHeld = false
    private var isClosed = false
    private var isListening = false
    private var connections = 0
    /// In the order in which they came.
    private var waiting: [QMPRelay] = []
    private var served: [QMPRelay] = []
    /// The one whose connection QEMU has; the others of `served` only have replies to take.
    private var current: QMPRelay?
    private var retry: EventLoop.Timer?
    private var backoff = Backoff()

    /// Listens where libxl will connect: at a path, or with the listening socket that libxl made itself and handed over.
    /// - Parameter qemu: the private socket of QEMU's monitor. Nobody need listen there yet.
    /// - Throws: SystemError when it cannot listen there.
    public init(loop: EventLoop, at place: MonitorSocket, qemu: String) throws(SystemError) {
        self.loop = loop
        qemuPath = qemu
        switch place {
        case .path(let path):
            listener = try UnixSocket.listen(.stream, path: path)
            ownPath = path
        case .descriptor(let number):
            listener = try Self.adopt(number)
            ownPath = nil
        }
        try listener.setNonBlocking(true)
        try listen(true)
    }

    /// Goes on listening where a predecessor of this process was killed.
    /// - Parameter place: where it listened; the descriptor's number does not matter.
    public init(loop: EventLoop, adopting listener: consuming OwnedDescriptor, of place: MonitorSocket, qemu: String) throws(SystemError) {
        self.loop = loop
        qemuPath = qemu
        self.listener = listener
        if case .path(let path) = place { ownPath = path } else { ownPath = nil }
        try listen(true)
    }

    /// The listening socket, for whoever holds it for a successor.
    public var descriptor: CInt { listener.raw }

    deinit { close() }

    /// Called with every whole command before it goes on, and says what becomes of it. Set before clients come: a connection keeps
    /// what is set when its turn begins. While it is set, a command is kept back until it is whole.
    public var decide: ((QMPCommand) -> QMPVerdict)? {
        get { hooks.decide }
        set { hooks.decide = newValue }
    }

    /// Called with every whole command, before its last bytes go on; it holds nothing back.
    public var observe: ((QMPCommand) -> Void)? {
        get { hooks.observe }
        set { hooks.observe = newValue }
    }

    /// Called when a connection had to be given up because of this machine, not because of a peer.
    public var trouble: ((SystemError) -> Void)? {
        get { hooks.trouble }
        set { hooks.trouble = newValue }
    }

    /// Makes new clients wait until `open`; one that is being served goes on.
    ///
    /// libxl's patience: 60 s until xenstore says `running` (or, with dm_restrict, until the first `query-status` is answered), and
    /// after that 10 s in all for `query-chardev` and `query-vnc` (LIBXL_DEVICE_MODEL_START_TIMEOUT, LIBXL_QMP_CMD_TIMEOUT). An
    /// unrestricted QEMU writes `running` by itself as soon as it is set up, so that a hold has those 10 s.
    public func hold() { isHeld = true }

    /// Lets the waiting clients through, in their order.
    public func open() {
        isHeld = false
        advance()
    }

    /// How many clients there are, those that wait included.
    public var clientCount: Int { waiting.count + served.count }

    /// Ends everything: to be called when QEMU has ended. Every client sees the end of its connection, and nobody can
    /// connect any more.
    public func close() {
        guard !isClosed else { return }
        isClosed = true
        try? listen(false)
        _ = shutdown(listener.raw, CInt(SHUT_RDWR))
        if let ownPath { _ = unlink(ownPath) }
        if let retry { loop.cancel(retry) }
        retry = nil
        for relay in served + waiting { relay.close() }
        served = []
        waiting = []
    }

    private func listen(_ on: Bool) throws(SystemError) {
        guard on != isListening else { return }
        if on {
            try loop.watch(listener.raw, for: .readable) { [weak self] _ in self?.accept() }
        } else {
            loop.forget(listener.raw)
        }
        isListening = on
    }

    private func accept() {
        do throws(SystemError) {
            while clientCount < Self.clientLimit {
                guard let client = try UnixSocket.accept(listener.raw) else { break }
                connections += 1
                waiting.append(
                    QMPRelay(
                        number: connections, loop: loop, client: client,
                        freed: { [weak self] in self?.freed($0) }, ended: { [weak self] in self?.ended($0) }))
            }
            if clientCount >= Self.clientLimit { try listen(false) }
        } catch {
            hooks.trouble?(error)
            // Without a pause it would be tried again at once, for ever: most likely the descriptors have run out.
            try? listen(false)
            loop.after(.milliseconds(250)) { [weak self] in self?.resumeListening() }
        }
        advance()
    }

    private func resumeListening() {
        guard !isClosed, clientCount < Self.clientLimit else { return }
        do throws(SystemError) { try listen(true) } catch { hooks.trouble?(error) }
    }

    /// Gives QEMU to the next client.
    private func advance() {
        guard !isClosed, !isHeld, current == nil, retry == nil, let next = waiting.first else { return }
        do throws(SystemError) {
            guard let connection = try MonitorConnection.attempt(qemuPath) else {
                retry = loop.after(backoff.take()) { [weak self] in
                    self?.retry = nil
                    self?.advance()
                }
                return
            }
            backoff.reset()
            waiting.removeFirst()
            served.append(next)
            current = next
            next.start(connection, hooks: hooks)
        } catch {
            hooks.trouble?(error)
            next.close()
        }
    }

    private func freed(_ relay: QMPRelay) {
        guard current === relay else { return }
        current = nil
        // Not from within the relay's own call.
        loop.soon { [weak self] in self?.advance() }
    }

    private func ended(_ relay: QMPRelay) {
        if current === relay { current = nil }
        served.removeAll { $0 === relay }
        waiting.removeAll { $0 === relay }
        guard !isClosed else { return }
        loop.soon { [weak self] in
            self?.resumeListening()
            self?.advance()
        }
    }

    /// Takes over a socket that libxl opened: with dm_restrict it does, and tells only its number.
    private static func adopt(_ number: CInt) throws(SystemError) -> OwnedDescriptor {
        let what = "descriptor \(number) as libxl's monitor socket"
        var listening: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        guard getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 else {
            throw SystemError("use", what, remedy: "it must be open and a socket that listens")
        }
        guard listening != 0 else { throw SystemError("use", what, reason: "it does not listen", remedy: "libxl opens it when dm_restrict is set") }
        let owned = OwnedDescriptor(adopting: number)
        guard demux_set_cloexec(number, 1) == 0 else { throw SystemError("use", what) }
        // libxl lets one client wait, which is QEMU's way; more may come while QEMU starts.
        guard Glibc.listen(number, 64) == 0 else { throw SystemError("use", what) }
        return owned
    }
}

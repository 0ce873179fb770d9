import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import Logging
import Platform
import Specification

/// The control plane of one guest: its emulators, who owns what, and the control socket. It is never in the way of a direct
/// emulator's access.
///
/// Used on the loop's thread only. It knows no device and no toolstack: QEMU is what its owner tells it of.
public final class Coordinator {
    public struct Settings: Sendable {
        /// The guest's name, for people.
        public var guestName: String
        /// "xen" or "local".
        public var hostKind: String
        /// The folder of the guest's sockets; made by `openControl`, removed by `shutDown`.
        public var directory: String
        /// The user that direct emulators become when the guest is restricted.
        public var restrictedTo: (uid: UInt32, gid: UInt32)?

        public init(guestName: String, hostKind: String, directory: String, restrictedTo: (uid: UInt32, gid: UInt32)? = nil) {
            self.guestName = guestName
            self.hostKind = hostKind
            self.directory = directory
            self.restrictedTo = restrictedTo
        }
    }

    public let loop: EventLoop
    public let specification: GuestSpecification
    public let settings: Settings
    public let logBook: LogBook
    private let context: GuestContext
    private var sessions: [EmulatorSession] = []
    private var control: ControlServer?
    /// Held while we have the folder: the kernel lets go of it however we end.
    private var lock: CInt = -1
    /// What is known of QEMU; its owner keeps it up to date.
    public var qemu: QEMUStatus?
    /// Called when the control socket's `stop` was asked.
    public var stopRequested: (() -> Void)?

    public init(
        loop: EventLoop, host: any Host, specification: GuestSpecification, settings: Settings, logger: Logger
    ) throws(HostError) {
        self.loop = loop
        self.specification = specification
        self.settings = settings
        logBook = LogBook(logger: logger)
        context = try GuestContext(
            loop: loop, host: host, logBook: logBook, allowsDirect: !(host is any IsolatingHost), restrictedTo: settings.restrictedTo)
    }

    // MARK: start

    /// Takes the high server ids; to be called before QEMU is started.
    public func reserveServers() throws(HostError) { try context.reserve(specification.emulators.count) }

    /// Tells of a range that QEMU has, so that a clash is found although Xen would be silent.
    public func noteQEMU(_ range: IORange, label: String) { context.registry.noteQEMU(range, label: label) }

    /// The emulator, if any, that owns a PCI function of bus 0.
    public func owner(of function: PCIAddress) -> String? {
        for entry in context.registry.entries where entry.range == .pci(function) {
            if case .emulator(let name) = entry.owner { return name }
        }
        return nil
    }

    /// Starts the specification's emulators, all at once; `done` is called once, with nil when every one serves or with the
    /// reasons why not.
    public func startEmulators(_ done: @escaping ([String]?) -> Void) {
        var waiting = specification.emulators.count
        var reasons: [String] = []
        guard waiting > 0 else { return loop.soon { done(nil) } }
        func oneMore(_ reason: String?) {
            if let reason { reasons.append(reason) }
            waiting -= 1
            if waiting == 0 { done(reasons.isEmpty ? nil : reasons) }
        }
        for emulator in specification.emulators {
            start(emulator) { [loop] reason in
                // Never from inside start(): the first failure must not be reported before the others are counted.
                loop.soon { oneMore(reason) }
            }
        }
    }

    private func start(_ emulator: EmulatorSpecification, _ started: @escaping (String?) -> Void) {
        do {
            let session = try EmulatorSession(emulator, context: context, started: started)
            sessions.append(session)
        } catch {
            logBook.note(.error, "emulator '\(emulator.name)': \(error)")
            started("emulator '\(emulator.name)': \(error)")
        }
    }

    deinit { if lock >= 0 { close(lock) } }

    /// Opens the control socket: 0600 in a folder 0700.
    /// - Throws: SystemError, also when another coordinator has the folder.
    public func openControl() throws(SystemError) {
        try Self.makeFolder(settings.directory)
        try takeFolder()
        control = try ControlServer(loop: loop, path: settings.directory + "/control.sock") { [unowned self] request, reply in
            self.answer(request, reply)
        }
    }

    /// Two that start at once must not take the socket from each other: the folder itself is the lock.
    private func takeFolder() throws(SystemError) {
        let raw = open(settings.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else { throw SystemError("open", settings.directory) }
        guard flock(raw, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            close(raw)
            guard code == EWOULDBLOCK else { throw SystemError("lock", settings.directory, code: code) }
            throw SystemError(
                "take", settings.directory, reason: "\(context.host.domain) has a coordinator already",
                remedy: "end it first (demux stop \(context.host.domain.rawValue)), or choose another number with --domid")
        }
        lock = raw
    }

    private static func makeFolder(_ path: String) throws(SystemError) {
        var built = ""
        for part in path.split(separator: "/") {
            built += "/" + part
            if mkdir(built, built == path ? 0o700 : 0o755) != 0 && errno != EEXIST {
                throw SystemError("make the folder", built, remedy: "the coordinator needs to write there, or DEMUX_RUN_DIR must name another place")
            }
        }
    }

    // MARK: running

    /// Tells every emulator that it must report the guest pages it writes (live migration), or need not any more.
    public func setDirtyLogging(_ on: Bool) { for session in sessions { session.setDirtyLogging(on) } }

    public var status: GuestStatus {
        GuestStatus(
            domain: context.host.domain.rawValue, name: settings.guestName, host: settings.hostKind, coordinatorPID: getpid(),
            specification: specification.source, vcpus: context.vcpuCount, qemu: qemu, emulators: sessions.map(\.status),
            interpositions: context.registry.interpositions)
    }

    private func answer(_ request: ControlRequest, _ reply: @escaping (ControlReply) -> Void) {
        switch request {
        case .status: reply(.status(status))
        case .logs(let lines): reply(.lines(logBook.last(lines)))
        case .attach(let emulator): attach(emulator, reply)
        case .detach(let name): detach(name, reply)
        case .surface, .displayMode: reply(.failed("this guest has no display of Demux's"))
        case .stop:
            guard let stopRequested else {
                return reply(.failed("this guest's life is the toolstack's: use 'xl destroy' or 'xl shutdown'"))
            }
            reply(.done("stopping"))
            stopRequested()
        }
    }

    private func attach(_ emulator: EmulatorSpecification, _ reply: @escaping (ControlReply) -> Void) {
        sessions.removeAll { session in
            guard session.name == emulator.name, case .ended = session.state else { return false }
            session.removeServer()
            return true
        }
        guard EmulatorSpecification.isName(emulator.name) else {
            return reply(.failed("'\(emulator.name.prefix(40))' is not a name: use 1 to 32 letters, digits, '-' and '_'"))
        }
        guard !sessions.contains(where: { $0.name == emulator.name }) else {
            return reply(.failed("this guest has an emulator '\(emulator.name)' already; detach it first or choose another name"))
        }
        start(emulator) { [weak self] reason in
            guard let self else { return }
            guard let reason else { return reply(.done("emulator '\(emulator.name)' serves")) }
            if let session = self.sessions.first(where: { $0.name == emulator.name }) {
                session.detach(limit: .seconds(1)) { _ in
                    self.sessions.removeAll { $0 === session }
                    reply(.failed(reason))
                }
            } else {
                reply(.failed(reason))
            }
        }
    }

    private func detach(_ name: String, _ reply: @escaping (ControlReply) -> Void) {
        guard let session = sessions.first(where: { $0.name == name }) else {
            let names = sessions.map { $0.name }.joined(separator: ", ")
            return reply(.failed("this guest has no emulator '\(name.prefix(40))'; it has: \(names.isEmpty ? "none" : names)"))
        }
        session.cancelStart()
        session.detach { [weak self] reason in
            guard let self else { return }
            self.sessions.removeAll { $0 === session }
            if let reason { return reply(.failed(reason)) }
            self.logBook.note(.info, "emulator '\(name)' was detached")
            reply(.done("emulator '\(name)' was detached"))
        }
    }

    // MARK: end

    /// Ends everything in order: emulators quit and their servers go, then the sockets; `done` is called once.
    public func shutDown(_ done: @escaping () -> Void) {
        control = nil
        var waiting = sessions.count
        let finish = { [self] in
            for session in sessions { session.removeServer() }
            sessions = []
            context.releaseServers()
            removeSockets()
            done()
        }
        guard waiting > 0 else { return finish() }
        for session in sessions {
            session.detach(limit: .seconds(2)) { _ in
                waiting -= 1
                if waiting == 0 { finish() }
            }
        }
    }

    /// The domain is dying: lets go of every mapping and server at once, because what stays mapped keeps a zombie, and ends
    /// the emulators. `shutDown` still has to follow.
    public func guestIsGone() {
        context.dying = true
        for session in sessions { session.letGo() }
        context.releaseServers()
    }

    private func removeSockets() {
        // Without the lock they are somebody else's.
        guard lock >= 0 else { return }
        defer {
            close(lock)
            lock = -1
        }
        _ = unlink(settings.directory + "/control.sock")
        _ = rmdir(settings.directory)
    }
}

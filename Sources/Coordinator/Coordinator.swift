import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import Keeping
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
        /// The host's watchdog, a program's path: started in the folder above `directory` when it does not run there yet. Nil: nobody looks
        /// whether emulators hang.
        public var watchdog: String?

        /// Whether emulators are killed when the thread that runs the loop ends, however it does: where the guest ends with this process, and nobody
        /// else would end them.
        public var emulatorsEndWithIt = false

        /// Whether emulators may count latencies and trace; what that costs is measured without.
        public var observes = true

        public init(
            guestName: String, hostKind: String, directory: String, restrictedTo: (uid: UInt32, gid: UInt32)? = nil, watchdog: String? = nil
        ) {
            self.watchdog = watchdog
            self.guestName = guestName
            self.hostKind = hostKind
            self.directory = directory
            self.restrictedTo = restrictedTo
        }
    }

    public let loop: EventLoop
    public let specification: GuestSpecification
    public private(set) var settings: Settings
    public let logBook: LogBook
    let context: GuestContext
    var sessions: [EmulatorSession] = [] { didSet { context.recorder.changed() } }
    /// Programs that are about to take others' places, by the emulators' names.
    var replacements: [String: Replacement] = [:] { didSet { context.recorder.changed() } }
    private var control: ControlServer?
    /// `shutDown` has begun: nobody is started any more.
    private(set) var isClosing = false
    /// Held while we have the folder: the kernel lets go of it however we end.
    private var lock: CInt = -1
    /// What is known of QEMU; its owner keeps it up to date.
    public var qemu: QEMUStatus?
    /// How many coordinators of this guest were killed before this one.
    public internal(set) var adoptions = 0
    /// Why the guest cannot go on as it should; nil: nothing is known to be wrong.
    public var broken: String? { didSet { context.recorder.changed() } }
    /// Gives what the owner wants a successor to know, in a form of its own.
    public var ownerRecord: (() -> String?)?
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
            loop: loop, host: host, logBook: logBook, allowsDirect: !(host is any IsolatingHost), restrictedTo: settings.restrictedTo,
            emulatorsEndWithIt: settings.emulatorsEndWithIt, unplug: specification.unplug)
        context.unplug.sessions = { [weak self] in self?.sessions ?? [] }
        context.replaceBroken = { [weak self] in self?.replaceBroken($0) ?? false }
        try watchBells()
        context.observations.isOpen = settings.observes
        context.observations.sessions = { [weak self] in self?.sessions ?? [] }
        if let program = settings.watchdog, let end = settings.directory.lastIndex(of: "/") {
            startWatching(base: String(settings.directory[..<end]), program: program)
        }
        context.input.modeChanged = { [weak context] in
            guard let context else { return }
            context.vnc?.tell(InputMode(absolute: context.input.isAbsolute))
        }
    }

    // MARK: start

    /// Takes the high server ids; to be called before QEMU is started.
    public func reserveServers() throws(HostError) { try context.reserve(specification.allEmulators.count) }

    /// Tells of a range that QEMU has, so that a clash is found although Xen would be silent.
    public func noteQEMU(_ range: IORange, label: String) { context.registry.noteQEMU(range, label: label) }

    /// The emulator, if any, that owns a PCI function of bus 0.
    public func owner(of function: PCIAddress) -> String? {
        for entry in context.registry.entries where entry.range == .pci(function) {
            if case .emulator(let name) = entry.owner { return name }
        }
        return nil
    }

    /// Starts the specification's emulators, the display and the exporter, all at once; `done` is called once, with nil when every
    /// one serves or with the reasons why not.
    public func startEmulators(_ done: @escaping ([String]?) -> Void) {
        var all = specification.allEmulators
        var reasons: [String] = []
        if let vnc = specification.vnc {
            do {
                // Before anything runs: a port that is taken is the commonest reason of all.
                let desk = try VNCDesk(vnc, guestName: settings.guestName, directory: settings.directory)
                desk.listeners.keep(context.recorder)
                context.vnc = desk
                all.append(desk.emulator)
                for listener in desk.listeners.publicListeners { logBook.note(.info, "VNC viewers come in at \(listener.text)") }
            } catch {
                logBook.note(.error, "VNC: \(error)")
                reasons.append("VNC: \(error)")
            }
        }
        do {
            try context.serveOwnPorts()
        } catch {
            logBook.note(.error, "PV unplug: \(error)")
            reasons.append("PV unplug: \(error)")
        }
        var waiting = all.count
        let finish = { [context] in
            // After the emulators: what a restored guest's BARs overlap with is theirs.
            context.platform.follow()
            done(reasons.isEmpty ? nil : reasons)
        }
        guard waiting > 0 else { return loop.soon { finish() } }
        func oneMore(_ reason: String?) {
            if let reason { reasons.append(reason) }
            waiting -= 1
            if waiting == 0 { finish() }
        }
        for emulator in all {
            start(emulator) { [loop] reason in
                // Never from inside start(): the first failure must not be reported before the others are counted.
                loop.soon { oneMore(reason) }
            }
        }
    }

    func start(_ emulator: EmulatorSpecification, _ started: @escaping (String?) -> Void) {
        do {
            let session = try EmulatorSession(emulator, context: context, started: started)
            session.died = { [weak self] in self?.died($0, $1) ?? false }
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
        try PrivateFolder.make(settings.directory)
        try takeFolder()
        do {
            try openSockets()
        } catch {
            // This process ends with it: nobody would ever take away what is there already.
            removeSockets()
            throw error
        }
    }

    private func openSockets() throws(SystemError) {
        let listener = try UnixSocket.listen(.messages, path: settings.directory + "/control.sock")
        context.recorder.keep(listener.raw, as: KeptName.control)
        control = try controlServer(listener)
        guard let keeper = context.recorder.keeper else { return }
        let desk = try UnixSocket.listen(.messages, path: settings.directory + "/" + KeeperNames.socketFile)
        keeper.keep([desk.raw], as: KeeperNames.listener)
    }

    private func controlServer(_ listener: consuming OwnedDescriptor) throws(SystemError) -> ControlServer {
        try ControlServer(loop: loop, listener: listener, logBook: logBook) { [unowned self] request, peer, reply in self.answer(request, peer, reply) }
    }

    /// Takes over a predecessor's folder and control socket: who connected in between is answered now.
    func adoptControl() throws(SystemError) {
        lock = try context.recorder.take(KeptName.folder).release()
        control = try controlServer(try context.recorder.take(KeptName.control))
    }

    /// Two that start at once must not take the socket from each other: the folder itself is the lock.
    private func takeFolder() throws(SystemError) {
        let raw = open(settings.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else {
            let remedy = errno == EACCES ? "it is another user's: uid \(geteuid()) may not enter it" : "DEMUX_RUN_DIR must name another place"
            throw SystemError("open", settings.directory, remedy: remedy)
        }
        guard flock(raw, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            close(raw)
            guard code == EWOULDBLOCK else { throw SystemError("lock", settings.directory, code: code) }
            throw SystemError(
                "take", settings.directory, reason: "\(context.host.domain) has a coordinator already",
                remedy: "end it first (demux stop \(context.host.domain.rawValue)), or choose another number with --domid")
        }
        lock = raw
        context.recorder.keep(raw, as: KeptName.folder)
    }

    // MARK: running

    /// Tells every emulator that it must report the guest pages it writes (live migration), or need not any more.
    public func setDirtyLogging(_ on: Bool) {
        context.dirtyLogging = on
        for session in sessions where session.mode != .exporter { session.setDirtyLogging(on) }
    }

    /// Takes the guest's new name: people see it from now on, a successor of this coordinator knows it, and the
    /// next exporter shows it.
    public func rename(_ name: String) {
        guard name != settings.guestName else { return }
        logBook.note(.info, "the guest is called '\(PrintableText.escaped(name))' now")
        settings.guestName = name
        context.vnc?.guestName = name
        context.recorder.changed()
    }

    /// Has every emulator write its requests into its ring, as while somebody traces all of them.
    public func setTracing(_ on: Bool) { context.observations.tracesAll = on }

    public var status: GuestStatus {
        GuestStatus(
            domain: context.host.domain.rawValue, name: settings.guestName, host: settings.hostKind, coordinatorPID: getpid(),
            specification: specification.source, vcpus: context.vcpuCount, qemu: qemu, adoptions: adoptions > 0 ? adoptions : nil, broken: broken, emulators: sessions.map(\.status),
            interpositions: context.registry.interpositions, display: context.surfaces.status, vnc: context.vnc?.status,
            unplug: context.unplug.status, faults: control?.faults.counts)
    }

    // MARK: end

    /// Ends everything in order: emulators quit and their servers go, then the sockets; `done` is called once.
    public func shutDown(_ done: @escaping () -> Void) {
        isClosing = true
        context.recorder.commit()
        control = nil
        context.watchdog?.end()
        var waiting = sessions.count + replacements.count
        let finish = { [self] in
            for session in sessions { session.removeServer() }
            sessions = []
            context.releaseServers()
            context.vnc = nil
            removeSockets()
            done()
        }
        guard waiting > 0 else { return finish() }
        func oneLess() {
            waiting -= 1
            if waiting == 0 { finish() }
        }
        for replacement in replacements.values { replacement.cancel(oneLess) }
        for session in sessions { session.detach(limit: .seconds(2)) { _ in oneLess() } }
    }

    /// The domain is dying: lets go of every mapping and server at once, because what stays mapped keeps a zombie, and ends
    /// the emulators. `shutDown` still has to follow.
    public func guestIsGone() {
        context.dying = true
        context.watchdog?.end()
        for replacement in replacements.values { replacement.cancel() }
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
        _ = unlink(settings.directory + "/" + KeeperNames.socketFile)
        _ = rmdir(settings.directory)
    }
}

import ControlProtocol
import Coordinator
import Glibc
import Host
import Keeping
import Logging
import Platform
import Specification
import Toolstack
import Unplug
import XenHost

/// The coordinator of a guest on Xen, started by libxl in QEMU's place.
///
/// In this order: the high servers, our emulators until every one serves, QEMU, QEMU's slots confirmed, libxl let through to
/// QEMU's monitor. Whatever fails before that ends the process at once with the reason on standard error, which is
/// libxl's device-model log.
final class DeviceModelProcess {
    /// - Returns: the exit status.
    static func run(arguments: [String], inherited: [CInt], keeper: KeeperLink?, logger: Logger) throws -> CInt {
        let limit = StartLimit()
        let parsed = try DeviceModelArguments(arguments)
        guard !parsed.isProbe, let domain = parsed.domain else { throw passThrough(parsed) }
        let limits = InheritedLimits()
        if limits.areTight { try limits.lift() }
        var logger = logger
        if parsed.settings.verbose { logger.logLevel = .debug }
        if let keeper, keeper.predecessors > 0 {
            return try adopt(keeper, arguments: parsed, domain: domain, limits: limits, logger: logger)
        }
        var specification = try SpecificationSource.command(
            file: parsed.settings.specification, guestName: parsed.guestName, within: limit)
        if let chosen = parsed.settings.emulators {
            let known = Set(specification.emulators.map(\.name))
            for name in chosen where !known.contains(name) {
                throw SystemError(
                    "start", "emulator '\(name)'", reason: "\(specification.source) has none of that name",
                    remedy: "--demux-emulators may name: \(known.sorted().joined(separator: ", "))")
            }
            specification.emulators.removeAll { !chosen.contains($0.name) }
        }
        if let qemu = parsed.settings.qemu { specification.qemu = qemu }
        guard Files.isExecutable(specification.qemu) else {
            throw SystemError(
                "start", "QEMU (\(specification.qemu))", code: errno, remedy: "install qemu-system-xen, or name another program as 'qemu' in \(specification.source)")
        }
        // Before anything is made: QEMU without its card, everything else of it where it was.
        let screen = try ScreenPlan(parsed, specification)
        let note = screen.note(asked: specification)
        specification = screen.specification
        let process = try DeviceModelProcess(
            arguments: try parsed.adapted(to: screen.plan), domain: domain, specification: specification, inherited: inherited, limits: limits,
            keeper: keeper, logger: logger)
        if let keeper { try process.coordinator.recordFor(keeper) }
        if let note { process.note(.info, note) }
        do {
            try process.start(within: limit)
        } catch {
            // No emulator runs yet: what has been made goes at once.
            process.coordinator.shutDown {}
            throw error
        }
        try process.loop.run()
        return process.status
    }

    /// A coordinator that ran before this one was killed, and its guest runs on.
    private static func adopt(
        _ keeper: KeeperLink, arguments: DeviceModelArguments, domain: DomainID, limits: InheritedLimits, logger: Logger
    ) throws -> CInt {
        let inheritance = try Inheritance(keeper)
        let process: DeviceModelProcess
        do {
            process = try DeviceModelProcess(
                arguments: arguments, domain: domain, specification: inheritance.specification, inherited: [], limits: limits, keeper: keeper, logger: logger)
        } catch let error as HostError where error.reason == .noSuchDomain {
            // Nobody is left to serve; the keeper ends the others.
            logger.notice("the domain has gone together with its coordinator")
            return 0
        }
        try process.adopt(inheritance, keeper)
        try process.loop.run()
        return process.status
    }

    /// libxl's probe goes straight to QEMU; returns only when that fails.
    private static func passThrough(_ arguments: DeviceModelArguments) -> SystemError {
        let program = arguments.settings.qemu ?? GuestSpecification.defaultQEMU
        var pointers: [UnsafeMutablePointer<CChar>?] = ([program] + arguments.unchanged).map { strdup($0) }
        pointers.append(nil)
        execv(program, pointers)
        return SystemError("start", "QEMU (\(program)) for libxl's probe", remedy: "install qemu-system-xen")
    }

    let arguments: DeviceModelArguments
    private let specification: GuestSpecification
    private let inherited: [CInt]
    private let limits: InheritedLimits
    private let host: XenHost
    let loop: EventLoop
    private let store: XenStoreWatcher
    let coordinator: Coordinator
    private let keeper: KeeperLink?
    private let signals: SignalDescriptor
    let folder: String
    private let plan: PCISlotPlan
    let desk: MonitorDesk
    var facade: QMPFacade?
    private var monitor: QMPClient?
    private var unplug: UnplugBridge?
    var qemu: ChildProcess?
    private var status: CInt = 0
    private var stopping = false
    var confirmed = false

    private init(
        arguments: DeviceModelArguments, domain: DomainID, specification: GuestSpecification, inherited: [CInt], limits: InheritedLimits,
        keeper: KeeperLink?, logger: Logger
    ) throws {
        self.arguments = arguments
        self.specification = specification
        self.inherited = inherited
        self.limits = limits
        self.keeper = keeper
        signals = try SignalDescriptor([SIGTERM, SIGINT, SIGHUP])
        loop = try EventLoop()
        host = try XenHost(domain: domain)
        folder = RunDirectory.directory(
            domain: domain.rawValue, base: RunDirectory.base(environment: ChildProcess.currentEnvironment()))
        let user = try arguments.restriction?.user?.resolve()
        coordinator = try Coordinator(
            loop: loop, host: host, specification: specification,
            settings: Coordinator.Settings(
                guestName: arguments.guestName, hostKind: "xen", directory: folder, restrictedTo: user.map { (uid: $0.uid, gid: $0.gid) },
                watchdog: Files.programFolder() + "/demux-watchdog"),
            logger: logger)
        desk = MonitorDesk(coordinator: coordinator, hasExporter: specification.vnc != nil)
        plan = PCISlotPlan(arguments)
        store = try XenStoreWatcher(loop: loop, domain: domain)
    }

    func note(_ level: Logger.Level, _ text: String) { coordinator.logBook.note(level, text) }

    // MARK: start

    /// What a coordinator that begins and one that takes over watch.
    func watchEverything() throws {
        try loop.watch(signals.descriptor.raw, for: .readable) { [unowned self] _ in
            while let number = self.signals.next() { self.signalled(number) }
        }
        try store.start(named: { [coordinator] in coordinator.rename($0) }, gone: { [unowned self] in self.domainIsGone() })
        coordinator.isBlacklistedByHost = { [store] product, build in
            UnplugProduct.blacklistPath(product: product, build: build).map { store.has($0) } ?? false
        }
        coordinator.ownerRecord = { [unowned self] in self.record.text }
        guard let keeper else { return }
        keeper.lost = { [unowned self] in
            self.loop.forget(keeper.descriptor)
            self.note(.error, "the keeper is gone: when this coordinator is killed, nobody takes the guest over")
            do { try KnownProcess.becomes(getpid(), of: self.host.domain) } catch { self.note(.error, "\(error)") }
        }
        try loop.watch(keeper.descriptor, for: .readable) { _ in _ = keeper.look() }
    }

    private func start(within limit: StartLimit) throws {
        try watchEverything()
        for (range, label) in QEMULegacy.ranges(vga: !arguments.graphics.isEmpty, directKernel: arguments.unchanged.contains("-kernel")) {
            coordinator.noteQEMU(range, label: label)
        }
        for function in plan.functions { coordinator.noteQEMU(.pci(function.address), label: function.name) }
        try coordinator.reserveServers()
        try coordinator.openControl()
        if let listener = arguments.monitor {
            let facade = try QMPFacade(loop: loop, at: listener, qemu: folder + "/qemu-libxl.qmp")
            keeper?.keep([facade.descriptor], as: DeviceModelRecord.facade)
            use(facade)
        }
        if let incoming = arguments.incoming { try MonitorDesk.restore(from: incoming, into: coordinator) }
        coordinator.startEmulators { [unowned self] reasons in
            if let reasons { return self.fail(reasons) }
            do { try self.startQEMU(within: limit) } catch { self.fail(["\(error)"]) }
        }
    }

    func use(_ facade: QMPFacade) {
        facade.hold()
        facade.observe = { [unowned self] in self.seen($0) }
        facade.decide = { [desk] in desk.decide($0) }
        facade.trouble = { [unowned self] in self.note(.warning, "\($0)") }
        self.facade = facade
    }

    private func fail(_ reasons: [String]) {
        for reason in reasons { StandardError.line("demux: \(reason)") }
        StandardError.line("demux: guest '\(arguments.guestName)' was not started; try the configuration with: demux check \(specification.source)")
        stop(1)
    }

    private func startQEMU(within limit: StartLimit) throws {
        let monitors = try PrivateMonitors(folder: folder)
        let list = try arguments.rewritten(libxl: monitors.libxl, demux: monitors.demux)
        var descriptors = monitors.inherited
        for number in inherited where !isMonitor(number) { descriptors.append(ChildProcess.Inherited(ours: number, theirs: number)) }
        let inheritedByQEMU = descriptors
        let child = try limits.restored { () throws(SystemError) in
            // Its standard input is what libxl gave, as without us.
            try ChildProcess(program: specification.qemu, arguments: list, input: .inherited, inherited: inheritedByQEMU)
        }
        qemu = child
        // What was QEMU's is QEMU's alone from now on.
        for number in inherited where !isMonitor(number) { _ = close(number) }
        keeper?.keep([child.descriptor], as: DeviceModelRecord.qemu)
        try loop.watch(child.exitDescriptor, for: .readable) { [unowned self] _ in self.qemuEnded() }
        note(.info, "QEMU runs (pid \(child.pid))")
        updateStatus("starting")
        let client = talk(to: monitors.demuxPath)
        // libxl's monitor is held until this is answered: once QEMU says in xenstore that it runs, libxl grants ten seconds for that. QEMU says so
        // when it is ready to answer, so that what takes long on a busy host is within the time that a start has.
        client.queryPCI(within: limit, slow: { [unowned self] in self.note(.warning, $0) }) { [unowned self] in self.confirmSlots($0, within: limit) }
    }

    /// Demux's own connection to QEMU, made anew by each coordinator.
    @discardableResult
    func talk(to path: String) -> QMPClient {
        let client = QMPClient(loop: loop, path: path)
        monitor = client
        let unplug = UnplugBridge(client, changed: { [unowned self] in self.askSlotsAgain($0) }, trouble: { [unowned self] in self.note(.warning, $0) })
        self.unplug = unplug
        coordinator.unplugPartner = unplug
        return client
    }

    /// What libxl tells QEMU and our emulators have to know as well.
    private func seen(_ command: QMPCommand) {
        note(.debug, "libxl: \(command.name)")
        if command.name == "xen-set-global-dirty-log", let on = command.arguments?["enable"]?.bool { coordinator.setDirtyLogging(on) }
    }

    private func isMonitor(_ number: CInt) -> Bool {
        if case .descriptor(number) = arguments.monitor { true } else { false }
    }

    /// A slot that QEMU has and one of ours as well would be silent in Xen: QEMU's own word settles it, before libxl gets through.
    private func confirmSlots(_ reply: Result<[PCIFunctionReport], QMPError>, within limit: StartLimit) {
        guard !stopping else { return }
        let found: [PCIFunctionReport]
        switch reply {
        case .success(let functions): found = functions
        case .failure(let error): return fail(["QEMU did not say which PCI slots it has: \(error)"])
        }
        var clashes: [String] = []
        for function in found {
            if let owner = coordinator.owner(of: function.address) {
                clashes.append(
                    "QEMU's device \(function.id.isEmpty ? Hex.string(function.device) : function.id) and emulator '\(owner)' both have PCI \(function.address); give the emulator another 'pci-slot'")
            }
            coordinator.noteQEMU(.pci(function.address), label: function.id.isEmpty ? "\(Hex.string(function.vendor)):\(Hex.string(function.device))" : function.id)
        }
        if !clashes.isEmpty { return fail(clashes) }
        let differences = plan.differences(from: found)
        if !differences.missing.isEmpty || !differences.unexpected.isEmpty {
            note(.debug, "QEMU's slots differ from the plan: \(differences)")
        }
        presentPlatform(found, within: limit) { [unowned self] in
            guard !stopping else { return }
            confirmed = true
            desk.note(found)
            runs()
            updateStatus("running", slots: Self.slots(found))
            // A restored guest's QEMU was made with all of its devices: disks that were unplugged go before the guest runs.
            coordinator.unplugQEMUAgain(within: limit.left()) { [unowned self] in
                guard !stopping else { return }
                self.facade?.open()
                // Before this there is no guest to take over.
                self.coordinator.record()
                self.keeper?.ready()
            }
        }
    }

    /// Has the coordinator stand in the place of QEMU's platform device: a restored guest's does so already.
    private func presentPlatform(_ functions: [PCIFunctionReport], within limit: StartLimit, _ done: @escaping () -> Void) {
        // One that was saved without Demux has its BARs where only its QEMU knows, once it has read its own state.
        guard coordinator.platform == nil, arguments.incoming == nil, let monitor, let function = QEMUPlatform.find(in: functions) else { return done() }
        QEMUPlatform.read(function.address, from: monitor, deadline: limit.left()) { [unowned self] answer in
            guard !self.stopping else { return }
            defer { done() }
            do {
                try self.coordinator.present(SavedPlatform(address: function.address, device: try answer.get()))
            } catch {
                self.note(.warning, "the platform device's own ports (BAR0) stay QEMU's, and what old drivers unplug there reaches QEMU alone: \(error)")
            }
        }
    }

    /// QEMU serves, and its slots are known.
    func runs() {
        desk.slotsChanged = { [unowned self] in self.askSlotsAgain {} }
        if let monitor { desk.startInput(monitor) }
    }

    private static func slots(_ functions: [PCIFunctionReport]) -> [QEMUStatus.Slot] {
        functions.map { QEMUStatus.Slot(address: "\($0.address)", what: $0.id.isEmpty ? "class \(Hex.string($0.classCode))" : $0.id) }
    }

    /// A device was plugged in or unplugged.
    private func askSlotsAgain(_ done: @escaping () -> Void) {
        guard let monitor else { return done() }
        monitor.queryPCI { [unowned self] reply in
            defer { done() }
            guard case .success(let found) = reply else { return }
            self.desk.note(found)
            for function in found where function.address.bus == 0 { self.coordinator.noteQEMU(.pci(function.address), label: function.id) }
            if self.confirmed { self.updateStatus("running", slots: Self.slots(found)) }
        }
    }

    private func updateStatus(_ state: String, slots: [QEMUStatus.Slot]? = nil) {
        let planned = plan.functions.map { QEMUStatus.Slot(address: "\($0.address)", what: $0.name) }
        coordinator.qemu = QEMUStatus(
            pid: qemu?.pid ?? 0, program: specification.qemu, state: state, slots: slots ?? coordinator.qemu?.slots ?? planned, confirmed: confirmed)
        coordinator.ownerChanged()
    }

    // MARK: end

    private func signalled(_ number: CInt) {
        note(.info, "signal \(number): shutting down")
        // libxl sends SIGHUP to us alone: QEMU would stay, and the domain as a zombie with it.
        qemu?.signal(number)
        stop(0)
    }

    private func domainIsGone() {
        guard !stopping else { return coordinator.guestIsGone() }
        note(.info, "the domain is gone")
        qemu?.signal(SIGTERM)
        coordinator.guestIsGone()
        host.release()
        stop(0)
    }

    func qemuEnded() {
        guard let child = qemu, let exit = child.poll() else { return }
        loop.forget(child.exitDescriptor)
        facade?.close()
        updateStatus("ended: \(exit)")
        if stopping { return finish() }
        // libxl does not watch QEMU: ending tells it as long as it still waits for the device model.
        if exit == .status(0) || store.isBeingDestroyed {
            // With dm_restrict libxl kills every process of the guest's user, and tells us nothing.
            note(.info, "QEMU \(exit)")
            stop(0)
        } else {
            note(.error, "QEMU \(exit)")
            if confirmed { isBroken("QEMU \(exit)") } else { fail(["QEMU (\(specification.qemu)) \(exit) before the guest was started; its own words stand above"]) }
        }
    }

    /// QEMU is dead under a guest that runs. Its memory and our emulators are whole: what it had answered is answered in its place, and
    /// whoever looks after the guest is told. Ending it is the toolstack's decision.
    func isBroken(_ reason: String) {
        coordinator.guestIsBroken(reason)
        do { try BrokenGuest.report(host.domain, reason) } catch { note(.error, "\(error)") }
    }

    private var emulatorsEnded = false

    private func stop(_ code: CInt) {
        guard !stopping else { return }
        stopping = true
        status = code
        if let qemu, qemu.poll() == nil {
            if code != 0 { qemu.signal(SIGTERM) }
            loop.after(.seconds(5)) { [unowned self] in
                self.note(.warning, "QEMU does not end; it is killed")
                qemu.signal(SIGKILL)
            }
        }
        coordinator.shutDown { [unowned self] in
            self.emulatorsEnded = true
            self.finish()
        }
    }

    private func finish() {
        guard emulatorsEnded, qemu == nil || qemu?.poll() != nil else { return }
        facade?.close()
        PrivateMonitors.removeFiles(folder: folder)
        _ = rmdir(folder)
        loop.stop()
    }
}

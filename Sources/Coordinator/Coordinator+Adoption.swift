import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import Keeping
import Logging
import Platform
import Specification

/// What a predecessor left, for a coordinator that takes its guest over.
public struct Inheritance {
    let checkpoint: Checkpoint
    let memory: CheckpointMemory
    let keeper: any DescriptorKeeper

    /// Reads the checkpoint that the keeper holds.
    /// - Throws: SystemError when there is none that this version can take over.
    public init(_ keeper: any DescriptorKeeper) throws(SystemError) {
        guard let descriptor = keeper.take(KeptName.checkpoint) else {
            throw SystemError("take over", "the guest", reason: "the keeper holds no checkpoint", remedy: "destroy the guest and start it anew")
        }
        memory = try CheckpointMemory(adopting: descriptor)
        guard let bytes = memory.read() else {
            throw SystemError("take over", "the guest", reason: "its checkpoint is empty or damaged", remedy: "destroy the guest and start it anew")
        }
        let read = try ControlCodec.decode(Checkpoint.self, from: bytes)
        guard read.version == Checkpoint.version else {
            throw SystemError(
                "take over", "the guest", reason: "its checkpoint is of version \(read.version), and this coordinator reads \(Checkpoint.version)",
                remedy: "start the version again that wrote it: demux adopt")
        }
        checkpoint = read
        self.keeper = keeper
    }

    public var guestName: String { checkpoint.guestName }
    public var specification: GuestSpecification { checkpoint.specification }
    public var restrictedTo: (uid: UInt32, gid: UInt32)? { checkpoint.restrictedTo.map { (uid: $0.uid, gid: $0.gid) } }
    public var owner: String? { checkpoint.owner }
}

extension Coordinator {
    /// Takes over a guest that runs. First what the guest can wait for: the coordinator's own server and the relays; then everything else.
    ///
    /// What of one emulator cannot be taken over costs that emulator, not the guest: it is ended, and restarted if its policy says so.
    /// - Throws: when there is no guest to take over any more.
    public func adopt(_ inheritance: Inheritance, predecessors: Int) throws {
        let kept = inheritance.checkpoint
        let recorder = context.recorder
        let keeper = inheritance.keeper
        recorder.goOn(keeper, inheritance.memory)
        adoptions = predecessors
        context.registry = ClaimRegistry(adopting: kept.claims.compactMap(\.entry), nextNumber: kept.nextClaim)
        context.unplug.restore(kept.unplug)
        try context.adoptServers(kept)
        var living: [(EmulatorSession, KeptEmulator)] = []
        for (index, known) in kept.holdings.enumerated() {
            do { try context.adopt(known) } catch { logBook.note(.error, "emulator '\(kept.holdings[index].name)': its state is lost: \(error)") }
        }
        for known in kept.emulators {
            do {
                let session = try EmulatorSession(adopting: known, context: context)
                sessions.append(session)
                living.append((session, known))
                try session.adoptServer(known)
            } catch {
                logBook.note(.error, "emulator '\(known.specification.name)' could not be taken over: \(error)")
                if let session = sessions.last, session.name == known.specification.name {
                    session.process?.signal(SIGKILL)
                } else if let pid = known.pid, known.phase != .ended, let handle = keeper.take(known.prefix + KeptPart.process) {
                    ChildProcess(adopting: handle, pid: pid, program: known.specification.program, ask: { _ in nil }).signal(SIGKILL)
                }
            }
        }
        context.dirtyLogging = kept.dirtyLogging
        do { try context.surfaces.adopt(kept.surface, recorder) } catch { logBook.note(.error, "the scan-out is lost: \(error)") }
        if let vnc = kept.vnc, let specification = specification.vnc {
            do {
                context.vnc = try VNCDesk(adopting: vnc, specification, guestName: settings.guestName, directory: settings.directory, recorder)
            } catch {
                logBook.note(.error, "VNC: the sockets are lost: \(error)")
            }
        }
        try adoptControl()
        recorder.snapshot = { [unowned self] in self.checkpoint }
        for (session, known) in living { goOn(session, known, kept.surface) }
        recorder.changed()
        logBook.note(.warning, "took over from a coordinator that was killed (\(predecessors) before this one); \(sessions.count) emulators are known")
    }

    private func goOn(_ session: EmulatorSession, _ known: KeptEmulator, _ surface: KeptSurface) {
        session.died = { [weak self] in self?.died($0, $1) }
        switch known.phase {
        case .serving, .paused: session.goOn(known, surface)
        case .ended where known.fate?.hasPrefix("restarting") == true:
            loop.soon { [weak self, weak session] in if let self, let session { self.scheduleSuccessor(of: session, because: known.reason ?? "it ended") } }
        case .ended where known.isLeaving, .quitting where known.isLeaving:
            session.detach { [weak self] _ in self?.sessions.removeAll { $0 === session } }
        case .ended: break
        case .starting, .quitting:
            // Whoever waited for it is gone.
            session.ended = { [weak self] in self?.startInterrupted($0) }
            session.process?.signal(SIGKILL)
        }
    }

    private func startInterrupted(_ session: EmulatorSession) {
        let reason = "its start was interrupted"
        session.releaseWaiters()
        if session.isSuccessor, policy(of: session) == .onFailure { return scheduleSuccessor(of: session, because: reason) }
        logBook.note(.warning, "emulator '\(session.name)' is taken away: \(reason)")
        session.whenTaken { [weak self] in
            session.removeServer()
            self?.sessions.removeAll { $0 === session }
        }
    }
}

extension GuestContext {
    /// The servers that are not an emulator's; then at once the coordinator's own: whoever invalidates waits for every server.
    func adoptServers(_ kept: Checkpoint) throws(HostError) {
        guard let adopting = host as? any AdoptingHost else {
            throw HostError("take over", "\(host.domain)", .invalid, detail: "this host's servers end with the process that made them")
        }
        if let id = kept.ownServer.flatMap({ ServerID($0) }) {
            try adopting.adoptServer(id)
            own = id
            if kept.servesOwnPorts { try adoptOwnPorts(id) }
        }
        for id in kept.reserved.compactMap({ ServerID($0) }) {
            try adopting.adoptServer(id)
            reserved.append(id)
        }
        for id in kept.emulators.compactMap({ $0.server.flatMap { ServerID($0) } }) { try adopting.adoptServer(id) }
    }

    func adopt(_ known: KeptHoldings) throws(SystemError) {
        let regions = known.regions.map {
            Holdings.Region(
                label: $0.label,
                host: HostRegion(
                    number: $0.number, length: $0.length, gfn: $0.gfn.map { GFN($0) }, home: $0.home.map { GFN($0) }, hasDoorbell: $0.hasDoorbell))
        }
        for region in regions { (host as? any AdoptingHost)?.adoptRegion(region.host) }
        let holdings = holdings(of: known.name)
        // Also when the state cannot be had: the memory is the guest's.
        holdings.adopt(state: nil, regions: regions, restarts: known.restarts)
        guard let length = known.state else { return }
        let state = try StateMemory(adopting: try recorder.take(KeptName.state(known.name)), length: length, isUsed: known.isUsed)
        holdings.adopt(state: state, regions: regions, restarts: known.restarts)
    }
}

extension UnplugDesk {
    func restore(_ kept: KeptUnplug) {
        restore(
            SavedUnplug(
                classes: Set(kept.classes), product: kept.product, build: kept.build, isBlacklisted: kept.isBlacklisted, isROMLocked: kept.isROMLocked))
    }
}

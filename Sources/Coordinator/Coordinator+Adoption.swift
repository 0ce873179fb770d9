import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import Keeping
import Logging
import Platform
import Specification
import Unplug

/// What a predecessor left, for a coordinator that takes its guest over.
public struct Inheritance {
    let checkpoint: Checkpoint
    let memory: CheckpointMemory
    let keeper: any DescriptorKeeper

    /// Reads the checkpoint that the keeper holds.
    /// - Throws: SystemError when there is none that this version can take over.
    public init(_ keeper: any DescriptorKeeper) throws(SystemError) {
        guard let descriptor = keeper.take(KeptName.checkpoint)?.take() else {
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
        if let known = kept.platform {
            if let platform = SavedPlatform(bytes: known) {
                context.platform.adopt(platform)
            } else {
                logBook.note(.error, "the guest's platform device is lost: what is kept of it cannot be read")
            }
        }
        try context.adoptServers(kept)
        for known in kept.holdings {
            do { try adopt(known, of: kept.emulators.first { $0.specification.name == known.name }) } catch {
                logBook.note(.error, "what emulator '\(known.name)' keeps could not be taken over: \(error)")
            }
        }
        var living: [(EmulatorSession, KeptEmulator)] = []
        for known in kept.emulators {
            do {
                let session = try EmulatorSession(adopting: known, context: context)
                sessions.append(session)
                living.append((session, known))
            } catch {
                logBook.note(.error, "emulator '\(known.specification.name)' could not be taken over: \(error)")
            }
        }
        endStrangers(keeper)
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

    /// What of an emulator outlives its processes, and its server with the relay.
    private func adopt(_ known: KeptHoldings, of process: KeptEmulator?) throws {
        let holdings = try context.adoptHoldings(known)
        guard let id = known.server.flatMap({ ServerID($0) }) else { return }
        let server = KeptServer(id, name: known.name, context: context, faults: holdings.faults)
        holdings.server = server
        // The last claim may have been written down and not made.
        for entry in context.registry.claims(of: .emulator(known.name)) { try context.host.mapAgain(entry.range, to: id) }
        try server.goOn(
            known, isServed: process.map { [.serving, .paused].contains($0.phase) } ?? false,
            budget: process?.specification.successorWithinMilliseconds ?? 0)
    }

    /// Ends processes that the predecessor had started and not written down, or was done with: nobody would hear of them any more.
    private func endStrangers(_ keeper: any DescriptorKeeper) {
        for name in keeper.untaken where name.hasPrefix(KeptName.processes) {
            if name.hasSuffix("/" + KeptPart.process), let handle = keeper.take(name)?.take() {
                ChildProcess(adopting: handle, pid: 0, program: "", ask: { _ in nil }).signal(SIGKILL)
            }
            keeper.drop(name)
        }
    }

    private func goOn(_ session: EmulatorSession, _ known: KeptEmulator, _ surface: KeptSurface) {
        session.died = { [weak self] in self?.died($0, $1) ?? false }
        switch known.phase {
        case .serving, .paused:
            session.goOn(known, surface)
            if known.isBeingReplaced { replacementInterrupted(session) }
        case .quitting where known.isLeaving, .ended where known.isLeaving:
            session.detach { [weak self] _ in self?.sessions.removeAll { $0 === session } }
        case .ended:
            let reason = known.reason ?? "it ended"
            switch known.fate {
            case .restarting: loop.soon { [weak self, weak session] in if let self, let session { self.scheduleSuccessor(of: session, because: reason) } }
            // A late attempt was the predecessor's to make.
            case .parked where session.mode == .exporter: park(session, because: reason)
            case .parked, nil: break
            }
        case .starting, .quitting:
            // Whoever waited for it is gone.
            session.ended = { [weak self] session in self?.loop.soon { self?.startInterrupted(session) } }
            session.state = .quitting
            session.process?.signal(SIGKILL)
        }
    }

    /// The program that was to take its place is ended with the coordinator that had started it.
    private func replacementInterrupted(_ session: EmulatorSession) {
        logBook.note(.error, "emulator '\(session.name)' is not replaced: the coordinator was killed meanwhile")
        // What it had taken is on a page that is not held any more: another process begins from the same state.
        if session.state == .paused, session.holdings.server?.relay != nil { return session.process?.signal(SIGKILL) ?? () }
        session.request(.resume) { [weak session] refusal in
            guard let session, !session.hasExited else { return }
            if refusal != nil { session.process?.signal(SIGKILL) } else if session.state == .paused { session.state = .serving }
        }
    }

    private func startInterrupted(_ session: EmulatorSession) {
        if session.isSuccessor { return goOnWithout(session, because: "its start was interrupted") }
        logBook.note(.warning, "emulator '\(session.name)' is taken away: its start was interrupted")
        session.detach { [weak self] _ in self?.sessions.removeAll { $0 === session } }
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
        for id in kept.holdings.compactMap({ $0.server.flatMap { ServerID($0) } }) { try adopting.adoptServer(id) }
    }

    func adoptHoldings(_ known: KeptHoldings) throws(SystemError) -> Holdings {
        let prefix = KeptName.holdings(known.name)
        let counters = try CounterMemory(adopting: try recorder.take(prefix + KeptPart.counters))
        var state: StateMemory?
        if let length = known.state { state = try StateMemory(adopting: try recorder.take(prefix + KeptPart.state), length: length, isUsed: known.isUsed) }
        let holdings = Holdings(adopting: known, counters: counters, state: state)
        for region in holdings.regions { (host as? any AdoptingHost)?.adoptRegion(region.host) }
        keep(holdings, known.name)
        return holdings
    }
}

extension UnplugDesk {
    func restore(_ kept: KeptUnplug) {
        restore(
            SavedUnplug(
                classes: Set(kept.classes), product: kept.product, build: kept.build, isBlacklisted: kept.isBlacklisted, isROMLocked: kept.isROMLocked))
    }
}

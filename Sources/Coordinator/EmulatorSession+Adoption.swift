import EmulatorProtocol
import Glibc
import Host
import Keeping
import Platform

/// A session that outlives its coordinator.
extension EmulatorSession {
    /// Whether it is asking again what a predecessor of this coordinator may have carried out already.
    var isRepeating: Bool { repeated != nil }

    /// What a successor of this coordinator has to know of it.
    func kept(isBeingReplaced: Bool) -> KeptEmulator {
        let phase: KeptEmulator.Phase
        var reason: String?
        switch state {
        case .spawned, .greeted, .ready: phase = .starting
        case .serving: phase = .serving
        case .paused: phase = .paused
        case .quitting: phase = .quitting
        case .ended(let how): (phase, reason) = (.ended, how)
        }
        return KeptEmulator(
            specification: specification, phase: phase, reason: reason, fate: restartStatus, isLeaving: isLeaving, pid: process?.pid, prefix: prefix, mode: mode,
            isSuccessor: isSuccessor, isBeingReplaced: isBeingReplaced, stateVersion: stateVersion, capabilities: capabilities.sorted(),
            unplugClasses: unplugClasses.ordered,
            lines: everAsserted.map { KeptEmulator.Line(device: $0.device, pin: $0.pin, isa: $0.isa) }
                .sorted { ($0.device, $0.pin, $0.isa ?? 0) < ($1.device, $1.pin, $1.isa ?? 0) },
            populated: populated.runs.map { KeptEmulator.Run(first: $0.first.rawValue, pages: $0.pages) }, hasBounce: bounce != nil, hasObservation: observation != nil,
            isAbsolute: context.input.isTaken(by: self) && context.input.emulatorIsAbsolute, reader: reader)
    }

    /// Takes over a predecessor's: of a process that lives, or died meanwhile (which is heard of as any other death), or had ended before.
    convenience init(adopting kept: KeptEmulator, context: GuestContext) throws {
        let recorder = context.recorder
        let process = try Self.process(kept, recorder)
        let end = DescriptorBag()
        if process != nil {
            end.add(try recorder.take(kept.prefix + KeptPart.socket))
        } else {
            // Nobody is at the other end.
            let (ours, theirs) = try MessageSocket.pair()
            _ = close(theirs)
            end.add(OwnedDescriptor(adopting: ours))
        }
        try self.init(
            kept.specification, context: context, isSuccessor: kept.isSuccessor, process: process, socket: end, prefix: kept.prefix, started: nil)
        mode = kept.mode
        stateVersion = kept.stateVersion
        capabilities = Set(kept.capabilities)
        unplugClasses = Set(kept.unplugClasses)
        // Perhaps asserted: lowering one that is not does nothing.
        lines = Set(kept.lines.map { Line(device: $0.device, pin: $0.pin, isa: $0.isa) })
        populated = PopulatedMemory(adopting: kept.populated.map { (GFN($0.first), $0.pages) })
        isLeaving = kept.isLeaving
        restartStatus = kept.fate
        switch kept.phase {
        case .starting: state = .spawned
        case .serving: state = .serving
        case .paused: state = .paused
        case .quitting: state = .quitting
        case .ended:
            state = .ended(kept.reason ?? "ended")
            hasExited = true
            socketOpen = false
        }
        if kept.hasObservation, process != nil { observation = try ObservationMemory(adopting: try recorder.take(kept.prefix + KeptPart.observation)) }
        if process != nil, let pipe = recorder.takeAll(kept.prefix + KeptPart.output)?.take() { try read(output: pipe) }
        if kept.hasBounce, process != nil {
            let memory = try context.host.guestMemory()
            bounce = try BounceBuffer(adopting: try recorder.take(kept.prefix + KeptPart.bounce), memory: memory)
        }
    }

    /// Its process, which somebody else is the parent of now; nil when it had ended before.
    private static func process(_ kept: KeptEmulator, _ recorder: Recorder) throws(SystemError) -> ChildProcess? {
        guard let pid = kept.pid, kept.phase != .ended else { return nil }
        let handle = try recorder.take(kept.prefix + KeptPart.process)
        return ChildProcess(adopting: handle, pid: pid, program: kept.specification.program, ask: { [weak recorder] in recorder?.keeper?.exit(of: $0) })
    }

    /// Hears what waits in its socket, and has it ask again what the predecessor had read and not answered.
    func goOn(_ kept: KeptEmulator, _ surface: KeptSurface) {
        guard state == .serving || state == .paused else { return }
        // Its answers to the predecessor's questions are nobody's: no number is used twice.
        nextRequest = UInt32(truncatingIfNeeded: EventLoop.now() >> 10) | 1
        do { try stayOnScreen(kept, surface) } catch { context.logBook.note(.error, "emulator '\(name)': \(error)") }
        if capabilities.contains("adopted") {
            repeated = []
            request(.adopted) { [weak self] _ in self?.repeated = nil }
        }
        receive()
    }

    /// What is claimed again by one that does not know whether it was heard.
    func claimAgain(_ range: IORange) -> Int? {
        guard isRepeating else { return nil }
        return context.registry.claims(of: owner).first { $0.range == range }?.number
    }

    /// The same for a PCI function.
    func assignAgain(label: String) -> (PCIAddress, Int)? {
        guard isRepeating else { return nil }
        for entry in context.registry.claims(of: owner) where entry.label == label {
            if case .pci(let address) = entry.range { return (address, entry.number) }
        }
        return nil
    }
}

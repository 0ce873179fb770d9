import Coordinator
import EmulatorProtocol
import Host
import Platform
import Specification
import Toolstack

/// Decides what becomes of libxl's commands on QEMU's monitor, and joins QEMU's side of a guest with the coordinator's: VNC, saved states,
/// devices plugged in at run time, input.
final class MonitorDesk: InputSink {
    private let coordinator: Coordinator
    private let display: DisplayMonitor?
    private let saving: StateSaving
    private var placement: DevicePlacement?
    private var input: QEMUInput?
    /// The devices of bus 0 that QEMU has.
    var slots: Set<UInt8> = []
    private var saysInputTrouble = true
    /// Called when QEMU has got another device: its slots are to be asked for again.
    var slotsChanged: (() -> Void)?

    init(coordinator: Coordinator, hasExporter: Bool) {
        self.coordinator = coordinator
        display = hasExporter ? Self.display(coordinator) : nil
        saving = StateSaving { [unowned coordinator] done in Self.collect(coordinator, done) }
        saving.trouble = { [unowned coordinator] in coordinator.logBook.note(.error, "\($0)") }
        placement = DevicePlacement(
            isOurs: { [unowned coordinator] in coordinator.owner(of: $0) != nil }, isQEMUs: { [unowned self] in self.slots.contains($0) },
            added: { [unowned self] in self.slotsChanged?() })
    }

    /// What becomes of a command.
    func decide(_ command: QMPCommand) -> QMPVerdict {
        if command.name == "cont" {
            // After `xl save -c`, or a save that failed, the emulators stand still. The guest's accesses wait for them.
            coordinator.resumeEmulators { [coordinator] reasons in
                for reason in reasons ?? [] { coordinator.logBook.note(.error, "could not resume: \(reason)") }
            }
        }
        return display?.decide(command) ?? saving.decide(command) ?? placement?.decide(command) ?? .pass
    }

    /// QEMU's own word on its slots.
    func note(_ functions: [PCIFunctionReport]) { slots = Set(functions.filter { $0.address.bus == 0 }.map(\.address.device)) }

    // MARK: VNC

    private static func display(_ coordinator: Coordinator) -> DisplayMonitor {
        DisplayMonitor(
            loop: coordinator.loop,
            state: { [unowned coordinator] in
                guard let known = coordinator.vncInformation else { return .init(listeners: [], security: "none") }
                return .init(listeners: known.listeners, clients: known.clients, security: known.authentication)
            },
            perform: { [unowned coordinator] command, done in
                let tell: (Refusal?) -> Void = { done($0?.message) }
                switch command.command {
                case .setPassword: coordinator.setVNCPassword(command.password, tell)
                case .expirePassword: coordinator.expireVNCPassword(at: command.at ?? "", tell)
                case .disconnect: coordinator.disconnectVNC(tell)
                }
            })
    }

    // MARK: saved states

    /// Has the emulators stand still, and gives what they keep.
    private static func collect(_ coordinator: Coordinator, _ done: @escaping (Result<SavedEmulators, SystemError>) -> Void) {
        coordinator.pauseEmulators { [unowned coordinator] reasons in
            if let reasons {
                coordinator.resumeEmulators { _ in }
                return done(.failure(SystemError("save", "our emulators' states", reason: reasons.joined(separator: "; "), remedy: "see: demux logs")))
            }
            // What an exporter keeps is its viewers' and this machine's, not the guest's.
            let states = coordinator.states.filter { $0.emulator != VNCSpecification.name }.map { SavedEmulators.Record(emulator: $0.emulator, .state($0.bytes)) }
            let regions = coordinator.regions.map {
                SavedEmulators.Record(emulator: $0.emulator, .region(.init(label: $0.label, length: $0.length, gfn: $0.gfn?.rawValue)))
            }
            let unplugged = coordinator.savedUnplug.map {
                SavedEmulators.Record(emulator: SavedEmulators.coordinator, .unplug($0))
            }
            let platform = coordinator.platform.map { SavedEmulators.Record(emulator: SavedEmulators.coordinator, .platform($0)) }
            done(.success(SavedEmulators(states + regions + [unplugged, platform].compactMap { $0 })))
        }
    }

    /// Takes our records off what `-incoming` names, for the emulators that are yet to start; QEMU's own is next there.
    static func restore(from descriptor: CInt, into coordinator: Coordinator) throws {
        guard let saved = try SavedStateFile.read(from: descriptor) else { return }
        for record in saved.records {
            switch record.content {
            case .state(let bytes): try coordinator.preset(SavedState(emulator: record.emulator, bytes: bytes))
            case .unplug(let saved): coordinator.preset(saved)
            case .platform(let saved): try coordinator.present(saved)
            case .region(let region):
                try coordinator.preset(SavedRegion(emulator: record.emulator, label: region.label, length: region.length, gfn: region.gfn.map { GFN($0) }))
            }
        }
        coordinator.logBook.note(.info, "\(saved.records.count) saved records were taken for the emulators")
    }

    // MARK: input

    /// From now on QEMU takes keys and pointer events, unless an emulator of ours does.
    func startInput(_ client: QMPClient) {
        let input = QEMUInput(client: client)
        input.modeChanged = { [unowned self] _ in self.coordinator.pointerModeChanged() }
        input.trouble = { [unowned self] error in
            // One line: a guest without a pointer would fill the log.
            guard self.saysInputTrouble else { return }
            self.saysInputTrouble = false
            self.coordinator.logBook.note(.warning, "QEMU does not take some of the viewers' input: \(error)")
        }
        client.event = { name, _ in if name == "RESUME" { input.guestResumed() } }
        self.input = input
        coordinator.inputSink = self
        input.askMode()
    }

    var takesAbsolute: Bool { input?.isAbsolute ?? false }

    func deliver(_ events: [InputEvent]) { input?.send(events) }
}

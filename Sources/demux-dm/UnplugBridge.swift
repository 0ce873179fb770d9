import Coordinator
import EmulatorProtocol
import Platform
import Toolstack

/// QEMU's part of the unplug protocol, by Demux's own monitor.
final class UnplugBridge: UnplugPartner {
    private let qemu: QEMUUnplug
    private let trouble: (String) -> Void
    private let changed: (@escaping () -> Void) -> Void

    /// - Parameters:
    ///   - changed: told that QEMU may have fewer devices; calls what it is given when everybody knows.
    ///   - trouble: told what QEMU did not do that nobody waits for.
    init(_ client: QMPClient, changed: @escaping (@escaping () -> Void) -> Void, trouble: @escaping (String) -> Void) {
        qemu = QEMUUnplug(client: client)
        self.changed = changed
        self.trouble = trouble
    }

    func unplug(_ classes: Set<UnplugClass>, deadline: Duration, _ done: @escaping (Result<[String], UnplugTrouble>) -> Void) {
        qemu.unplug(classes, deadline: deadline) { [changed] answer in
            // Whoever looks after the guest's write sees what the guest sees.
            changed { done(answer.mapError { UnplugTrouble($0.description) }) }
        }
    }

    func candidates(_ classes: Set<UnplugClass>, _ done: @escaping (Result<[String], UnplugTrouble>) -> Void) {
        qemu.candidates(classes) { done($0.mapError { UnplugTrouble($0.description) }) }
    }

    func lockROM(_ locked: Bool, _ done: @escaping () -> Void) {
        qemu.lockROM(locked) { [trouble] error in
            if let error { trouble("the ROM area is not \(locked ? "locked" : "unlocked"): \(error)") }
            done()
        }
    }
}

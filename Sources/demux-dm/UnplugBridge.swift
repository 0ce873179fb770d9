import Coordinator
import EmulatorProtocol
import Platform
import Toolstack

/// QEMU's part of the unplug protocol, by Demux's own monitor.
final class UnplugBridge: UnplugPartner {
    private let qemu: QEMUUnplug
    private let trouble: (String) -> Void

    /// - Parameter trouble: told what QEMU did not do that nobody waits for.
    init(_ client: QMPClient, trouble: @escaping (String) -> Void) {
        qemu = QEMUUnplug(client: client)
        self.trouble = trouble
    }

    func unplug(_ classes: Set<UnplugClass>, deadline: Duration, _ done: @escaping (Result<[String], UnplugTrouble>) -> Void) {
        qemu.unplug(classes, deadline: deadline) { done($0.mapError { UnplugTrouble($0.description) }) }
    }

    func candidates(_ classes: Set<UnplugClass>, _ done: @escaping (Result<[String], UnplugTrouble>) -> Void) {
        qemu.candidates(classes) { done($0.mapError { UnplugTrouble($0.description) }) }
    }

    func lockROM(_ locked: Bool) {
        qemu.lockROM(locked) { [trouble] error in if let error { trouble("the ROM area is not \(locked ? "locked" : "unlocked"): \(error)") } }
    }
}

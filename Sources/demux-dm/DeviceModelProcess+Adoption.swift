import ControlProtocol
import Coordinator
import Keeping
import Platform
import Toolstack

/// What the coordinator's owner adds to the checkpoint: QEMU.
struct DeviceModelRecord: Codable, Equatable {
    /// The names under which the keeper holds what belongs to it.
    static let facade = "qemu/facade"
    static let qemu = "qemu/pidfd"

    var status: QEMUStatus?
    var confirmed: Bool
    /// The devices of bus 0 that QEMU has.
    var devices: [UInt8]
    var broken: String?

    var text: String { String(decoding: ControlCodec.encode(self), as: UTF8.self) }

    init(status: QEMUStatus?, confirmed: Bool, devices: [UInt8], broken: String?) {
        self.status = status
        self.confirmed = confirmed
        self.devices = devices
        self.broken = broken
    }

    init(text: String) throws(SystemError) { self = try ControlCodec.decode(DeviceModelRecord.self, from: Array(text.utf8)) }
}

extension DeviceModelProcess {
    var record: DeviceModelRecord {
        DeviceModelRecord(status: coordinator.qemu, confirmed: confirmed, devices: desk.slots.sorted(), broken: coordinator.broken)
    }

    /// Goes on where a coordinator was killed: first the guest's accesses, then QEMU, then the toolstack.
    func adopt(_ inheritance: Inheritance, _ keeper: KeeperLink) throws {
        let known = try inheritance.owner.map { text throws(SystemError) in try DeviceModelRecord(text: text) }
        coordinator.qemu = known?.status
        coordinator.broken = known?.broken
        confirmed = known?.confirmed ?? false
        desk.slots = Set(known?.devices ?? [])
        // What the guest waits for may be QEMU's part of unplugging.
        if coordinator.broken == nil { talk(to: folder + "/qemu-demux.qmp") }
        try coordinator.adopt(inheritance, predecessors: keeper.predecessors)
        try watchEverything()
        if let place = arguments.monitor, let listener = keeper.take(DeviceModelRecord.facade)?.take() {
            use(try QMPFacade(loop: loop, adopting: listener, of: place, qemu: folder + "/qemu-libxl.qmp"))
        }
        if let pid = known?.status?.pid, coordinator.broken == nil, let handle = keeper.take(DeviceModelRecord.qemu)?.take() {
            let child = ChildProcess(adopting: handle, pid: pid, program: coordinator.specification.qemu, ask: { [weak keeper] in keeper?.exit(of: $0) })
            qemu = child
            runs()
            facade?.open()
            try loop.watch(child.exitDescriptor, for: .readable) { [unowned self] _ in self.qemuEnded() }
        } else {
            facade?.close()
            if let reason = coordinator.broken { isBroken(reason) }
        }
        keeper.forgetRest()
        coordinator.ownerChanged()
        coordinator.record()
        keeper.ready()
    }
}

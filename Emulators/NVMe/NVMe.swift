import EmulatorKit
import Host
import NVMe
import XenHost

/// An NVMe controller with one disk, a raw image.
///
/// Options: `image` is its path; `read-only` (no) protects it; `serial` is what the guest sees, and knows the disk by ("demux-nvme"); `pci` is a
/// place such as "00:06.0". The image is opened with the rights of the user that the emulator has become.
///
/// A guest unplugs it as `nvme`. Linux never does: an image that the guest has as a PV disk as well needs `unplug-as: [nvme, ide-disk]` in the
/// specification (Protocols/unplug.md). Once it is unplugged the image is nobody's: others may lock it.
@main
struct NVMeDisk: Emulator, ~Copyable {
    static let name = "nvme"
    static var stateLength: Int { Controller.stateLength }
    static var unplugClasses: [UnplugClass] { [.nvme] }
    static func main() { run(direct: XenDirect.self) }

    private var controller: Controller
    private let worker: DiskWorker
    private let function: PCIFunction
    private let bar: Window
    /// What is called for in the loop's next round: to go on after a predecessor, or with commands that are left in queues.
    private var timer: Timer?
    private var isRecovering: Bool
    private var isPaused = false
    /// Whether this process has begun nothing yet.
    private var isUntouched = true
    private let serial: String
    /// Unplug requests that wait for the disk.
    private var unplugging: [UnplugRequest] = []
    private let departure: Departure

    /// Commands begun in one go: each may copy 128 KiB, and other vCPUs wait meanwhile.
    private static let budget = 8

    init(_ setup: inout Setup) throws(SetupError) {
        guard let path = setup.option("image") else {
            throw SetupError("start", "the disk", reason: "the option 'image' is missing", remedy: "give it the path of a raw image")
        }
        let readOnly = try setup.flag("read-only", default: false)
        let serial = setup.option("serial") ?? "demux-nvme"
        guard (1...20).contains(serial.utf8.count), serial.utf8.allSatisfy({ (0x21..<0x7f).contains($0) }) else {
            throw SetupError(
                "use", "the serial number '\(serial.prefix(60))'", reason: "it has 1 to 20 printable characters of ASCII", remedy: "choose another one")
        }
        let slot = setup.option("pci")
        guard let memory = setup.memory else {
            throw SetupError("start", "the disk", reason: "it has no access to the guest's memory", remedy: "use a host or a mode that gives it some")
        }
        let state = setup.state
        let wasRemoved = !state.isFresh && Controller.wasRemoved(state.bytes)
        // A predecessor that was killed keeps the lock until the storage has done what it was asked last. What was unplugged is not ours any more.
        let worker = try DiskWorker(
            try ImageFile(path, readOnly: readOnly || wasRemoved, locked: !wasRemoved, patience: state.isFresh ? 0 : 50))
        if worker.missingBytes > 0 {
            setup.context.log(
                .info, "the image \(path) ends \(worker.missingBytes) bytes before a whole block of 512: the guest finds zeros there, and a write of that block makes the image as long")
        }
        guard setup.context.watch(worker.doorbell) else { throw SetupError("watch", "the disk's doorbell", reason: "too much is watched already") }
        var description = PCIDescription(vendor: 0x1234, device: 0x4e56, classCode: 0x01_0802, subsystemVendor: 0x1234, subsystem: 0x0001, label: "nvme")
        description.bars = [0: .memory64(Controller.windowLength, prefetchable: false)]
        description.interruptPin = .a
        description.messageTable = .init(
            vectors: Controller.vectors, bar: 0, tableOffset: Controller.tableOffset, pendingOffset: Controller.pendingOffset)
        let function = try setup.add(description, slot: slot)
        // Only once requests are served: what it completes interrupts the guest.
        let timer = state.isFresh ? nil : setup.context.wake(after: .zero)
        controller = Controller(
            state: state.bytes, fresh: state.isFresh, geometry: worker.geometry,
            identity: ControllerIdentity(vendor: 0x1234, subsystemVendor: 0x1234, serial: serial), memory: Reach(memory, state), disk: worker)
        departure = Departure(isTold: wasRemoved)
        self.worker = worker
        self.serial = serial
        self.function = function
        bar = function.bar(0)
        self.timer = timer
        isRecovering = !state.isFresh
        if isRecovering { controller.setPaused(true) }
    }

    mutating func read(_ access: Access, _ context: borrowing Context) -> Answer {
        .value(access.window == bar ? controller.read(access.offset, size: access.size) : access.allOnes)
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        guard access.window == bar else { return .done }
        isUntouched = false
        controller.write(access.offset, size: access.size, value)
        goOn(context)
        return .done
    }

    mutating func event(_ event: Event, _ context: borrowing Context) {
        switch event {
        case .readable(worker.doorbell):
            // A paused guest's memory is not written: what ends is told when it goes on.
            guard !isPaused else { return context.forget(worker.doorbell) }
            takeFinished(context)
        case .timer(let due) where due == timer:
            timer = nil
            guard !isPaused else { return }
            isUntouched = false
            if isRecovering {
                isRecovering = false
                controller.setPaused(false)
                controller.recover()
            }
            goOn(context)
        case .paused:
            isPaused = true
            controller.setPaused(true)
        case .resumed:
            isPaused = false
            if isRecovering {
                timer = context.wake(after: .zero)
                return
            }
            controller.setPaused(false)
            _ = context.watch(worker.doorbell)
            takeFinished(context)
        case .unplug(_, let request): unplug(request, context)
        case .stopping:
            if !worker.end() { context.log(.error, "the image could not be written to stable storage: what the guest wrote last may be lost") }
        default: break
        }
    }

    private mutating func takeFinished(_ context: borrowing Context) {
        for (number, outcome) in worker.takeFinished() {
            if outcome != .done { context.log(.warning, "the image: \(outcome == .full ? "there is no room left" : "the storage failed")") }
            controller.finished(number, outcome)
        }
        goOn(context)
        depart(context)
    }

    /// Takes commands, tells the guest what has ended, and comes back if there is more.
    private mutating func goOn(_ context: borrowing Context) {
        let hasMore = controller.advance(budget: Self.budget)
        var messages = controller.takeMessages()
        while messages != 0 {
            context.sendMessage(function, vector: messages.trailingZeroBitCount)
            messages &= messages &- 1
        }
        context.setInterrupt(function, asserted: controller.interruptLine)
        if hasMore, timer == nil { timer = context.wake(after: .zero) }
    }

    // MARK: unplugging

    /// Drains and flushes the disk and takes it away from the guest; answered when everything acknowledged is on stable storage.
    private mutating func unplug(_ request: UnplugRequest, _ context: borrowing Context) {
        unplugging.append(request)
        if isUntouched {
            // It may be before the start, when nothing is told of the disk's jobs. There are none: only a predecessor has written.
            departure.outcome = controller.isRemoved || worker.flush() && controller.removeAtOnce() ? .removed : .failed
        } else if unplugging.count == 1 {
            let departure = departure
            controller.quiesce { departure.outcome = $0 }
            goOn(context)
        }
        depart(context)
    }

    /// Answers who had the disk unplugged, once that has ended.
    private mutating func depart(_ context: borrowing Context) {
        guard let outcome = departure.outcome else { return }
        departure.outcome = nil
        let requests = unplugging
        unplugging = []
        guard outcome == .removed else {
            for request in requests { context.refuse(request, "the image could not be written to stable storage") }
            return goOn(context)
        }
        context.remove(function)
        worker.unlock()
        for request in requests { context.answer(request, removed: departure.isTold ? [] : ["NVMe disk \(serial)"]) }
        departure.isTold = true
    }
}

/// What the controller tells of its removal, in the middle of something.
private final class Departure {
    var outcome: QuiesceOutcome?
    /// Whether the coordinator has heard of it.
    var isTold: Bool
    init(isTold: Bool) { self.isTold = isTold }
}

/// The guest's memory, as the controller calls it.
private final class Reach: ControllerMemory {
    private let memory: any GuestMemory
    private let state: StateRegion
    init(_ memory: any GuestMemory, _ state: StateRegion) { (self.memory, self.state) = (memory, state) }

    func read(_ address: UInt64, into destination: UnsafeMutableRawBufferPointer) -> Bool { memory.read(GuestAddress(address), into: destination) }
    func write(_ address: UInt64, from source: UnsafeRawBufferPointer) -> Bool { memory.write(GuestAddress(address), from: source) }
    func commitState() { state.commit() }
}

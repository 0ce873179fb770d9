import ControlProtocol
import Keeping
import Platform

/// Writes the checkpoint whenever the control plane has changed, and gives descriptors to the keeper. Without a keeper it does nothing.
final class Recorder {
    private let loop: EventLoop
    private let logBook: LogBook
    private(set) var keeper: (any DescriptorKeeper)?
    private var memory: CheckpointMemory?
    private var last: [UInt8] = []
    private var isDirty = false
    private var isScheduled = false
    /// Whether a successor could follow. While the guest is being started nobody can, and each step of it would be written for nobody.
    private var isNeeded = false
    /// Makes the checkpoint; nil: nothing is recorded (yet, or any more).
    var snapshot: (() -> Checkpoint)?

    init(loop: EventLoop, logBook: LogBook) {
        self.loop = loop
        self.logBook = logBook
    }

    /// Begins with memory of its own; nothing is written before `open`.
    func begin(_ keeper: any DescriptorKeeper) throws(SystemError) {
        let fresh = try CheckpointMemory()
        keeper.keep([fresh.descriptor], as: KeptName.checkpoint)
        memory = fresh
        self.keeper = keeper
    }

    /// Goes on with a predecessor's.
    func goOn(_ keeper: any DescriptorKeeper, _ memory: CheckpointMemory) {
        self.memory = memory
        self.keeper = keeper
        isNeeded = true
    }

    /// Writes everything now; from here on every change is written.
    func open() {
        isNeeded = true
        commit()
    }

    /// Something has changed: it is written after the present handler, and once for all that changes in it.
    func changed() {
        guard keeper != nil, snapshot != nil else { return }
        isDirty = true
        guard isNeeded, !isScheduled else { return }
        isScheduled = true
        loop.soon { [weak self] in
            self?.isScheduled = false
            self?.commit()
        }
    }

    /// Writes what has changed now: to be called before anybody can see it.
    func commit() {
        guard isNeeded, isDirty, let memory, let snapshot else { return }
        isDirty = false
        let bytes = ControlCodec.encode(snapshot())
        guard bytes != last else { return }
        guard memory.write(bytes) else {
            return logBook.note(.error, "the checkpoint of \(bytes.count) bytes does not fit: a successor would take over an older one")
        }
        last = bytes
    }

    func keep(_ descriptors: CInt..., as name: String) { keeper?.keep(descriptors, as: name) }

    func drop(_ name: String) { keeper?.drop(name) }

    /// All that a predecessor left under one name, in the order in which it gave them; nil: nothing.
    func takeAll(_ name: String) -> DescriptorBag? { keeper?.take(name) }

    /// What a predecessor left.
    /// - Throws: SystemError when it left nothing under that name.
    func take(_ name: String) throws(SystemError) -> OwnedDescriptor {
        guard let found = takeAll(name)?.take() else {
            throw SystemError("take over", "'\(name)'", reason: "the keeper does not hold it", remedy: "this must not happen: report it")
        }
        return found
    }
}

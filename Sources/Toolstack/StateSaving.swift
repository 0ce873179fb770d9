import Glibc
import Platform

/// Puts our emulators' states before QEMU's record when libxl saves the guest.
///
/// libxl hands QEMU a file by `add-fd`, has it write there by `xen-save-devices-state` with the file name /dev/fdset/N, and puts the whole file
/// into the guest's image; QEMU duplicates the descriptor, so that file's place is shared with ours, and its record comes after what we
/// write (libxl_qmp.c, libxl_dom_save.c; see `SavedStateFile.write` for what QEMU does to it). Belongs to the thread of the façade's loop.
public final class StateSaving {
    /// Gives what is to be saved, or why it cannot be; called back once. The guest stands still by then.
    public typealias Provide = (@escaping (Result<SavedEmulators, SystemError>) -> Void) -> Void

    private let provide: Provide
    /// Called with every failure.
    public var trouble: ((SystemError) -> Void)?
    /// Descriptors by the number of QEMU's set; the oldest is let go of beyond a few.
    private var sets: [(number: Int64, descriptor: DescriptorBag)] = []
    private static let mostSets = 8
    private static let prefix = "/dev/fdset/"

    public init(_ provide: @escaping Provide) { self.provide = provide }

    /// What becomes of a command; nil when it has nothing to do with this.
    public func decide(_ command: QMPCommand) -> QMPVerdict? {
        switch command.name {
        case "add-fd": return note(command)
        case "remove-fd":
            if let number = command.arguments?["fdset-id"]?.integer { sets.removeAll { $0.number == number } }
            return nil
        case "xen-save-devices-state": return save(command)
        default: return nil
        }
    }

    /// Keeps a second descriptor of the file until it is known which set QEMU has put it in.
    private func note(_ command: QMPCommand) -> QMPVerdict? {
        guard let number = command.descriptors.first, let copy = Self.duplicate(number) else { return nil }
        return .watch { [weak self] reply in
            guard let self, let set = reply["return"]?["fdset-id"]?.integer else { return true }
            self.sets.removeAll { $0.number == set }
            self.sets.append((set, copy))
            if self.sets.count > Self.mostSets { self.sets.removeFirst() }
            return true
        }
    }

    private static func duplicate(_ raw: CInt) -> DescriptorBag? {
        let copy = fcntl(raw, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { return nil }
        let bag = DescriptorBag()
        bag.add(OwnedDescriptor(adopting: copy))
        return bag
    }

    private func save(_ command: QMPCommand) -> QMPVerdict? {
        let name = command.arguments?["filename"]?.text ?? ""
        let number = name.hasPrefix(Self.prefix) ? Int64(name.dropFirst(Self.prefix.count)) : nil
        let file = number.flatMap { number in sets.first { $0.number == number }?.descriptor }
        let deferral = QMPDeferral()
        provide { [weak self] result in
            do {
                let state = try result.get()
                // Without any, the file is what a plain QEMU would have made.
                guard !state.records.isEmpty else { return deferral.settle(.pass) }
                guard let file, let raw = file.raw.first else {
                    throw SystemError(
                        "save", "our emulators' states", reason: "the file '\(name.prefix(80))' was not handed over by add-fd",
                        remedy: "save the guest with xl save, or by add-fd and /dev/fdset/N")
                }
                let written = try SavedStateFile.write(state, to: raw)
                deferral.settle(
                    .watch { reply in
                        guard reply["return"] != nil else { return true }
                        do throws(SystemError) {
                            try SavedStateFile.writeAgain(written, to: raw)
                        } catch {
                            // The bag keeps the file open until here.
                            withExtendedLifetime(file) { self?.trouble?(error) }
                            return false
                        }
                        return withExtendedLifetime(file) { true }
                    })
            } catch {
                let failure = error as? SystemError ?? SystemError("save", "our emulators' states", reason: "\(error)")
                self?.trouble?(failure)
                deferral.settle(.answer(command.refusal("\(failure)")))
            }
        }
        return .later(deferral)
    }
}

import ControlProtocol
import EmulatorProtocol
import Platform
import Specification

/// `demux replace`: another program in a running emulator's place, without the guest's noticing.
extension Coordinator {
    func replace(_ name: String, with change: ProgramChange, _ reply: @escaping (ControlReply) -> Void) {
        guard let old = sessions.first(where: { $0.name == name }) else {
            return reply(.failed(unknownEmulator(name)))
        }
        guard old.mode != .exporter else { return reply(.failed("'\(name)' is an exporter, and keeps its program; started again it is by: \(restartCommand(name))")) }
        guard old.state == .serving, !old.isLeaving else {
            return reply(.failed("emulator '\(name)' is \(old.status.state): only one that serves is replaced; '\(restartCommand(name))' starts a dead one again, 'demux attach' another program in its place"))
        }
        guard replacements[name] == nil else { return reply(.failed("emulator '\(name)' is being replaced already")) }
        let emulator = change.applied(to: old.specification)
        let replacement = Replacement(of: old, context: context, limit: .milliseconds(emulator.successorWithinMilliseconds)) { [weak self] end in
            guard let self else { return }
            self.loop.soon { self.replaced(name, end, reply) }
        }
        replacements[name] = replacement
        logBook.note(.info, "emulator '\(name)' is to be replaced by \(emulator.program)")
        do {
            try replacement.start(emulator)
        } catch {
            replacements[name] = nil
            logBook.note(.error, "emulator '\(name)' is not replaced: \(error)")
            reply(.failed("emulator '\(name)' goes on as it was: \(error)"))
        }
    }

    private func replaced(_ name: String, _ end: Replacement.End, _ reply: (ControlReply) -> Void) {
        guard let replacement = replacements.removeValue(forKey: name) else { return }
        let old = replacement.old
        switch end {
        case .done(let pause):
            guard let new = replacement.new else { return }
            new.died = { [weak self] in self?.died($0, $1) ?? false }
            old.died = nil
            if let index = sessions.firstIndex(where: { $0 === old }) { sessions[index] = new }
            new.holdings.replacements += 1
            // Its server, its claims and its state are the other's.
            old.retire()
            let text = "\(pause / 1000) µs"
            logBook.note(.info, "emulator '\(name)' is replaced by \(new.specification.program) (pid \(new.process?.pid ?? 0)); its accesses waited \(text)")
            reply(.done("emulator '\(name)' is replaced; its accesses waited \(text)"))
            // It may have died before anybody was there to hear.
            if new.hasExited, let exit = new.process?.poll() { died(new, exit) }
        case .goesOn(let reason):
            logBook.note(.error, "emulator '\(name)' is not replaced, and goes on: \(reason)")
            reply(.failed("emulator '\(name)' goes on as it was: \(reason)"))
        case .orphaned(let reason):
            reply(.failed("emulator '\(name)' is not replaced: \(reason)"))
            guard let exit = old.process?.poll() else { return }
            died(old, exit)
        case .lost(let reason):
            logBook.note(.error, "emulator '\(name)' is not replaced; the old program is started again: \(reason)")
            reply(.failed("emulator '\(name)' is not replaced; the old program is started again: \(reason)"))
            old.died = nil
            old.kill { [weak self] in
                guard let self else { return }
                old.holdings.server?.noteUnserved(budget: old.specification.successorWithinMilliseconds)
                self.scheduleSuccessor(of: old, because: "its replacement went wrong")
            }
        }
    }
}

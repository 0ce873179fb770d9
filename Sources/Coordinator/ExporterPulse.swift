import EmulatorProtocol
import Platform

/// Asks the exporter whether it goes on: it has no slots that the host's watchdog could look at, and who looks at the
/// guest through one that hangs sees a picture that stands still.
///
/// It is asked when somebody asks for the guest's status and, while viewers are connected, each time its limit has
/// passed.
final class ExporterPulse {
    private enum State {
        case resting
        /// It is asked when the time has come.
        case waiting(EventLoop.Timer)
        /// It has been asked, and can still answer in time.
        case asked(EventLoop.Timer)
        case hung
    }

    private weak var session: EmulatorSession?
    private let loop: EventLoop
    private let limit: Duration
    private var state = State.resting
    private var hasViewers = false

    init(_ session: EmulatorSession) {
        self.session = session
        loop = session.context.loop
        limit = .milliseconds(session.specification.hungAfterMilliseconds)
    }

    deinit { cancelTimer() }

    /// Somebody connects to it, or nobody does any more.
    func note(hasViewers: Bool) {
        self.hasViewers = hasViewers
        switch state {
        case .resting: wait()
        case .waiting where !hasViewers: rest()
        case .waiting, .asked, .hung: break
        }
    }

    /// Asks it now, unless it still owes an answer.
    func ask() {
        switch state {
        case .asked, .hung: return
        case .resting, .waiting: break
        }
        guard let session, session.state == .serving, !session.isGone else { return }
        cancelTimer()
        state = .asked(loop.after(limit) { [weak self] in self?.isLate() })
        // It changes nothing, and even one that does not know it answers.
        session.request(.resume) { [weak self] _ in self?.isAnswered() }
    }

    private func isLate() {
        state = .hung
        let milliseconds = Int(clamping: limit.clampedNanoseconds / 1_000_000)
        session?.hangs(slot: nil, on: "a question of the coordinator", milliseconds: milliseconds)
    }

    private func isAnswered() {
        // What the requests of one that has died end with is no answer.
        guard let session, !session.isGone else { return }
        cancelTimer()
        state = .resting
        session.goesOn(slot: nil)
        wait()
    }

    private func wait() {
        guard hasViewers else { return }
        state = .waiting(loop.after(limit) { [weak self] in self?.ask() })
    }

    private func rest() {
        cancelTimer()
        state = .resting
    }

    private func cancelTimer() {
        switch state {
        case .waiting(let timer), .asked(let timer): loop.cancel(timer)
        case .resting, .hung: break
        }
    }
}

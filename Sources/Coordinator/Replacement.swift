import EmulatorProtocol
import Glibc
import Host
import Platform
import Specification

/// One program taking a running one's place: `demux replace`.
///
/// The new process starts and says hello while the old one serves. Then the old one finishes what it has taken, lets go of its notifications and
/// stands still; the new one is attached to the same server, claims exactly what the old one had, goes on from its state, and is told to start. Until
/// then the old one gets everything back if anything goes wrong, and the guest has seen a pause. Used on the loop's thread only.
final class Replacement {
    enum End {
        /// The new one serves. Nanoseconds that the guest's accesses waited.
        case done(pause: UInt64)
        /// The old one goes on, or never stopped.
        case goesOn(because: String)
        /// The new one was told to start and went wrong after that; what is in the state is its own. The old process has to end, too.
        case lost(because: String)
        /// The old one has ended meanwhile.
        case orphaned(because: String)
    }

    private enum Phase { case starting, quieting, settingUp, over }

    let old: EmulatorSession
    private(set) var new: EmulatorSession?
    private let context: GuestContext
    /// How long the guest may be made to wait.
    private let limit: Duration
    private let done: (End) -> Void
    private var phase = Phase.starting
    private var timer: EventLoop.Timer?
    private var quietSince: UInt64 = 0
    private var snapshot: [UInt8]?
    private var isAside = false

    /// - Parameter done: called once, never from inside `start`.
    init(of old: EmulatorSession, context: GuestContext, limit: Duration, done: @escaping (End) -> Void) {
        self.old = old
        self.context = context
        self.limit = limit
        self.done = done
    }

    func start(_ emulator: EmulatorSpecification) throws(SystemError) {
        let new = try EmulatorSession(emulator, context: context, isSuccessor: true) { [weak self] reason in
            guard let self else { return }
            // Never from inside the session that tells.
            self.context.loop.soon { self.started(reason) }
        }
        new.greeted = { [weak self] in self?.greeted() }
        new.objection = { [weak new] in new?.claimDifference }
        self.new = new
    }

    // MARK: step by step

    private func greeted() {
        guard phase == .starting, let new else { return }
        guard new.mode == old.mode, new.servesHostPages == old.servesHostPages else {
            return fail("it is attached in another way than the one that serves; detach that one, and attach this one")
        }
        // One process at a time can be notified, which an older program does not know of. (A relay has doorbells for each.)
        guard !old.servesHostPages || old.capabilities.contains("release") else {
            return fail("the process that serves cannot let go of its notifications ('release'); detach it, and attach this one")
        }
        // A state of another length is refused with `hello`; one where there was none would begin as a device that the guest has not set up.
        if old.holdings.state == nil, let length = new.waitingHello?.hello.state, length != 0 {
            return fail("it wants a state of \(length) bytes, and the one that serves keeps none; detach that one, and attach this one")
        }
        phase = .quieting
        quietSince = EventLoop.now()
        timer = context.loop.after(limit) { [weak self] in
            guard let self else { return }
            self.timer = nil
            let seconds = "\(self.limit.clampedNanoseconds / 1_000_000) ms"
            self.fail(self.phase == .quieting ? "the old one has not finished what it had taken within \(seconds)" : "it has not got to serve within \(seconds)")
        }
        old.request(old.capabilities.contains("release") ? .release : .pause) { [weak self] refusal in
            guard let self, self.phase == .quieting else { return }
            if let refusal { return self.fail("the old one did not pause: \(refusal)") }
            self.old.state = .paused
            self.settingUp()
        }
    }

    private func settingUp() {
        phase = .settingUp
        snapshot = old.holdings.state?.bytes
        do {
            try old.holdings.server?.setAside()
            isAside = true
        } catch {
            return fail("\(error)")
        }
        new?.attachNow()
    }

    private func started(_ reason: String?) {
        guard phase != .over else { return }
        if let reason { return fail(reason) }
        guard let new else { return }
        finish()
        old.holdings.server?.forgetAside()
        new.lines.formUnion(old.lines)
        old.lines = []
        new.changes = ClaimChanges()
        new.objection = nil
        done(.done(pause: EventLoop.now() &- quietSince))
    }

    // MARK: when it goes wrong

    /// The old one's process has ended by itself. Once it stands still the new one can do without it.
    func oldEnded() {
        if phase == .starting || phase == .quieting { fail("the old one has ended meanwhile") }
    }

    /// The emulator is being taken away, or the guest is.
    /// - Parameter gone: called when the new process has ended.
    func cancel(_ gone: @escaping () -> Void = {}) {
        guard phase != .over, let new else { return gone() }
        finish()
        new.kill { [self] in
            done(.goesOn(because: "the emulator is being taken away"))
            gone()
        }
    }

    private func finish() {
        phase = .over
        if let timer { context.loop.cancel(timer) }
        timer = nil
    }

    private func fail(_ reason: String) {
        guard phase != .over, let new else { return }
        let wasQuieting = phase == .quieting
        let wasQuiet = phase == .settingUp
        // One that refuses to start, or exits with a status of its own, has taken nothing yet; of one that was killed, or that is to be, nobody knows.
        let hasTaken = new.isStarting && !new.hasRefusedStart && !new.hasGivenUp
        finish()
        // First it has to be gone: it may have bound the channels.
        new.kill { [self] in
            new.putDown()
            guard wasQuiet else {
                if old.hasExited { return done(.orphaned(because: reason)) }
                // It may be about to pause yet: it is told to go on all the same, and not waited for.
                if wasQuieting {
                    old.request(.resume) { [old, context] refusal in
                        guard let refusal, !old.hasExited else { return }
                        context.logBook.note(.error, "emulator '\(old.name)' cannot go on and is ended: \(refusal)")
                        old.process?.signal(SIGKILL)
                    }
                }
                return done(.goesOn(because: reason))
            }
            if hasTaken { return done(.lost(because: reason)) }
            new.undoClaims()
            if let snapshot { old.holdings.putBack(state: snapshot) }
            if isAside {
                do { try old.holdings.server?.takeBack() } catch { context.logBook.note(.error, "emulator '\(old.name)': \(error)") }
            }
            resume(reason)
        }
    }

    private func resume(_ reason: String) {
        guard !old.hasExited else { return done(.orphaned(because: reason)) }
        var answered = false
        func end(_ end: End) {
            if !answered { done(end) }
            answered = true
        }
        old.request(.resume) { [old] refusal in
            guard let refusal else {
                if old.state == .paused { old.state = .serving }
                return end(.goesOn(because: reason))
            }
            if old.hasExited { return end(.orphaned(because: reason)) }
            end(.lost(because: "\(reason); and the old one cannot go on: \(refusal)"))
        }
        context.loop.after(limit) { end(.lost(because: "\(reason); and the old one does not go on")) }
    }
}

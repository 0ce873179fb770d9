import EmulatorProtocol
import Host
import Platform
import Specification

/// What follows the death of a process: another one in its place, on the same server, with the same state and the same memory.
extension Coordinator {
    /// A process that served has ended, and nobody had told it to.
    func died(_ session: EmulatorSession, _ exit: ChildProcess.Exit) {
        // One that exits in order meant to.
        guard policy(of: session) == .onFailure, exit != .status(0) else { return }
        scheduleSuccessor(of: session, because: "\(exit)")
    }

    func policy(of session: EmulatorSession) -> RestartPolicy {
        // Without state a successor would be a device that the guest has not set up: that is only done when it is asked for.
        session.specification.restart ?? (session.mode == .exporter || session.holdings.state != nil ? .onFailure : .never)
    }

    /// - Parameter reason: how it ended, as in "was killed by signal 9".
    func scheduleSuccessor(of session: EmulatorSession, because reason: String) {
        guard !isClosing, !context.dying, !session.isLeaving, sessions.contains(where: { $0 === session }) else { return }
        guard let delay = session.holdings.backoff.next(now: EventLoop.now()) else {
            session.fate = "parked: \(reason)"
            return logBook.note(
                .error,
                "emulator '\(session.name)' is parked: it died more than \(RestartBackoff.most) times within a minute, and is not started again; "
                    + "'demux attach' puts another in its place")
        }
        session.fate = "restarting: \(reason)"
        let milliseconds = delay.clampedNanoseconds / 1_000_000
        logBook.note(.warning, "emulator '\(session.name)' is started again in \(milliseconds) ms")
        session.restartTimer = loop.after(delay) { [weak self, weak session] in
            guard let self, let session else { return }
            session.restartTimer = nil
            self.succeed(session, as: session.specification) { _ in }
        }
    }

    /// Starts a process in a dead one's place. When that one does not get to serve either, the next attempt is scheduled (or not) as after
    /// any other death.
    /// - Parameter done: called once, with nil when it serves or with the reason why not.
    func succeed(_ dead: EmulatorSession, as emulator: EmulatorSpecification, _ done: @escaping (String?) -> Void) {
        dead.handOver { [weak self] server in
            guard let self else { return }
            guard !self.isClosing, !self.context.dying, !dead.isLeaving, let index = self.sessions.firstIndex(where: { $0 === dead }) else {
                // Whoever takes it away finds the server where it was.
                dead.server = server
                return done("emulator '\(dead.name)' is being taken away")
            }
            do {
                let successor = try EmulatorSession(emulator, context: self.context, succeeding: server) { [weak self] reason in
                    guard let self else { return }
                    // Never from inside the session that tells.
                    self.loop.soon { self.successorStarted(emulator.name, reason, done) }
                }
                successor.died = { [weak self] in self?.died($0, $1) }
                self.sessions[index] = successor
            } catch {
                dead.server = server
                dead.fate = nil
                self.logBook.note(.error, "emulator '\(dead.name)': \(error)")
                if self.policy(of: dead) == .onFailure { self.scheduleSuccessor(of: dead, because: "\(error)") }
                done("emulator '\(dead.name)': \(error)")
            }
        }
    }

    private func successorStarted(_ name: String, _ reason: String?, _ done: @escaping (String?) -> Void) {
        guard let session = sessions.first(where: { $0.name == name }) else { return done(reason ?? "emulator '\(name)' was taken away") }
        guard let reason else {
            session.holdings.restarts += 1
            logBook.note(.info, "emulator '\(name)' is back (restart \(session.holdings.restarts))")
            return done(nil)
        }
        session.end(limit: .seconds(1)) { [weak self] in
            guard let self else { return done(reason) }
            if self.policy(of: session) == .onFailure { self.scheduleSuccessor(of: session, because: "did not start: \(reason)") }
            done(reason)
        }
    }
}

import EmulatorProtocol
import Host
import Platform
import Specification

/// What follows the death of a process: another one in its place, on the same server, with the same claims, state and memory. The server stays
/// enabled meanwhile, and the guest's accesses wait in it.
extension Coordinator {
    /// A process that served has ended, and nobody had told it to.
    /// - Returns: whether another is to take its place.
    @discardableResult
    func died(_ session: EmulatorSession, _ exit: ChildProcess.Exit) -> Bool {
        if let replacement = replacements[session.name], replacement.old === session {
            // What comes of it is told when the other one has ended.
            replacement.oldEnded()
            return true
        }
        // One that exits in order meant to.
        guard session.restartPolicy == .onFailure, exit != .status(0) else {
            let isServer = session.holdings.server != nil
            if isServer { leave(session) }
            logBook.note(
                .warning, "emulator '\(session.name)' is not started again" + (isServer ? ": its accesses read all-ones from now on" : "")
                    + "; '\(restartCommand(session.name))' starts it anew")
            return false
        }
        session.holdings.server?.noteUnserved(budget: session.specification.successorWithinMilliseconds)
        scheduleSuccessor(of: session, because: "\(exit)")
        return true
    }

    /// Nobody is to come after it.
    private func leave(_ session: EmulatorSession) {
        session.holdings.server?.close()
        session.lower(session.lines)
    }

    /// - Parameter reason: how it ended, as in "was killed by signal 9".
    func scheduleSuccessor(of session: EmulatorSession, because reason: String) {
        guard !isClosing, !context.dying, !session.isLeaving, sessions.contains(where: { $0 === session }) else {
            return leave(session)
        }
        guard let delay = session.holdings.backoff.next(now: EventLoop.now(), for: session.specification) else {
            return park(session, because: reason)
        }
        session.restartStatus = .restarting(reason)
        let milliseconds = delay.clampedNanoseconds / 1_000_000
        logBook.note(.warning, "emulator '\(session.name)' is started again " + (milliseconds == 0 ? "at once" : "in \(milliseconds) ms"))
        start(successorOf: session, in: delay)
    }

    /// It died too often. An exporter is tried again later, because its absence costs the guest nothing; others are started by a command.
    /// - Parameter reason: how it ended.
    func park(_ session: EmulatorSession, because reason: String) {
        session.restartStatus = .parked(reason)
        leave(session)
        let retry = session.mode == .exporter ? session.holdings.lateRetry.next(now: EventLoop.now()) : nil
        let command = restartCommand(session.name)
        logBook.note(
            .error,
            "emulator '\(session.name)' is parked: it died more than \(session.specification.restartLimit) times within a minute, and is "
                + (retry.map { "tried again in \($0.components.seconds) s, or at once by '\(command)'" }
                    ?? "not started again; '\(command)' starts it, 'demux attach' another program in its place"),
            event: .park, ["emulator": session.name, "reason": reason])
        if let retry { start(successorOf: session, in: retry) }
    }

    private func start(successorOf session: EmulatorSession, in delay: Duration) {
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
        guard !isClosing, !context.dying, !dead.isLeaving, let index = sessions.firstIndex(where: { $0 === dead }) else {
            return done("emulator '\(dead.name)' is being taken away")
        }
        do {
            let successor = try EmulatorSession(emulator, context: context, isSuccessor: true) { [weak self] reason in
                guard let self else { return }
                // Never from inside the session that tells.
                self.loop.soon { self.successorStarted(emulator.name, reason, done) }
            }
            dead.putDown()
            successor.lines = dead.lines
            dead.lines = []
            // Without state it begins anew, and asserts none.
            if dead.holdings.state == nil { successor.lower(successor.lines) }
            successor.died = { [weak self] in self?.died($0, $1) ?? false }
            sessions[index] = successor
        } catch {
            dead.restartStatus = nil
            logBook.note(.error, "emulator '\(dead.name)': \(error)")
            goOnWithout(dead, because: "\(error)")
            done("emulator '\(dead.name)': \(error)")
        }
    }

    private func successorStarted(_ name: String, _ reason: String?, _ done: @escaping (String?) -> Void) {
        guard let session = sessions.first(where: { $0.name == name }) else { return done(reason ?? "emulator '\(name)' was taken away") }
        guard let reason else {
            session.holdings.restarts += 1
            logBook.note(
                .info, "emulator '\(name)' is back (restart \(session.holdings.restarts))", event: .restart,
                ["emulator": name, "pid": "\(session.process?.pid ?? 0)", "restarts": "\(session.holdings.restarts)"])
            return done(nil)
        }
        let finish = { [weak self] in
            guard let self else { return done(reason) }
            self.goOnWithout(session, because: "did not start: \(reason)")
            done(reason)
        }
        // One that was told to start has the server's pages, and the guest waits for it.
        if session.isStarting { session.kill(finish) } else { session.end(limit: .seconds(1), finish) }
    }

    /// A successor has not got to serve, and has ended.
    func goOnWithout(_ session: EmulatorSession, because reason: String) {
        guard session.restartPolicy == .onFailure else {
            return leave(session)
        }
        session.holdings.server?.noteUnserved(budget: session.specification.successorWithinMilliseconds)
        scheduleSuccessor(of: session, because: reason)
    }
}

import EmulatorProtocol
import Glibc
import Host
import Platform

/// How a process of an emulator ends, and what of it goes to whom.
extension EmulatorSession {
    func processEnded() {
        guard let process, let exit = process.poll() else { return }
        context.loop.forget(process.exitDescriptor)
        // Its last words may still wait in the socket.
        hasExited = true
        receive()
        output?.drain()
        closeSocket("it \(exit)")
        let wasServing = state == .serving || state == .paused
        let wasQuitting = state == .quitting
        state = .ended("\(exit)")
        leaveScreen()
        if started != nil {
            failStart("it \(exit) before it was ready" + ((lastWords ?? output?.last).map { ": \($0)" } ?? ""))
        } else if wasServing {
            context.logBook.note(.error, "emulator '\(name)' \(exit)", event: .exit, exit.fields(name, process.pid))
        } else if wasQuitting {
            context.logBook.note(.info, "emulator '\(name)' \(exit)", event: .exit, exit.fields(name, process.pid))
        }
        let unanswered = pending.values
        pending = [:]
        let mourn = died
        died = nil
        for answer in unanswered { answer(.failure(Refusal(.order, asked: "a request", message: "the emulator \(exit)"))) }
        // What waits for the end holds this session, which holds what waits.
        let tell = ended
        ended = nil
        tell?(self)
        // A successor asserts no line anew: what the device asserts is its state.
        let stays = wasServing && mourn?(self, exit) == true
        if !stays && !isSuccessor || wasQuitting { lower(lines) }
        // In whatever state it died: from `start` on the guest's accesses came here. A successor's end is its starter's to deal with.
        if !wasQuitting && !wasServing && !isSuccessor { holdings.server?.close() }
    }

    /// Takes it away in the safe order: disable, let it (or us) answer what waits, quit, wait until the answers are taken, destroy.
    func detach(limit: Duration = .seconds(5), _ done: @escaping (String?) -> Void) {
        holdings.server?.disable()
        quit(limit: limit) { [self] in
            holdings.server?.close()
            let removed = { [self] in
                removeServer()
                done(nil)
            }
            if let server = holdings.server { server.whenTaken(removed) } else { removed() }
        }
    }

    /// Somebody takes it away before it served: whoever waits for its start is told.
    func cancelStart() { failStart("it was detached before it served") }

    /// Ends the process: quit, then after `limit` SIGTERM, then SIGKILL.
    func quit(limit: Duration = .seconds(2), _ done: @escaping () -> Void) {
        cancelRestart()
        isLeaving = true
        end(limit: limit, done)
    }

    /// As `quit`, but another process may take its place afterwards.
    func end(limit: Duration, _ done: @escaping () -> Void) {
        guard awaitEnd(done) else { return }
        request(.quit) { _ in }
        // Who does not listen needs no time.
        context.loop.after(socketOpen ? limit : .zero) { [weak self] in
            guard let self, let process = self.process, process.poll() == nil else { return }
            self.context.logBook.note(.warning, "emulator '\(self.name)' did not quit; it gets SIGTERM")
            process.signal(SIGTERM)
            self.context.loop.after(.seconds(1)) { [weak self] in self?.process?.signal(SIGKILL) }
        }
    }

    /// Ends the process at once: it is in the guest's way.
    func kill(_ done: @escaping () -> Void) {
        if awaitEnd(done) { process?.signal(SIGKILL) }
    }

    /// Nobody waits for its start any more; `done` is called when it has ended.
    /// - Returns: whether it still has to end.
    private func awaitEnd(_ done: @escaping () -> Void) -> Bool {
        cancelDeadline()
        started = nil
        if case .ended = state {
            done()
            return false
        }
        state = .quitting
        let previous = ended
        ended = { session in
            previous?(session)
            done()
        }
        return true
    }

    /// Another process has taken its place, and has everything that was its own: only the process is left to be ended.
    func retire() {
        cancelRestart()
        isLeaving = true
        end(limit: .seconds(2)) { [self] in putDown() }
    }

    func setDirtyLogging(_ on: Bool) {
        guard state == .serving else { return }
        request(.dirtyLogging(DirtyLogging(on: on))) { [weak self] refusal in
            guard let self, let refusal else { return }
            self.context.logBook.note(.warning, "emulator '\(self.name)': dirty logging: \(refusal)", becauseOf: self.name)
        }
    }

    /// Destroys the server and forgets the claims and all that is kept for a successor; nothing must be in flight any more.
    func removeServer() {
        cancelRestart()
        context.registry.releaseAll(of: owner)
        putDown()
        do { try holdings.server?.destroy() } catch { context.logBook.note(.warning, "emulator '\(name)': \(error)") }
        holdings.server = nil
        if let trouble = holdings.releaseRegions(host: context.host, dying: context.dying) {
            context.logBook.note(.warning, "emulator '\(name)': \(trouble)")
        }
        context.forget(holdings)
        context.unplug.settle(self)
        context.surfaces.displayRemoved(name)
    }

    /// Lets go of what this process alone had. It has ended.
    func putDown() {
        if !context.dying, let trouble = populated.removeAll(host: context.host) {
            context.logBook.note(.warning, "emulator '\(name)': \(trouble)")
        }
        bounce = nil
    }

    func cancelRestart() {
        if let restartTimer { context.loop.cancel(restartTimer) }
        restartTimer = nil
        died = nil
    }

    /// Lets go of everything of the guest's at once (the domain is dying).
    func letGo() {
        context.watchdog?.forget(self)
        holdings.server?.letGo()
        holdings.server = nil
        bounce = nil
        cancelRestart()
        _ = holdings.releaseRegions(host: context.host, dying: true)
        process?.signal(SIGTERM)
    }
}

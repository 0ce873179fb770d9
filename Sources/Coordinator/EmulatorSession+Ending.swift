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
        closeSocket("it \(exit)")
        let wasServing = state == .serving || state == .paused
        let wasQuitting = state == .quitting
        state = .ended("\(exit)")
        lower(lines)
        leaveScreen()
        // In whatever state it died: from `ready` on the guest's accesses came here.
        if !wasQuitting { releaseWaiters() }
        if started != nil {
            failStart("it \(exit) before it was ready" + (lastWords.map { ": \($0)" } ?? ""))
        } else if wasServing {
            context.logBook.note(
                .error, "emulator '\(name)' \(exit)" + (mode == .exporter ? "" : "; its accesses now read all-ones"), event: .exit, exit.fields(name, process.pid))
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
        if wasServing { mourn?(self, exit) }
    }

    /// What a dead emulator left: its server is disabled, and every access that waits in it is answered with all-ones, so
    /// that no vCPU is blocked for ever (../Protocols: death of an emulator).
    func releaseWaiters() {
        guard let server, enabled, !context.dying else { return }
        do {
            try context.host.setServer(server, enabled: false)
            if let relay {
                relay.abandon()
            } else if drained == nil {
                let channel = try context.host.openChannel(server)
                drained = channel
                try Drain.answerAll(channel)
            }
        } catch {
            context.logBook.note(.error, "emulator '\(name)': \(error)")
        }
    }

    /// Calls `done` when every vCPU has taken its answer: a server that goes earlier takes the answer with it, and the vCPU stays
    /// blocked. At most a second: a paused vCPU takes nothing.
    func whenTaken(patience: Int = 1000, _ done: @escaping () -> Void) {
        let channel = relay?.source ?? drained
        guard let channel, !context.dying, server != nil, patience > 0,
            (0..<channel.vcpuCount).contains(where: { channel.slots.state($0) != IORequest.State.none })
        else { return done() }
        context.loop.after(.milliseconds(1)) { self.whenTaken(patience: patience - 1, done) }
    }

    /// Takes it away in the safe order: disable, let it (or us) answer what waits, quit, wait until the answers are taken, destroy.
    func detach(limit: Duration = .seconds(5), _ done: @escaping (String?) -> Void) {
        if let server, enabled, !context.dying { try? context.host.setServer(server, enabled: false) }
        quit(limit: limit) { [self] in
            releaseWaiters()
            whenTaken { [self] in
                removeServer()
                done(nil)
            }
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
        cancelDeadline()
        started = nil
        if case .ended = state { return done() }
        state = .quitting
        let previous = ended
        ended = { session in
            previous?(session)
            done()
        }
        request(.quit) { _ in }
        // Who does not listen needs no time.
        context.loop.after(socketOpen ? limit : .zero) { [weak self] in
            guard let self, let process = self.process, process.poll() == nil else { return }
            self.context.logBook.note(.warning, "emulator '\(self.name)' did not quit; it gets SIGTERM")
            process.signal(SIGTERM)
            self.context.loop.after(.seconds(1)) { [weak self] in self?.process?.signal(SIGKILL) }
        }
    }

    func setDirtyLogging(_ on: Bool) {
        guard state == .serving else { return }
        request(.dirtyLogging(DirtyLogging(on: on))) { [weak self] refusal in
            guard let self, let refusal else { return }
            self.context.logBook.note(.warning, "emulator '\(self.name)': dirty logging: \(refusal)")
        }
    }

    /// Destroys the server and forgets the claims and all that is kept for a successor; nothing must be in flight any more.
    func removeServer() {
        cancelRestart()
        context.registry.releaseAll(of: owner)
        putDown()
        if let server, !context.dying {
            do { try context.host.destroyServer(server) } catch { context.logBook.note(.warning, "emulator '\(name)': \(error)") }
        }
        server = nil
        if let trouble = holdings.releaseRegions(host: context.host, dying: context.dying) {
            context.logBook.note(.warning, "emulator '\(name)': \(trouble)")
        }
        context.forget(holdings)
        context.unplug.settle(self)
        context.surfaces.displayRemoved(name)
    }

    /// Lets go of the server's pages and of what this process had populated. On Xen nobody else can bind the server's event channels
    /// before.
    private func putDown() {
        if !context.dying, let trouble = populated.removeAll(host: context.host) {
            context.logBook.note(.warning, "emulator '\(name)': \(trouble)")
        }
        relay?.stop()
        relay = nil
        drained = nil
        bounce = nil
    }

    /// Gives the server, disabled and with its claims, to a successor, once every vCPU has taken its answer.
    func handOver(_ done: @escaping (ServerID?) -> Void) {
        releaseWaiters()
        whenTaken { [self] in
            putDown()
            let server = server
            self.server = nil
            done(server)
        }
    }

    func cancelRestart() {
        if let restartTimer { context.loop.cancel(restartTimer) }
        restartTimer = nil
        died = nil
    }

    /// Lets go of everything of the guest's at once (the domain is dying).
    func letGo() {
        context.watchdog?.forget(self)
        relay?.stop()
        relay = nil
        drained = nil
        bounce = nil
        server = nil
        cancelRestart()
        _ = holdings.releaseRegions(host: context.host, dying: true)
        process?.signal(SIGTERM)
    }
}

import EmulatorProtocol
import Glibc
import Host
import Platform
import Specification

/// A request that an emulator has not answered for longer than its limit.
struct HungRequest {
    let slot: Int
    let request: String
    /// Monotonic, in nanoseconds.
    let since: UInt64

    /// How long it has waited by now.
    var seconds: Double { Double(EventLoop.now() &- since) / 1e9 }
}

/// What follows when an emulator hangs.
extension Coordinator {
    /// Has the host's watchdog look whether our emulators go on.
    /// - Parameters:
    ///   - base: the run directory of all guests of this host.
    ///   - program: the watchdog's path.
    func startWatching(base: String, program: String) {
        let client = WatchdogClient(loop: loop, base: base, program: program, logBook: logBook)
        client.hung = { [weak self] in self?.hangs($0, slot: $1, request: $2, milliseconds: $3) }
        client.answered = { [weak self] in self?.goesOn($0, slot: $1) }
        context.watchdog = client
    }

    private func hangs(_ session: EmulatorSession, slot: Int, request: String, milliseconds: Int) {
        // The first of several: the others wait for the same reason.
        guard session.hung == nil else { return }
        session.hung = HungRequest(slot: slot, request: request, since: EventLoop.now() &- UInt64(clamping: milliseconds) &* 1_000_000)
        let restarts = whenHung(session) == .restart
        logBook.note(
            .error, "emulator '\(session.name)' hangs: \(request) on slot \(slot) has waited for \(milliseconds / 1000) s" + (restarts ? "; it is killed" : ""),
            event: .hung,
            [
                "emulator": session.name, "pid": "\(session.process?.pid ?? 0)", "slot": "\(slot)", "request": request, "milliseconds": "\(milliseconds)",
                "action": restarts ? "restart" : "report",
            ])
        // What follows is what follows any death. SIGKILL reaches a stopped process too.
        if restarts { session.process?.signal(SIGKILL) }
    }

    /// Ends an emulator's process that has left a slot in a state that is none, when another one is to take its place.
    /// - Returns: whether one is to; otherwise what waits has to be answered now.
    func replaceBroken(_ name: String) -> Bool {
        guard !context.dying, replacements[name] == nil, let session = sessions.first(where: { $0.name == name }), !session.isLeaving,
            whenHung(session) == .restart
        else { return false }
        if session.state == .serving { session.process?.signal(SIGKILL) }
        return true
    }

    /// Hears of the answers that a host found by itself because nobody had rung.
    func watchBells() throws(HostError) {
        guard let host = context.host as? any BellWatchingHost else { return }
        do {
            try loop.watch(host.forgottenBellDescriptor, for: .readable) { [weak self] _ in
                for bell in host.takeForgottenBells() {
                    guard let self, let session = self.sessions.first(where: { $0.server == bell.server }) else { continue }
                    session.holdings.faults.note(
                        .forgottenBell, "it has answered on slot \(bell.vcpu) without ringing", ["slot": "\(bell.vcpu)"], in: self.logBook)
                }
            }
        } catch {
            throw HostError("hear of", "forgotten doorbells of \(host.domain)", .failed(error.code), detail: "\(error)")
        }
    }

    private func goesOn(_ session: EmulatorSession, slot: Int) {
        guard let hung = session.hung, hung.slot == slot else { return }
        session.hung = nil
        logBook.note(.info, "emulator '\(session.name)' goes on: \(hung.request) was answered after \(Int(hung.seconds)) s")
    }

    private func whenHung(_ session: EmulatorSession) -> HungPolicy {
        session.specification.whenHung ?? (policy(of: session) == .onFailure ? .restart : .report)
    }
}

import Glibc
import Host
import Platform

/// What a host and its watchdog notice of emulators that do not go on.
extension Coordinator {
    /// Has the host's watchdog look whether our emulators go on.
    /// - Parameters:
    ///   - base: the run directory of all guests of this host.
    ///   - program: the watchdog's path.
    func startWatching(base: String, program: String) {
        let client = WatchdogClient(loop: loop, base: base, program: program, logBook: logBook)
        client.hung = { $0.hangs(slot: $1, on: $2, milliseconds: $3) }
        client.answered = { $0.goesOn(slot: $1) }
        context.watchdog = client
    }

    /// Ends an emulator's process that has left a slot in a state that is none, when another one is to take its place.
    /// - Returns: whether one is to; otherwise what waits has to be answered now.
    func replaceBroken(_ name: String) -> Bool {
        guard !context.dying, replacements[name] == nil, let session = sessions.first(where: { $0.name == name }), !session.isLeaving,
            session.whenHung == .restart
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
}

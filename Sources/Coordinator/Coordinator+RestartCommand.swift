import ControlProtocol
import Glibc
import Specification

/// `demux restart`: the same program again, whatever has become of the last process.
extension Coordinator {
    /// What a person types to have an emulator started again.
    func restartCommand(_ name: String) -> String { "demux restart \(context.host.domain.rawValue) \(name)" }

    func restart(_ name: String, _ reply: @escaping (ControlReply) -> Void) {
        guard let session = sessions.first(where: { $0.name == name }) else { return reply(.failed(unknownEmulator(name))) }
        guard !session.isLeaving else { return reply(.failed("emulator '\(name)' is being taken away")) }
        guard replacements[name] == nil else { return reply(.failed("emulator '\(name)' is being replaced; wait until it is")) }
        switch session.state {
        case .ended: revive(session, as: session.specification, reply)
        case .serving where session.restartPolicy == .onFailure:
            session.holdings.backoff = RestartBackoff()
            logBook.note(.info, "emulator '\(name)' is ended, to be started again")
            session.process?.signal(SIGKILL)
            reply(.done("emulator '\(name)' is ended, and another process takes its place"))
        case .serving:
            reply(.failed("emulator '\(name)' serves, and keeps nothing that another process could go on from: 'demux detach' it and 'demux attach' it anew"))
        case .spawned, .greeted, .ready, .paused, .quitting: reply(.failed("emulator '\(name)' is \(session.state.text): wait until it serves or has ended"))
        }
    }

    func unknownEmulator(_ name: String) -> String {
        let names = sessions.map { $0.name }.joined(separator: ", ")
        return "this guest has no emulator '\(name.prefix(40))'; it has: \(names.isEmpty ? "none" : names)"
    }
}

import EmulatorProtocol
import Glibc
import Platform
import Specification

/// A request that an emulator has not answered for longer than its limit.
struct HungRequest {
    /// Where the guest's access waits; nil: it is the coordinator's own request, to an exporter.
    let slot: Int?
    let request: String
    /// Monotonic, in nanoseconds.
    let since: UInt64

    /// How long it has waited by now.
    var seconds: Double { Double(EventLoop.now() &- since) / 1e9 }
}

/// What follows when an emulator hangs.
extension EmulatorSession {
    /// It has not answered within its limit.
    func hangs(slot: Int?, on request: String, milliseconds: Int) {
        // The first of several: the others wait for the same reason.
        guard hung == nil else { return }
        let waited = UInt64(clamping: milliseconds) &* 1_000_000
        hung = HungRequest(slot: slot, request: request, since: EventLoop.now() &- waited)
        let policy = whenHung
        var fields = [
            "emulator": name, "pid": "\(process?.pid ?? 0)", "request": request, "milliseconds": "\(milliseconds)",
            "action": policy.rawValue,
        ]
        if let slot { fields["slot"] = "\(slot)" }
        context.logBook.note(
            .error,
            "emulator '\(name)' hangs: \(request)\(slot.map { " on slot \($0)" } ?? "") has waited"
                + " for \(milliseconds / 1000) s" + (policy == .restart ? "; it is killed" : ""), event: .hung, fields)
        // What follows is what follows any death. SIGKILL reaches a stopped process too.
        if policy == .restart { process?.signal(SIGKILL) }
    }

    /// What it hung on has been answered after all.
    func goesOn(slot: Int?) {
        guard let hung, hung.slot == slot else { return }
        self.hung = nil
        context.logBook.note(.info, "emulator '\(name)' goes on: \(hung.request) was answered after \(Int(hung.seconds)) s")
    }

    var whenHung: HungPolicy { specification.whenHung ?? (restartPolicy == .onFailure ? .restart : .report) }

    /// Whether another process takes its place when it dies.
    var restartPolicy: RestartPolicy {
        // Without state a successor would be a device that the guest has not set up: that is only done when it is asked for.
        specification.restart ?? (mode == .exporter || holdings.state != nil ? .onFailure : .never)
    }
}

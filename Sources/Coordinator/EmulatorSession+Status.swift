import ControlProtocol
import Host

/// What people are told of it.
extension EmulatorSession {
    /// For `demux status`.
    var status: EmulatorStatus {
        let page = holdings.counters.page
        var values: [String: UInt64] = [:]
        for counter in Counter.allCases { values[counter.name] = page.read(counter) }
        return EmulatorStatus(
            name: name, program: specification.program, pid: process?.pid ?? 0, state: stateText, mode: mode.rawValue,
            server: server?.rawValue,
            claims: context.registry.claims(of: owner).map { EmulatorStatus.ClaimStatus(range: "\($0.range)", label: $0.label) },
            counters: values, restarts: holdings.restarts > 0 ? holdings.restarts : nil,
            hung: hangs.map { HungStatus(request: $0.request, slot: $0.slot, seconds: $0.seconds) }, parked: holdings.server.flatMap { $0.answered > 0 ? $0.answered : nil },
            replacements: holdings.replacements > 0 ? holdings.replacements : nil,
            faults: holdings.faults.counts)
    }

    private var stateText: String {
        let text = restartStatus?.rawValue ?? hungText ?? state.text
        // While another one is on its way, too.
        return holdings.server?.isParked == true && !text.hasPrefix("parked") && !isLeaving ? "parked: \(text)" : text
    }

    private var hangs: HungRequest? { state == .serving ? hung : nil }
    private var hungText: String? { hangs.map { "hung: \($0.request) for \(Int($0.seconds)) s" } }
}

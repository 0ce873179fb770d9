import ControlProtocol
import Dispatch
import Glibc
import Platform

/// A guest as the page shows it.
struct GuestLine: Encodable, Equatable, Sendable {
    var domain: UInt16
    var name: String
    /// "running", or why it cannot be asked.
    var state: String
    /// "xen" or "local"; empty when not known.
    var host: String
    var emulators: [String]
    /// Whether its VNC exporter listens for us.
    var vnc: Bool
}

/// What the page asks for every few seconds.
struct GuestList: Encodable, Equatable, Sendable {
    var guests: [GuestLine]
    /// Whether guests can be opened with noVNC.
    var novnc: Bool
    var directory: String
}

/// The running guests. Any number of browsers that ask at a time cost one look.
actor Guests {
    private let base: String
    private var known: (list: [GuestLine], at: UInt64)?
    private var underway: Task<[GuestLine], Never>?

    /// A list is good for this long, in nanoseconds.
    private static let age: UInt64 = 1_000_000_000

    init(base: String) { self.base = base }

    func list() async -> [GuestLine] {
        if let known, EventLoop.now() &- known.at < Self.age { return known.list }
        if let underway { return await underway.value }
        let base = base
        let task = Task {
            await withCheckedContinuation { continuation in
                // It waits, which threads of Swift's own must not.
                DispatchQueue.global().async { continuation.resume(returning: Self.look(base)) }
            }
        }
        underway = task
        let list = await task.value
        underway = nil
        known = (list, EventLoop.now())
        return list
    }

    private static func look(_ base: String) -> [GuestLine] {
        Survey.take(base: base).map { entry in
            switch entry.state {
            case .running(let status):
                GuestLine(
                    domain: entry.domain, name: status.name, state: "running", host: status.host,
                    emulators: status.emulators.map { $0.state == "serving" ? $0.name : "\($0.name) (\($0.state))" },
                    vnc: access(RunDirectory.vncSocket(domain: entry.domain, base: base), F_OK) == 0)
            case .unreachable(let reason):
                GuestLine(domain: entry.domain, name: "", state: reason.phrase, host: "", emulators: [], vnc: false)
            }
        }
    }
}

import Platform

/// What one peer (an emulator, the VNC server, the control clients together) has done against the protocol: counted by kind for `demux status`, and
/// told in the guest's log, the first of a kind at once and then at most one line in ten seconds, so that no peer can fill the log with its faults.
final class FaultLog {
    /// Nanoseconds between two lines of one kind.
    static let interval: UInt64 = 10_000_000_000

    private struct Tally {
        var count: UInt64 = 0
        var told: (count: UInt64, at: UInt64)?
    }

    private let source: String
    private let name: String
    private var tallies: [LogBook.Event: Tally] = [:]

    /// - Parameters:
    ///   - source: who it is, as the lines have it.
    ///   - name: the same for programs, in the field `emulator`.
    init(source: String, name: String) {
        self.source = source
        self.name = name
    }

    convenience init(emulator name: String) { self.init(source: "emulator '\(name)'", name: name) }

    /// How often each kind was seen, by the event's name; nil: never any.
    var counts: [String: UInt64]? {
        tallies.isEmpty ? nil : Dictionary(uniqueKeysWithValues: tallies.map { ($0.key.rawValue, $0.value.count) })
    }

    /// Counts a fault, and logs it when that is due.
    /// - Parameters:
    ///   - what: what was done, in the peer's or our words; escaped here.
    ///   - now: monotonic, in nanoseconds.
    func note(_ event: LogBook.Event, _ what: String, _ fields: [String: String] = [:], in logBook: LogBook, now: UInt64 = EventLoop.now()) {
        var tally = tallies[event] ?? Tally()
        tally.count &+= 1
        defer { tallies[event] = tally }
        if let told = tally.told, now &- told.at < Self.interval { return }
        let untold = tally.count &- (tally.told?.count ?? 0) &- 1
        tally.told = (tally.count, now)
        let more = untold > 0 ? " (and \(untold) more since the last such line)" : ""
        var all = ["emulator": name, "what": what, "count": "\(tally.count)"]
        all.merge(fields) { $1 }
        logBook.note(.warning, "\(source): \(PrintableText.escaped(what))\(more)", event: event, all)
    }
}

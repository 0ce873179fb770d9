import ControlProtocol
import Host

/// What is known of one guest at one moment: its coordinator's account, and what its emulators have counted in their own memory.
public struct GuestAccount {
    public let status: GuestStatus
    /// By the emulator's name; missing for one that counts no latencies.
    public let snapshots: [String: (pid: Int32, snapshot: ObservationReader.Snapshot)]
    /// CLOCK_MONOTONIC, in nanoseconds.
    public let time: UInt64

    public init(status: GuestStatus, snapshots: [String: (pid: Int32, snapshot: ObservationReader.Snapshot)], time: UInt64) {
        self.status = status
        self.snapshots = snapshots
        self.time = time
    }

    /// Looks into the memory of each emulator.
    public init(status: GuestStatus, emulators: [ObservationSubscription.Emulator], time: UInt64) {
        var snapshots: [String: (pid: Int32, snapshot: ObservationReader.Snapshot)] = [:]
        for emulator in emulators { if let snapshot = emulator.reader?.snapshot() { snapshots[emulator.name] = (emulator.pid, snapshot) } }
        self.init(status: status, snapshots: snapshots, time: time)
    }

    /// A window's label among an emulator's claims.
    static func label(of range: IORange?, in emulator: EmulatorStatus) -> String {
        guard let range else { return "other" }
        return emulator.claims.first { $0.range == "\(range)" }?.label ?? ""
    }
}

/// Two accounts of one guest: what happened in between.
public struct GuestActivity {
    /// One row of it: an emulator, or one of its windows.
    public struct Row: Equatable {
        public var range: String
        public var label: String
        /// nil when it cannot be told.
        public var perSecond: Double?
        public var latencies: LatencyHistogram?
    }

    public struct Emulator: Equatable {
        public var name: String
        public var state: String
        public var pid: Int32
        public var restarts: Int
        public var requests: UInt64
        public var total: Row
        public var windows: [Row]
    }

    public let status: GuestStatus
    public let seconds: Double
    public let emulators: [Emulator]

    public init(_ earlier: GuestAccount, _ later: GuestAccount) {
        status = later.status
        let seconds = Double(later.time &- earlier.time) / 1e9
        self.seconds = seconds
        func rate(_ count: UInt64) -> Double? { seconds > 0 ? Double(count) / seconds : nil }
        emulators = later.status.emulators.filter { $0.mode != "exporter" }.map { emulator in
            let now = later.snapshots[emulator.name]
            // Another process began anew.
            let before = earlier.snapshots[emulator.name].flatMap { $0.pid == now?.pid ? $0 : nil }
            let windows = (now?.snapshot.windows ?? []).map { window in
                let old = before?.snapshot.windows.first { $0.range == window.range }?.latencies
                let new = window.latencies.since(old)
                return Row(
                    range: window.range.map { "\($0)" } ?? "", label: GuestAccount.label(of: window.range, in: emulator), perSecond: rate(new.count), latencies: new)
            }
            let all = now.map { $0.snapshot.total.since(before?.snapshot.total) }
            let counted = emulator.counters[Counter.requests.name] ?? 0
            let old = earlier.status.emulators.first { $0.name == emulator.name && $0.pid == emulator.pid }?.counters[Counter.requests.name] ?? 0
            return Emulator(
                name: emulator.name, state: emulator.state, pid: emulator.pid, restarts: emulator.restarts ?? 0, requests: counted,
                total: Row(range: "", label: "", perSecond: rate(counted >= old ? counted - old : counted), latencies: all), windows: windows)
        }
    }

    /// What stands in QEMU's row: Xen gives it its requests, and nobody of ours sees them.
    public static let qemuNote = "not known: its requests pass us by"

    /// As one line of JSON. Latencies in nanoseconds.
    public var json: String {
        func optional(_ value: Double?) -> String { value.map { Number.whole($0) } ?? "null" }
        func row(_ row: Row) -> String {
            let latencies = row.latencies.flatMap { $0.count > 0 ? $0 : nil }
            return "\"perSecond\":\(row.perSecond.map { Number.fixed($0, 1) } ?? "null"),\"p50\":\(optional(latencies?.quantile(0.5))),"
                + "\"p99\":\(optional(latencies?.quantile(0.99))),\"max\":\(optional(latencies?.highest))"
        }
        let rows = emulators.map { emulator in
            let claims = emulator.windows.map {
                "{\"range\":\(JSONText.quoted($0.range)),\"label\":\(JSONText.quoted($0.label)),\(row($0))}"
            }
            return "{\"name\":\(JSONText.quoted(emulator.name)),\"pid\":\(emulator.pid),\"state\":\(JSONText.quoted(emulator.state)),\"restarts\":\(emulator.restarts),"
                + "\"requests\":\(emulator.requests),\(row(emulator.total)),\"claims\":[\(claims.joined(separator: ","))]}"
        }
        let qemu = status.qemu == nil ? "" : ",\"qemu\":{\"known\":false,\"note\":\(JSONText.quoted(Self.qemuNote))}"
        return "{\"domain\":\(status.domain),\"name\":\(JSONText.quoted(status.name)),\"seconds\":\(Number.fixed(seconds, 3)),"
            + "\"emulators\":[\(rows.joined(separator: ","))]\(qemu)}"
    }

    /// The cells of a table with the columns `columns`: each emulator, and its windows that had something to do, below it.
    public var rows: [[String]] {
        var rows: [[String]] = []
        func cells(_ first: String, _ state: String, _ restarts: String, _ row: Row) -> [String] {
            let latencies = row.latencies
            func text(_ value: Double?) -> String { value.map { Duration.text($0) } ?? "-" }
            return [
                first, state, restarts, row.perSecond.map { Number.whole($0) } ?? "-", text(latencies?.quantile(0.5)), text(latencies?.quantile(0.99)), text(latencies?.highest),
            ]
        }
        for emulator in emulators {
            rows.append(cells(emulator.name, emulator.state, "\(emulator.restarts)", emulator.total))
            for window in emulator.windows where (window.latencies?.count ?? 0) > 0 {
                let what = [window.range, window.label].filter { !$0.isEmpty }.joined(separator: " ")
                rows.append(cells("  " + what, "", "", window))
            }
        }
        if let qemu = status.qemu { rows.append(["QEMU", qemu.state, "-", Self.qemuNote]) }
        return rows
    }

    public static let columns = ["EMULATOR / CLAIM", "STATE", "RESTARTS", "PER SECOND", "P50", "P99", "MAX"]
}

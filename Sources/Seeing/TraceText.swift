import Host

/// Traced requests as a person reads them, as lines of JSON, and as a file for chrome://tracing and Perfetto.
public struct TraceLine {
    public let emulator: String
    public let pid: Int32
    public let entry: TraceEntry
    public let name: String

    public init(emulator: String, pid: Int32, entry: TraceEntry, name: String) {
        self.emulator = emulator
        self.pid = pid
        self.entry = entry
        self.name = name
    }

    /// One line: time since `start`, emulator, vCPU, what, where, value, how long.
    public func text(since start: Double) -> String {
        var words = Number.fixed(max(0, entry.time - start) / 1e9, 6)
        words = Padding.left(words, 12) + "  " + Padding.right(emulator, 10) + "  " + Padding.right(entry.slot.map { "v\($0)" } ?? "posted", 6)
        let times = entry.count == 1 ? "" : " ×\(entry.count)"
        words += "  " + Padding.right("\(entry.verb) \(entry.size)\(times)", 15) + "  " + Padding.right(Hex.string(entry.place), 10)
        words += "  " + Padding.right((entry.direction == .read ? "→ " : "← ") + value, 12) + "  " + Padding.left(Duration.text(entry.duration), 9)
        if !name.isEmpty { words += "  " + name }
        if entry.isLate { words += "  (answered late)" }
        return words
    }

    private var value: String { entry.isPointer ? "[\(Hex.string(entry.value))]" : Hex.string(entry.value & AccessSize.allOnes(entry.size)) }

    /// One object on one line.
    public func json(since start: Double) -> String {
        var fields: [(String, String)] = [
            ("time", Number.fixed((entry.time - start) / 1e9, 9)), ("emulator", JSONText.quoted(emulator)), ("pid", "\(pid)"),
            ("vcpu", entry.slot.map { "\($0)" } ?? "null"), ("kind", JSONText.quoted(entry.category)),
            ("direction", JSONText.quoted(entry.direction == .read ? "read" : "write")), ("address", JSONText.quoted(Hex.string(entry.address))),
            ("size", "\(entry.size)"), ("count", "\(entry.count)"), (entry.isPointer ? "buffer" : "value", JSONText.quoted(Hex.string(entry.value))),
            ("nanoseconds", Number.whole(entry.duration)),
        ]
        if !name.isEmpty { fields.append(("name", JSONText.quoted(name))) }
        if entry.isLate { fields.append(("late", "true")) }
        return "{" + fields.map { "\(JSONText.quoted($0)):\($1)" }.joined(separator: ",") + "}"
    }
}

/// The trace-event format's array of complete events ("X"): times in microseconds, one process for each emulator's process and one thread for
/// each vCPU.
public struct ChromeTrace {
    private var isEmpty = true
    private var named: Set<Int32> = []

    public init() {}

    public static let opening = "[\n"
    public static let closing = "\n]\n"

    /// The events of one request, to be written after what was written before.
    public mutating func events(_ line: TraceLine) -> String {
        var events: [String] = []
        if named.insert(line.pid).inserted {
            events.append(
                "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":\(line.pid),\"tid\":0,\"args\":{\"name\":\(JSONText.quoted("emulator \(line.emulator)"))}}")
        }
        let entry = line.entry
        // The ring of posted writes is nobody's vCPU.
        let thread = entry.slot ?? 1000
        let title = "\(entry.verb) \(line.name.isEmpty ? Hex.string(entry.place) : line.name)"
        events.append(
            "{\"name\":\(JSONText.quoted(title)),\"cat\":\(JSONText.quoted(entry.category)),\"ph\":\"X\",\"ts\":\(Number.fixed(entry.time / 1000, 3)),"
                + "\"dur\":\(Number.fixed(entry.duration / 1000, 3)),\"pid\":\(line.pid),\"tid\":\(thread),\"args\":{\"address\":\(JSONText.quoted(Hex.string(entry.address))),"
                + "\"\(entry.isPointer ? "buffer" : "value")\":\(JSONText.quoted(Hex.string(entry.value))),\"size\":\(entry.size),\"count\":\(entry.count)}}")
        let text = events.joined(separator: ",\n")
        defer { isEmpty = false }
        return isEmpty ? text : ",\n" + text
    }
}

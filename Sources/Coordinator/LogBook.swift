import EmulatorProtocol
import Glibc
import Logging
import Platform

/// The guest's log: the last lines of the coordinator and of its emulators, for `demux logs`, and each line on to swift-log.
///
/// Every line is bounded in length and has its control characters escaped, whoever has a say in it; what an emulator or a guest can have written is bounded
/// in number and rate as well.
public final class LogBook {
    public static let capacity = 2000
    /// Bytes of a line of the coordinator's own, which may quote what emulators say.
    public static let longestNote = 4096

    private struct Allowance {
        var tokens: Double
        var lastRefill: UInt64
        var suppressed: Int
    }

    private var lines: [String] = []
    private var allowances: [String: Allowance] = [:]
    private let logger: Logger
    /// Lines a source may write a second once its burst of 500 is used up.
    private let linesPerSecond = 100.0
    private let burst = 500.0

    public init(logger: Logger) { self.logger = logger }

    /// What happened to an emulator, for programs that read swift-log's metadata: one line each.
    public enum Event: String, Sendable {
        case exit, restart, park, hung, slow, refusal
        /// A control message that is not what its protocol allows, or of a type that nobody knows.
        case malformedMessage = "malformed-message"
        /// An answer that nobody was told of.
        case forgottenBell = "forgotten-bell"
        /// A slot in a state in which no emulator may leave it.
        case invalidSlotState = "invalid-slot-state"
    }

    /// What the coordinator itself has to say.
    public func note(_ level: Logger.Level, _ text: String) { write("demux", level, text) }

    /// The same of an event: a person reads the text, a program the metadata.
    public func note(_ level: Logger.Level, _ text: String, event: Event, _ fields: [String: String]) {
        write("demux", level, text, Self.metadata(event, fields))
    }

    /// The same of something that an emulator does again and again if it likes: limited like its own lines.
    func note(_ level: Logger.Level, _ text: String, becauseOf source: String) {
        if isAllowed("because of " + source) { write("demux", level, text) }
    }

    private func write(_ source: String, _ level: Logger.Level, _ text: String, _ metadata: Logger.Metadata? = nil) {
        let clean = PrintableText.escaped(text, limit: Self.longestNote)
        append(source, level, clean)
        logger.log(level: level, "\(clean)", metadata: metadata)
    }

    private static func metadata(_ event: Event, _ fields: [String: String]) -> Logger.Metadata {
        var metadata: Logger.Metadata = ["event": "\(event.rawValue)"]
        for (key, value) in fields { metadata[key] = .string(PrintableText.escaped(value)) }
        return metadata
    }

    /// Something that an emulator asked for was refused. Limited like its own lines: it can ask without end.
    /// - Parameter quietly: it was told so itself, and may do without.
    func refused(_ source: String, _ refusal: Refusal, quietly: Bool) {
        record(
            source: source, level: quietly ? .info : .warning, text: "refused: \(refusal)", event: .refusal,
            ["code": refusal.code.rawValue, "asked": refusal.asked, "reason": refusal.message])
    }

    /// A line that somebody else wrote: limited and escaped.
    /// - Parameter event: what it tells of, with `fields`.
    public func record(
        source: String, level: Logger.Level, text: String, event: Event? = nil, _ fields: [String: String] = [:]
    ) {
        guard isAllowed(source) else { return }
        let clean = PrintableText.escaped(text)
        append(source, level, clean)
        let metadata = event.map { Self.metadata($0, fields.merging(["emulator": source]) { $1 }) }
        logger.log(level: level, "\(PrintableText.escaped(source)): \(clean)", metadata: metadata)
    }

    /// Whether a source may have one more line; says how many it had not before.
    private func isAllowed(_ source: String) -> Bool {
        let now = EventLoop.now()
        var allowance = allowances[source] ?? Allowance(tokens: burst, lastRefill: now, suppressed: 0)
        allowance.tokens = min(burst, allowance.tokens + Double(now &- allowance.lastRefill) / 1e9 * linesPerSecond)
        allowance.lastRefill = now
        defer { allowances[source] = allowance }
        guard allowance.tokens >= 1 else {
            allowance.suppressed += 1
            return false
        }
        allowance.tokens -= 1
        if allowance.suppressed > 0 {
            append(source, .warning, "(\(allowance.suppressed) lines left out: more than \(Int(linesPerSecond)) a second)")
            allowance.suppressed = 0
        }
        return true
    }

    /// The last lines, oldest first.
    public func last(_ count: Int) -> [String] { Array(lines.suffix(max(0, min(count, Self.capacity)))) }

    private func append(_ source: String, _ level: Logger.Level, _ text: String) {
        if lines.count >= Self.capacity { lines.removeFirst(Self.capacity / 10) }
        lines.append("\(Self.timestamp()) \(level.rawValue) \(source): \(text)")
    }

    private static func timestamp() -> String {
        var now = time(nil)
        var parts = tm()
        localtime_r(&now, &parts)
        var text = [CChar](repeating: 0, count: 32)
        let length = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S%z", &parts)
        return String(decoding: text.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension ChildProcess.Exit {
    /// How a process ended, for an event's metadata.
    func fields(_ name: String, _ pid: pid_t) -> [String: String] {
        switch self {
        case .status(let status): ["emulator": name, "pid": "\(pid)", "status": "\(status)"]
        case .signal(let number): ["emulator": name, "pid": "\(pid)", "signal": "\(number)"]
        case .unknown: ["emulator": name, "pid": "\(pid)"]
        }
    }
}

/// Slows down guessing: after a few wrong passwords from one address, nobody from there may try again for a time that doubles with each
/// further one. A right one clears the address.
public struct PasswordThrottle: Sendable {
    /// Wrong passwords that cost nothing: people mistype.
    public static let free = 5
    /// The longest time to wait, in seconds.
    public static let longest: UInt64 = 60
    private static let second: UInt64 = 1_000_000_000
    /// Addresses remembered. When there are more, the one whose time is over first is forgotten.
    private static let most = 512
    /// An address is forgotten this long after its time is over, in seconds.
    private static let memory: UInt64 = 600

    private struct Record {
        var failures: Int
        var until: UInt64
    }

    private var records: [String: Record] = [:]

    public init() {}

    /// Whole seconds, rounded up, for which nobody from there may try; 0: now.
    /// - Parameter now: monotonic, in nanoseconds.
    public func wait(for address: String, now: UInt64) -> UInt64 {
        guard let record = records[address], record.until > now else { return 0 }
        return (record.until - now + Self.second - 1) / Self.second
    }

    public mutating func failed(_ address: String, now: UInt64) {
        if let old = records[address], old.until &+ Self.memory * Self.second < now { records[address] = nil }
        if records[address] == nil, records.count >= Self.most, let oldest = records.min(by: { $0.value.until < $1.value.until }) {
            records[oldest.key] = nil
        }
        var record = records[address] ?? Record(failures: 0, until: now)
        record.failures = min(record.failures + 1, 1000)
        let beyond = record.failures - Self.free
        record.until = now &+ (beyond <= 0 ? 0 : min(Self.longest, 1 << UInt64(min(beyond - 1, 10)))) &* Self.second
        records[address] = record
    }

    public mutating func succeeded(_ address: String) { records[address] = nil }
}

/// The password that lets viewers in, and until when.
public struct PasswordPolicy: Sendable {
    /// Whether there has to be one. When so and none is set, nobody gets in.
    public let required: Bool
    private var password: String?
    /// Seconds since 1970; nil: never.
    private var expires: UInt64?

    public init(required: Bool, password: String? = nil) {
        self.required = required
        self.password = password
    }

    /// Nil: nobody gets in where a password is required. For viewers that come from now on.
    public mutating func set(_ password: String?) { self.password = password }

    /// "now", "never", "+30" (seconds from now) or seconds since 1970, as QEMU's expire_password takes them.
    /// - Returns: false when it is none of these.
    public mutating func expire(_ at: String, now: UInt64) -> Bool {
        switch at {
        case "now": expires = 0
        case "never": expires = nil
        default:
            let isRelative = at.hasPrefix("+")
            guard let seconds = UInt64(isRelative ? at.dropFirst() : Substring(at)), seconds < 1 << 40 else { return false }
            expires = isRelative ? now &+ seconds : seconds
        }
        return true
    }

    /// Whether the answer to the challenge is that of the password that holds now.
    public func accepts(_ answer: [UInt8], challenge: [UInt8], now: UInt64) -> Bool {
        guard let password, expires.map({ now < $0 }) ?? true else { return false }
        return VNCAuthentication.isRight(answer, challenge: challenge, password: password)
    }
}

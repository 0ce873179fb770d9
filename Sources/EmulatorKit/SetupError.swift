import EmulatorProtocol
import Host
import Platform

/// Why an emulator could not start: what was attempted, on what, why it failed and what to do.
public struct SetupError: Error, Equatable, CustomStringConvertible {
    /// What was attempted, as a verb phrase.
    public let operation: String
    /// On what.
    public let subject: String
    /// Why it failed.
    public let reason: String
    /// What to do about it; may be empty.
    public let remedy: String

    public init(_ operation: String, _ subject: String, reason: String, remedy: String = "") {
        self.operation = operation
        self.subject = subject
        self.reason = reason
        self.remedy = remedy
    }

    public init(_ error: SystemError) {
        self.init(error.operation, error.subject, reason: error.reason, remedy: error.remedy)
    }

    public init(_ error: HostError) {
        self.init(error.operation, error.subject, reason: error.detail, remedy: error.remedy)
    }

    init(_ operation: String, _ subject: String, refused refusal: Refusal) {
        let clash = refusal.clash.map { " (\($0.owner) has \($0.range))" } ?? ""
        self.init(operation, subject, reason: refusal.message + clash)
    }

    public var description: String {
        "could not \(operation) \(subject): \(reason)" + (remedy.isEmpty ? "" : "; \(remedy)")
    }
}

import CLinux
import Glibc

/// A system call that failed: what was attempted, on what, why, and what a person can do about it.
public struct SystemError: Error, Equatable, CustomStringConvertible {
    /// What was attempted, as a verb phrase: "map", "connect to".
    public let operation: String
    /// On what: a path, a descriptor's role, a program.
    public let subject: String
    /// The errno value; 0 when the reason is not one.
    public let code: CInt
    /// Why, in words: the errno's text, or what was found instead.
    public let reason: String
    /// What to do about it; empty when there is nothing general to say.
    public let remedy: String

    public init(_ operation: String, _ subject: String, code: CInt = errno, remedy: String = "") {
        self.operation = operation
        self.subject = subject
        self.code = code
        self.reason = String(cString: strerror(code))
        self.remedy = remedy
    }

    public init(_ operation: String, _ subject: String, reason: String, remedy: String = "") {
        self.operation = operation
        self.subject = subject
        self.code = 0
        self.reason = reason
        self.remedy = remedy
    }

    public var description: String {
        "could not \(operation) \(subject): \(reason)" + (remedy.isEmpty ? "" : "; \(remedy)")
    }
}

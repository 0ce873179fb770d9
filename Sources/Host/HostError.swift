/// A request to the host (Xen, or LocalHost in its place) that was refused.
public struct HostError: Error, Equatable, CustomStringConvertible {
    /// The causes that callers tell apart; both hosts give the same one for the same mistake.
    public enum Reason: Equatable, Sendable {
        /// All eight servers are taken (ENOSPC from create).
        case noFreeServer
        /// The server has 256 ranges of this type already (ENOSPC from map).
        case tooManyRanges
        /// The range overlaps one that the same server has (EEXIST).
        case rangeOverlap
        /// The range to be unmapped is not one that was mapped (ENOENT).
        case noSuchRange
        /// No server with this id (ENOENT, EINVAL).
        case noSuchServer
        /// The domain does not exist, or no longer does (ESRCH).
        case noSuchDomain
        /// No right to it (EPERM, EACCES).
        case notPermitted
        /// A value that the host does not take (EINVAL, E2BIG).
        case invalid
        /// Anything else, by errno.
        case failed(CInt)
    }

    /// What was attempted, as a verb phrase.
    public let operation: String
    /// On what.
    public let subject: String
    public let reason: Reason
    /// Why, in words.
    public let detail: String
    /// What to do about it; may be empty.
    public let remedy: String

    public init(_ operation: String, _ subject: String, _ reason: Reason, detail: String, remedy: String = "") {
        self.operation = operation
        self.subject = subject
        self.reason = reason
        self.detail = detail
        self.remedy = remedy
    }

    public var description: String {
        "could not \(operation) \(subject): \(detail)" + (remedy.isEmpty ? "" : "; \(remedy)")
    }
}

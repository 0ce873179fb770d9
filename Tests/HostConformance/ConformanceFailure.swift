/// What a case found to be otherwise than expected.
public struct ConformanceFailure: Error, Equatable, CustomStringConvertible, Sendable {
    /// What was looked at.
    public let what: String
    public let expected: String
    public let found: String

    public init(_ what: String, expected: String, found: String) {
        self.what = what
        self.expected = expected
        self.found = found
    }

    public var description: String { "\(what): expected \(expected), found \(found)" }
}

/// One sentence about a host, and the way to find out whether it is true.
public struct ConformanceCase: Sendable, CustomStringConvertible {
    /// The sentence, unique in the suite.
    public let sentence: String
    /// How many vCPUs it needs.
    public let vcpus: Int
    /// It ends the guest's life: run last.
    public let destructive: Bool
    let body: @Sendable (ConformanceContext) throws -> Void

    // Untyped throws: a case fails with a ConformanceFailure or with whatever HostError it did not expect.
    init(_ sentence: String, vcpus: Int = 1, destructive: Bool = false, _ body: @escaping @Sendable (ConformanceContext) throws -> Void) {
        self.sentence = sentence
        self.vcpus = vcpus
        self.destructive = destructive
        self.body = body
    }

    public var description: String { sentence }
}

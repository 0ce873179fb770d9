/// What the coordinator does when the guest unplugs its emulated devices (Protocols/unplug.md).
public struct UnplugSpecification: Codable, Equatable, Sendable {
    /// What becomes of the guest's write when somebody refuses, dies or is silent.
    public enum FailurePolicy: String, Codable, CaseIterable, Sendable {
        /// It completes all the same; the trouble is logged and shown.
        case complete
        /// The guest is crashed: no disk may have two drivers.
        case crashGuest = "crash-guest"
        /// It waits until everybody has removed what they were to, or a person helps.
        case hold
    }

    /// A driver that must not be loaded.
    public struct Blacklisted: Codable, Equatable, Sendable {
        public var product: UInt16
        /// nil: every build.
        public var build: UInt32?
        public init(product: UInt16, build: UInt32?) {
            self.product = product
            self.build = build
        }

        public func covers(product: UInt16, build: UInt32) -> Bool { product == self.product && (self.build ?? build) == build }
    }

    /// How long the guest's write may wait for everybody's answers.
    public var deadlineMilliseconds: Int
    public var onFailure: FailurePolicy
    public var blacklist: [Blacklisted]

    public init(deadlineMilliseconds: Int = 10_000, onFailure: FailurePolicy = .complete, blacklist: [Blacklisted] = []) {
        self.deadlineMilliseconds = deadlineMilliseconds
        self.onFailure = onFailure
        self.blacklist = blacklist
    }
}

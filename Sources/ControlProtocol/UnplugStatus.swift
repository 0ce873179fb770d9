/// What the guest has unplugged, and who did not obey.
public struct UnplugStatus: Codable, Equatable, Sendable {
    /// What somebody removed, or why not.
    public struct Entry: Codable, Equatable, Sendable {
        /// "emulator 'x'" or "QEMU".
        public var who: String
        public var devices: [String]
        /// nil: it has removed all that it was to.
        public var trouble: String?
        public init(who: String, devices: [String], trouble: String? = nil) {
            self.who = who
            self.devices = devices
            self.trouble = trouble
        }
    }

    /// "ide-disk", "nic", …: what is unplugged, and stays so.
    public var classes: [String]
    /// The driver that the guest has named, and its build; nil: none.
    public var product: String?
    public var build: UInt32?
    /// The protocol's version that drivers are told.
    public var version: Int
    public var isBlacklisted: Bool
    public var isROMLocked: Bool
    public var entries: [Entry]
    /// Whom the guest's write waits for now.
    public var waitingFor: [String]
    /// Whether it waits beyond the deadline, as the specification wants it.
    public var isHeld: Bool
    /// How often something was unplugged, and how often somebody did not obey.
    public var requests: Int
    public var failures: Int
    public var deadlineMilliseconds: Int
    public var onFailure: String

    public init(
        classes: [String] = [], product: String? = nil, build: UInt32? = nil, version: Int = 1, isBlacklisted: Bool = false, isROMLocked: Bool = false,
        entries: [Entry] = [], waitingFor: [String] = [], isHeld: Bool = false, requests: Int = 0, failures: Int = 0, deadlineMilliseconds: Int = 10_000,
        onFailure: String = "complete"
    ) {
        self.classes = classes
        self.product = product
        self.build = build
        self.version = version
        self.isBlacklisted = isBlacklisted
        self.isROMLocked = isROMLocked
        self.entries = entries
        self.waitingFor = waitingFor
        self.isHeld = isHeld
        self.requests = requests
        self.failures = failures
        self.deadlineMilliseconds = deadlineMilliseconds
        self.onFailure = onFailure
    }
}

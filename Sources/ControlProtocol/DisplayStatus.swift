import EmulatorProtocol

/// A guest's scan-out and who reads it.
public struct DisplayStatus: Codable, Equatable, Sendable {
    public struct Reader: Codable, Equatable, Sendable {
        public var number: Int
        /// "vnc", or the command that reads.
        public var name: String
        /// For how many viewers it reads; 0: nothing is wanted.
        public var viewers: UInt32
        /// Updates a second that it takes.
        public var maxRate: Int
        public init(number: Int, name: String, viewers: UInt32 = 0, maxRate: Int = 0) {
            self.number = number
            self.name = name
            self.viewers = viewers
            self.maxRate = maxRate
        }
    }
    /// The emulator that is the display; nil: it was taken away.
    public var emulator: String?
    /// Pixels; nil before the first scan-out.
    public var width: Int?
    public var height: Int?
    /// Updates published to the present scan-out.
    public var frames: UInt64?
    /// Whether the guest has switched the screen off.
    public var isBlank: Bool?
    public var readers: [Reader]

    public init(emulator: String?, width: Int? = nil, height: Int? = nil, frames: UInt64? = nil, isBlank: Bool? = nil, readers: [Reader] = []) {
        self.emulator = emulator
        self.width = width
        self.height = height
        self.frames = frames
        self.isBlank = isBlank
        self.readers = readers
    }
}

/// How viewers reach a guest, and who does.
public struct ExporterStatus: Codable, Equatable, Sendable {
    /// The exporter's name among the guest's emulators.
    public var emulator: String
    /// "127.0.0.1:5900", "[::1]:5900", "unix:/path"; without the coordinator's own socket.
    public var addresses: [String]
    /// "none", "vnc", "vencrypt+x509+vnc", …
    public var authentication: String
    /// Whether nobody can get in: a password is required and there is none, or it has expired.
    public var isClosed: Bool
    public var clients: [VNCStatus.Client]
    /// By name: "connections", "updates", "bytes", …
    public var statistics: [String: UInt64]

    public init(
        emulator: String, addresses: [String], authentication: String, isClosed: Bool = false, clients: [VNCStatus.Client] = [],
        statistics: [String: UInt64] = [:]
    ) {
        self.emulator = emulator
        self.addresses = addresses
        self.authentication = authentication
        self.isClosed = isClosed
        self.clients = clients
        self.statistics = statistics
    }
}

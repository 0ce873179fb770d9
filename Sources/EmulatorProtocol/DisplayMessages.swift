/// The display's part of the protocol: scan-outs, who reads them, input, and what the VNC exporter is told and tells.
/// Protocols/surface.md is the document.

/// A scan-out of a size. From an emulator: asks for its memory, answered by ok with the memfd beside it. From the coordinator to a reader:
/// this is the scan-out from now on, with the memfd (read-only) beside it.
public struct SurfaceSize: Codable, Equatable, Sendable {
    /// Pixels.
    public var width: Int
    public var height: Int
    public init(width: Int, height: Int) {
        self.width = width
        self.height = height
    }
}

/// A reader of the scan-out came or went. Beside `added`: its page, the `frame` and the `want` doorbell.
public struct SurfaceReaderChange: Codable, Equatable, Sendable {
    public enum Change: String, Codable, Sendable { case added, gone }
    /// The coordinator's number for it; not used again for another one.
    public var reader: Int
    public var change: Change
    public init(reader: Int, change: Change) {
        self.reader = reader
        self.change = change
    }
}

/// What a person did at a viewer, oldest first.
public struct Input: Codable, Equatable, Sendable {
    /// Events one message may carry.
    public static let most = 64
    public var events: [InputEvent]
    public init(_ events: [InputEvent]) { self.events = events }
}

/// One event of a keyboard or a pointer.
public enum InputEvent: Codable, Equatable, Sendable {
    /// QEMU's key number: the XT set 1 scan code, with 0x80 for those with the prefix 0xe0.
    case key(UInt16, down: Bool)
    /// A place on the screen: 0 is the left or upper edge, 32767 the right or lower one.
    case absolute(x: UInt16, y: UInt16)
    /// A movement, in the pointer's own units.
    case relative(x: Int16, y: Int16)
    case button(Button, down: Bool)

    /// The full width or height of an absolute place.
    public static let extent: UInt16 = 32767

    public enum Button: String, Codable, Sendable, CaseIterable {
        case left, middle, right, side, extra
        case wheelUp = "wheel-up", wheelDown = "wheel-down", wheelLeft = "wheel-left", wheelRight = "wheel-right"
    }

    private enum Key: String, CodingKey { case key, down, absolute, relative, button }
    private struct Place: Codable {
        var x: UInt16
        var y: UInt16
    }
    private struct Step: Codable {
        var x: Int16
        var y: Int16
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        if let key = try container.decodeIfPresent(UInt16.self, forKey: .key) {
            self = .key(key, down: try container.decode(Bool.self, forKey: .down))
        } else if let place = try container.decodeIfPresent(Place.self, forKey: .absolute) {
            self = .absolute(x: min(place.x, Self.extent), y: min(place.y, Self.extent))
        } else if let step = try container.decodeIfPresent(Step.self, forKey: .relative) {
            self = .relative(x: step.x, y: step.y)
        } else if let button = try container.decodeIfPresent(Button.self, forKey: .button) {
            self = .button(button, down: try container.decode(Bool.self, forKey: .down))
        } else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "an event is a key, absolute, relative or button"))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        switch self {
        case .key(let number, let down):
            try container.encode(number, forKey: .key)
            try container.encode(down, forKey: .down)
        case .absolute(let x, let y): try container.encode(Place(x: x, y: y), forKey: .absolute)
        case .relative(let x, let y): try container.encode(Step(x: x, y: y), forKey: .relative)
        case .button(let button, let down):
            try container.encode(button, forKey: .button)
            try container.encode(down, forKey: .down)
        }
    }
}

/// Whether the guest's pointer takes absolute places (a tablet) or movements (a mouse).
public struct InputMode: Codable, Equatable, Sendable {
    public var absolute: Bool
    public init(absolute: Bool) { self.absolute = absolute }
}

/// An order for the VNC exporter at run time.
public struct VNCCommand: Codable, Equatable, Sendable {
    public enum Command: String, Codable, Sendable {
        /// `password`; absent: nobody is let in any more where a password is required.
        case setPassword = "set-password"
        /// `at`: "now", "never", "+30" (seconds from now) or seconds since 1970.
        case expirePassword = "expire-password"
        /// Sends every viewer away.
        case disconnect
    }
    public var command: Command
    public var password: String?
    public var at: String?
    public init(_ command: Command, password: String? = nil, at: String? = nil) {
        self.command = command
        self.password = password
        self.at = at
    }
}

/// Who is connected to the VNC exporter, and what it has done.
public struct VNCStatus: Codable, Equatable, Sendable {
    public struct Client: Codable, Equatable, Sendable {
        public var host: String
        public var service: String
        /// "ipv4", "ipv6" or "unix".
        public var family: String
        public var websocket: Bool
        /// "none", "vnc", "vencrypt+x509+vnc", …
        public var security: String
        public var shared: Bool
        public init(host: String, service: String, family: String, websocket: Bool, security: String, shared: Bool) {
            self.host = host
            self.service = service
            self.family = family
            self.websocket = websocket
            self.security = security
            self.shared = shared
        }
    }
    public var clients: [Client]
    /// Numbers by name: "connections", "refused", "updates", "bytes", "rectangles", …
    public var statistics: [String: UInt64]
    public init(clients: [Client] = [], statistics: [String: UInt64] = [:]) {
        self.clients = clients
        self.statistics = statistics
    }
}

/// A socket that the coordinator has opened for an exporter; the descriptors come beside `attach`, in this order.
public struct Listener: Codable, Equatable, Sendable {
    public enum Kind: String, Codable, Sendable { case tcp, unix }
    public var kind: Kind
    /// tcp: the address and the port that were bound.
    public var host: String?
    public var port: UInt16?
    /// unix: the socket's path.
    public var path: String?

    /// A TCP socket.
    public init(host: String, port: UInt16) {
        kind = .tcp
        self.host = host
        self.port = port
    }

    /// A UNIX socket.
    public init(path: String) {
        kind = .unix
        self.path = path
    }
}

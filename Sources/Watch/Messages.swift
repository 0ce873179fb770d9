/// What a coordinator asks the host's watchdog, on its socket: one JSON object a packet each way.
public enum WatchRequest: Codable, Equatable, Sendable {
    /// Watch an emulator. Beside it: its counters page, and unless it is one of Xen's servers, its page of slots.
    case watch(WatchTarget)
    /// Let go of it, at once.
    case forget(key: UInt32)
}

/// An emulator to be watched.
public struct WatchTarget: Codable, Equatable, Sendable {
    /// The coordinator's number for it.
    public var key: UInt32
    public var name: String
    public var domain: UInt16
    public var server: UInt16
    /// Slots in use, 1 to 128.
    public var slots: Int
    /// Whether the slots are Xen's own, which the watchdog maps itself.
    public var isXens: Bool
    public var limitMilliseconds: Int

    public init(key: UInt32, name: String, domain: UInt16, server: UInt16, slots: Int, isXens: Bool, limitMilliseconds: Int) {
        self.key = key
        self.name = name
        self.domain = domain
        self.server = server
        self.slots = slots
        self.isXens = isXens
        self.limitMilliseconds = limitMilliseconds
    }
}

/// What the watchdog has found.
public enum WatchReport: Codable, Equatable, Sendable {
    /// A request has waited for longer than its limit. It is told once.
    case hung(key: UInt32, slot: Int, request: String, milliseconds: Int)
    /// It waits no more.
    case answered(key: UInt32, slot: Int)
    /// The emulator is not watched.
    case unwatchable(key: UInt32, reason: String)
}

/// Where the watchdog of a run directory listens.
public enum WatchSocket {
    public static func path(base: String) -> String { base + "/watchdog.sock" }
    /// What the one watchdog of a run directory has locked.
    public static func lock(base: String) -> String { base + "/watchdog.lock" }
}

/// A command that a client of a monitor sends to QEMU (docs/interop/qmp-spec in QEMU).
public struct QMPCommand: Equatable, Sendable {
    /// The client's connection, counted from 1.
    public let connection: Int
    /// "query-vnc", "xen-save-devices-state", …
    public let name: String
    /// Whatever the client wants to find in the reply again; nil when it gave nothing.
    public let id: JSONValue?
    public let arguments: JSONValue?
    /// Numbers of the descriptors that came with it, for as long as it is being decided on: who wants one duplicates it.
    public let descriptors: [CInt]

    /// Nil when the object is no command.
    init?(_ object: JSONValue, connection: Int, descriptors: [CInt] = []) {
        guard let name = (object["execute"] ?? object["exec-oob"])?.text else { return nil }
        self.connection = connection
        self.name = name
        id = object["id"]
        arguments = object["arguments"]
        self.descriptors = descriptors
    }

    /// The bytes of the same command with other arguments.
    public func with(arguments: JSONValue) -> [UInt8] {
        var members: [String: JSONValue] = ["execute": .string(name), "arguments": arguments]
        if let id { members["id"] = id }
        return JSONValue.object(members).encoded() + Array("\r\n".utf8)
    }

    /// The bytes of a reply to it, as QEMU would send them.
    public func reply(_ value: JSONValue) -> [UInt8] { message(["return": value]) }

    /// The bytes of a refusal. `kind` is one of QEMU's error classes.
    public func refusal(kind: String = "GenericError", _ description: String) -> [UInt8] {
        message(["error": ["class": .string(kind), "desc": .string(description)]])
    }

    private func message(_ members: [String: JSONValue]) -> [UInt8] {
        var members = members
        if let id { members["id"] = id }
        // libxl cuts messages at this pair, nowhere else (qmp_ev_get_next_msg).
        return JSONValue.object(members).encoded() + Array("\r\n".utf8)
    }
}

/// Gets QEMU's reply to a command before the client does: the whole object, or null when the connection ends first. False: the client
/// must not believe it, and its connection is closed instead.
public typealias QMPWatch = (JSONValue) -> Bool

/// What becomes of a command that goes through the façade.
public enum QMPVerdict {
    /// QEMU gets it.
    case pass
    /// QEMU gets it, and the closure its reply.
    case watch(QMPWatch)
    /// QEMU gets these bytes in its place, with the descriptors that came with it; the closure, if any, gets the reply.
    case replace([UInt8], watch: QMPWatch? = nil)
    /// QEMU does not see it; the client gets these bytes, after the replies to what it sent before. Descriptors that came with it are closed.
    case answer([UInt8])
    /// Not known yet: it waits, and whatever the same client sends after it.
    case later(QMPDeferral)
}

/// A verdict that is still to come.
///
/// Whoever made it must settle it in the end, or the client waits for ever. Belongs to the thread of the façade's loop.
public final class QMPDeferral {
    private(set) var verdict: QMPVerdict?
    /// Set by the connection that waits.
    var settled: (() -> Void)?

    public init() {}

    /// Says what becomes of the command; only the first call counts.
    public func settle(_ verdict: QMPVerdict) {
        guard self.verdict == nil else { return }
        self.verdict = verdict
        settled?()
        settled = nil
    }
}

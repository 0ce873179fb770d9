/// A command that a client of a monitor sends to QEMU (docs/interop/qmp-spec in QEMU).
public struct QMPCommand: Equatable, Sendable {
    /// The client's connection, counted from 1.
    public let connection: Int
    /// "query-vnc", "xen-save-devices-state", …
    public let name: String
    /// Whatever the client wants to find in the reply again; nil when it gave nothing.
    public let id: JSONValue?
    public let arguments: JSONValue?

    /// Nil when the object is no command.
    init?(_ object: JSONValue, connection: Int) {
        guard let name = (object["execute"] ?? object["exec-oob"])?.text else { return nil }
        self.connection = connection
        self.name = name
        id = object["id"]
        arguments = object["arguments"]
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

/// What becomes of a command that goes through the façade.
public enum QMPVerdict: Equatable, Sendable {
    /// QEMU gets it.
    case pass
    /// QEMU does not see it; the client gets these bytes, after the replies to what it sent before. Descriptors that came with it are closed.
    case answer([UInt8])
}

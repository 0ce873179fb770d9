/// A status that this server gives (RFC 9110, 15; RFC 6585).
public enum HTTPStatus: Int, Sendable {
    case ok = 200
    case noContent = 204
    case notModified = 304
    case badRequest = 400
    case forbidden = 403
    case notFound = 404
    case methodNotAllowed = 405
    case requestTimeout = 408
    case contentTooLarge = 413
    case uriTooLong = 414
    case upgradeRequired = 426
    case headerFieldsTooLarge = 431
    case notImplemented = 501
    case serviceUnavailable = 503
    case versionNotSupported = 505

    var phrase: String {
        switch self {
        case .ok: "OK"
        case .noContent: "No Content"
        case .notModified: "Not Modified"
        case .badRequest: "Bad Request"
        case .forbidden: "Forbidden"
        case .notFound: "Not Found"
        case .methodNotAllowed: "Method Not Allowed"
        case .requestTimeout: "Request Timeout"
        case .contentTooLarge: "Content Too Large"
        case .uriTooLong: "URI Too Long"
        case .upgradeRequired: "Upgrade Required"
        case .headerFieldsTooLarge: "Request Header Fields Too Large"
        case .notImplemented: "Not Implemented"
        case .serviceUnavailable: "Service Unavailable"
        case .versionNotSupported: "HTTP Version Not Supported"
        }
    }

    /// Whether an answer of this status has a body at all (RFC 9110, 6.4.1).
    var hasBody: Bool { self != .noContent && self != .notModified }
}

/// An answer, without what belongs to the connection: length and "Connection" are added when it is sent.
public struct HTTPResponse: Sendable {
    public var status: HTTPStatus
    public var type: String
    /// Fields beside the content's type and length.
    public var fields: [(name: String, value: String)]
    public var body: [UInt8]

    public init(_ status: HTTPStatus, type: String = "text/plain; charset=utf-8", fields: [(name: String, value: String)] = [], body: [UInt8] = []) {
        self.status = status
        self.type = type
        self.fields = fields
        self.body = body
    }

    /// A line for a person.
    public init(_ status: HTTPStatus, text: String) { self.init(status, body: Array((text + "\n").utf8)) }

    /// What a refused request is answered.
    public init(_ refusal: HTTPRefusal) {
        self.init(refusal.status, text: refusal.reason)
        if refusal.status == .methodNotAllowed { fields.append((name: "Allow", value: "GET, HEAD")) }
        if refusal.status == .upgradeRequired { fields += [(name: "Upgrade", value: "websocket"), (name: "Sec-WebSocket-Version", value: "13")] }
    }

    /// The bytes to be sent. The answer to a HEAD has the length of the body that a GET would have got, and no body.
    func encoded(for method: HTTPRequest.Method, keepsAlive: Bool) -> [UInt8] {
        var head = "HTTP/1.1 \(status.rawValue) \(status.phrase)\r\n"
        if status.hasBody { head += "Content-Type: \(type)\r\nContent-Length: \(body.count)\r\n" }
        for field in fields { head += "\(field.name): \(field.value)\r\n" }
        head += keepsAlive ? "\r\n" : "Connection: close\r\n\r\n"
        return Array(head.utf8) + (status.hasBody && method == .get ? body : [])
    }
}

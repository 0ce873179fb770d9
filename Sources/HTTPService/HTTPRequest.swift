/// A request for something that is here already: GET or HEAD, without a body (RFC 9110).
public struct HTTPRequest: Equatable, Sendable {
    public enum Method: Equatable, Sendable { case get, head }

    public var method: Method
    /// The target up to its "?", as it came: nothing is decoded.
    public var path: String
    /// The header fields in their order, the names in small letters.
    public var fields: [(name: String, value: String)]
    /// Whether the client keeps the connection for another request.
    public var keepsAlive: Bool

    public init(method: Method, path: String, fields: [(name: String, value: String)] = [], keepsAlive: Bool = true) {
        self.method = method
        self.path = path
        self.fields = fields
        self.keepsAlive = keepsAlive
    }

    /// All values of a field; the name is written in small letters.
    public func values(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }

    /// The only value of a field; nil when it has none, or several.
    public func value(_ name: String) -> String? {
        let all = values(name)
        return all.count == 1 ? all.first : nil
    }

    /// The words of a field whose values are lists, in small letters.
    public func words(_ name: String) -> [String] {
        values(name).flatMap { $0.lowercased().split { $0 == "," || $0 == " " || $0 == "\t" }.map(String.init) }
    }

    public static func == (left: Self, right: Self) -> Bool {
        left.method == right.method && left.path == right.path && left.keepsAlive == right.keepsAlive
            && left.fields.elementsEqual(right.fields) { $0.name == $1.name && $0.value == $1.value }
    }
}

/// A request that is refused before anybody looks what it asks for: its connection is closed after the answer.
public struct HTTPRefusal: Error, Equatable, Sendable {
    public let status: HTTPStatus
    /// What is wrong, for the person who reads the answer.
    public let reason: String

    init(_ status: HTTPStatus, _ reason: String) {
        self.status = status
        self.reason = reason
    }
}

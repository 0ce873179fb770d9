/// The bytes of a connection as requests (RFC 9112), each byte looked at once. What it holds is bounded: a line, the fields so far, nothing else.
public struct HTTPRequestParser: Sendable {
    /// The longest line, in bytes, without its end.
    public static let longestLine = 8192
    /// The longest header in all, in bytes.
    public static let longestHeader = 65_536
    public static let mostFields = 100

    private enum State {
        /// Empty lines before a request are passed over.
        case requestLine
        case fields(HTTPRequest)
        /// Nothing more is taken.
        case refused
    }

    private var state = State.requestLine
    private var line: [UInt8] = []
    /// Bytes of this request so far.
    private var length = 0
    /// The present request's method, which decides whether even a refusal has a body.
    public private(set) var method = HTTPRequest.Method.get

    public init() {}

    /// Whether a part of a request has come.
    public var hasBegun: Bool { length > 0 }

    /// Takes bytes off the front of `bytes` until a request is whole; nil when more are needed.
    /// - Throws: HTTPRefusal for what is no request, or one that is not served; after it nothing further may be read.
    public mutating func next(_ bytes: inout ArraySlice<UInt8>) throws(HTTPRefusal) -> HTTPRequest? {
        while let byte = bytes.popFirst() {
            length += 1
            do {
                if let request = try take(byte) { return request }
            } catch {
                state = .refused
                line = []
                throw error
            }
        }
        return nil
    }

    private mutating func take(_ byte: UInt8) throws(HTTPRefusal) -> HTTPRequest? {
        guard length <= Self.longestHeader else { throw HTTPRefusal(.headerFieldsTooLarge, "the header is longer than \(Self.longestHeader) bytes") }
        guard byte == UInt8(ascii: "\n") else {
            // One more for a carriage return.
            guard line.count <= Self.longestLine else {
                if case .requestLine = state { throw HTTPRefusal(.uriTooLong, "the request's line is longer than \(Self.longestLine) bytes") }
                throw HTTPRefusal(.headerFieldsTooLarge, "a header line is longer than \(Self.longestLine) bytes")
            }
            line.append(byte)
            return nil
        }
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        defer { line.removeAll(keepingCapacity: true) }
        switch state {
        case .requestLine:
            method = .get
            guard !line.isEmpty else {
                length = 0
                return nil
            }
            let request = try Self.request(line)
            method = request.method
            state = .fields(request)
            return nil
        case .fields(var request):
            guard line.isEmpty else {
                guard request.fields.count < Self.mostFields else { throw HTTPRefusal(.headerFieldsTooLarge, "it has more than \(Self.mostFields) header fields") }
                request.fields.append(try Self.field(line))
                state = .fields(request)
                return nil
            }
            try Self.check(&request)
            state = .requestLine
            length = 0
            return request
        case .refused: throw HTTPRefusal(.badRequest, "the connection was refused before")
        }
    }

    private static func request(_ line: [UInt8]) throws(HTTPRefusal) -> HTTPRequest {
        let words = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard words.count == 3, words[0].allSatisfy(isToken), !words[0].isEmpty, words[2].count == 8, words[2].starts(with: Array("HTTP/".utf8)) else {
            throw HTTPRefusal(.badRequest, "it does not begin as an HTTP request")
        }
        let version = String(decoding: words[2].dropFirst(5), as: UTF8.self)
        guard version == "1.1" || version == "1.0" else { throw HTTPRefusal(.versionNotSupported, "only HTTP/1.1 is spoken") }
        let method: HTTPRequest.Method
        switch String(decoding: words[0], as: UTF8.self) {
        case "GET": method = .get
        case "HEAD": method = .head
        default: throw HTTPRefusal(.methodNotAllowed, "only GET is served")
        }
        guard words[1].first == UInt8(ascii: "/"), words[1].allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw HTTPRefusal(.badRequest, "what it asks for is no path")
        }
        let path = words[1].prefix { $0 != UInt8(ascii: "?") }
        return HTTPRequest(method: method, path: String(decoding: path, as: UTF8.self), keepsAlive: version == "1.1")
    }

    private static func field(_ line: [UInt8]) throws(HTTPRefusal) -> (name: String, value: String) {
        // No blank before the colon, and no line that goes on with the one before: others would read them otherwise (RFC 9112, 5.1 and 5.2).
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0, line[..<colon].allSatisfy(isToken) else {
            throw HTTPRefusal(.badRequest, "a header line has no name")
        }
        let isBlank = { (byte: UInt8) in byte == 0x20 || byte == 0x09 }
        var value = line[(colon + 1)...].drop(while: isBlank)
        while let last = value.last, isBlank(last) { value.removeLast() }
        guard value.allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 }) else { throw HTTPRefusal(.badRequest, "a header line has a control character") }
        return (String(decoding: line[..<colon], as: UTF8.self).lowercased(), String(decoding: value, as: UTF8.self))
    }

    /// What the fields mean for the connection. A request with a body is refused: none that is served has one.
    private static func check(_ request: inout HTTPRequest) throws(HTTPRefusal) {
        guard request.values("host").count <= 1 else { throw HTTPRefusal(.badRequest, "it names several hosts") }
        let lengths = Set(request.values("content-length"))
        let isChunked = !request.values("transfer-encoding").isEmpty
        guard lengths.count <= 1, lengths.isEmpty || !isChunked, lengths.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } }) else {
            throw HTTPRefusal(.badRequest, "its length is said in ways that differ")
        }
        guard !isChunked, lengths.allSatisfy({ $0.utf8.allSatisfy { $0 == 0x30 } }) else { throw HTTPRefusal(.contentTooLarge, "a request has no body here") }
        let connection = request.words("connection")
        if connection.contains("close") { request.keepsAlive = false }
    }

    /// A character of a method or of a field's name (RFC 9110, 5.6.2).
    private static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}

/// The server's end of a WebSocket's HTTP handshake (RFC 6455, 4.2). Fed with bytes until it has an answer.
public struct WebSocketHandshake: Sendable {
    /// The longest request, in bytes.
    public static let longest = 8192

    public enum Step: Equatable, Sendable {
        /// The request is not whole yet.
        case incomplete
        /// To be sent; then frames follow. `rest`: bytes that came behind the request.
        case accepted(response: [UInt8], rest: [UInt8])
        /// To be sent before the connection is closed.
        case refused(response: [UInt8], reason: String)
    }

    private let admission: WebSocketAdmission
    private var received: [UInt8] = []

    /// - Parameter admission: whose pages may connect.
    public init(_ admission: WebSocketAdmission = WebSocketAdmission()) { self.admission = admission }

    /// Takes bytes that came.
    public mutating func take(_ bytes: [UInt8]) -> Step {
        // Only what is new, and the three bytes before it, can complete the request's end.
        let from = max(0, received.count - 3)
        received += bytes
        guard let end = Self.end(of: received, from: from) else {
            if received.count > Self.longest { return Self.refuse("431 Request Header Fields Too Large", "the request is longer than \(Self.longest) bytes") }
            return .incomplete
        }
        guard end <= Self.longest else { return Self.refuse("431 Request Header Fields Too Large", "the request is longer than \(Self.longest) bytes") }
        let rest = Array(received[end...])
        let lines = received[..<end].split(separator: UInt8(ascii: "\n")).map { line in
            String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
        }
        received = []
        guard let request = lines.first, request.hasPrefix("GET "), request.hasSuffix(" HTTP/1.1") else {
            return Self.refuse("400 Bad Request", "it is no GET of HTTP/1.1")
        }
        var fields: [String: String] = [:]
        for line in lines.dropFirst() where !line.isEmpty {
            guard let colon = line.firstIndex(of: ":") else { return Self.refuse("400 Bad Request", "a header line has no colon") }
            let name = line[..<colon].lowercased()
            let value = String(line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" })
            fields[name] = fields[name].map { $0 + ", " + value } ?? value
        }
        return answer(fields, rest: rest)
    }

    private func answer(_ fields: [String: String], rest: [UInt8]) -> Step {
        guard Self.words(fields["upgrade"]).contains("websocket"), Self.words(fields["connection"]).contains("upgrade") else {
            return Self.refuse("426 Upgrade Required", "it asks for no WebSocket", extra: "Upgrade: websocket\r\n")
        }
        guard fields["sec-websocket-version"] == "13" else {
            return Self.refuse("426 Upgrade Required", "it is not of version 13", extra: "Sec-WebSocket-Version: 13\r\n")
        }
        if let reason = admission.refusal(origin: fields["origin"], host: fields["host"]) { return Self.refuse("403 Forbidden", reason) }
        guard let key = fields["sec-websocket-key"], key.utf8.count == 24 else { return Self.refuse("400 Bad Request", "its key has not 24 characters") }
        // A viewer that names protocols must be answered with one of them; one that names none is taken, too.
        var chosen = ""
        if let offered = fields["sec-websocket-protocol"] {
            guard Self.words(offered).contains("binary") else { return Self.refuse("400 Bad Request", "it does not offer the protocol 'binary'") }
            chosen = "Sec-WebSocket-Protocol: binary\r\n"
        }
        let response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + "\(WebSocketDigest.accept(key: key))\r\n\(chosen)\r\n"
        return .accepted(response: Array(response.utf8), rest: rest)
    }

    private static func words(_ value: String?) -> [String] {
        (value ?? "").lowercased().split { $0 == "," || $0 == " " || $0 == "\t" }.map(String.init)
    }

    /// The answer to a request that is refused for a reason outside of it.
    public static let forbidden = Array("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".utf8)

    private static func refuse(_ status: String, _ reason: String, extra: String = "") -> Step {
        .refused(response: Array("HTTP/1.1 \(status)\r\n\(extra)Connection: close\r\nContent-Length: 0\r\n\r\n".utf8), reason: reason)
    }

    /// Behind the empty line that ends the header; nil when there is none yet.
    private static func end(of bytes: [UInt8], from: Int) -> Int? {
        let (cr, lf) = (UInt8(ascii: "\r"), UInt8(ascii: "\n"))
        var index = from
        while index + 3 < bytes.count {
            if bytes[index] == cr, bytes[index + 1] == lf, bytes[index + 2] == cr, bytes[index + 3] == lf { return index + 4 }
            index += 1
        }
        return nil
    }
}

/// A WebSocket's frames as a server reads them (RFC 6455, 5): the stream of bytes in the binary ones, and what is to be answered.
public struct WebSocketDecoder: Sendable {
    /// The longest frame, in bytes; a viewer's messages are small.
    public static let longestFrame: UInt64 = 1 << 20

    public enum Event: Equatable, Sendable {
        /// Bytes of the stream that the frames carry.
        case data([UInt8])
        /// To be answered by a pong with the same bytes.
        case ping([UInt8])
        /// The viewer is leaving.
        case close
    }

    private enum Operation: UInt8 { case continuation = 0, text = 1, binary = 2, close = 8, ping = 9, pong = 10 }

    private struct Frame {
        var operation: Operation
        var remaining: Int
        var mask: (UInt8, UInt8, UInt8, UInt8)
        var maskPlace = 0
        var control: [UInt8] = []
    }

    private var queue = ByteQueue()
    private var frame: Frame?
    private var inMessage = false

    public init() {}

    /// Bytes as they came.
    public mutating func append(_ bytes: [UInt8]) { queue.append(bytes) }

    /// The next event; nil when more bytes are needed. The payload of a long frame is given in parts.
    /// - Throws: what breaks the protocol; then nothing further may be read.
    public mutating func next() throws(ProtocolViolation) -> Event? {
        while true {
            if frame == nil { frame = try header() }
            guard var current = frame else { return nil }
            let length = min(current.remaining, queue.count)
            guard length > 0 || current.remaining == 0, let part = queue.take(length) else { return nil }
            var bytes = Array(part)
            Self.unmask(&bytes, current.mask, from: current.maskPlace)
            current.remaining -= length
            current.maskPlace = (current.maskPlace + length) & 3
            switch current.operation {
            case .close: return .close
            case .ping, .pong:
                current.control += bytes
                frame = current.remaining == 0 ? nil : current
                if current.remaining > 0 { return nil }
                if current.operation == .ping { return .ping(current.control) }
            case .binary, .text, .continuation:
                frame = current.remaining == 0 ? nil : current
                if !bytes.isEmpty { return .data(bytes) }
            }
        }
    }

    private mutating func header() throws(ProtocolViolation) -> Frame? {
        guard let start = queue.peek(2), let first = start.first, let second = start.last else { return nil }
        guard first & 0x70 == 0 else { throw ProtocolViolation("a WebSocket frame with an extension that was not agreed on") }
        guard let operation = Operation(rawValue: first & 0xf) else { throw ProtocolViolation("a WebSocket frame of an unknown kind") }
        guard operation != .text else { throw ProtocolViolation("a WebSocket frame of text: RFB is binary") }
        guard second & 0x80 != 0 else { throw ProtocolViolation("a WebSocket frame of a client without a mask") }
        let isFinal = first & 0x80 != 0
        let short = Int(second & 0x7f)
        let isControl = first & 0x8 != 0
        if isControl {
            guard isFinal, short <= 125 else { throw ProtocolViolation("a WebSocket control frame that is in parts or too long") }
        } else {
            guard (operation == .continuation) == inMessage else { throw ProtocolViolation("WebSocket frames out of order") }
        }
        let extended = short == 126 ? 2 : short == 127 ? 8 : 0
        guard let whole = queue.peek(2 + extended + 4) else { return nil }
        let length: UInt64 =
            switch extended {
            case 2: UInt64(BigEndian.u16(whole, at: 2))
            case 8: UInt64(BigEndian.u32(whole, at: 2)) << 32 | UInt64(BigEndian.u32(whole, at: 6))
            default: UInt64(short)
            }
        guard length <= Self.longestFrame else { throw ProtocolViolation("a WebSocket frame longer than \(Self.longestFrame) bytes") }
        if !isControl { inMessage = !isFinal }
        let mask = whole.suffix(4)
        let at = mask.startIndex
        let result = Frame(operation: operation, remaining: Int(length), mask: (mask[at], mask[at + 1], mask[at + 2], mask[at + 3]))
        queue.drop(2 + extended + 4)
        return result
    }

    private static func unmask(_ bytes: inout [UInt8], _ mask: (UInt8, UInt8, UInt8, UInt8), from place: Int) {
        for index in bytes.indices {
            switch (index + place) & 3 {
            case 0: bytes[index] ^= mask.0
            case 1: bytes[index] ^= mask.1
            case 2: bytes[index] ^= mask.2
            default: bytes[index] ^= mask.3
            }
        }
    }
}

/// Frames as a server writes them: whole and without a mask.
public enum WebSocketEncoder {
    /// What goes before a binary frame's payload.
    public static func binaryHeader(length: Int) -> [UInt8] { header(0x82, length: length) }

    public static func pong(_ payload: [UInt8]) -> [UInt8] { header(0x8a, length: payload.count) + payload }

    /// Status 1000: the purpose is fulfilled.
    public static let close: [UInt8] = [0x88, 2, 0x03, 0xe8]

    /// Status 1002: the other side has broken the protocol.
    public static let closeForViolation: [UInt8] = [0x88, 2, 0x03, 0xea]

    private static func header(_ first: UInt8, length: Int) -> [UInt8] {
        var result = [first]
        switch length {
        case ...125: result.append(UInt8(max(0, length)))
        case ...65_535:
            result.append(126)
            result.append16(UInt16(length))
        default:
            result.append(127)
            result.append32(UInt32(truncatingIfNeeded: UInt64(length) >> 32))
            result.append32(UInt32(truncatingIfNeeded: length))
        }
        return result
    }
}

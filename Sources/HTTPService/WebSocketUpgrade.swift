import RFB

/// A request for a WebSocket that may be granted (RFC 6455, 4.2).
public struct WebSocketUpgrade: Sendable {
    /// What is sent before the frames.
    let response: [UInt8]

    /// - Throws: HTTPRefusal when the request is for something else, or broken.
    public init(_ request: HTTPRequest) throws(HTTPRefusal) {
        guard request.method == .get, request.words("upgrade").contains("websocket"), request.words("connection").contains("upgrade") else {
            throw HTTPRefusal(.badRequest, "it asks for no WebSocket")
        }
        guard request.value("sec-websocket-version") == "13" else { throw HTTPRefusal(.upgradeRequired, "it is not of version 13") }
        // Sixteen bytes in Base64.
        guard let key = request.value("sec-websocket-key"), key.utf8.count == 24, key.hasSuffix("==") else { throw HTTPRefusal(.badRequest, "its key is broken") }
        let chosen = request.words("sec-websocket-protocol").contains("binary") ? "Sec-WebSocket-Protocol: binary\r\n" : ""
        response = Array(
            ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                + "\(WebSocketDigest.accept(key: key))\r\n\(chosen)\r\n").utf8)
    }
}

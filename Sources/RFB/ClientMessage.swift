/// A viewer's message after the handshake (RFC 6143, 7.5), checked.
public enum ClientMessage: Equatable, Sendable {
    case setPixelFormat(PixelFormat)
    case setEncodings([Int32])
    case updateRequest(UpdateRequest)
    /// An X keysym.
    case key(UInt32, down: Bool)
    /// A bit a button: left, middle, right, wheel up, down, left, right, side.
    case pointer(buttons: UInt8, x: UInt16, y: UInt16)
    /// QEMU's extension: a keysym (0: none) and QEMU's key number.
    case extendedKey(keysym: UInt32, number: UInt32, down: Bool)
    case setDesktopSize(width: UInt16, height: UInt16)

    public struct UpdateRequest: Equatable, Sendable {
        public var incremental: Bool
        public var x: UInt16
        public var y: UInt16
        public var width: UInt16
        public var height: UInt16
        public init(incremental: Bool, x: UInt16, y: UInt16, width: UInt16, height: UInt16) {
            self.incremental = incremental
            self.x = x
            self.y = y
            self.width = width
            self.height = height
        }
    }
}

/// Cuts a viewer's bytes into messages. Holds at most one message that is not whole, and so 16 KiB beyond what was appended last.
/// Clipboard text goes nowhere, for there is nobody in the guest to take it: it is skipped as it comes.
public struct ClientMessageParser: Sendable {
    /// The most encodings that one message may name.
    public static let mostEncodings = 4096
    /// The longest clipboard text, in bytes, that a viewer may send.
    public static let longestText = 16 << 20

    private var queue = ByteQueue()
    private var skipping = 0

    public init() {}

    public mutating func append(_ bytes: [UInt8]) { queue.append(bytes) }

    /// The next message; nil when more bytes are needed.
    /// - Throws: what the viewer may not send; then nothing further may be read.
    public mutating func next() throws(ProtocolViolation) -> ClientMessage? {
        while true {
            if skipping > 0 {
                let part = min(skipping, queue.count)
                queue.drop(part)
                skipping -= part
                if skipping > 0 { return nil }
            }
            guard let type = queue.peek(1)?.first else { return nil }
            switch type {
            case 0:
                guard let bytes = queue.take(20) else { return nil }
                let format = PixelFormat(bytes.dropFirst(4))
                if let fault = format.fault { throw ProtocolViolation("it asks for \(fault)") }
                return .setPixelFormat(format)
            case 2:
                guard let start = queue.peek(4) else { return nil }
                let count = Int(BigEndian.u16(start, at: 2))
                guard count <= Self.mostEncodings else { throw ProtocolViolation("it names \(count) encodings") }
                guard let bytes = queue.take(4 + 4 * count) else { return nil }
                return .setEncodings((0..<count).map { Int32(bitPattern: BigEndian.u32(bytes, at: 4 + 4 * $0)) })
            case 3:
                guard let bytes = queue.take(10) else { return nil }
                return .updateRequest(ClientMessage.UpdateRequest(
                    incremental: bytes[bytes.startIndex + 1] != 0, x: BigEndian.u16(bytes, at: 2), y: BigEndian.u16(bytes, at: 4),
                    width: BigEndian.u16(bytes, at: 6), height: BigEndian.u16(bytes, at: 8)))
            case 4:
                guard let bytes = queue.take(8) else { return nil }
                return .key(BigEndian.u32(bytes, at: 4), down: bytes[bytes.startIndex + 1] != 0)
            case 5:
                guard let bytes = queue.take(6) else { return nil }
                return .pointer(buttons: bytes[bytes.startIndex + 1], x: BigEndian.u16(bytes, at: 2), y: BigEndian.u16(bytes, at: 4))
            case 6:
                guard let bytes = queue.peek(8) else { return nil }
                // A negative length belongs to the UTF-8 clipboard.
                let length = Int(Int32(bitPattern: BigEndian.u32(bytes, at: 4)).magnitude)
                guard length <= Self.longestText else { throw ProtocolViolation("it sends \(length) bytes of clipboard") }
                queue.drop(8)
                skipping = length
            case 251:
                guard let start = queue.peek(8) else { return nil }
                let screens = Int(start[start.startIndex + 6])
                guard let bytes = queue.take(8 + 16 * screens) else { return nil }
                return .setDesktopSize(width: BigEndian.u16(bytes, at: 2), height: BigEndian.u16(bytes, at: 4))
            case 255:
                guard let start = queue.peek(2) else { return nil }
                guard start[start.startIndex + 1] == 0 else { throw ProtocolViolation("it sends a QEMU message that was not offered") }
                guard let bytes = queue.take(12) else { return nil }
                return .extendedKey(keysym: BigEndian.u32(bytes, at: 4), number: BigEndian.u32(bytes, at: 8), down: BigEndian.u16(bytes, at: 2) != 0)
            // Scaling by the server: each scaled copy would cost every update of everybody.
            case 8, 15: throw ProtocolViolation("it asks for a scaled screen, which is not offered")
            default: throw ProtocolViolation("it sends a message of type \(type), which was not offered")
            }
        }
    }
}

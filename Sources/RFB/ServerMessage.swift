/// What the server says by itself, beside the encoder's updates.
public enum ServerMessage {
    /// The end of the handshake (RFC 6143, 7.3.2).
    public static func serverInit(width: Int, height: Int, name: String) -> [UInt8] {
        var result: [UInt8] = []
        result.append16(UInt16(clamping: width))
        result.append16(UInt16(clamping: height))
        result += PixelFormat.native.encoded
        let text = Array(name.utf8.prefix(255))
        result.append32(UInt32(text.count))
        return result + text
    }

    /// An update of one rectangle that carries no pixels: how QEMU's extensions are switched on.
    public static func pseudoRectangle(_ encoding: Int32, x: Int = 0, y: Int = 0, width: Int, height: Int) -> [UInt8] {
        var result: [UInt8] = [0, 0, 0, 1]
        for number in [x, y, width, height] { result.append16(UInt16(clamping: number)) }
        result.append32(UInt32(bitPattern: encoding))
        return result
    }
}

/// A viewer's messages as libvncserver reads them.
public enum EncoderMessage {
    public static func setPixelFormat(_ format: PixelFormat) -> [UInt8] { [0, 0, 0, 0] + format.encoded }

    public static func setEncodings(_ encodings: [Int32]) -> [UInt8] {
        var result: [UInt8] = [2, 0]
        result.append16(UInt16(clamping: encodings.count))
        for encoding in encodings { result.append32(UInt32(bitPattern: encoding)) }
        return result
    }

    public static func updateRequest(_ request: ClientMessage.UpdateRequest) -> [UInt8] {
        var result: [UInt8] = [3, request.incremental ? 1 : 0]
        for number in [request.x, request.y, request.width, request.height] { result.append16(number) }
        return result
    }
}

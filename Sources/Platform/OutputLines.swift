import Glibc

/// Lines out of a pipe that a program writes to as it likes: memory is bounded, whatever it writes.
public struct OutputLines: Sendable {
    /// What one look at the pipe has found.
    public enum Found: Sendable {
        case something
        /// Nothing is there now.
        case nothing
        /// Nobody can write to it any more.
        case end
    }

    private static let chunk = 16_384
    /// Bytes of the line that is not over yet; what is beyond is dropped, and its end shows that something is missing.
    private var begun: [UInt8] = []

    public init() {}

    /// Reads once, at most 16 KiB, from a pipe's end that does not wait.
    /// - Parameter tell: gets each line that is over, without its end, fit to be shown; an empty one is passed over.
    public mutating func read(_ raw: CInt, tell: (String) -> Void) -> Found {
        var got = 0
        // Sound: as many bytes count as initialised as read() has filled.
        let bytes = [UInt8](unsafeUninitializedCapacity: Self.chunk) { buffer, count in
            got = Glibc.read(raw, buffer.baseAddress, buffer.count)
            count = max(0, got)
        }
        if got < 0 { return errno == EAGAIN || errno == EINTR ? .nothing : .end }
        guard got > 0 else { return .end }
        add(bytes, tell: tell)
        return .something
    }

    /// Takes bytes as they come.
    mutating func add(_ bytes: [UInt8], tell: (String) -> Void) {
        for byte in bytes {
            if byte == 0x0a {
                finish(tell: tell)
            } else if begun.count <= PrintableText.longest {
                begun.append(byte)
            }
        }
    }

    /// Tells of a last line that has no end.
    public mutating func finish(tell: (String) -> Void) {
        if begun.last == 0x0d { begun.removeLast() }
        if !begun.isEmpty { tell(PrintableText.escaped(String(decoding: begun, as: UTF8.self))) }
        begun.removeAll(keepingCapacity: true)
    }
}

import CLinux
import Glibc
import Platform
import TestTools
import Testing

/// The built `demux-web` as a process of its own.
final class Server {
    let port: UInt16
    private let child: ChildProcess

    init(base: String, noVNC: String = "/nonexistent", arguments: [String] = []) throws {
        let tests = try #require(realpath("/proc/self/exe", nil))
        defer { free(tests) }
        let folder = String(cString: tests).split(separator: "/").dropLast().joined(separator: "/")
        let (read, write) = try Files.pipe()
        let (output, input) = (OwnedDescriptorBox(read), OwnedDescriptorBox(write))
        child = try ChildProcess(
            program: "/\(folder)/demux-web", arguments: ["--listen", "127.0.0.1:0", "--run-dir", base, "--novnc", noVNC] + arguments,
            inherited: [.init(ours: input.raw, theirs: 2)])
        input.close()
        // Its first line names the port that it got.
        var line = ""
        var byte: UInt8 = 0
        while !line.hasSuffix("\n"), Glibc.read(output.raw, &byte, 1) == 1 { line.unicodeScalars.append(Unicode.Scalar(byte)) }
        output.close()
        let number = line.split(separator: ":").last?.split(separator: "/").first
        port = try #require(number.flatMap { UInt16($0) }, "it said: \(line)")
    }

    deinit {
        child.signal(SIGTERM)
        if child.wait(limit: .seconds(30)) == nil { child.signal(SIGKILL) }
    }

    var hasEnded: Bool { child.poll() != nil }

    private final class OwnedDescriptorBox {
        private(set) var raw: CInt
        init(_ raw: CInt) { self.raw = raw }
        func close() {
            if raw >= 0 { _ = Glibc.close(raw) }
            raw = -1
        }
        deinit { close() }
    }
}

/// A browser's connection, with every byte under the test's control.
final class Browser {
    struct Answer {
        let status: Int
        let headers: [String: String]
        let body: [UInt8]
        var text: String { String(decoding: body, as: UTF8.self) }
    }

    private let raw: CInt
    /// Lives as long as its browsers.
    private let server: Server
    private let port: UInt16
    private var received: [UInt8] = []

    init(_ server: Server) throws {
        self.server = server
        port = server.port
        raw = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        try #require(raw >= 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        try #require(connected == 0)
        // Only keeps a hanging server from hanging the tests.
        var time = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(raw) }

    func send(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let sent = rest.withUnsafeBytes { Glibc.send(raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            guard sent > 0 else { return }
            rest = rest.dropFirst(sent)
        }
    }

    func finish() { shutdown(raw, CInt(SHUT_WR)) }

    /// Asks, with more or other headers; an empty value leaves one out.
    func get(_ path: String, _ headers: [String: String] = [:], method: String = "GET") throws -> Answer {
        var all = ["Host": "127.0.0.1:\(port)"]
        all.merge(headers) { $1 }
        let lines = all.filter { !$0.value.isEmpty }.map { "\($0.key): \($0.value)\r\n" }.sorted().joined()
        send(Array("\(method) \(path) HTTP/1.1\r\n\(lines)\r\n".utf8))
        return try answer()
    }

    func answer() throws -> Answer {
        let head = try head()
        return Answer(status: head.status, headers: head.headers, body: take(head.headers["content-length"].flatMap { Int($0) } ?? 0))
    }

    /// An answer up to its body.
    func head() throws -> Answer {
        var head = ""
        while !head.hasSuffix("\r\n\r\n") { head.unicodeScalars.append(Unicode.Scalar(try #require(take(1).first, "it closed after: \(head)"))) }
        let lines = head.split(separator: "\r\n")
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 { headers[parts[0].lowercased()] = String(parts[1].drop { $0 == " " }) }
        }
        let status = lines.first?.split(separator: " ").dropFirst().first.flatMap { Int($0) }
        return Answer(status: try #require(status), headers: headers, body: [])
    }

    /// So many bytes, fewer only at the end.
    func take(_ count: Int) -> [UInt8] {
        var piece = [UInt8](repeating: 0, count: 65_536)
        while received.count < count {
            let got = recv(raw, &piece, piece.count, 0)
            guard got > 0 else { break }
            received += piece[..<got]
        }
        defer { received.removeFirst(min(count, received.count)) }
        return Array(received.prefix(count))
    }

    /// Whether the server closes, having said nothing more.
    var isClosed: Bool { received.isEmpty && take(1).isEmpty }

    // MARK: - WebSocket

    func upgrade(_ path: String, _ headers: [String: String] = [:]) throws -> Answer {
        var all = ["Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"]
        all.merge(headers) { $1 }
        return try get(path, all)
    }

    /// One masked frame.
    func sendFrame(_ payload: [UInt8], opcode: UInt8 = 2) {
        var frame: [UInt8] = [0x80 | opcode]
        switch payload.count {
        case ..<126: frame.append(0x80 | UInt8(payload.count))
        case ..<65_536: frame += [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xff)]
        default: frame += [0x80 | 127] + (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
        }
        let mask: [UInt8] = [0x12, 0x34, 0x56, 0x78]
        send(frame + mask + payload.enumerated().map { $1 ^ mask[$0 % 4] })
    }

    /// The next frame; nil at the end.
    func frame() -> (opcode: UInt8, payload: [UInt8])? {
        let head = take(2)
        guard head.count == 2 else { return nil }
        var length = Int(head[1] & 0x7f)
        if length >= 126 { length = take(length == 126 ? 2 : 8).reduce(0) { $0 << 8 | Int($1) } }
        return (head[0] & 0x0f, take(length))
    }

    /// So many bytes of binary frames.
    func data(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count, let frame = frame(), frame.opcode == 2 { bytes += frame.payload }
        return bytes
    }
}

/// An exporter's socket that greets as RFB does, then sends everything back.
final class EchoingExporter: Sendable {
    private let listener: CInt

    init(domain: UInt16, base: String) throws {
        mkdir("\(base)/\(domain)", 0o700)
        listener = try UnixSocket.listen(.stream, path: "\(base)/\(domain)/vnc.sock").release()
        let raw = listener
        try TestThread {
            while let accepted = try? UnixSocket.accept(raw) {
                let socket = accepted.release()
                try? TestThread {
                    defer { close(socket) }
                    var piece = Array("RFB 003.008\n".utf8)
                    var count = piece.count
                    while count > 0 {
                        var rest = piece[..<count]
                        while !rest.isEmpty {
                            let sent = rest.withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
                            guard sent > 0 else { return }
                            rest = rest.dropFirst(sent)
                        }
                        if piece.starts(with: Array("quit".utf8)) { return }
                        if piece.count < 65_536 { piece = [UInt8](repeating: 0, count: 65_536) }
                        count = recv(socket, &piece, piece.count, 0)
                    }
                }.detach()
            }
        }.detach()
    }

    deinit { shutdown(listener, CInt(SHUT_RDWR)) }
}

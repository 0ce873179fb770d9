import CGnuTLS
import CLinux
import Glibc
import Platform
import RFB
import Testing

/// A viewer's connection, waiting for what it reads.
class Stream {
    let socket: OwnedDescriptor

    struct Closed: Error {}

    init(_ socket: consuming OwnedDescriptor) { self.socket = socket }

    /// Connects from any address of this machine's loopback network.
    static func connectTCP(_ port: UInt16, from source: UInt32 = 0x7f00_0001) throws -> OwnedDescriptor {
        let raw = Glibc.socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let owned = OwnedDescriptor(adopting: raw)
        // As viewers do: what is small does not wait for what was sent before to be acknowledged.
        var on: CInt = 1
        setsockopt(raw, CInt(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<CInt>.size))
        func with(_ host: UInt32, _ port: UInt16, _ call: (UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = host.bigEndian
            address.sin_port = port.bigEndian
            return withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
            }
        }
        guard with(source, 0, { bind(raw, $0, $1) }) == 0, with(0x7f00_0001, port, { connect(raw, $0, $1) }) == 0 else {
            throw SystemError("connect to", "port \(port)")
        }
        return owned
    }

    func write(_ bytes: [UInt8]) throws { try Self.sendAll(socket.raw, bytes) }

    static func sendAll(_ raw: CInt, _ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { send(raw, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw Closed() }
            sent += count
        }
    }

    /// Some bytes, at most `limit`.
    func some(_ limit: Int) throws -> [UInt8] { try Self.receiveSome(socket.raw, limit) }

    static func receiveSome(_ raw: CInt, _ limit: Int) throws -> [UInt8] {
        var entry = pollfd(fd: raw, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, patience) == 1 else { throw Hangs(what: "bytes from the exporter") }
        var buffer = [UInt8](repeating: 0, count: limit)
        let count = recv(raw, &buffer, limit, 0)
        guard count > 0 else { throw Closed() }
        return Array(buffer[..<count])
    }

    private var held: [UInt8] = []

    func read(_ count: Int) throws -> [UInt8] {
        while held.count < count { held += try some(max(65_536, count - held.count)) }
        defer { held.removeFirst(count) }
        return Array(held[..<count])
    }

    func read16() throws -> Int { try read(2).reduce(0) { $0 << 8 | Int($1) } }
    func read32() throws -> Int { try read(4).reduce(0) { $0 << 8 | Int($1) } }

    /// Throws what has come away, and waits until it is as much.
    func drop(atLeast least: Int) throws {
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        var dropped = held.count
        held = []
        while true {
            let count = recv(socket.raw, &buffer, buffer.count, CInt(MSG_DONTWAIT))
            if count > 0 {
                dropped += count
                continue
            }
            guard count < 0, errno == EAGAIN || errno == EINTR else { throw Closed() }
            if dropped >= least { return }
            dropped += try some(buffer.count).count
        }
    }

    /// Whether the exporter closes the connection; what it still says is thrown away.
    func isClosed() -> Bool {
        while true {
            do { _ = try some(65_536) } catch { return error is Closed }
        }
    }
}

/// The same through TLS. It believes any certificate: what it checks is that the exporter's side works.
final class TLSStream: Stream {
    private var session: gnutls_session_t?
    private var certificate: gnutls_certificate_credentials_t?
    private var anonymous: gnutls_anon_client_credentials_t?

    init(_ socket: consuming OwnedDescriptor, anonymous isAnonymous: Bool) throws {
        gnutls_init(&session, UInt32(GNUTLS_CLIENT | GNUTLS_NO_SIGNAL))
        if isAnonymous {
            gnutls_anon_allocate_client_credentials(&anonymous)
            gnutls_credentials_set(session, GNUTLS_CRD_ANON, UnsafeMutableRawPointer(anonymous))
            gnutls_priority_set_direct(session, "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ANON-ECDH", nil)
        } else {
            gnutls_certificate_allocate_credentials(&certificate)
            gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(certificate))
            gnutls_priority_set_direct(session, "NORMAL", nil)
        }
        super.init(socket)
        gnutls_transport_set_int2(session, self.socket.raw, self.socket.raw)
        gnutls_handshake_set_timeout(session, UInt32(patience))
        let code = gnutls_handshake(session)
        guard code == 0 else { throw SystemError("shake hands", "in TLS", reason: String(cString: gnutls_strerror(code))) }
    }

    deinit {
        gnutls_deinit(session)
        if let certificate { gnutls_certificate_free_credentials(certificate) }
        if let anonymous { gnutls_anon_free_client_credentials(anonymous) }
    }

    override func write(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { gnutls_record_send(session, $0.baseAddress, $0.count) }
            guard count > 0 else { throw Closed() }
            sent += count
        }
    }

    override func some(_ limit: Int) throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: limit)
        if gnutls_record_check_pending(session) == 0 {
            var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, patience) == 1 else { throw Hangs(what: "bytes through TLS") }
        }
        while true {
            let count = gnutls_record_recv(session, &buffer, limit)
            if count == Int(GNUTLS_E_AGAIN) { continue }
            guard count > 0 else { throw Closed() }
            return Array(buffer[..<count])
        }
    }
}

/// The same through a WebSocket, over any other stream.
final class WebSocketStream: Stream {
    private let inner: Stream

    init(over inner: Stream) throws {
        self.inner = inner
        super.init(try inner.socket.duplicate())
        try inner.write(Array("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n\r\n".utf8))
        var head: [UInt8] = []
        while !String(decoding: head, as: UTF8.self).hasSuffix("\r\n\r\n") { head += try inner.read(1) }
        #expect(String(decoding: head, as: UTF8.self).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
    }

    override func write(_ bytes: [UInt8]) throws {
        for start in stride(from: 0, to: bytes.count, by: 100) {
            let part = Array(bytes[start..<min(start + 100, bytes.count)])
            let mask: [UInt8] = [0x11, 0x22, 0x33, 0x44]
            try inner.write([0x82, 0x80 | UInt8(part.count)] + mask + part.enumerated().map { $1 ^ mask[$0 & 3] })
        }
    }

    override func some(_ limit: Int) throws -> [UInt8] {
        while true {
            let head = try inner.read(2)
            var length = Int(head[1])
            if length == 126 { length = try inner.read16() } else if length == 127 {
                _ = try inner.read32()
                length = try inner.read32()
            }
            let payload = try inner.read(length)
            if head[0] == 0x82, !payload.isEmpty { return payload }
            if head[0] == 0x88 { throw Closed() }
        }
    }

    /// Sends a control frame and returns the next control frame that comes, with no update under way.
    func ping(_ payload: [UInt8]) throws -> [UInt8] {
        try inner.write([0x89, 0x80 | UInt8(payload.count), 0, 0, 0, 0] + payload)
        let head = try inner.read(2)
        return try head + inner.read(Int(head[1]))
    }
}

/// A certificate for a test, signed by itself.
struct TestCertificate {
    let folder: String
    var certificate: String { folder + "/certificate.pem" }
    var key: String { folder + "/key.pem" }

    init() throws {
        var template = Array("/tmp/demux-cert-XXXXXX".utf8CString)
        folder = try #require(mkdtemp(&template).map { String(cString: $0) })
        var privateKey: gnutls_x509_privkey_t?
        gnutls_x509_privkey_init(&privateKey)
        defer { gnutls_x509_privkey_deinit(privateKey) }
        try #require(gnutls_x509_privkey_generate(privateKey, GNUTLS_PK_ECDSA, 256, 0) == 0)
        var made: gnutls_x509_crt_t?
        gnutls_x509_crt_init(&made)
        defer { gnutls_x509_crt_deinit(made) }
        var serial: UInt8 = 1
        gnutls_x509_crt_set_version(made, 3)
        gnutls_x509_crt_set_serial(made, &serial, 1)
        gnutls_x509_crt_set_activation_time(made, time(nil) - 3600)
        gnutls_x509_crt_set_expiration_time(made, time(nil) + 86_400)
        gnutls_x509_crt_set_dn(made, "CN=localhost", nil)
        gnutls_x509_crt_set_key(made, privateKey)
        try #require(gnutls_x509_crt_sign2(made, made, privateKey, GNUTLS_DIG_SHA256, 0) == 0)
        var buffer = [UInt8](repeating: 0, count: 8192)
        var length = buffer.count
        try #require(gnutls_x509_crt_export(made, GNUTLS_X509_FMT_PEM, &buffer, &length) == 0)
        try write(Array(buffer[..<length]), certificate)
        length = buffer.count
        try #require(gnutls_x509_privkey_export(privateKey, GNUTLS_X509_FMT_PEM, &buffer, &length) == 0)
        try write(Array(buffer[..<length]), key)
    }

    private func write(_ bytes: [UInt8], _ path: String) throws {
        let file = try #require(fopen(path, "w"))
        fwrite(bytes, 1, bytes.count, file)
        fclose(file)
        chmod(path, 0o600)
    }

    func remove() {
        unlink(certificate)
        unlink(key)
        rmdir(folder)
    }
}

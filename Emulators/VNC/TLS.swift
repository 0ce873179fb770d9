import CGnuTLS
import Glibc
import Platform

/// What the server shows in a TLS handshake. Read before the process gives its rights up, and kept for its life.
final class TLSCredentials {
    fileprivate var certificate: gnutls_certificate_credentials_t?
    fileprivate var anonymous: gnutls_anon_server_credentials_t?
    /// Whether viewers must show a certificate of their own.
    let verifiesViewers: Bool

    /// - Throws: SystemError when a file cannot be used.
    init(_ settings: Settings) throws(SystemError) {
        verifiesViewers = settings.authorities != nil
        if let file = settings.certificate, let key = settings.key {
            try Self.check(gnutls_certificate_allocate_credentials(&certificate), "prepare", "TLS")
            try Self.check(
                gnutls_certificate_set_x509_key_file(certificate, file, key, GNUTLS_X509_FMT_PEM), "use the certificate", "\(file) with the key \(key)",
                "both must be PEM files that the coordinator's user can read, and belong together")
            if let authorities = settings.authorities {
                let count = gnutls_certificate_set_x509_trust_file(certificate, authorities, GNUTLS_X509_FMT_PEM)
                try Self.check(count, "use the authorities in", authorities, "it must be a PEM file that the coordinator's user can read")
                guard count > 0 else { throw SystemError("use the authorities in", authorities, reason: "there is no certificate in it") }
            }
            gnutls_certificate_set_known_dh_params(certificate, GNUTLS_SEC_PARAM_MEDIUM)
        }
        if settings.encryption == .anonymous {
            try Self.check(gnutls_anon_allocate_server_credentials(&anonymous), "prepare", "anonymous TLS")
            gnutls_anon_set_server_known_dh_params(anonymous, GNUTLS_SEC_PARAM_MEDIUM)
        }
    }

    deinit {
        if let certificate { gnutls_certificate_free_credentials(certificate) }
        if let anonymous { gnutls_anon_free_server_credentials(anonymous) }
    }

    var hasCertificate: Bool { certificate != nil }

    fileprivate static func check(_ code: CInt, _ operation: String, _ subject: String, _ remedy: String = "") throws(SystemError) {
        guard code < 0 else { return }
        throw SystemError(operation, subject, reason: String(cString: gnutls_strerror(code)), remedy: remedy)
    }
}

/// The server's side of a TLS connection over a non-blocking socket. Waits for nothing.
final class TLSSession {
    enum Progress: Equatable {
        case done
        /// The socket must become readable, or writable, first.
        case wantsToRead, wantsToWrite
        case failed(String)
    }

    private var session: gnutls_session_t?
    private let credentials: TLSCredentials
    private let socket: CInt
    /// Bytes that the library has taken and not sent yet.
    private var inFlight = 0
    /// How often and how many bytes the library may still take from the socket in this turn of the loop. However it works them off, a
    /// viewer that sends without end, or in the smallest of records, keeps nobody waiting.
    private var allowance = TLSSession.turn
    private static let turn = (reads: 64, bytes: 65_536)

    /// - Parameter certificate: with one, or without any.
    init(_ socket: CInt, credentials: TLSCredentials, certificate: Bool) throws(SystemError) {
        self.credentials = credentials
        self.socket = socket
        try TLSCredentials.check(gnutls_init(&session, UInt32(GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL)), "start", "TLS")
        // Without certificates there is only TLS 1.2.
        let priorities = certificate ? "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" : "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ANON-ECDH:+ANON-DH"
        try TLSCredentials.check(gnutls_priority_set_direct(session, priorities, nil), "choose", "TLS's methods")
        if certificate {
            try TLSCredentials.check(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(credentials.certificate)), "use", "the certificate")
            if credentials.verifiesViewers { gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE) }
        } else {
            try TLSCredentials.check(gnutls_credentials_set(session, GNUTLS_CRD_ANON, UnsafeMutableRawPointer(credentials.anonymous)), "use", "anonymous TLS")
        }
        isVerified = !(certificate && credentials.verifiesViewers)
        // The library writes by itself, to what it takes for a number, and reads through `take`. The pointer is used by calls of this class's only.
        gnutls_transport_set_ptr2(session, Unmanaged.passUnretained(self).toOpaque(), UnsafeMutableRawPointer(bitPattern: Int(socket)))
        gnutls_transport_set_pull_function(session) { pointer, buffer, length in
            guard let pointer, let buffer else { return -1 }
            return Unmanaged<TLSSession>.fromOpaque(pointer).takeUnretainedValue().take(UnsafeMutableRawBufferPointer(start: buffer, count: length))
        }
    }

    deinit { if let session { gnutls_deinit(session) } }

    private var isVerified: Bool

    /// Another turn of the loop.
    func refill() { allowance = Self.turn }

    /// Bytes for the library; -1 and EAGAIN when none are there or no more may be taken now.
    private func take(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
        guard allowance.reads > 0, allowance.bytes > 0 else {
            gnutls_transport_set_errno(session, EAGAIN)
            return -1
        }
        let count = SocketBytes.receive(socket, into: UnsafeMutableRawBufferPointer(rebasing: buffer.prefix(allowance.bytes)))
        if count < 0 { gnutls_transport_set_errno(session, errno) }
        allowance.reads -= 1
        allowance.bytes -= max(0, count)
        return count
    }

    /// Goes on with the handshake. What is only worth a warning costs the library bytes, of which it has so many a turn.
    func handshake() -> Progress {
        while true {
            let code = gnutls_handshake(session)
            if code == GNUTLS_E_SUCCESS {
                if !isVerified {
                    var status: UInt32 = 0
                    guard gnutls_certificate_verify_peers2(session, &status) >= 0, status == 0 else { return .failed("its certificate is not one of those allowed") }
                    isVerified = true
                }
                return .done
            }
            if code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED {
                return gnutls_record_get_direction(session) == 0 ? .wantsToRead : .wantsToWrite
            }
            if gnutls_error_is_fatal(code) != 0 { return .failed(String(cString: gnutls_strerror(code))) }
        }
    }

    /// Bytes that came; 0: the other side has closed; nil: nothing now.
    func read(_ buffer: UnsafeMutableRawBufferPointer) -> Int? {
        while true {
            let length = gnutls_record_recv(session, buffer.baseAddress, buffer.count)
            if length >= 0 { return length }
            if length == Int(GNUTLS_E_AGAIN) { return nil }
            // A viewer has no reason to negotiate anew: refused by not answering.
            if length == Int(GNUTLS_E_INTERRUPTED) || length == Int(GNUTLS_E_WARNING_ALERT_RECEIVED) { continue }
            return 0
        }
    }

    /// How many of the bytes were taken; nil: none now. -1: the connection is dead. After nil the same bytes must be offered again.
    func write(_ bytes: UnsafeRawBufferPointer) -> Int? {
        let length = inFlight > 0 ? gnutls_record_send(session, nil, 0) : gnutls_record_send(session, bytes.baseAddress, min(bytes.count, 16_384))
        if length == Int(GNUTLS_E_AGAIN) || length == Int(GNUTLS_E_INTERRUPTED) {
            if inFlight == 0 { inFlight = min(bytes.count, 16_384) }
            return nil
        }
        inFlight = 0
        return length < 0 ? -1 : length
    }

    /// Says that nothing more comes; not waited for.
    func bye() { _ = gnutls_bye(session, GNUTLS_SHUT_WR) }
}

import CLinux
import Glibc
import Platform
import RFB

/// One viewer's connection as the main thread sees it: what it says, through TLS and WebSocket where it uses them, and on the way in
/// the handshake. Pixels are the `Viewer`'s.
final class Connection {
    enum Stage {
        /// Nothing has come yet, and nothing was sent: a plain viewer waits for us, a browser does not.
        case listening
        /// TLS begins; then a WebSocket's request (`wss`), or the rest of the handshake.
        case tls(thenWebSocket: Bool)
        case webSocket(WebSocketHandshake)
        case handshake
        /// A verdict on its password is due later: nothing is read until then.
        case deliberating
        /// It is in, and there is no picture yet.
        case waiting
        case viewing(Viewer)
        /// What is left is sent, and nothing is read.
        case closing
        case closed
    }

    let number: Int
    let address: PeerAddress
    let socket: OwnedDescriptor
    unowned let server: Server
    var stage = Stage.listening
    var isShared = true
    /// Whether it has ever asked for a picture.
    var hasAsked = false
    private(set) var usesWebSocket = false
    private(set) var security = ""
    private var handshake: Handshake
    var parser = ClientMessageParser()
    private var webSocket: WebSocketDecoder?
    var tls: TLSSession?
    var rest: [UInt8] = []
    /// The viewer's thread writes into one end, we read the other: for what is encrypted or framed.
    var relay: (theirs: OwnedDescriptorBox, ours: OwnedDescriptorBox)?
    private var out: [UInt8] = []
    private var outStart = 0
    private var timer: EventLoop.Timer?
    private var greetTimer: EventLoop.Timer?
    private var interest = EventLoop.Interest.readable
    /// What the viewer has said it knows.
    var encodings: Set<Int32> = []
    var pointer = Pointer()
    var toldAbsolute: Bool?

    init(number: Int, socket: consuming OwnedDescriptor, server: Server) {
        self.number = number
        address = PeerAddress(of: socket.raw)
        self.socket = socket
        self.server = server
        handshake = Handshake(server.settings.offer)
    }

    var isViewing: Bool {
        switch stage {
        case .waiting, .viewing: true
        default: false
        }
    }
    var isHandshaking: Bool {
        switch stage {
        case .listening, .tls, .webSocket, .handshake, .deliberating: true
        default: false
        }
    }
    var isClosing: Bool { if case .closing = stage { true } else { false } }
    private var isHeard: Bool {
        switch stage {
        case .deliberating, .closing, .closed: false
        default: true
        }
    }
    var viewer: Viewer? { if case .viewing(let viewer) = stage { viewer } else { nil } }

    // MARK: beginning

    func start() {
        do {
            try server.loop.watch(socket.raw, for: .readable) { [unowned self] what in self.ready(what) }
        } catch {
            return server.remove(self)
        }
        giveTime()
        guard server.settings.webSocket else { return greet() }
        listen()
        if case .listening = stage {
            // Whoever speaks first does so in the same breath as it connects. A plain viewer waits for us, and not for long.
            greetTimer = server.loop.after(.milliseconds(8)) { [weak self] in
                guard let self, case .listening = self.stage else { return }
                self.greet()
            }
        }
    }

    private func giveTime() {
        timer = server.loop.after(.seconds(server.settings.handshakeSeconds)) { [weak self] in
            guard let self, self.isHandshaking else { return }
            self.server.statistics["timeouts", default: 0] += 1
            self.end("it took too long for its handshake")
        }
    }

    /// Looks at the first byte, without taking it.
    private func listen() {
        var first: UInt8 = 0
        let count = recv(socket.raw, &first, 1, CInt(MSG_PEEK | MSG_DONTWAIT))
        if count == 0 { return end("it left") }
        guard count == 1 else {
            if errno != EAGAIN && errno != EINTR { end("its connection failed") }
            return
        }
        switch first {
        case 0x16:
            guard server.credentials?.hasCertificate == true else { return end("it begins TLS, and there is no certificate") }
            beginTLS(certificate: true, thenWebSocket: true)
        case UInt8(ascii: "G"): stage = .webSocket(WebSocketHandshake(server.settings.admission))
        default: greet()
        }
    }

    private func greet() {
        stage = .handshake
        let wait = server.throttle.wait(for: address.source, now: EventLoop.now())
        if wait > 0 { handshake.refusal = "too many wrong passwords from there: try again in \(wait) s" }
        send(Handshake.greeting)
    }

    private func beginTLS(certificate: Bool, thenWebSocket: Bool) {
        guard let credentials = server.credentials else { return end("there is no certificate") }
        do {
            tls = try TLSSession(socket.raw, credentials: credentials, certificate: certificate)
            stage = .tls(thenWebSocket: thenWebSocket)
            continueTLS(thenWebSocket: thenWebSocket)
        } catch {
            end(error.description)
        }
    }

    private func continueTLS(thenWebSocket: Bool) {
        switch tls?.handshake() {
        case .wantsToRead: watch(.readable)
        case .wantsToWrite: watch(.writable)
        case .failed(let reason): end("TLS: \(reason)")
        case nil: end("TLS: there is none")
        case .done:
            watch(.readable)
            if thenWebSocket {
                handshake = Handshake(server.settings.offer.insideTLS)
                stage = .webSocket(WebSocketHandshake(server.settings.admission))
            } else {
                stage = .handshake
                handshake.tlsIsUp()
                advance()
            }
            // The library may hold what came behind the last of the handshake.
            read()
        }
    }

    // MARK: reading

    private func ready(_ what: EventLoop.Interest) {
        tls?.refill()
        if !isHeard, !what.isDisjoint(with: .hangUp) { return end("it left") }
        if what.contains(.writable) { flush() }
        if case .tls(let thenWebSocket) = stage { return continueTLS(thenWebSocket: thenWebSocket) }
        if case .listening = stage { listen() }
        if case .listening = stage { return }
        if !what.isDisjoint(with: [.readable, .hangUp]) { read() }
    }

    private func read() {
        var buffer = [UInt8](repeating: 0, count: 16_384)
        // A few rounds, so that nobody keeps the others waiting; what is left makes the socket readable again. TLS has a limit of its own: what
        // it has taken from the socket is worked off, for nothing would tell of it again.
        var rounds = 0
        while isHeard, tls != nil || rounds < 4 {
            if case .tls = stage { return }
            rounds += 1
            let raw = socket.raw
            let count: Int? = buffer.withUnsafeMutableBytes { bytes in
                if let tls { return tls.read(bytes) }
                let count = recv(raw, bytes.baseAddress, bytes.count, CInt(MSG_DONTWAIT))
                if count < 0 { return errno == EAGAIN || errno == EINTR ? nil : 0 }
                return count
            }
            guard let count else { return }
            if count == 0 { return end("it left") }
            server.received &+= UInt64(count)
            take(Array(buffer[..<count]))
            if tls == nil && count < buffer.count { return }
        }
    }

    private func take(_ bytes: [UInt8]) {
        switch stage {
        case .webSocket(var request):
            let step = request.take(bytes)
            stage = .webSocket(request)
            switch step {
            case .incomplete: break
            case .refused(let response, let reason):
                send(response)
                refuse("WebSocket: \(reason)")
            case .accepted where tls == nil && server.settings.offer.needsEncryption:
                // VeNCrypt inside a WebSocket is nothing that a browser has; what comes in the clear could be taken for what TLS protects.
                send(WebSocketHandshake.forbidden)
                refuse("WebSocket: encryption is needed: wss://, with a certificate")
            case .accepted(let response, let rest):
                send(response)
                usesWebSocket = true
                webSocket = WebSocketDecoder()
                greet()
                if !rest.isEmpty { take(rest) }
            }
        case .closing, .closed, .listening, .tls: break
        default:
            guard webSocket != nil else { return hear(bytes) }
            webSocket?.append(bytes)
            do {
                while let event = try webSocket?.next() {
                    switch event {
                    case .data(let data): hear(data)
                    case .ping(let payload): if out.count < 65_536 { sendRaw(WebSocketEncoder.pong(payload)) }
                    case .close:
                        sendRaw(WebSocketEncoder.close)
                        return end("it left")
                    }
                    switch stage {
                    case .closed, .closing: return
                    default: break
                    }
                }
            } catch {
                end(error.description)
            }
        }
    }

    /// RFB, freed of everything around it.
    private func hear(_ bytes: [UInt8]) {
        switch stage {
        case .handshake, .deliberating:
            handshake.append(bytes)
            advance()
        case .waiting:
            rest += bytes
            if rest.count > 65_536 { end("it says too much before there is a picture") }
        case .viewing(let viewer): parse(bytes, viewer)
        default: break
        }
    }

    private func advance() {
        while case .handshake = stage, let action = handshake.next() {
            switch action {
            case .send(let bytes): send(bytes)
            case .startTLS(let certificate):
                guard out.isEmpty else { return end("it does not read") }
                return beginTLS(certificate: certificate, thenWebSocket: false)
            case .verify(let challenge, let answer): verify(challenge, answer)
            case .refuse(let reason): return refuse(reason)
            case .done(let shared, let bytes):
                security = "\(handshake.choice)"
                rest = bytes
                isShared = shared
                stage = .waiting
                if let timer { server.loop.cancel(timer) }
                server.admit(self)
            }
        }
    }

    /// Judges now, or later when many guess.
    private func verify(_ challenge: [UInt8], _ answer: [UInt8]) {
        let delay = server.pacer.delay(now: EventLoop.now())
        guard delay > 0 else { return judge(challenge, answer) }
        server.statistics["delayed-verdicts", default: 0] += 1
        stage = .deliberating
        watch([])
        if let timer { server.loop.cancel(timer) }
        timer = server.loop.after(.nanoseconds(Int64(clamping: delay))) { [weak self] in
            guard let self else { return }
            self.stage = .handshake
            self.watch(.readable)
            self.giveTime()
            self.judge(challenge, answer)
            self.advance()
        }
    }

    private func judge(_ challenge: [UInt8], _ answer: [UInt8]) {
        let key = address.source
        let now = EventLoop.now()
        let wait = server.throttle.wait(for: key, now: now)
        if wait > 0 {
            server.pacer.discount()
            return handshake.decide(isRight: false, reason: "too many wrong passwords from there: try again in \(wait) s")
        }
        let isRight = server.password.accepts(answer, challenge: challenge, now: UInt64(clamping: time(nil)))
        if isRight {
            server.throttle.succeeded(key)
            server.pacer.discount()
        } else {
            server.throttle.failed(key, now: now)
            server.statistics["wrong-passwords", default: 0] += 1
        }
        handshake.decide(isRight: isRight)
    }

    // MARK: writing

    /// What the viewer's thread has written, framed and encrypted.
    func pump() {
        guard let relay else { return }
        guard out.count == outStart else { return }
        var buffer = [UInt8](repeating: 0, count: 32_768)
        // One buffer at a time: while the viewer does not take it, its thread waits, and is given up when that lasts.
        for _ in 0..<16 {
            let count = recv(relay.ours.raw, &buffer, buffer.count, CInt(MSG_DONTWAIT))
            guard count > 0 else { break }
            buffer.removeLast(buffer.count - count)
            send(buffer)
            if out.count > outStart { break }
            buffer.append(contentsOf: repeatElement(0, count: 32_768 - count))
        }
        watchRelay()
    }

    private func watchRelay() {
        guard let relay else { return }
        try? server.loop.change(relay.ours.raw, to: out.count == outStart ? .readable : [])
    }

    /// Sends bytes of RFB.
    private func send(_ bytes: [UInt8]) {
        sendRaw(usesWebSocket && webSocket != nil ? WebSocketEncoder.binaryHeader(length: bytes.count) + bytes : bytes)
    }

    private func sendRaw(_ bytes: [UInt8]) {
        if outStart == out.count {
            out = bytes
            outStart = 0
        } else {
            out += bytes
        }
        flush()
    }

    private func flush() {
        while outStart < out.count {
            let raw = socket.raw
            let count: Int? = out.withUnsafeBytes { bytes in
                let part = UnsafeRawBufferPointer(rebasing: bytes[outStart...])
                if let tls {
                    if case .tls = stage { return nil }
                    return tls.write(part)
                }
                let count = Glibc.send(raw, part.baseAddress, part.count, CInt(MSG_DONTWAIT | MSG_NOSIGNAL))
                if count < 0 { return errno == EAGAIN || errno == EINTR ? nil : -1 }
                return count
            }
            guard let count else { break }
            if count < 0 {
                out = []
                outStart = 0
                return server.loop.soon { [weak self] in self?.end("it left") }
            }
            outStart += count
        }
        if outStart == out.count {
            out = []
            outStart = 0
            if case .closing = stage { _ = shutdown(socket.raw, CInt(SHUT_WR)) }
            watch(isHeard ? .readable : [])
        } else {
            watch(isHeard ? [.readable, .writable] : .writable)
        }
        if relay != nil { watchRelay() }
    }

    private func watch(_ wished: EventLoop.Interest) {
        guard interest != wished else { return }
        interest = wished
        try? server.loop.change(socket.raw, to: wished)
    }

    // MARK: ending

    /// Says what is left to be said, and gives the viewer a moment to read it: closing at once would throw it away.
    private func refuse(_ reason: String) {
        server.statistics["refused", default: 0] += 1
        server.note("\(name): refused: \(reason)")
        stage = .closing
        if let timer { server.loop.cancel(timer) }
        timer = server.loop.after(.seconds(1)) { [weak self] in self?.end("") }
        server.saysGoodbye()
        if case .closing = stage { flush() }
    }

    var name: String { address.family == "unix" ? "a viewer at the UNIX socket" : "\(address.host) port \(address.service)" }

    /// Ends the connection now. The viewer's thread, where there is one, may still need a moment: see `isOver`.
    func end(_ reason: String) {
        if case .closed = stage { return }
        if !reason.isEmpty, reason != "it left" { server.note("\(name): closed: \(reason)") }
        if let timer { server.loop.cancel(timer) }
        if let greetTimer { server.loop.cancel(greetTimer) }
        if case .deliberating = stage { server.pacer.discount() }
        if !server.settings.viewOnly {
            server.input.key(server.keyboard.leave(viewer: number))
            server.input.pointer(pointer.leave())
        }
        server.loop.forget(socket.raw)
        if case .closing = stage {} else { tls?.bye() }
        if let relay {
            server.loop.forget(relay.ours.raw)
            _ = shutdown(relay.ours.raw, CInt(SHUT_RDWR))
        }
        _ = shutdown(socket.raw, CInt(SHUT_RDWR))
        let viewer = self.viewer
        stage = .closed
        if let viewer {
            viewer.stop()
            server.leave(self, viewer)
        } else {
            server.remove(self)
        }
    }
}

/// A descriptor in a place where only a class can be.
final class OwnedDescriptorBox {
    private let owned: OwnedDescriptor
    init(_ raw: CInt) { owned = OwnedDescriptor(adopting: raw) }
    var raw: CInt { owned.raw }
}

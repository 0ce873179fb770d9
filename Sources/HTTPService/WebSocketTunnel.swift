import CLinux
import Glibc
import Platform
import RFB

/// The far end of a tunnel: a connected UNIX socket.
public final class TunnelTarget: Sendable {
    let descriptor: OwnedDescriptor

    /// - Throws: SystemError when nobody listens at the path, or its queue is full.
    public init(connectingTo path: String, remedy: String = "") throws(SystemError) {
        let socket = try UnixSocket.make(.stream)
        // A full queue is an error, not something to wait for.
        try socket.setNonBlocking(true)
        guard demux_connect_unix(socket.raw, path) == 0 else { throw SystemError("connect to", path, remedy: remedy) }
        descriptor = socket
    }
}

/// A browser's WebSocket and the socket behind it: the bytes of binary frames on one side, plain bytes on the other. What they mean is not looked at.
///
/// Each side is read only as fast as the other takes it, so that what is held is bounded by two reads. A ping is answered when it comes.
final class WebSocketTunnel {
    private static let pieceLength = 65_536
    /// A browser that does not take its pongs is not read until it does.
    private static let mostForBrowser = 2 * pieceLength
    /// Of a side that takes nothing of what waits for it.
    private static let stall = Duration.seconds(60)
    /// Between our closing frame and the browser's.
    private static let farewell = Duration.seconds(5)

    private enum State {
        case open
        /// Our closing frame is on its way, or was sent: what still comes is thrown away.
        case closing
        case ended
    }

    private let loop: EventLoop
    /// Open for as long as the tunnel is.
    private let browser: CInt
    private let target: TunnelTarget
    private let onEnd: () -> Void
    private var decoder = WebSocketDecoder()
    private var forBrowser = OutgoingBytes()
    private var forTarget = OutgoingBytes()
    private var state = State.open
    private var limit: EventLoop.Timer?

    /// - Parameters:
    ///   - greeting: sent before the first frame.
    ///   - early: what the browser sent behind its request.
    ///   - onEnd: called once, when neither socket is used any more.
    init(loop: EventLoop, browser: CInt, target: TunnelTarget, greeting: [UInt8], early: [UInt8], onEnd: @escaping () -> Void) {
        self.loop = loop
        self.browser = browser
        self.target = target
        self.onEnd = onEnd
        forBrowser.append(greeting)
        take(early)
        move()
    }

    /// Sends what can be sent, then waits for what comes next.
    private func move() {
        if case .ended = state { return }
        let waiting = forBrowser.count + forTarget.count
        if forBrowser.send(to: browser) == .failed { return end() }
        if case .open = state, forTarget.send(to: target.descriptor.raw) == .failed { close(WebSocketEncoder.close) }
        let left = forBrowser.count + forTarget.count
        do {
            switch state {
            case .ended: return
            case .open:
                if left == 0 || left < waiting { forgetLimit() }
                if left > 0, limit == nil { startLimit(Self.stall) }
                var interest: EventLoop.Interest = forBrowser.isEmpty ? [] : .writable
                if forTarget.isEmpty, forBrowser.count < Self.mostForBrowser { interest.insert(.readable) }
                try watch(browser, interest) { [unowned self] in self.hearBrowser() }
                interest = forTarget.isEmpty ? [] : .writable
                if forBrowser.isEmpty { interest.insert(.readable) }
                try watch(target.descriptor.raw, interest) { [unowned self] in self.hearTarget() }
            case .closing:
                if forBrowser.isEmpty { shutdown(browser, CInt(SHUT_WR)) }
                try watch(browser, forBrowser.isEmpty ? .readable : [.readable, .writable]) { [unowned self] in self.hearBrowser() }
            }
        } catch {
            end()
        }
    }

    /// A descriptor of which nothing is wanted is not watched: that its other side has closed would be told again and again.
    private func watch(_ raw: CInt, _ interest: EventLoop.Interest, _ handler: @escaping () -> Void) throws(SystemError) {
        guard !interest.isEmpty else { return loop.forget(raw) }
        try loop.watch(raw, for: interest) { _ in handler() }
    }

    private func hearBrowser() {
        switch state {
        case .ended: return
        case .open:
            guard forTarget.isEmpty, forBrowser.count < Self.mostForBrowser else { return move() }
            switch IncomingBytes(from: browser, atMost: Self.pieceLength) {
            case .bytes(let bytes): take(bytes)
            case .nothingYet: break
            case .ended: return end()
            }
        case .closing:
            if case .ended = IncomingBytes(from: browser, atMost: Self.pieceLength) { return end() }
        }
        move()
    }

    private func take(_ bytes: [UInt8]) {
        decoder.append(bytes)
        do {
            while case .open = state, let event = try decoder.next() {
                switch event {
                case .data(let data): forTarget.append(data)
                case .ping(let payload): forBrowser.append(WebSocketEncoder.pong(payload))
                case .close: close(WebSocketEncoder.close)
                }
            }
        } catch {
            close(WebSocketEncoder.closeForViolation)
        }
    }

    private func hearTarget() {
        guard case .open = state else { return }
        if forBrowser.isEmpty {
            switch IncomingBytes(from: target.descriptor.raw, atMost: Self.pieceLength) {
            case .bytes(let bytes):
                forBrowser.append(WebSocketEncoder.binaryHeader(length: bytes.count))
                forBrowser.append(bytes)
            case .nothingYet: break
            case .ended: close(WebSocketEncoder.close)
            }
        }
        move()
    }

    /// Says goodbye: the target is let go of at once, the browser when it has answered, or after a while.
    private func close(_ frame: [UInt8]) {
        state = .closing
        _ = forTarget.send(to: target.descriptor.raw)
        loop.forget(target.descriptor.raw)
        shutdown(target.descriptor.raw, CInt(SHUT_RDWR))
        forBrowser.append(frame)
        forgetLimit()
        startLimit(Self.farewell)
    }

    private func startLimit(_ duration: Duration) {
        limit = loop.after(duration) { [weak self] in self?.end() }
    }

    private func forgetLimit() {
        if let limit { loop.cancel(limit) }
        limit = nil
    }

    private func end() {
        if case .ended = state { return }
        state = .ended
        forgetLimit()
        loop.forget(browser)
        loop.forget(target.descriptor.raw)
        // After the present handler, which may be one of the tunnel's own.
        loop.soon(onEnd)
    }
}

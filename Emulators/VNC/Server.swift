import CLinux
import CVNCServer
import EmulatorProtocol
import Glibc
import Platform
import RFB

/// Who is let in: the listeners, the connections and their limits. Runs in the main thread.
final class Server {
    /// Connections that may be on their way in at once. When there are more, the one that has been longest about it goes: a viewer
    /// that means it is in within a moment.
    private static let mostHandshakes = 64

    let settings: Settings
    let loop: EventLoop
    let screen: Screen
    let gate: FrameGate
    let input: InputSender
    let template: UnsafePointer<rfbScreenInfo>
    let credentials: TLSCredentials?
    /// Rung by viewers' threads that have ended.
    let attention: EventFD
    var keyboard: Keyboard
    var throttle = PasswordThrottle()
    var password: PasswordPolicy
    var statistics: [String: UInt64] = [:]
    var received: UInt64 = 0
    var messages: UInt64 = 0
    private(set) var isAbsolute = true
    private var listeners: [OwnedDescriptorBox] = []
    private var connections: [Int: Connection] = [:]
    /// Threads that have been told to end, with what they still use.
    private var ending: [(viewer: Viewer, connection: Connection)] = []
    private var next = 1
    private var firstFrame: EventLoop.Timer?
    private var notes = RateLimiter(burst: 20, interval: 500_000_000)
    private var totals = (updates: UInt64(0), bytes: UInt64(0), rectangles: UInt64(0))

    /// A line for the guest's log.
    var onNote: (String) -> Void = { _ in }
    /// Who is there has changed.
    var onChange: () -> Void = {}
    /// Something is shown: the numbers move.
    var onActivity: () -> Void = {}
    var onHint: (Int, Int) -> Void = { _, _ in }

    init(
        settings: Settings, keymap: Keymap, credentials: TLSCredentials?, loop: EventLoop, screen: Screen, gate: FrameGate, input: InputSender
    ) throws(SystemError) {
        guard let template = demux_encoder_template() else { throw SystemError("prepare", "libvncserver", reason: "there is not enough memory") }
        self.template = UnsafePointer(template)
        self.settings = settings
        self.credentials = credentials
        self.loop = loop
        self.screen = screen
        self.gate = gate
        self.input = input
        keyboard = Keyboard(keymap)
        password = PasswordPolicy(required: settings.passwordRequired, password: settings.password)
        attention = try EventFD()
        try loop.watch(attention.descriptor.raw, for: .readable) { [unowned self] _ in
            self.attention.clear()
            self.reap()
        }
        screen.onChange = { [unowned self] changes in for case let viewer? in self.connections.values.map(\.viewer) { viewer.apply(changes) } }
        screen.afterChange = { [unowned self] in for case let viewer? in self.connections.values.map(\.viewer) { viewer.showChanges() } }
        screen.onPicture = { [unowned self] picture in for case let viewer? in self.connections.values.map(\.viewer) { viewer.show(picture) } }
        screen.onCursor = { [unowned self] cursor in for case let viewer? in self.connections.values.map(\.viewer) { viewer.set(cursor: cursor) } }
        input.onSend = { [unowned self] in self.screen.expectChange() }
        screen.onFrame = { [unowned self] in
            self.showWaiting()
            self.onActivity()
        }
    }

    // MARK: accepting

    func listen(_ descriptor: consuming OwnedDescriptor) throws(SystemError) {
        try descriptor.setNonBlocking(true)
        let listener = OwnedDescriptorBox(descriptor.release())
        listeners.append(listener)
        try loop.watch(listener.raw, for: .readable) { [unowned self] _ in self.accept(listener.raw) }
    }

    private func accept(_ listener: CInt) {
        for _ in 0..<16 {
            let raw = demux_accept_nonblocking(listener)
            guard raw >= 0 else {
                // Out of descriptors: somebody who is on the way in must go, or this would spin.
                if errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM { dropOldest() }
                return
            }
            var on: CInt = 1
            _ = setsockopt(raw, CInt(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<CInt>.size))
            _ = setsockopt(raw, SOL_SOCKET, SO_KEEPALIVE, &on, socklen_t(MemoryLayout<CInt>.size))
            statistics["connections", default: 0] += 1
            let connection = Connection(number: next, socket: OwnedDescriptor(adopting: raw), server: self)
            next += 1
            connections[connection.number] = connection
            if connections.values.count(where: \.isHandshaking) > Self.mostHandshakes { dropOldest() }
            connection.start()
        }
    }

    private func dropOldest() {
        guard let oldest = connections.values.filter(\.isHandshaking).min(by: { $0.since < $1.since }) else { return }
        statistics["crowded-out", default: 0] += 1
        oldest.end("there are too many on their way in")
    }

    // MARK: viewers

    /// A viewer has said everything that it must.
    func admit(_ connection: Connection) {
        let others = connections.values.filter { $0.isViewing && $0 !== connection }
        if !connection.isShared {
            switch settings.sharing {
            case .ignore: break
            case .allowExclusive: for other in others { other.end("another viewer wants to be alone") }
            case .forceShared: return connection.end("it wants to be alone, which is not allowed")
            }
        }
        guard connections.values.count(where: { $0.isViewing }) <= settings.clients else {
            statistics["refused", default: 0] += 1
            return connection.end("there are \(settings.clients) viewers already")
        }
        statistics["viewers", default: 0] += 1
        count()
        onChange()
        if screen.frame != nil { return showWaiting() }
        // The display has to paint what it left alone while nobody looked.
        if firstFrame == nil {
            firstFrame = loop.after(.milliseconds(250)) { [weak self] in
                self?.firstFrame = nil
                self?.showWaiting()
            }
        }
    }

    private func showWaiting() {
        let waiting = connections.values.filter { if case .waiting = $0.stage { true } else { false } }
        guard !waiting.isEmpty else { return }
        if let firstFrame { loop.cancel(firstFrame) }
        firstFrame = nil
        for connection in waiting {
            do throws(SystemError) {
                try connection.show(try screen.begin())
            } catch {
                connection.end(error.description)
            }
        }
    }

    private func count() { screen.set(viewers: connections.values.count(where: { $0.isViewing })) }

    /// The connection is over; its thread uses it a moment longer.
    func leave(_ connection: Connection, _ viewer: Viewer) {
        ending.append((viewer, connection))
        remove(connection)
        reap()
    }

    func remove(_ connection: Connection) {
        guard connections.removeValue(forKey: connection.number) != nil else { return }
        // It may be in the middle of a call.
        loop.soon { _ = connection }
        count()
        onChange()
    }

    private func reap() {
        for connection in connections.values where connection.viewer?.isFinished == true { connection.end("it reads nothing, or left") }
        for entry in ending where entry.viewer.isFinished {
            let counts = entry.viewer.counts
            totals = (totals.updates + counts.updates, totals.bytes + counts.bytes, totals.rectangles + counts.rectangles)
        }
        ending.removeAll { $0.viewer.isFinished }
    }

    func disconnectAll() { for connection in connections.values { connection.end("it was sent away") } }

    func set(absolute: Bool) {
        isAbsolute = absolute
        for connection in connections.values { connection.tellPointerMode() }
    }

    func hint(width: Int, height: Int) {
        guard (16...8192).contains(width), (16...8192).contains(height) else { return }
        onHint(width, height)
    }

    func note(_ text: String) { if notes.allows(at: EventLoop.now()) { onNote(text) } }

    // MARK: status

    var status: VNCStatus {
        var numbers = statistics
        var sums = totals
        for viewer in connections.values.compactMap(\.viewer) + ending.map(\.viewer) {
            let counts = viewer.counts
            sums = (sums.updates + counts.updates, sums.bytes + counts.bytes, sums.rectangles + counts.rectangles)
        }
        numbers["updates"] = sums.updates
        numbers["bytes"] = sums.bytes
        numbers["rectangles"] = sums.rectangles
        numbers["received"] = received
        numbers["messages"] = messages
        for name in ["connections", "refused"] where numbers[name] == nil { numbers[name] = 0 }
        let clients = connections.values.filter(\.isViewing).sorted { $0.number < $1.number }.map {
            VNCStatus.Client(
                host: $0.address.host, service: $0.address.service, family: $0.address.family, websocket: $0.usesWebSocket, security: $0.security, shared: $0.isShared)
        }
        return VNCStatus(clients: clients, statistics: numbers)
    }
}

/// Lets a burst through and then one event an interval, so that no viewer can fill a log.
struct RateLimiter {
    let burst: UInt64
    /// Nanoseconds.
    let interval: UInt64
    private var tokens: UInt64
    private var last: UInt64 = 0

    init(burst: UInt64, interval: UInt64) {
        self.burst = burst
        self.interval = interval
        tokens = burst
    }

    mutating func allows(at now: UInt64) -> Bool {
        let earned = (now &- last) / interval
        if earned > 0 {
            tokens = min(burst, tokens &+ min(earned, burst))
            last = now
        }
        guard tokens > 0 else { return false }
        tokens -= 1
        return true
    }
}

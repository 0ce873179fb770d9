import CLinux
import CVNCServer
import EmulatorProtocol
import Glibc
import Platform
import RFB

/// Who is let in: the listeners, the connections and their limits. Runs in the main thread.
final class Server {
    /// Connections that may be on their way in at once, and those that are told why they are refused: all, and from one address. When there
    /// are more, the one goes that has been there longest of those from where most come: a viewer that means it is in within a moment, and
    /// nobody crowds out more than their own.
    private static let mostHandshakes = (all: 64, each: 16)
    private static let mostClosing = (all: 32, each: 8)

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
    var pacer = GuessPacer()
    var password: PasswordPolicy
    var statistics: [String: UInt64] = [:]
    var received: UInt64 = 0
    var messages: UInt64 = 0
    private(set) var isAbsolute = true
    let listeners: Listeners
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
        listeners = Listeners(loop: loop)
        keyboard = Keyboard(keymap)
        password = PasswordPolicy(required: settings.passwordRequired, password: settings.password)
        attention = try EventFD()
        try loop.watch(attention.descriptor.raw, for: .readable) { [unowned self] _ in
            self.attention.clear()
            self.reap()
        }
        listeners.onAccept = { [unowned self] socket in self.accept(socket) }
        listeners.onFull = { [unowned self] in if let one = self.longest(of: self.handshaking) { self.crowdOut(one) } }
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

    private func accept(_ socket: consuming OwnedDescriptor) {
        Self.configure(socket.raw)
        statistics["connections", default: 0] += 1
        let connection = Connection(number: next, socket: socket, server: self)
        next += 1
        connections[connection.number] = connection
        if let one = tooMany(handshaking, Self.mostHandshakes) { crowdOut(one) }
        connection.start()
    }

    /// A viewer that has gone without a word, by a cut cable, is noticed within two minutes. On a UNIX socket none of this means anything.
    private static func configure(_ socket: CInt) {
        func set(_ level: CInt, _ option: CInt, _ value: CInt) {
            var value = value
            _ = setsockopt(socket, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
        }
        set(CInt(IPPROTO_TCP), TCP_NODELAY, 1)
        set(SOL_SOCKET, SO_KEEPALIVE, 1)
        set(CInt(IPPROTO_TCP), TCP_KEEPIDLE, 60)
        set(CInt(IPPROTO_TCP), TCP_KEEPINTVL, 15)
        set(CInt(IPPROTO_TCP), TCP_KEEPCNT, 4)
    }

    private var handshaking: [Connection] { connections.values.filter(\.isHandshaking) }

    /// The one that has been there longest of those from where most come.
    private func longest(of some: [Connection]) -> Connection? {
        let groups = Dictionary(grouping: some.sorted { $0.number < $1.number }, by: \.address.source).values
        return groups.max { ($0.count, $1[0].number) < ($1.count, $0[0].number) }?.first
    }

    /// The one that has to go; nil when there are not too many.
    private func tooMany(_ some: [Connection], _ most: (all: Int, each: Int)) -> Connection? {
        guard let one = longest(of: some) else { return nil }
        return some.count > most.all || some.count(where: { $0.address.source == one.address.source }) > most.each ? one : nil
    }

    private func crowdOut(_ connection: Connection) {
        statistics["crowded-out", default: 0] += 1
        connection.end("there are too many on their way in")
    }

    /// One more is told why it is refused: when many are, the first of them have been told for long enough.
    func saysGoodbye() { tooMany(connections.values.filter(\.isClosing), Self.mostClosing)?.end("") }

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
        if others.count >= settings.clients {
            // A place that nobody looks from is free for somebody who may.
            guard let idle = others.filter({ !$0.hasAsked }).min(by: { $0.number < $1.number }) else {
                statistics["refused", default: 0] += 1
                return connection.end("there are \(settings.clients) viewers already")
            }
            idle.end("it asks for no picture, and another viewer needs its place")
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

import EmulatorProtocol
import Glibc
import Host
import Platform
import RFB
import Surface

/// The exporter as the coordinator knows it.
final class Exporter {
    private let control: ControlChannel
    private let loop: EventLoop
    private let screen: Screen
    private let server: Server
    private let input: InputSender
    private let counters: Mapping
    private var exitCode: CInt = 0
    private var statusTimer: EventLoop.Timer?
    private var saidStatus = VNCStatus()
    /// How soon the numbers alone are told again.
    private var statusPace = Duration.seconds(1)
    private var statusDue: UInt64 = 0
    private var lastStatus: UInt64 = 0
    /// The newest surface wins; which reader's page is ours.
    private var reader: Int?

    /// Says hello, takes what comes with `attach`, gives up its rights, and only then listens.
    init(socket: consuming OwnedDescriptor) throws(SystemError) {
        control = ControlChannel(adopting: socket)
        do throws(SystemError) {
            let answer = try control.ask(.hello(Hello(name: "vnc", modes: [.exporter])))
            guard case .attach(let attach) = answer.packet.body, attach.version == 1, attach.mode == .exporter else {
                let found = if case .error(let refusal) = answer.packet.body { refusal.description } else { "it answered hello with '\(answer.packet.body.type)'" }
                throw SystemError("attach to", "the coordinator", reason: found)
            }
            guard let page = answer.descriptors.take() else { throw SystemError("accept", "the counters page", reason: "no descriptor came with the message") }
            counters = try SharedMemory(adopting: page, length: CounterPage.length, what: "the counters page").map(what: "the counters page")
            var settings = try Settings(attach.options)
            let keymap = settings.loadKeymap()
            let credentials = settings.encryption == .no ? nil : try TLSCredentials(settings)
            loop = try EventLoop()
            try Privileges.drop(uid: attach.uid, gid: attach.gid)

            let gate = FrameGate()
            screen = Screen(gate: gate, loop: loop)
            input = InputSender(control: control, loop: loop)
            server = try Server(settings: settings, keymap: keymap, credentials: credentials, loop: loop, screen: screen, gate: gate, input: input)
            for listener in attach.listeners ?? [] {
                guard let descriptor = answer.descriptors.take() else {
                    throw SystemError("listen at", listener.path ?? "\(listener.host ?? "?"):\(listener.port ?? 0)", reason: "no descriptor came with the message")
                }
                try server.listeners.add(descriptor)
            }
            for remark in settings.remarks { control.log(.warning, remark) }
            try control.serve()
        } catch {
            control.log(.error, error.description)
            throw error
        }
        server.onNote = { [unowned self] text in self.control.log(.info, text) }
        server.onChange = { [unowned self] in self.scheduleStatus() }
        server.onActivity = { [unowned self] in self.scheduleStatus(after: self.statusPace) }
        server.onHint = { [unowned self] width, height in self.control.send(Packet(.modeHint(SurfaceSize(width: width, height: height)))) }
    }

    /// Serves until it is told to quit, or the coordinator is gone.
    func run() throws(SystemError) -> CInt {
        try loop.watch(control.descriptor, for: .readable) { [unowned self] _ in self.readControl() }
        control.send(Packet(.ready, id: 1_000_000))
        try loop.run()
        return exitCode
    }

    private func readControl() {
        control.flush()
        do {
            // A few: what is left makes the socket readable again.
            for _ in 0..<16 {
                guard let incoming = try control.receive() else { break }
                handle(incoming)
            }
        } catch {
            // Too long or too many descriptors: the packet is gone, the connection is sound.
            if error.code != 0 { return finish(1) }
        }
        if control.isClosed { return finish(1) }
        updateInterest()
        input.flush()
    }

    private func updateInterest() { try? loop.change(control.descriptor, to: control.wantsToWrite ? [.readable, .writable] : .readable) }

    private func handle(_ incoming: ControlChannel.Incoming) {
        let packet = incoming.packet
        guard packet.re == nil else {
            if case .error(let refusal) = packet.body { control.log(.warning, "the coordinator refused: \(refusal)") }
            return
        }
        switch packet.body {
        case .surface(let size):
            answer(packet) { () throws(SystemError) in
                guard let memory = incoming.descriptors.take() else { throw SystemError("take", "the surface", reason: "no descriptor came with the message") }
                try screen.take(surface: memory, width: size.width, height: size.height)
            }
        case .surfaceReader(let change):
            answer(packet) { () throws(SystemError) in
                guard change.change == .added else {
                    if change.reader == reader { screen.dropPage() }
                    return
                }
                guard let page = incoming.descriptors.take(), let frame = incoming.descriptors.take(), let want = incoming.descriptors.take() else {
                    throw SystemError("take", "the reader page", reason: "not all three descriptors came with the message")
                }
                reader = change.reader
                try screen.take(page: page, frame: frame, want: want)
            }
        case .inputMode(let mode):
            server.set(absolute: mode.absolute)
            answer(packet)
        case .vnc(let command):
            switch command.command {
            case .setPassword: server.password.set(command.password)
            case .expirePassword:
                guard let at = command.at, server.password.expire(at, now: UInt64(clamping: time(nil))) else {
                    return refuse(packet, .invalid, "'\(command.at?.prefix(40) ?? "")' is not now, never, +seconds or seconds since 1970")
                }
            case .disconnect: server.disconnectAll()
            }
            answer(packet)
        case .start, .pause, .resume, .vcpu, .dirtyLogging: answer(packet)
        case .quit:
            answer(packet)
            control.flush()
            finish(0)
        case .error(let refusal): control.log(.warning, "the coordinator says: \(refusal)")
        case .ok: break
        default: refuse(packet, .unsupported, "an exporter is not asked that")
        }
    }

    private func answer(_ packet: Packet, _ body: () throws(SystemError) -> Void = {}) {
        do {
            try body()
            if let id = packet.id { control.send(Packet(.ok(Reply()), re: id)) }
        } catch {
            if packet.id != nil { refuse(packet, .invalid, error.description) } else { control.log(.error, error.description) }
        }
    }

    private func refuse(_ packet: Packet, _ code: Refusal.Code, _ message: String) {
        control.send(Packet(.error(Refusal(code, asked: packet.body.type, message: message)), re: packet.id))
    }

    private func finish(_ code: CInt) {
        exitCode = code
        server.disconnectAll()
        loop.stop()
    }

    // MARK: status

    /// Tells who is there, at most four times a second; while somebody looks, the numbers once a second when they have changed, and seldom
    /// while they hardly do: what only blinks is no reason to wake the coordinator up.
    private func scheduleStatus(after delay: Duration = .milliseconds(250)) {
        let now = EventLoop.now()
        let wait = delay == .milliseconds(250) && now &- lastStatus > 250_000_000 ? .zero : delay
        let due = now &+ wait.clampedNanoseconds
        if let statusTimer {
            guard due < statusDue else { return }
            loop.cancel(statusTimer)
        }
        statusDue = due
        statusTimer = loop.after(wait) { [unowned self] in
            self.statusTimer = nil
            let status = self.server.status
            let now = EventLoop.now()
            let seconds = max(1, (now &- self.lastStatus) / 1_000_000_000)
            self.lastStatus = now
            guard status != self.saidStatus else { return }
            let updates = (status.statistics["updates"] ?? 0) &- (self.saidStatus.statistics["updates"] ?? 0)
            self.saidStatus = status
            self.control.send(Packet(.vncStatus(status)))
            self.updateInterest()
            // As long as the numbers move.
            self.statusPace = updates / seconds > 8 ? .seconds(1) : .seconds(30)
            if !status.clients.isEmpty { self.scheduleStatus(after: self.statusPace) }
        }
    }
}

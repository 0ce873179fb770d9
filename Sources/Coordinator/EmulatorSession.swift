import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import Logging
import Platform
import Specification

/// One emulator: its process, its connection, its server and what it owns.
///
/// The states follow Protocols/emulator-protocol.md: spawned, greeted (hello came, attach went), ready (it said so), serving,
/// then paused, quitting and ended. Used on the loop's thread only.
final class EmulatorSession {
    enum State: Equatable {
        case spawned, greeted, ready, serving, paused, quitting
        case ended(String)

        var text: String {
            switch self {
            case .spawned, .greeted, .ready: "starting"
            case .serving: "serving"
            case .paused: "paused"
            case .quitting: "quitting"
            case .ended(let reason): "ended: \(reason)"
            }
        }
    }

    let specification: EmulatorSpecification
    let context: GuestContext
    var state: State = .spawned
    var mode: AttachMode = .isolated
    var server: ServerID?
    private var process: ChildProcess?
    private let socket: MessageSocket
    let counterMemory: SharedMemory
    private let counterMapping: Mapping
    var relay: Relay?
    private var deadline: EventLoop.Timer?
    private var nextRequest: UInt32 = 1
    private var pending: [UInt32: (Refusal?) -> Void] = [:]
    var bounce: BounceBuffer?
    var populated = PopulatedMemory()
    let interposing: [IORange]
    /// Lines that it asserts, so that none stays asserted when it is gone: the guest could not silence it.
    struct Line: Hashable {
        var device: UInt8 = 0
        var pin: UInt8 = 0
        var isa: UInt8?
    }
    var lines: Set<Line> = []
    /// Called once when it serves, or once with the reason when it cannot.
    var started: ((String?) -> Void)?
    /// Called when it ends after it has served.
    var ended: ((EmulatorSession) -> Void)?
    private var socketOpen = true

    var name: String { specification.name }
    var owner: ClaimRegistry.Owner { .emulator(name) }
    var counters: CounterPage { CounterPage(page: counterMapping.base) }

    /// Starts the program; `started` is called with nil once it serves, or with the reason why it does not.
    init(_ specification: EmulatorSpecification, context: GuestContext, started: @escaping (String?) -> Void) throws(SystemError) {
        self.specification = specification
        self.context = context
        self.started = started
        interposing = specification.interpose.compactMap(RangeText.parse)
        counterMemory = try SharedMemory(name: "demux-counters-\(specification.name)", length: CounterPage.length)
        counterMapping = try counterMemory.map(what: "the counters of \(specification.name)")
        CounterPage(page: counterMapping.base).initialize()
        let (ours, theirs) = try MessageSocket.pair()
        socket = MessageSocket(adopting: OwnedDescriptor(adopting: ours))
        let childEnd = OwnedDescriptor(adopting: theirs)
        try socket.descriptor.setNonBlocking(true)
        var environment = ChildProcess.currentEnvironment()
        environment["DEMUX_SOCKET"] = "3"
        let process = try ChildProcess(
            program: specification.program, arguments: specification.arguments, environment: environment,
            inherited: [ChildProcess.Inherited(ours: childEnd.raw, theirs: 3)])
        self.process = process
        do {
            try context.loop.watch(process.exitDescriptor, for: .readable) { [weak self] _ in self?.processEnded() }
            try context.loop.watch(socket.descriptor.raw, for: .readable) { [weak self] _ in self?.receive() }
        } catch {
            // Nobody would ever hear of it again.
            process.signal(SIGKILL)
            throw error
        }
        deadline = context.loop.after(.milliseconds(specification.readyWithinMilliseconds)) { [weak self] in self?.tooLate() }
    }

    deinit {
        context.loop.forget(socket.descriptor.raw)
        if let process { context.loop.forget(process.exitDescriptor) }
    }

    // MARK: start

    private func tooLate() {
        deadline = nil
        let heard =
            switch state {
            case .spawned: "it never said hello"
            case .ready: "it said ready but never answered 'start'"
            default: "it said hello but never ready"
            }
        failStart("\(heard) within \(specification.readyWithinMilliseconds) ms of its start; raise 'ready-within', or look why \(specification.program) takes so long")
    }

    func failStart(_ reason: String) {
        guard let started else { return }
        self.started = nil
        cancelDeadline()
        context.logBook.note(.error, "emulator '\(name)' did not start: \(reason)")
        started("emulator '\(name)' (\(specification.program)): \(reason)")
    }

    private func cancelDeadline() {
        if let deadline { context.loop.cancel(deadline) }
        deadline = nil
    }

    // MARK: messages

    private func receive() {
        // Bounded, so that an emulator that talks without pause cannot hold the loop.
        for _ in 0..<32 where socketOpen {
            do {
                switch try socket.receive(wait: false) {
                case .nothing: return
                case .closed: return closeSocket("it closed its connection before it was ready")
                case .message(let bytes, _): handle(bytes)
                }
            } catch {
                send(.error(Refusal(.malformed, asked: "a packet", message: error.reason)))
            }
        }
    }

    /// Nothing is heard or said any more.
    /// - Parameter reason: why it does not start, if it has not; when its process ends within a moment, that is the reason.
    private func closeSocket(_ reason: String) {
        guard socketOpen else { return }
        socketOpen = false
        context.loop.forget(socket.descriptor.raw)
        if started != nil { context.loop.after(.milliseconds(200)) { [weak self] in self?.failStart(reason) } }
    }

    private func handle(_ bytes: [UInt8]) {
        let packet: Packet
        do {
            packet = try Packet.decoded(bytes)
        } catch {
            // A broken answer is not answered, or two sides could go on refusing each other's refusals.
            if error.isAnswer { return }
            send(.error(Refusal(error.unsupported ? .unsupported : .malformed, asked: "a packet", message: error.reason)), re: error.id)
            return
        }
        if hasExited {
            // Its last words. A claim or a `ready` of a dead emulator (or of a child that it left its socket to) is worth nothing.
            if case .log(let log) = packet.body { context.logBook.record(source: name, level: log.level.loggerLevel, text: log.message) }
            return
        }
        if let re = packet.re {
            let answer = pending.removeValue(forKey: re)
            switch packet.body {
            case .ok: answer?(nil)
            case .error(let refusal): answer?(refusal)
            default: send(.error(Refusal(.malformed, asked: packet.body.type, message: "only ok and error carry 're'")), re: packet.id)
            }
            return
        }
        do {
            try serve(packet)
        } catch {
            send(.error(error), re: packet.id)
            if packet.id == nil || state == .spawned {
                context.logBook.record(source: name, level: .warning, text: "refused: \(error)")
            }
            if case .hello = packet.body { failStart("\(error)") }
            // A refused claim before ready: the emulator may do without it; if it exits instead, this is the reason.
            if started != nil { lastWords = "it was refused \(error)" }
        }
    }

    var lastWords: String?

    // MARK: serving and its end

    /// Whether its server was ever enabled: then a vCPU may wait in it.
    private var enabled = false
    /// Its process has ended; only its last words are listened to.
    private var hasExited = false

    func begin() {
        guard let server else { return failStart("it was never attached") }
        do {
            enabled = true
            try context.host.setServer(server, enabled: true)
            try relay?.start()
        } catch {
            return failStart("\(error)")
        }
        request(.start) { [weak self] refusal in
            guard let self else { return }
            if let refusal { return self.failStart("it refused to start: \(refusal)") }
            guard let started = self.started else { return }
            self.started = nil
            self.cancelDeadline()
            self.state = .serving
            self.context.logBook.note(
                .info, "emulator '\(self.name)' serves (pid \(self.process?.pid ?? 0), \(self.mode.rawValue), \(server))")
            started(nil)
        }
    }

    private func processEnded() {
        guard let process, let exit = process.poll() else { return }
        context.loop.forget(process.exitDescriptor)
        // Its last words may still wait in the socket.
        hasExited = true
        receive()
        closeSocket("it \(exit)")
        let wasServing = state == .serving || state == .paused
        let wasQuitting = state == .quitting
        state = .ended("\(exit)")
        lower(lines)
        // In whatever state it died: from `ready` on the guest's accesses came here.
        if !wasQuitting { releaseWaiters() }
        if started != nil {
            failStart("it \(exit) before it was ready" + (lastWords.map { ": \($0)" } ?? ""))
        } else if wasServing {
            context.logBook.note(.error, "emulator '\(name)' \(exit); its accesses now read all-ones")
        } else if wasQuitting {
            context.logBook.note(.info, "emulator '\(name)' \(exit)")
        }
        let unanswered = pending.values
        pending = [:]
        for answer in unanswered { answer(Refusal(.order, asked: "a request", message: "the emulator \(exit)")) }
        // What waits for the end holds this session, which holds what waits.
        let tell = ended
        ended = nil
        tell?(self)
    }

    /// What a dead emulator left: its server is disabled, and every access that waits in it is answered with all-ones, so
    /// that no vCPU is blocked for ever (../Protocols: death of an emulator).
    private func releaseWaiters() {
        guard let server, enabled, !context.dying else { return }
        do {
            try context.host.setServer(server, enabled: false)
            if let relay {
                relay.abandon()
            } else if drained == nil {
                let channel = try context.host.openChannel(server)
                drained = channel
                try Drain.answerAll(channel)
            }
        } catch {
            context.logBook.note(.error, "emulator '\(name)': \(error)")
        }
    }

    /// The server's slots, once it was drained.
    private var drained: (any SharedChannel)?

    /// Calls `done` when every vCPU has taken its answer: a server that goes earlier takes the answer with it, and the vCPU stays
    /// blocked. At most a second: a paused vCPU takes nothing.
    private func whenTaken(patience: Int = 1000, _ done: @escaping () -> Void) {
        let channel = relay?.source ?? drained
        guard let channel, !context.dying, server != nil, patience > 0,
            (0..<channel.vcpuCount).contains(where: { channel.slots.state($0) != IORequest.State.none })
        else { return done() }
        context.loop.after(.milliseconds(1)) { self.whenTaken(patience: patience - 1, done) }
    }

    /// Takes it away in the safe order: disable, let it (or us) answer what waits, quit, wait until the answers are taken, destroy.
    func detach(limit: Duration = .seconds(5), _ done: @escaping (String?) -> Void) {
        if let server, enabled, !context.dying { try? context.host.setServer(server, enabled: false) }
        quit(limit: limit) { [self] in
            releaseWaiters()
            whenTaken { [self] in
                removeServer()
                done(nil)
            }
        }
    }

    /// Somebody takes it away before it served: whoever waits for its start is told.
    func cancelStart() { failStart("it was detached before it served") }

    /// Ends the process: quit, then after `limit` SIGTERM, then SIGKILL.
    func quit(limit: Duration = .seconds(2), _ done: @escaping () -> Void) {
        cancelDeadline()
        started = nil
        if case .ended = state { return done() }
        state = .quitting
        let previous = ended
        ended = { session in
            previous?(session)
            done()
        }
        request(.quit) { _ in }
        // Who does not listen needs no time.
        context.loop.after(socketOpen ? limit : .zero) { [weak self] in
            guard let self, let process = self.process, process.poll() == nil else { return }
            self.context.logBook.note(.warning, "emulator '\(self.name)' did not quit; it gets SIGTERM")
            process.signal(SIGTERM)
            self.context.loop.after(.seconds(1)) { [weak self] in self?.process?.signal(SIGKILL) }
        }
    }

    func setDirtyLogging(_ on: Bool) {
        guard state == .serving else { return }
        request(.dirtyLogging(DirtyLogging(on: on))) { [weak self] refusal in
            guard let self, let refusal else { return }
            self.context.logBook.note(.warning, "emulator '\(self.name)': dirty logging: \(refusal)")
        }
    }

    /// Destroys the server and forgets the claims; nothing must be in flight any more.
    func removeServer() {
        context.registry.releaseAll(of: owner)
        if !context.dying, let trouble = populated.removeAll(host: context.host) {
            context.logBook.note(.warning, "emulator '\(name)': \(trouble)")
        }
        relay?.stop()
        relay = nil
        drained = nil
        if let server, !context.dying {
            do { try context.host.destroyServer(server) } catch { context.logBook.note(.warning, "emulator '\(name)': \(error)") }
        }
        server = nil
    }

    /// Lets go of everything of the guest's at once (the domain is dying).
    func letGo() {
        relay?.stop()
        relay = nil
        drained = nil
        bounce = nil
        server = nil
        process?.signal(SIGTERM)
    }

    // MARK: sending

    func request(_ message: Message, _ answer: @escaping (Refusal?) -> Void) {
        let id = nextRequest
        nextRequest &+= 1
        pending[id] = answer
        send(message, id: id)
    }

    func send(_ message: Message, id: UInt32? = nil, re: UInt32? = nil, descriptors: DescriptorBag = DescriptorBag()) {
        guard socketOpen else { return }
        do {
            try socket.send(Packet(message, id: id, re: re).encoded(), descriptors: descriptors.raw)
        } catch {
            // EAGAIN: it does not read its socket (a full buffer of small packets); treated like a closed one.
            let unread = error.code == EAGAIN
            // What it sent before it closed can still be read, and its end may follow.
            if !unread && (error.code == EPIPE || error.code == ECONNRESET) { return }
            context.logBook.note(.warning, "emulator '\(name)'\(unread ? " does not read what it is sent; it is not listened to any more" : "")\(unread ? "" : ": \(error)")")
            closeSocket(unread ? "it did not read what it was sent" : "\(error)")
        }
    }

    /// For `demux status`.
    var status: EmulatorStatus {
        let page = counters
        var values: [String: UInt64] = [:]
        for counter in Counter.allCases { values[counter.name] = page.read(counter) }
        return EmulatorStatus(
            name: name, program: specification.program, pid: process?.pid ?? 0, state: state.text, mode: mode.rawValue,
            server: server?.rawValue,
            claims: context.registry.claims(of: owner).map { EmulatorStatus.ClaimStatus(range: "\($0.range)", label: $0.label) },
            counters: values)
    }
}

extension Log.Level {
    var loggerLevel: Logger.Level {
        switch self {
        case .debug: .debug
        case .info, .guest: .info
        case .warning: .warning
        case .error: .error
        }
    }
}

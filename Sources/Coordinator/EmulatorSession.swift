import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import Logging
import Platform
import Specification

/// One process of an emulator, or of the exporter: its connection, its server and what it owns. What outlives it is in `Holdings`.
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
    let holdings: Holdings
    var state: State = .spawned {
        didSet {
            context.recorder.changed()
            if state != oldValue { context.watchdog?.stateChanged(self) }
        }
    }
    /// The request that it hangs on, as the watchdog says.
    var hung: HungRequest?
    var mode: AttachMode
    /// Whether it takes a predecessor's place, with its server, which stays enabled, and its claims.
    let isSuccessor: Bool
    /// Claims that a predecessor made and this one has not made again yet, by their numbers.
    var inherited: Set<Int> = []
    /// What it changed of a predecessor's claims before it served.
    var changes = ClaimChanges()
    /// What it said in hello that it can do.
    var capabilities: Set<String> = []
    /// The version of what it writes into its state.
    var stateVersion = 1
    /// Says before it is told to start why it may not, if it may not. Where somebody may object, nothing of its predecessor's is given back before.
    var objection: (() -> String?)?
    /// Called in place of the answer to `hello`, which is given by `attach()` then.
    var greeted: (() -> Void)?
    /// A `hello` that waits for its answer.
    var waitingHello: (hello: Hello, re: UInt32?)?
    /// It was told to start.
    private(set) var isStarting = false
    /// And said no.
    private(set) var hasRefusedStart = false
    /// It has ended by itself with a status of its own.
    var hasGivenUp: Bool { if case .status? = process?.poll(), hasExited { true } else { false } }
    /// What it said in hello that its devices are to the unplug protocol.
    var declaredUnplugClasses: Set<UnplugClass> = []
    /// What they are unplugged with: the same, unless the specification says otherwise.
    var unplugClasses: Set<UnplugClass> = []
    /// What it was told to leave out before its start.
    private var leftOut: Set<UnplugClass> = []
    private var leftOutDevices: [String] = []
    var process: ChildProcess?
    /// Under which the keeper holds what is this process's.
    let prefix: String
    /// Requests that came since this coordinator took it over, until it has asked everything again that nobody answered.
    var repeated: Set<UInt32>?
    private let socket: MessageSocket
    /// What it writes to its standard output and error; nil: it was started by a coordinator that did not listen.
    private(set) var output: EmulatorOutput?
    /// Where its latencies are counted; nil when it cannot do that, or never said hello.
    var observation: ObservationMemory?
    private var deadline: EventLoop.Timer?
    var nextRequest: UInt32 = 1
    var pending: [UInt32: (Result<Reply, Refusal>) -> Void] = [:]
    var bounce: BounceBuffer?
    var populated = PopulatedMemory() { didSet { context.recorder.changed() } }
    let interposing: [IORange]
    /// Lines that it asserts, so that none stays asserted when it is gone: the guest could not silence it.
    struct Line: Hashable {
        var device: UInt8 = 0
        var pin: UInt8 = 0
        var isa: UInt8?
    }
    var lines: Set<Line> = [] { didSet { if !lines.isSubset(of: everAsserted) { everAsserted.formUnion(lines) } } }
    /// Lines that it has ever asserted: a coordinator's successor cannot know which of them it asserts at the moment.
    var everAsserted: Set<Line> = [] { didSet { context.recorder.changed() } }
    /// Called once when it serves, or once with the reason when it cannot.
    var started: ((String?) -> Void)?
    /// Called when its process has ended.
    var ended: ((EmulatorSession) -> Void)?
    /// Called when it ended although nobody had asked for it, after it had served. Says whether another process is to take its place.
    var died: ((EmulatorSession, ChildProcess.Exit) -> Bool)?
    /// What becomes of it after its death.
    var restartStatus: RestartStatus? { didSet { context.recorder.changed() } }
    /// It was told to end: nobody takes its place.
    var isLeaving = false { didSet { context.recorder.changed() } }
    /// Runs until its successor starts.
    var restartTimer: EventLoop.Timer?
    var socketOpen = true
    /// Called once when the socket takes more.
    private var whenWritable: (() -> Void)?
    /// Its process has ended; only its last words are listened to.
    var hasExited = false
    /// The scan-out's reader that it is, when it is an exporter.
    var reader: Int? { didSet { context.recorder.changed() } }

    var name: String { specification.name }
    var owner: ClaimRegistry.Owner { .emulator(name) }
    /// Its server: a predecessor's, which keeps the precedence, or one of its own from `hello` on.
    var server: ServerID? { holdings.server?.id }

    /// Starts the program; `started` is called with nil once it serves, or with the reason why it does not.
    /// - Parameter isSuccessor: whether a predecessor served, or was to.
    convenience init(
        _ specification: EmulatorSpecification, context: GuestContext, isSuccessor: Bool = false, started: @escaping (String?) -> Void
    ) throws(SystemError) {
        let end = DescriptorBag()
        let (ours, theirs) = try MessageSocket.pair()
        end.add(OwnedDescriptor(adopting: ours))
        let childEnd = OwnedDescriptor(adopting: theirs)
        let pipe = try Files.pipe()
        let reading = OwnedDescriptor(adopting: pipe.read)
        let writing = OwnedDescriptor(adopting: pipe.write)
        var environment = ChildProcess.currentEnvironment()
        environment["DEMUX_SOCKET"] = "3"
        let process = try ChildProcess(
            program: specification.program, arguments: specification.arguments, environment: environment,
            inherited: [
                ChildProcess.Inherited(ours: writing.raw, theirs: STDOUT_FILENO), ChildProcess.Inherited(ours: writing.raw, theirs: STDERR_FILENO),
                ChildProcess.Inherited(ours: childEnd.raw, theirs: 3),
            ], endsWithThread: context.emulatorsEndWithIt)
        do {
            try self.init(
                specification, context: context, isSuccessor: isSuccessor, process: process, socket: end, prefix: KeptName.process(process.pid),
                started: started)
            try read(output: reading)
        } catch {
            // Nobody would ever hear of it again.
            process.signal(SIGKILL)
            throw error
        }
        context.recorder.keep(process.descriptor, as: prefix + KeptPart.process)
        context.recorder.keep(socket.descriptor.raw, as: prefix + KeptPart.socket)
        if let output { context.recorder.keep(output.descriptor, as: prefix + KeptPart.output) }
        context.recorder.changed()
        deadline = context.loop.after(.milliseconds(specification.readyWithinMilliseconds)) { [weak self] in self?.tooLate() }
    }

    /// Logs what the process writes.
    /// - Parameter pipe: the end to read from.
    func read(output pipe: consuming OwnedDescriptor) throws(SystemError) {
        output = try EmulatorOutput(loop: context.loop, pipe: pipe) { [context, name] in
            context.logBook.record(source: name, level: .info, text: $0)
        }
    }

    /// A session of a process that runs, or (nil) of one that has ended.
    /// - Parameter end: our end of its socket.
    init(
        _ specification: EmulatorSpecification, context: GuestContext, isSuccessor: Bool, process: ChildProcess?, socket end: DescriptorBag,
        prefix: String, started: ((String?) -> Void)?
    ) throws(SystemError) {
        self.specification = specification
        self.context = context
        self.isSuccessor = isSuccessor
        self.process = process
        self.prefix = prefix
        holdings = try context.holdings(of: specification.name)
        // Until it has said hello it is shown as its predecessor was.
        mode = specification.mode == .exporter ? .exporter : holdings.mode ?? .isolated
        self.started = started
        interposing = specification.interpose.compactMap(RangeText.parse)
        guard let ours = end.take() else { throw SystemError("talk to", "emulator '\(specification.name)'", reason: "it has no socket") }
        socket = MessageSocket(adopting: ours)
        try socket.descriptor.setNonBlocking(true)
        guard let process else { return }
        do {
            try context.loop.watch(process.exitDescriptor, for: .readable) { [weak self] _ in self?.processEnded() }
            try context.loop.watch(socket.descriptor.raw, for: .readable) { [weak self] interest in
                guard let self else { return }
                if interest.contains(.writable) { self.becameWritable() }
                if interest != .writable { self.receive() }
            }
        } catch {
            context.loop.forget(process.exitDescriptor)
            throw error
        }
    }

    deinit {
        context.recorder.drop(prefix)
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

    func cancelDeadline() {
        if let deadline { context.loop.cancel(deadline) }
        deadline = nil
    }

    // MARK: messages

    func receive() {
        // Bounded, so that an emulator that talks without pause cannot hold the loop.
        for _ in 0..<32 where socketOpen {
            do {
                switch try socket.receive(wait: false) {
                case .nothing: return
                case .closed: return closeSocket("it closed its connection before it was ready")
                case .message(let bytes, _): handle(bytes)
                }
            } catch {
                noteMalformed(error.reason)
                send(.error(Refusal(.malformed, asked: "a packet", message: error.reason)))
            }
        }
    }

    /// Nothing is heard or said any more.
    /// - Parameter reason: why it does not start, if it has not; when its process ends within a moment, that is the reason.
    func closeSocket(_ reason: String) {
        guard socketOpen else { return }
        socketOpen = false
        context.loop.forget(socket.descriptor.raw)
        if mode == .exporter, state == .serving, let process {
            // It serves nobody's accesses: one that cannot be talked to is only good for being replaced.
            process.signal(SIGKILL)
        }
        if started != nil { context.loop.after(.milliseconds(200)) { [weak self] in self?.failStart(reason) } }
    }

    private func handle(_ bytes: [UInt8]) {
        let packet: Packet
        do {
            packet = try Packet.decoded(bytes)
        } catch {
            noteMalformed(error.reason)
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
        // Asked of the coordinator before, and in the socket still; asked again because nobody had answered.
        if let id = packet.id, repeated?.insert(id).inserted == false { return }
        if let re = packet.re {
            let answer = pending.removeValue(forKey: re)
            switch packet.body {
            case .ok(let reply): answer?(.success(reply))
            case .error(let refusal): answer?(.failure(refusal))
            default:
                noteMalformed("'\(packet.body.type)' carries 're'")
                send(.error(Refusal(.malformed, asked: packet.body.type, message: "only ok and error carry 're'")), re: packet.id)
            }
            return
        }
        do {
            try serve(packet)
        } catch {
            send(.error(error), re: packet.id)
            context.logBook.refused(name, error, quietly: packet.id != nil && state != .spawned)
            if case .hello = packet.body { failStart("\(error)") }
            // A refused claim before ready: the emulator may do without it; if it exits instead, this is the reason.
            if started != nil { lastWords = "it was refused \(error)" }
        }
    }

    private func noteMalformed(_ what: String) {
        holdings.faults.note(.malformedMessage, "it sent a message that is malformed or of an unknown type: \(what)", in: context.logBook)
    }

    var lastWords: String?

    // MARK: serving

    func begin() {
        // What is unplugged stays so: before the guest can see any of it.
        let missing = context.unplug.missing(of: self)
        guard missing.isSubset(of: leftOut) else {
            return unplug(missing) { [weak self] answer in
                guard let self else { return }
                switch answer {
                case .failure(let trouble):
                    self.failStart("it has devices of \(missing.text), which the guest has unplugged, and did not remove them: \(trouble)")
                case .success(let devices):
                    self.leftOut = missing
                    self.leftOutDevices += devices
                    self.begin()
                }
            }
        }
        context.unplug.settle(self, removed: leftOutDevices)
        if let reason = objection?() { return failStart(reason) }
        if mode != .exporter {
            guard let server = holdings.server else { return failStart("it was never attached") }
            do {
                try server.open()
            } catch {
                return failStart("\(error)")
            }
        }
        isStarting = true
        request(.start) { [weak self] refusal in
            guard let self else { return }
            if let refusal {
                self.hasRefusedStart = !self.hasExited
                return self.failStart("it refused to start: \(refusal)")
            }
            guard let started = self.started else { return }
            self.started = nil
            self.cancelDeadline()
            self.state = .serving
            self.holdings.server?.noteServing()
            self.holdings.noteServing(version: self.stateVersion)
            let server = self.server.map { ", \($0)" } ?? ""
            self.context.logBook.note(
                .info, "emulator '\(self.name)' serves (pid \(self.process?.pid ?? 0), \(self.mode.rawValue)\(server))")
            if self.context.dirtyLogging { self.setDirtyLogging(true) }
            self.joinScreen()
            self.context.observations.serving(self)
            started(nil)
        }
    }

    // MARK: sending

    /// Whether it cannot be asked any more.
    var isGone: Bool { hasExited || !socketOpen }

    func request(_ message: Message, descriptors: DescriptorBag = DescriptorBag(), _ answer: @escaping (Refusal?) -> Void) {
        ask(message, descriptors: descriptors) { reply in
            if case .failure(let refusal) = reply { answer(refusal) } else { answer(nil) }
        }
    }

    /// As `request`, for what is answered with more than that it was done.
    func ask(_ message: Message, descriptors: DescriptorBag = DescriptorBag(), _ answer: @escaping (Result<Reply, Refusal>) -> Void) {
        guard !isGone else { return answer(.failure(Refusal(.order, asked: message.type, message: "the emulator is gone"))) }
        let id = nextRequest
        nextRequest &+= 1
        pending[id] = answer
        send(message, id: id, descriptors: descriptors)
    }

    /// Sends what may as well not arrive: one that does not read is left alone.
    /// - Parameter retry: called once when there is room again, after false was returned.
    /// - Returns: whether it was sent.
    func offer(_ message: Message, retry: (() -> Void)? = nil) -> Bool {
        guard !isGone else { return false }
        do {
            try socket.send(Packet(message).encoded())
            return true
        } catch {
            if error.code == EAGAIN, let retry {
                whenWritable = retry
                try? context.loop.change(socket.descriptor.raw, to: [.readable, .writable])
            }
            return false
        }
    }

    private func becameWritable() {
        try? context.loop.change(socket.descriptor.raw, to: .readable)
        let retry = whenWritable
        whenWritable = nil
        retry?()
    }

    func send(_ message: Message, id: UInt32? = nil, re: UInt32? = nil, descriptors: DescriptorBag = DescriptorBag()) {
        guard socketOpen else { return }
        // What somebody knows of must not be forgotten.
        context.recorder.commit()
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

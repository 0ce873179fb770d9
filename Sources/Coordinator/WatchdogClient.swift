import ControlProtocol
import Glibc
import Host
import Platform
import Watch

/// This guest's end of the host's watchdog: starts it when there is none, tells it which emulators serve, and tells it again when it has died.
final class WatchdogClient {
    private final class Watched {
        weak var session: EmulatorSession?
        init(_ session: EmulatorSession) { self.session = session }
    }

    private final class Connection {
        let socket: MessageSocket
        init(_ socket: consuming MessageSocket) { self.socket = socket }
    }

    private let loop: EventLoop
    private let base: String
    private let program: String
    private let logBook: LogBook
    private var watched: [UInt32: Watched] = [:]
    private var nextKey: UInt32 = 1
    private var connection: Connection?
    private var process: ChildProcess?
    private var retry: EventLoop.Timer?
    /// Attempts since it was last reached, and whether the log has said that it is not.
    private var attempts = 0
    private var complained = false
    private var ended = false
    private let faults = FaultLog(source: "the watchdog", name: "watchdog")
    /// Called with a session whose request hangs.
    var hung: (EmulatorSession, _ slot: Int, _ request: String, _ milliseconds: Int) -> Void = { _, _, _, _ in }
    /// Called with one whose request was answered after all.
    var answered: (EmulatorSession, _ slot: Int) -> Void = { _, _ in }

    /// - Parameters:
    ///   - base: the run directory of all guests.
    ///   - program: the watchdog's path.
    init(loop: EventLoop, base: String, program: String, logBook: LogBook) {
        self.loop = loop
        self.base = base
        self.program = program
        self.logBook = logBook
    }

    deinit {
        disconnect()
        if let process { loop.forget(process.exitDescriptor) }
    }

    // MARK: who is watched

    /// An emulator begins or ceases to serve.
    func stateChanged(_ session: EmulatorSession) {
        guard session.mode != .exporter else { return }
        if session.state == .serving { watch(session) } else { forget(session) }
    }

    private func watch(_ session: EmulatorSession) {
        guard !ended, !watched.values.contains(where: { $0.session === session }) else { return }
        let key = nextKey
        nextKey &+= 1
        watched[key] = Watched(session)
        if connection == nil { connect() } else { register(key, session) }
    }

    /// It is let go of at once: its pages must not outlive the guest.
    func forget(_ session: EmulatorSession) {
        for (key, entry) in watched where entry.session === session || entry.session == nil {
            watched[key] = nil
            send(.forget(key: key))
        }
        if watched.isEmpty { disconnect() }
    }

    /// The guest is ending, or gone: nobody is watched any more.
    func end() {
        ended = true
        watched = [:]
        disconnect()
    }

    private func register(_ key: UInt32, _ session: EmulatorSession) {
        guard let server = session.server else { return }
        do {
            let bag = DescriptorBag()
            bag.add(try session.holdings.counters.duplicate())
            var slots = session.context.vcpuCount
            if let relay = session.holdings.server?.relay {
                // The emulator's own page: the server's is the relay's to answer.
                slots = relay.slotCount
                bag.add(try relay.slotDescriptor())
            } else if session.mode == .isolated, let host = session.context.host as? any IsolatingHost {
                guard let page = try host.attachmentDescriptors(of: server).take() else { return }
                bag.add(page)
            }
            let target = WatchTarget(
                key: key, name: session.name, domain: session.context.host.domain.rawValue, server: server.rawValue, slots: slots,
                isXens: bag.count == 1, limitMilliseconds: session.specification.hungAfterMilliseconds)
            send(.watch(target), bag)
        } catch {
            logBook.note(.warning, "emulator '\(session.name)' is not watched: \(error)")
        }
    }

    // MARK: the connection

    private func connect() {
        guard connection == nil, retry == nil, !ended, !watched.isEmpty else { return }
        do {
            let made = Connection(try MessageSocket(connectingTo: WatchSocket.path(base: base), wait: false))
            try loop.watch(made.socket.descriptor.raw, for: .readable) { [weak self] _ in self?.receive() }
            connection = made
            for (key, entry) in watched { if let session = entry.session { register(key, session) } }
        } catch {
            start()
            attempts += 1
            if attempts == 50 && !complained {
                complained = true
                logBook.note(.warning, "the watchdog (\(program)) cannot be reached: emulators that hang are not noticed: \(error)")
            }
            // Soon at first: it takes a moment to start.
            again(in: attempts < 50 ? .milliseconds(20) : .seconds(30))
        }
    }

    private func again(in delay: Duration) {
        guard retry == nil else { return }
        retry = loop.after(delay) { [weak self] in
            guard let self else { return }
            self.retry = nil
            self.connect()
        }
    }

    /// Several coordinators may do this at once: all but one of the processes end again.
    private func start() {
        guard process == nil, Files.isExecutable(program), let started = try? ChildProcess(program: program, arguments: [base]) else { return }
        process = started
        do {
            try loop.watch(started.exitDescriptor, for: .readable) { [weak self] _ in
                guard let self, let process = self.process, process.poll() != nil else { return }
                self.loop.forget(process.exitDescriptor)
                self.process = nil
            }
        } catch {
            started.signal(SIGTERM)
            process = nil
        }
    }

    private func disconnect() {
        if let retry { loop.cancel(retry) }
        retry = nil
        guard let connection else { return }
        loop.forget(connection.socket.descriptor.raw)
        self.connection = nil
    }

    private func lost() {
        disconnect()
        again(in: .milliseconds(200))
    }

    private func receive() {
        for _ in 0..<64 {
            guard let connection else { return }
            switch try? connection.socket.receive(wait: false) {
            case .nothing: return
            case .closed, nil: return lost()
            case .message(let bytes, _):
                do {
                    take(try ControlCodec.decode(WatchReport.self, from: bytes))
                    attempts = 0
                } catch {
                    faults.note(.malformedMessage, "it sent what is no report: \(error)", in: logBook)
                    return lost()
                }
            }
        }
    }

    private func take(_ report: WatchReport) {
        switch report {
        case .hung(let key, let slot, let request, let milliseconds):
            guard let session = watched[key]?.session, session.state == .serving else { return }
            hung(session, slot, PrintableText.escaped(request), milliseconds)
        case .answered(let key, let slot):
            guard let session = watched[key]?.session else { return }
            answered(session, slot)
        case .unwatchable(let key, let reason):
            guard let session = watched[key]?.session, !session.context.dying else { return }
            logBook.note(.warning, "emulator '\(session.name)' is not watched: \(PrintableText.escaped(reason))")
        }
    }

    private func send(_ request: WatchRequest, _ descriptors: DescriptorBag = DescriptorBag()) {
        guard let connection else { return }
        do { try connection.socket.send(ControlCodec.encode(request), descriptors: descriptors.raw) } catch { lost() }
    }
}

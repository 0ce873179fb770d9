import CLinux
import Glibc
import Keeping
import Platform

/// One guest's keeper. It knows nothing of guests: a program that is to run, descriptors with names, and signals to hand on.
final class Keeper {
    /// A coordinator, and whether it has said that a successor could follow it.
    private final class Coordinator {
        let pid: pid_t
        let socket: MessageSocket
        var isReady = false
        init(pid: pid_t, socket: consuming MessageSocket) {
            self.pid = pid
            self.socket = socket
        }
    }

    private static let handedOn: [CInt] = [SIGTERM, SIGHUP, SIGINT]
    /// How ended processes ended that nobody has asked after yet; a coordinator asks at once.
    private static let mostEnded = 64

    private let program: String
    private let arguments: [String]
    private let environment: [String: String]
    private var restarts: Restarts
    private let loop: EventLoop
    private let signals: SignalDescriptor
    /// What this process was started with beside 0, 1 and 2, for the first coordinator.
    private var inherited: [CInt]
    private var holdings = Holdings()
    private let unheard: UnheardOutput
    private var desk: AdoptionDesk?
    private var coordinator: Coordinator?
    private var started = 0
    /// Whether any coordinator was ready: before, there is nothing to take over.
    private var canSucceed = false
    /// The signal that told the guest's device model to end.
    private var told: CInt?
    private var retry: EventLoop.Timer?
    private var gaveUp = false
    private var ended: [(pid: pid_t, status: CInt)] = []
    private var reporter: pid_t?
    private var status: CInt = 0

    init(program: String, arguments: [String], restarts: Restarts) throws(SystemError) {
        self.program = program
        self.arguments = arguments
        self.restarts = restarts
        inherited = Files.openDescriptors(from: 3)
        environment = ChildProcess.currentEnvironment()
        signals = try SignalDescriptor(Self.handedOn + [SIGCHLD])
        loop = try EventLoop()
        unheard = UnheardOutput(loop)
        guard demux_become_subreaper() == 0 else { throw SystemError("become", "the parent of the guest's orphans", remedy: "Linux 3.4 has it") }
    }

    /// - Returns: the status to exit with: the coordinator's own, when it ends in order.
    func run() throws(SystemError) -> CInt {
        try loop.watch(signals.descriptor.raw, for: .readable) { [unowned self] _ in
            while let number = self.signals.next() { if number == SIGCHLD { self.reap() } else { self.handOn(number) } }
        }
        try start()
        // They are the coordinator's now.
        for number in inherited { _ = close(number) }
        inherited = []
        try loop.run()
        return status
    }

    // MARK: the coordinator

    private func start() throws(SystemError) {
        unheard.end()
        let (ours, theirs) = try MessageSocket.pair()
        let socket = MessageSocket(adopting: OwnedDescriptor(adopting: ours))
        let childEnd = OwnedDescriptor(adopting: theirs)
        let pid = try spawn([KeeperNames.socketVariable: "\(childEnd.raw)"], inherited: inherited + [childEnd.raw])
        let fresh = Coordinator(pid: pid, socket: socket)
        coordinator = fresh
        do {
            try loop.watch(fresh.socket.descriptor.raw, for: .readable) { [unowned self, unowned fresh] _ in self.read(fresh) }
            try holdings.tell(fresh.socket)
            try fresh.socket.send(KeeperMessage.begin(predecessors: started).bytes)
        } catch where error.code == EPIPE || error.code == ECONNRESET {
            // It has died already, which is heard of by itself.
        }
        started += 1
        if let told { kill(pid, told) }
    }

    /// What came too early is not lost on it: it starts with the signals blocked that it will read.
    private func spawn(_ more: [String: String], inherited: [CInt]) throws(SystemError) -> pid_t {
        try ChildProcess(
            program: program, arguments: arguments, environment: environment.merging(more) { _, new in new }, input: .inherited,
            inherited: inherited.map { ChildProcess.Inherited(ours: $0, theirs: $0) }, blocked: Self.handedOn
        ).pid
    }

    private func read(_ from: Coordinator) {
        while true {
            guard let received = try? from.socket.receive(wait: false) else { return loop.forget(from.socket.descriptor.raw) }
            switch received {
            case .nothing: return
            // Its end is heard of as well.
            case .closed: return loop.forget(from.socket.descriptor.raw)
            case .message(let bytes, let bag): take(KeeperMessage(bytes), bag, from)
            }
        }
    }

    private func take(_ message: KeeperMessage?, _ bag: DescriptorBag, _ from: Coordinator) {
        switch message {
        case .keep(let name) where bag.count > 0:
            if name == KeeperNames.listener { open(bag) } else { holdings.keep(bag, as: name) }
        case .drop(let name): holdings.drop(name)
        case .ready:
            from.isReady = true
            canSucceed = true
            desk?.tell("+the coordinator (pid \(from.pid)) has taken over")
        case .ask(let pid):
            reap(but: from.pid)
            let index = ended.firstIndex { $0.pid == pid }
            let status = index.map { ended.remove(at: $0).status } ?? -1
            try? from.socket.send(KeeperMessage.status(pid: pid, status: status).bytes)
        default: break
        }
    }

    private func open(_ bag: DescriptorBag) {
        guard desk == nil else { return }
        desk = try? AdoptionDesk(loop: loop, listener: bag) { [unowned self] in self.adopt(byForce: $0) }
    }

    // MARK: ends

    private func reap() {
        reap(but: nil)
    }

    /// - Parameter asking: a coordinator that has just asked something, and lives.
    private func reap(but asking: pid_t?) {
        var status: CInt = 0
        var dead: CInt?
        while true {
            let pid = demux_reap(&status)
            guard pid > 0 else { break }
            if pid == coordinator?.pid {
                dead = status
            } else if pid == reporter {
                reporter = nil
            } else {
                if ended.count >= Self.mostEnded { ended.removeFirst() }
                ended.append((pid, status))
            }
        }
        // Not in the middle of its own message: it is told of soon.
        if let dead { if asking == nil { coordinatorEnded(dead) } else { loop.soon { [unowned self] in self.coordinatorEnded(dead) } } }
        if coordinator == nil, retry == nil, gaveUp, told == nil { endIfAlone() }
    }

    private func coordinatorEnded(_ exit: CInt) {
        guard let dead = coordinator else { return }
        // What it gave last is in the socket still.
        read(dead)
        loop.forget(dead.socket.descriptor.raw)
        coordinator = nil
        // In order, or a failure that would come again: the toolstack sees it as it always has.
        if exit < 256, dead.isReady || !canSucceed { return end(exit) }
        // There was no guest any more to be taken over.
        if exit == 0 { return endEverybody(0) }
        let how = exit < 256 ? "exited with status \(exit) before it had taken over" : "was killed by signal \(exit - 256)"
        guard canSucceed else {
            StandardError.line("demux-keeper: the coordinator (pid \(dead.pid)) \(how) while the guest was being started")
            return endEverybody()
        }
        guard let wait = restarts.next(now: EventLoop.now()) else { return giveUp(how) }
        StandardError.line("demux-keeper: the coordinator (pid \(dead.pid)) \(how); another takes over" + (wait == 0 ? "" : " in \(wait) ms"))
        guard wait > 0, told == nil else { return startAgain() }
        unheard.begin(holdings.outputs)
        retry = loop.after(.milliseconds(wait)) { [unowned self] in
            self.retry = nil
            self.startAgain()
        }
    }

    private func startAgain() {
        do { try start() } catch { giveUp("could not be started again: \(error)") }
    }

    /// No more by itself. Direct emulators go on; `demux adopt` makes another attempt.
    private func giveUp(_ how: String) {
        let reason = "the coordinator \(how), after too many others; 'demux adopt' starts another"
        StandardError.line("demux-keeper: \(reason)")
        gaveUp = true
        unheard.begin(holdings.outputs)
        desk?.tell("-\(reason)")
        if told != nil { return endEverybody() }
        reporter = try? spawn([KeeperNames.brokenVariable: reason], inherited: [])
    }

    /// With dm_restrict a toolstack kills the guest's other processes and tells us nothing.
    private func endIfAlone() {
        guard reporter == nil, Children.all().isEmpty else { return }
        end(1)
    }

    private func end(_ code: CInt) {
        status = code
        loop.stop()
    }

    /// Nobody is left who would end what the guest's coordinators have started.
    private func endEverybody(_ code: CInt = 1) {
        for pid in Children.all() { kill(pid, SIGTERM) }
        loop.after(.seconds(2)) { [unowned self] in
            for pid in Children.all() { kill(pid, SIGKILL) }
            self.end(code)
        }
    }

    // MARK: from outside

    private func handOn(_ number: CInt) {
        told = number
        if let coordinator { return _ = kill(coordinator.pid, number) }
        if let retry {
            loop.cancel(retry)
            self.retry = nil
            startAgain()
        } else {
            endEverybody()
        }
    }

    /// `demux adopt`.
    /// - Returns: the answer, when there is one at once.
    private func adopt(byForce: Bool) -> String? {
        if let coordinator {
            guard byForce else {
                return coordinator.isReady
                    ? "-the coordinator (pid \(coordinator.pid)) runs: nothing is to be taken over; --force ends it first"
                    : "-a coordinator (pid \(coordinator.pid)) is taking over at this moment"
            }
            restarts.forgive()
            kill(coordinator.pid, SIGKILL)
            return nil
        }
        guard canSucceed else { return "-the guest is not started yet" }
        if let retry { loop.cancel(retry) }
        retry = nil
        gaveUp = false
        restarts.forgive()
        startAgain()
        return nil
    }
}

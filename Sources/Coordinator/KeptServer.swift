import Host
import Platform

/// The ioreq server of one emulator, which stays while the emulator's processes come and go.
///
/// From the first `start` on it is enabled, so that the guest's accesses wait in it when a process dies. A successor that serves within the
/// budget finds them; otherwise the coordinator answers them in its place (it is parked) until one is about to start. Only when nobody is to
/// come any more is it closed: disabled, and empty. Used on the loop's thread only.
final class KeptServer {
    let id: ServerID
    private let name: String
    private unowned let context: GuestContext
    private let faults: FaultLog
    /// Stands between the host's pages and an emulator that cannot serve those; nil for one that does.
    private(set) var relay: Relay? { didSet { context.recorder.changed() } }
    private var parked: ParkedServer?

    /// Whether it was enabled: from then on a vCPU may wait in it.
    private(set) var isOpen = false { didSet { context.recorder.changed() } }
    /// Whether a process has been told to start, and has not ended: the pages are its own.
    private var isHandedOver = false
    /// When the budget of whoever is to serve next ends, in monotonic nanoseconds.
    private var deadline: UInt64?
    private var timer: EventLoop.Timer?
    private var complained = false
    /// What was answered by parked servers that are gone.
    private var answeredBefore: UInt64 = 0

    /// Whether nobody is to come any more.
    private(set) var isClosed = false { didSet { context.recorder.changed() } }
    /// Whether the coordinator answers in its emulator's place until a successor comes.
    var isParked: Bool { !isClosed && (parked != nil || relay?.isParked == true) }
    /// Requests and posted writes that the coordinator has answered or dropped in the emulator's place.
    var answered: UInt64 { answeredBefore &+ (parked?.answered ?? 0) &+ (relay?.answered ?? 0) }

    /// - Parameter faults: where what its emulator does against the protocol is counted.
    init(_ id: ServerID, name: String, context: GuestContext, faults: FaultLog) {
        self.faults = faults
        self.id = id
        self.name = name
        self.context = context
    }

    // MARK: whose pages

    /// Puts a relay between, if there is none, for a process that is to be attached.
    func useRelay() throws -> Relay {
        if let relay { return relay }
        let made = try Relay(name: name, context: context, channel: try context.host.openChannel(id), faults: faults)
        made.keepPage()
        made.keepJournal()
        relay = made
        return made
    }

    /// The process that is to be attached serves the host's own pages. What a relay had in its hands for another is answered.
    func useHostPages() {
        guard let relay else { return }
        if relay.isRunning {
            relay.park()
            answeredBefore &+= relay.answered
            relay.stop()
        }
        self.relay = nil
    }

    // MARK: one process after the other

    /// A process is about to be told to start: enables the server, and lets go of what was bound in its place.
    func open() throws(HostError) {
        // In this order: what is bound by us cannot be bound by anybody else.
        unpark()
        isOpen = true
        isClosed = false
        isHandedOver = true
        // A successor of this coordinator has to know before the guest can wait here.
        context.recorder.commit()
        try context.host.setServer(id, enabled: true)
        try relay?.start()
    }

    /// It serves.
    func noteServing() {
        cancelTimer()
        deadline = nil
        complained = false
    }

    /// The process that served, or was to, has ended; another may follow.
    /// - Parameter budget: milliseconds from the first such end on until the coordinator answers itself.
    func noteUnserved(budget: Int) {
        isHandedOver = false
        guard isOpen, !isClosed, !context.dying else { return }
        // One that was never started has nothing, and whoever comes next may need none.
        if relay?.isRunning == false { relay = nil }
        do {
            if let relay { try relay.renew() } else { try repairSlots() }
        } catch {
            context.logBook.note(.error, "emulator '\(name)': \(error)")
        }
        let end = deadline ?? EventLoop.now() &+ UInt64(max(budget, 0)) &* 1_000_000
        deadline = end
        let now = EventLoop.now()
        if now >= end { return park() }
        arm(.nanoseconds(Int64(clamping: end &- now)))
    }

    /// Goes on with a server that another coordinator had.
    /// - Parameter isServed: whether a process has been told to serve it, which may have died since: that is heard of soon.
    func goOn(_ kept: KeptHoldings, isServed: Bool, budget: Int) throws {
        isOpen = kept.isOpen
        if kept.hasRelay { relay = try Relay(adopting: name, context: context, server: id, faults: faults) }
        guard isOpen else { return }
        if kept.isClosed { return close() }
        isHandedOver = isServed
        try relay?.start(adopting: true)
        if !isServed { noteUnserved(budget: budget) }
    }

    // A process pauses while another one is tried in its place. On the host's own pages nothing is to be done.

    func setAside() throws(SystemError) { try relay?.setAside() }
    func takeBack() throws(SystemError) { try relay?.takeBack() }
    func forgetAside() { relay?.forgetAside() }

    /// Slots of the host's own page that the dead process has left in no state at all: its successor finds them as taken.
    private func repairSlots() throws(HostError) {
        let channel = try context.host.openChannel(id)
        withExtendedLifetime(channel) {
            for vcpu in 0..<channel.vcpuCount where channel.slots.repair(vcpu) {
                faults.note(.invalidSlotState, "it has died and left slot \(vcpu) in a state that is none", ["slot": "\(vcpu)"], in: context.logBook)
            }
        }
    }

    private func arm(_ delay: Duration) {
        cancelTimer()
        timer = context.loop.after(delay) { [weak self] in
            guard let self else { return }
            self.timer = nil
            // Whoever was told to start has the pages; it is in the hands of whoever waits for its answer.
            if !self.isHandedOver { self.park() }
        }
    }

    private func cancelTimer() {
        if let timer { context.loop.cancel(timer) }
        timer = nil
    }

    private func park() {
        guard isOpen, !isClosed, !isParked, !isHandedOver, !context.dying else { return }
        if let relay, relay.isRunning {
            relay.park()
        } else {
            do {
                parked = try ParkedServer(loop: context.loop, host: context.host, server: id)
            } catch {
                // Somebody still has its channels: a child of the dead one, or one that is only just gone.
                if !complained { context.logBook.note(.error, "emulator '\(name)' has no successor, and what waits cannot be answered yet: \(error)") }
                complained = true
                return arm(.milliseconds(20))
            }
        }
        context.logBook.note(
            .warning, "emulator '\(name)' has no successor in time: the coordinator answers in its place, reads get all-ones and writes are dropped")
    }

    private func unpark() {
        if let parked { answeredBefore &+= parked.answered }
        parked = nil
    }

    // MARK: the end

    /// Nobody gets anything new from now on; who serves finishes what was taken.
    func disable() {
        guard isOpen, !context.dying else { return }
        try? context.host.setServer(id, enabled: false)
    }

    /// Nobody is to come: disables the server and answers whatever waits in it, so that no vCPU is blocked for ever. Whoever served is dead.
    func close() {
        cancelTimer()
        deadline = nil
        isHandedOver = false
        guard isOpen, !context.dying else { return }
        isClosed = true
        do {
            try context.host.setServer(id, enabled: false)
            if let relay, relay.isRunning {
                relay.park()
            } else if let parked {
                parked.pump()
            } else {
                parked = try ParkedServer(loop: context.loop, host: context.host, server: id)
            }
        } catch {
            context.logBook.note(.error, "emulator '\(name)': \(error)")
        }
    }

    /// Calls `done` when every vCPU has taken its answer: a server that goes earlier takes the answer with it, and the vCPU stays
    /// blocked. At most a second: a paused vCPU takes nothing.
    func whenTaken(patience: Int = 1000, _ done: @escaping () -> Void) {
        let channel = relay?.source ?? parked?.source
        guard let channel, !context.dying, patience > 0,
            (0..<channel.vcpuCount).contains(where: { channel.slots.state($0) != IORequest.State.none })
        else { return done() }
        context.loop.after(.milliseconds(1)) { self.whenTaken(patience: patience - 1, done) }
    }

    /// Lets go of every page and channel, and asks the host for nothing: the domain is dying, or the server is destroyed next.
    func letGo() {
        cancelTimer()
        relay?.stop()
        relay = nil
        unpark()
        isOpen = false
    }

    /// Destroys it; nothing must be in flight any more.
    func destroy() throws(HostError) {
        letGo()
        if !context.dying { try context.host.destroyServer(id) }
    }
}

import ControlProtocol
import EmulatorProtocol
import Host
import Logging
import Platform
import Specification
import Unplug

/// The one owner of the unplug ports: what the guest says there, what it has unplugged so far, and the policy when somebody does not
/// obey. The guest's write completes only once everybody has answered, or the deadline has passed.
final class UnplugDesk {
    /// Masks that may wait for the one being carried out: one a vCPU, and the control socket's.
    private struct Request {
        let classes: Set<UnplugClass>
        /// Whether the guest's write waits for it, so that the policy counts.
        let isGuests: Bool
        let done: (UnplugOperation) -> Void
    }

    let specification: UnplugSpecification
    private let loop: EventLoop
    private let host: any Host
    private let logBook: LogBook
    private var ports = UnplugPorts()
    /// What is unplugged, and stays so.
    private(set) var classes: Set<UnplugClass> = [] { didSet { changed?() } }
    /// Called when there is something that a coordinator's successor has to know.
    var changed: (() -> Void)?
    private var entries: [String: UnplugStatus.Entry] = [:]
    private var queue: [Request] = []
    private var running: UnplugOperation?
    /// Called when nothing is being unplugged any more.
    private var waiters: [(String?) -> Void] = []
    /// The guest's write that waits beyond its deadline.
    private var held: (operation: UnplugOperation, release: () -> Void)?
    private var requests = 0
    private var failures = 0
    /// The guest's emulators.
    var sessions: () -> [EmulatorSession] = { [] }
    weak var qemu: (any UnplugPartner)?
    /// Whether the host blacklists a driver: its product and build.
    var isBlacklistedByHost: ((UInt16, UInt32) -> Bool)?

    init(loop: EventLoop, host: any Host, logBook: LogBook, specification: UnplugSpecification) {
        self.loop = loop
        self.host = host
        self.logBook = logBook
        self.specification = specification
    }

    // MARK: the ports

    func read(port: UInt16, size: Int) -> UInt32 { ports.read(port: port, size: size) }

    /// - Parameter later: carries the write's end out; called once, and never from inside, after `false` was returned.
    /// - Returns: whether the write has been carried out.
    func write(port: UInt16, size: Int, value: UInt32, later: @escaping () -> Void) -> Bool {
        carryOut(ports.write(port: port, size: size, value: value), later)
    }

    /// The same in the platform device's ports, counted from BAR0.
    func readWindow(_ offset: Int, size: Int) -> UInt32 { ports.readWindow(offset, size: size) }

    /// The same in the platform device's ports, counted from BAR0.
    func writeWindow(_ offset: Int, size: Int, value: UInt32, later: @escaping () -> Void) -> Bool {
        carryOut(ports.writeWindow(offset, size: size, value: value), later)
    }

    private func carryOut(_ effect: UnplugPorts.Effect, _ later: @escaping () -> Void) -> Bool {
        switch effect {
        case .none: return true
        case .line(let line): logBook.record(source: "guest's PV driver", level: .info, text: line)
        case .lockROM(let locked):
            changed?()
            guard let qemu else { return true }
            // The guest's next store to the area is to find it as it was told.
            qemu.lockROM(locked, later)
            return false
        case .named:
            lookAtBlacklists()
        case .unplug(let mask):
            guard !mask.classes.isEmpty else { return true }
            unplug(mask.classes, isGuests: true) { _ in later() }
            return false
        }
        return true
    }

    private func lookAtBlacklists() {
        ports.isBlacklisted = false
        guard let product = ports.product, let build = ports.build else { return }
        ports.isBlacklisted =
            specification.blacklist.contains { $0.covers(product: product, build: build) } || isBlacklistedByHost?(product, build) == true
        changed?()
        say(.info, "the guest's PV driver is \(productName ?? "unnamed") build \(build)" + (ports.isBlacklisted ? ", which is blacklisted" : ""))
    }

    private var productName: String? { ports.product.map { UnplugProduct.name(of: $0) ?? "product \($0)" } }

    /// What a guest can cause to be said is limited like its own lines.
    private func say(_ level: Logger.Level, _ text: String) { logBook.record(source: "unplug", level: level, text: text) }

    // MARK: unplugging

    /// Has everybody remove their devices of these classes.
    /// - Parameter done: called once, never from inside; under the policy `hold` perhaps much later.
    func unplug(_ classes: Set<UnplugClass>, isGuests: Bool, _ done: @escaping (UnplugOperation) -> Void) {
        // At once: whoever starts from now on starts without them.
        self.classes.formUnion(classes)
        requests += 1
        queue.append(Request(classes: classes, isGuests: isGuests, done: done))
        next()
    }

    private func next() {
        guard running == nil else { return }
        guard let index = queue.firstIndex(where: { held == nil || !$0.isGuests }) else {
            let waiters = waiters
            self.waiters = []
            for done in waiters { loop.soon { self.whenIdle(done) } }
            return
        }
        let request = queue.remove(at: index)
        let operation = UnplugOperation(
            request.classes, loop: loop, deadline: .milliseconds(specification.deadlineMilliseconds),
            isBeingReplaced: { [weak self] dead in
                dead.isBeingReplaced || self?.sessions().contains { $0 !== dead && $0.name == dead.name && !$0.hasExited } == true
            }, heard: { [weak self] in self?.note($0, $1) },
            done: { [weak self] in self?.ended(request) })
        running = operation
        operation.ask(sessions().filter { $0.isConcerned(by: request.classes) }, qemu: qemu)
    }

    /// QEMU began anew with all of its devices: it removes what is unplugged, but for its NICs, which the toolstack has yet to connect. They are
    /// there until the guest says so again, as drivers do when they resume.
    func repeatForQEMU(within limit: Duration, _ done: @escaping () -> Void) {
        let missing = classes.subtracting([.nic])
        guard !missing.isEmpty, let qemu else { return done() }
        qemu.unplug(missing, deadline: limit) { [weak self] answer in
            self?.note("QEMU", answer)
            done()
        }
    }

    /// Calls `done` when nothing is being unplugged: at once, or when the operation has ended; with the reason when the guest's write is held.
    func whenIdle(_ done: @escaping (String?) -> Void) {
        if held != nil { return done("the guest's unplug write is held, because not everything is unplugged; 'demux unplug' asks again") }
        if running == nil { done(nil) } else { waiters.append(done) }
    }

    private func note(_ who: String, _ answer: Result<[String], UnplugTrouble>) {
        var entry = entries[who] ?? .init(who: who, devices: [])
        switch answer {
        case .success(let devices):
            entry.trouble = nil
            for device in devices where !entry.devices.contains(device) && entry.devices.count < 64 { entry.devices.append(device) }
            if !devices.isEmpty { say(.info, "\(who) has removed \(devices.joined(separator: ", "))") }
        case .failure(let trouble):
            failures += 1
            entry.trouble = trouble.description
            say(.error, "\(who) has not removed its devices of \(running?.classes.text ?? classes.text): \(trouble)")
        }
        // Somebody who has nothing to do with it needs no line.
        if !entry.devices.isEmpty || entry.trouble != nil { entries[who] = entry } else { entries[who] = nil }
        // A late answer may be what a held write waits for.
        if held?.operation.failures.isEmpty == true { letHeldGo() }
    }

    private func ended(_ request: Request) {
        guard let operation = running else { return }
        running = nil
        defer { next() }
        guard !operation.failures.isEmpty, request.isGuests else {
            say(.info, "\(request.classes.text) unplugged" + (operation.failures.isEmpty ? "" : ", not by all"))
            request.done(operation)
            // A person's request may be what a held write waits for.
            for who in operation.obeyed.sorted() where coversHeld(who, operation.classes) { held?.operation.settle(who) }
            return
        }
        switch specification.onFailure {
        case .complete:
            say(.error, "the guest goes on although devices of \(request.classes.text) may still be there: 'on-failure' is 'complete'")
            request.done(operation)
        case .crashGuest:
            let reason = operation.failures.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }.joined(separator: "; ")
            say(.critical, "the guest is crashed: 'on-failure' is 'crash-guest'; \(reason)")
            do {
                // Its write stays where it is: answered, the guest could go on for a moment.
                try host.crashGuest("not everything could be unplugged: \(reason)")
            } catch {
                say(.error, "\(error)")
                request.done(operation)
            }
        case .hold:
            say(.error, "the guest's write is held until everything is unplugged: 'on-failure' is 'hold'; 'demux unplug' asks again")
            held = (operation, { request.done(operation) })
        }
    }

    /// Whether somebody who has removed their devices of these classes has none left that the held write is about.
    private func coversHeld(_ who: String, _ classes: Set<UnplugClass>) -> Bool {
        guard let wanted = held?.operation.classes else { return false }
        guard let session = sessions().first(where: { "\($0.owner)" == who }) else { return UnplugMask(classes).classes.isSuperset(of: wanted) }
        return session.unplugClasses.intersection(wanted).isSubset(of: classes)
    }

    private func letHeldGo() {
        guard let held else { return }
        self.held = nil
        say(.info, "the held write goes on")
        held.release()
        next()
    }

    /// Somebody has no such devices any more: they began anew without, or were taken away.
    /// - Parameter removed: what it has left out.
    func settle(_ session: EmulatorSession, removed: [String] = []) {
        let who = "\(session.owner)"
        if running?.waiting.contains(who) == true { running?.settle(who, removed: removed) } else if !removed.isEmpty { note(who, .success(removed)) }
        if entries[who]?.trouble != nil { entries[who]?.trouble = nil }
        guard let held else { return }
        held.operation.settle(who)
        if held.operation.failures.isEmpty { letHeldGo() }
    }

    /// What an emulator that starts is to leave out.
    func missing(of session: EmulatorSession) -> Set<UnplugClass> { classes.intersection(session.unplugClasses) }

    // MARK: for people and toolstacks

    /// What would go: by whom, and what.
    func candidates(_ classes: Set<UnplugClass>, _ done: @escaping ([String]) -> Void) {
        var lines = sessions().filter { $0.isConcerned(by: classes) }.map {
            "\($0.owner): its devices of \($0.unplugClasses.intersection(classes).text)"
        }
        guard let qemu else { return done(lines) }
        qemu.candidates(classes) { answer in
            switch answer {
            case .success(let names): if !names.isEmpty { lines.append("QEMU: \(names.joined(separator: ", "))") }
            case .failure(let trouble): lines.append("QEMU: \(trouble)")
            }
            done(lines)
        }
    }

    /// nil while the guest has said nothing and nothing was unplugged.
    var status: UnplugStatus? {
        guard ports != UnplugPorts() || requests > 0 || !classes.isEmpty else { return nil }
        let waiting = running?.waiting ?? []
        return UnplugStatus(
            classes: classes.ordered.map(\.rawValue), product: productName, build: ports.build, version: Int(UnplugPorts.version),
            isBlacklisted: ports.isBlacklisted, isROMLocked: ports.flags & 1 != 0, entries: entries.sorted { $0.key < $1.key }.map(\.value),
            waitingFor: waiting.union(held?.operation.failures.keys.map { $0 } ?? []).sorted(), isHeld: held != nil, requests: requests, failures: failures,
            deadlineMilliseconds: specification.deadlineMilliseconds, onFailure: specification.onFailure.rawValue)
    }

    /// What a saved guest takes along.
    var saved: SavedUnplug? {
        guard ports != UnplugPorts() || !classes.isEmpty else { return nil }
        return SavedUnplug(
            classes: classes, product: ports.product, build: ports.build, isBlacklisted: ports.isBlacklisted, isROMLocked: ports.flags & 1 != 0)
    }

    func restore(_ saved: SavedUnplug) {
        classes = saved.classes
        ports = UnplugPorts(product: saved.product, build: saved.build, isBlacklisted: saved.isBlacklisted, isROMLocked: saved.isROMLocked)
    }
}

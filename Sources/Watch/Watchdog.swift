import ControlProtocol
import Glibc
import Host
import Platform

/// The one process of a host that looks whether emulators go on: at most once in two seconds however many guests there are, and not at all while
/// nobody has asked.
public final class Watchdog {
    public static let period = Duration.seconds(2)
    /// More than a guest can have servers, for every domain that there can be.
    private static let mostTargets = 1 << 16
    private static let mostConnections = 4096

    private final class Target {
        let target: WatchTarget
        let slots: SlotPage
        let counters: CounterPage
        /// What keeps the pages mapped.
        private let slotOwner: AnyObject
        private let counterMapping: Mapping
        var watch: SlotWatch

        init(_ target: WatchTarget, counters: consuming OwnedDescriptor, slots: SlotPage, owner: AnyObject) throws(SystemError) {
            self.target = target
            counterMapping = try SharedMemory(adopting: counters, length: CounterPage.length, what: "a counters page").map(writable: false, what: "a counters page")
            self.counters = CounterPage(page: counterMapping.base)
            self.slots = slots
            slotOwner = owner
            watch = SlotWatch(limit: UInt64(clamping: max(target.limitMilliseconds, 1)) &* 1_000_000)
        }

        /// One look at all its slots.
        func look(elapsed: UInt64) -> [SlotWatch.Finding] {
            var waiting: [(slot: Int, mark: SlotWatch.Mark)] = []
            for slot in 0..<min(target.slots, VCPUID.limit) {
                let state = slots.state(slot)
                // One that is in no state at all cannot be answered either.
                guard state == .ready || state == .inProcess || state == nil else { continue }
                waiting.append((slot, .init(request: slots.copy(slot), sequence: counters.taken(slot), requests: counters.read(.requests))))
            }
            return watch.look(waiting, elapsed: elapsed)
        }
    }

    private final class MappedPage {
        let mapping: Mapping
        init(_ mapping: consuming Mapping) { self.mapping = mapping }
    }

    private final class Connection {
        let socket: MessageSocket
        var targets: [UInt32: Target] = [:]
        init(_ socket: consuming MessageSocket) { self.socket = socket }
    }

    private let loop: EventLoop
    private let listener: OwnedDescriptor
    private var connections: [CInt: Connection] = [:]
    private var timer: EventLoop.Timer?
    private var lastLook: UInt64 = 0
    private let mapXens: (DomainID, ServerID) throws -> (SlotPage, AnyObject)
    /// Called when nobody is connected any more.
    public var idle: (() -> Void)?

    /// - Parameters:
    ///   - listener: a listening socket for packets.
    ///   - mapXens: maps the slots of one of Xen's servers; what comes with them keeps them mapped.
    public init(
        loop: EventLoop, listener: consuming OwnedDescriptor, mapXens: @escaping (DomainID, ServerID) throws -> (SlotPage, AnyObject)
    ) throws(SystemError) {
        self.loop = loop
        self.listener = listener
        self.mapXens = mapXens
        try self.listener.setNonBlocking(true)
        try loop.watch(self.listener.raw, for: .readable) { [weak self] _ in self?.accept() }
    }

    public var isIdle: Bool { connections.isEmpty }
    private var count: Int { connections.values.reduce(0) { $0 + $1.targets.count } }

    private func accept() {
        guard let accepted = try? UnixSocket.accept(listener.raw) else { return }
        guard connections.count < Self.mostConnections, let peer = try? UnixSocket.peer(of: accepted.raw), peer.uid == 0 || peer.uid == geteuid(),
            (try? accepted.setNonBlocking(true)) != nil
        else { return }
        let raw = accepted.raw
        connections[raw] = Connection(MessageSocket(adopting: accepted))
        do { try loop.watch(raw, for: .readable) { [weak self] _ in self?.serve(raw) } } catch { close(raw) }
    }

    private func close(_ raw: CInt) {
        loop.forget(raw)
        connections[raw] = nil
        settle()
        if connections.isEmpty { idle?() }
    }

    private func serve(_ raw: CInt) {
        while let connection = connections[raw] {
            do {
                switch try connection.socket.receive(wait: false) {
                case .nothing: return
                case .closed: return close(raw)
                case .message(let bytes, let descriptors):
                    switch try ControlCodec.decode(WatchRequest.self, from: bytes) {
                    case .forget(let key): connection.targets[key] = nil
                    case .watch(let target): add(target, descriptors, to: connection, raw)
                    }
                    settle()
                }
            } catch {
                return close(raw)
            }
        }
    }

    private func add(_ target: WatchTarget, _ descriptors: DescriptorBag, to connection: Connection, _ raw: CInt) {
        do {
            guard count < Self.mostTargets else { throw SystemError("watch", "emulator '\(target.name)'", reason: "\(Self.mostTargets) are watched already") }
            guard let domain = DomainID(target.domain), let server = ServerID(target.server), (1...VCPUID.limit).contains(target.slots), let counters = descriptors.take()
            else { throw SystemError("watch", "emulator '\(target.name)'", reason: "the request makes no sense") }
            let pages: (SlotPage, AnyObject)
            if target.isXens {
                pages = try mapXens(domain, server)
            } else {
                guard let page = descriptors.take() else { throw SystemError("watch", "emulator '\(target.name)'", reason: "its page of slots is missing") }
                let mapping = try SharedMemory(adopting: page, length: SlotPage.length, what: "a page of slots").map(writable: false, what: "a page of slots")
                let slots = SlotPage(page: mapping.base)
                pages = (slots, MappedPage(mapping))
            }
            connection.targets[target.key] = try Target(target, counters: counters, slots: pages.0, owner: pages.1)
        } catch {
            connection.targets[target.key] = nil
            send(.unwatchable(key: target.key, reason: "\(error)"), to: connection, raw)
        }
    }

    /// The timer runs while there is something to look at.
    private func settle() {
        if count == 0 {
            if let timer { loop.cancel(timer) }
            timer = nil
        } else if timer == nil {
            lastLook = EventLoop.now()
            timer = loop.after(Self.period) { [weak self] in self?.look() }
        }
    }

    private func look() {
        timer = nil
        let now = EventLoop.now()
        // A watchdog that itself was not run (a suspended or overloaded host) blames nobody for it.
        let elapsed = min(now &- lastLook, Self.period.clampedNanoseconds &* 2)
        for (raw, connection) in connections {
            for (key, target) in connection.targets {
                for finding in target.look(elapsed: elapsed) {
                    switch finding {
                    case .hung(let slot, let request, let nanoseconds):
                        let words = request.words + (target.slots.state(slot) == nil ? ", left in state \(target.slots.rawState(slot)), which is none," : "")
                        send(.hung(key: key, slot: slot, request: words, milliseconds: Int(clamping: nanoseconds / 1_000_000)), to: connection, raw)
                    case .answered(let slot): send(.answered(key: key, slot: slot), to: connection, raw)
                    }
                }
            }
        }
        settle()
    }

    /// A coordinator that does not read is closed: it registers again.
    private func send(_ report: WatchReport, to connection: Connection, _ raw: CInt) {
        do { try connection.socket.send(ControlCodec.encode(report)) } catch {
            loop.soon { [weak self] in
                guard let self, self.connections[raw] === connection else { return }
                self.close(raw)
            }
        }
    }
}

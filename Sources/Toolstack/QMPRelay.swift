import CLinux
import Glibc
import Platform

/// One client of the façade, and once it is its turn the connection to QEMU that belongs to it.
///
/// Each direction has its buffer. A side is read from only while the buffer towards the other has room, and a side
/// from which nothing is wanted at present is not watched at all: a hang-up would be reported again and again.
final class QMPRelay {
    /// Counted from 1.
    let number: Int
    private let loop: EventLoop
    private let client: OwnedDescriptor
    private var server: OwnedDescriptor?
    private var hooks = QMPFacade.Hooks()
    /// Called once QEMU is free for another client.
    private let freed: (QMPRelay) -> Void
    /// Called once nothing of it is left.
    private let ended: (QMPRelay) -> Void

    private var up = RelayBuffer()
    private var down = RelayBuffer()
    /// The client, or QEMU, will send no more.
    private var clientEnded = false
    private var serverEnded = false
    /// The client takes no more.
    private var clientDeaf = false
    private var serverDeaf = false
    private var finished = false
    private var watched: [CInt: EventLoop.Interest] = [:]
    private var interception: QMPInterception?
    private var observed = QMPScanner(limit: QMPFacade.commandLimit)

    private static let bufferLimit = 65_536
    private static let readSize = 16_384

    init(
        number: Int, loop: EventLoop, client: consuming OwnedDescriptor, freed: @escaping (QMPRelay) -> Void,
        ended: @escaping (QMPRelay) -> Void
    ) {
        self.number = number
        self.loop = loop
        self.client = client
        self.freed = freed
        self.ended = ended
    }

    /// Begins to relay.
    func start(_ connection: consuming OwnedDescriptor, hooks: QMPFacade.Hooks) {
        server = consume connection
        self.hooks = hooks
        if let decide = hooks.decide { interception = QMPInterception(connection: number, decide: decide) }
        settle()
    }

    /// Closes both sides at once.
    func close() {
        guard !finished else { return }
        finished = true
        for raw in watched.keys { loop.forget(raw) }
        watched = [:]
        up.removeAll()
        down.removeAll()
        let hadQEMU = server != nil && !serverEnded
        server = nil
        let lost = interception?.abandon() ?? []
        if !lost.isEmpty { loop.soon { for tell in lost { _ = tell() } } }
        // The client sees the end now, even if somebody still holds this object.
        _ = shutdown(client.raw, CInt(SHUT_RDWR))
        if hadQEMU { freed(self) }
        ended(self)
    }

    private func clientReady(_ what: EventLoop.Interest) {
        if what.contains(.readable) || !what.isDisjoint(with: .hangUp) { readClient() }
        settle()
    }

    private func serverReady(_ what: EventLoop.Interest) {
        if what.contains(.readable) || !what.isDisjoint(with: .hangUp) { readServer() }
        settle()
    }

    /// Whether there is room for more of what the client sends; answers to it take room on the way back.
    private var wantsClient: Bool {
        guard !clientEnded, let interception else { return !clientEnded && up.count < Self.bufferLimit }
        return !interception.isWaiting && up.count + interception.held < Self.bufferLimit && down.count + interception.answersHeld < Self.bufferLimit
    }

    private func readClient() {
        guard wantsClient else { return }
        switch Self.read(client.raw) {
        case .nothing: return
        case .end: clientEnded = true
        case .bytes(let bytes, let bag):
            if serverDeaf || serverEnded { return }
            if interception != nil {
                interception?.clientSent(bytes, bag, to: &up, replies: &down) { hooks.observe?($0) }
                awaitVerdict()
            } else {
                up.append(bytes[...], descriptors: bag)
                // What is observed has not gone to QEMU yet: the bytes leave in `settle`.
                for item in observed.feed(bytes[...]) {
                    guard let observe = hooks.observe, let text = item.bytes, let object = JSONValue(parsing: text) else { continue }
                    if let command = QMPCommand(object, connection: number) { observe(command) }
                }
            }
        }
    }

    private func readServer() {
        guard let raw = server?.raw, !serverEnded, down.count < Self.bufferLimit else { return }
        switch Self.read(raw) {
        case .nothing: return
        case .end: serverEnded = true
        case .bytes(let bytes, let bag):
            if clientDeaf { return }
            if interception != nil {
                interception?.serverSent(bytes, bag, to: &down)
                for tell in interception?.takeDue() ?? [] where !tell() { return close() }
            } else {
                down.append(bytes[...], descriptors: bag)
            }
        }
    }

    /// Goes on when the verdict comes that a command waits for.
    private func awaitVerdict() {
        // Not from within the call that settles it, which may be one of this relay's own.
        interception?.waiting?.settled = { [weak self, loop] in loop.soon { self?.resume() } }
    }

    private func resume() {
        guard !finished else { return }
        interception?.resume(to: &up, replies: &down) { hooks.observe?($0) }
        awaitVerdict()
        settle()
    }

    /// Sends what can be sent, passes ends on, and watches for what is wanted next.
    private func settle() {
        guard !finished, let raw = server?.raw else { return }
        let waits = interception?.isWaiting ?? false
        if clientEnded, !waits { interception?.giveUp(to: &up) }
        if !up.isEmpty, up.send(to: raw) == .broken {
            serverDeaf = true
            up.removeAll()
        }
        if serverDeaf || serverEnded { up.removeAll() }
        if !down.isEmpty, down.send(to: client.raw) == .broken {
            clientDeaf = true
            down.removeAll()
        }
        if serverEnded {
            // QEMU has closed: whatever the client still sends has no reader.
            if down.isEmpty { return close() }
            loop.forget(raw)
            watched[raw] = nil
            server = nil
            freed(self)
            // Only the last replies are still on their way.
            watched[client.raw] = nil
            watch(client.raw, .writable) { [weak self] _ in self?.lastReplies() }
            return
        }
        if clientEnded, !waits, up.isEmpty, !serverDeaf {
            MonitorConnection.endWriting(raw)
            serverDeaf = true
            // Nobody is left to read replies: there is no need to wait until QEMU has seen the end.
            if clientDeaf { return close() }
        }
        var fromClient: EventLoop.Interest = []
        if wantsClient { fromClient.insert(.readable) }
        if !down.isEmpty { fromClient.insert(.writable) }
        var fromServer: EventLoop.Interest = []
        if down.count < Self.bufferLimit { fromServer.insert(.readable) }
        if !up.isEmpty { fromServer.insert(.writable) }
        watch(client.raw, fromClient) { [weak self] in self?.clientReady($0) }
        watch(raw, fromServer) { [weak self] in self?.serverReady($0) }
    }

    private func lastReplies() {
        guard !finished else { return }
        if down.send(to: client.raw) != .blocked { close() }
    }

    private func watch(_ raw: CInt, _ interest: EventLoop.Interest, handler: @escaping (EventLoop.Interest) -> Void) {
        guard !finished, watched[raw] != interest || interest.isEmpty else { return }
        if interest.isEmpty {
            if watched.removeValue(forKey: raw) != nil { loop.forget(raw) }
            return
        }
        do throws(SystemError) {
            try loop.watch(raw, for: interest, handler: handler)
            watched[raw] = interest
        } catch {
            hooks.trouble?(error)
            close()
        }
    }

    private enum Read {
        case bytes([UInt8], DescriptorBag)
        case nothing
        case end
    }

    private static func read(_ raw: CInt) -> Read {
        var numbers = [CInt](repeating: -1, count: Int(DEMUX_MAX_DESCRIPTORS))
        var count: CInt = 0
        var truncated: CInt = 0
        var length = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: readSize) { buffer, initialized in
            length = demux_receive(raw, buffer.baseAddress, buffer.count, &numbers, &count, &truncated, CInt(MSG_DONTWAIT))
            initialized = max(0, length)
        }
        let bag = DescriptorBag()
        for number in numbers.prefix(Int(count)) { bag.add(OwnedDescriptor(adopting: number)) }
        if length > 0 { return .bytes(bytes, bag) }
        // A reset is an end too: QEMU, or the client, closed with something unread.
        return length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? .nothing : .end
    }
}

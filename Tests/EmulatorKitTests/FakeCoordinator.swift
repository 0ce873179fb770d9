import EmulatorProtocol
import Glibc
import Host
import Platform

/// The coordinator's side of one isolated emulator: real pages, real doorbells, a real socket; only its decisions are made up.
///
/// `@unchecked Sendable`: one thread answers the set-up, and is over before the test uses the value again.
final class FakeCoordinator: @unchecked Sendable {
    let theirs: CInt
    private let socket: MessageSocket
    let pages: Pages
    let slots: SlotPage
    let ring: BufferedRing?
    let counters: CounterPage
    let ram: UnsafeMutableRawPointer?
    let vcpus: Int
    let options: [String: String]
    /// What the emulator sent, in order.
    private(set) var received: [Packet] = []
    /// The claims that it holds, by number.
    private(set) var claims: [Int: IORange] = [:]
    private var nextClaim = 1
    /// Ranges that are refused, as if somebody else had them.
    var refused: [IORange] = []
    /// The state region that is handed out, and whether it is said to be fresh; nil: none.
    var state: (memory: SharedBox, fresh: Bool)?
    /// How the emulator is attached.
    var mode = AttachMode.isolated
    /// What else is said of it.
    var stateVersion: Int?
    var isRestored = false
    /// The observation memory that is handed out; nil: none.
    var observation: SharedBox?
    /// From this on a request is slow.
    var slowMilliseconds: Int?
    /// What hello asked for.
    private(set) var hello: Hello?
    /// Regions made, by label: memory, bitmap, doorbell and where they are.
    private(set) var regions: [String: FakeRegion] = [:]
    /// Addresses at which no region may be.
    var refusedPlaces: [UInt64] = []
    /// Changes the answer to `region`, for a coordinator that lies.
    var distort: (inout RegionGrant, inout [CInt]) -> Void = { _, _ in }

    /// The memory of a scan-out; nil: it is refused.
    var makeSurface: (Int, Int) -> SharedMemory? = { width, _ in width <= 1024 ? try? SharedMemory(name: "surface", length: 4096) : nil }

    /// Shared memory held by reference.
    final class SharedBox {
        let memory: SharedMemory
        private let mapping: Mapping
        var base: UnsafeMutableRawPointer { mapping.base }
        init(length: Int) throws {
            memory = try SharedMemory(name: "box", length: length)
            mapping = try memory.map(what: "box")
        }
    }

    final class FakeRegion {
        let number: Int
        let content: SharedBox
        let bitmap: SharedBox
        let doorbell: EventFD
        var place: UInt64?
        init(number: Int, length: Int) throws {
            self.number = number
            content = try SharedBox(length: length)
            bitmap = try SharedBox(length: ((length / 4096 + 7) / 8 + 4095) & ~4095)
            doorbell = try EventFD()
        }
    }

    /// What a predecessor left: its regions and its state.
    func inherit(from other: FakeCoordinator) {
        regions = other.regions
        state = other.state.map { ($0.memory, false) }
    }

    /// Whether requests are answered when they are read; a test that looks between the two switches it off.
    var answersAtOnce = true
    private(set) var unanswered: [Packet] = []

    /// Where the guest's RAM begins and how long it is.
    static let ramBase: UInt64 = 0x10000
    static let ramLength = 0x8000

    /// What the guest and its emulator share, whoever the emulator is.
    final class Pages {
        let counters: SharedBox
        let slots: SharedBox
        let ring: SharedBox?
        let ram: SharedBox?
        let kick: EventFD
        let done: EventFD

        init(ring hasRing: Bool, memory: Bool) throws {
            counters = try SharedBox(length: 4096)
            CounterPage(page: counters.base).initialize()
            slots = try SharedBox(length: 4096)
            ring = hasRing ? try SharedBox(length: 4096) : nil
            ram = memory ? try SharedBox(length: FakeCoordinator.ramLength) : nil
            kick = try EventFD()
            done = try EventFD()
        }
    }

    /// - Parameter pages: those of a dead emulator, for its successor.
    init(vcpus: Int = 4, ring hasRing: Bool = true, memory: Bool = true, options: [String: String] = [:], on pages: Pages? = nil) throws {
        let (mine, theirs) = try MessageSocket.pair()
        self.theirs = theirs
        socket = MessageSocket(adopting: OwnedDescriptor(adopting: mine))
        let pages = try pages ?? Pages(ring: hasRing, memory: memory)
        self.pages = pages
        slots = SlotPage(page: pages.slots.base)
        counters = CounterPage(page: pages.counters.base)
        ring = pages.ring.map { BufferedRing(page: $0.base) }
        ram = pages.ram?.base
        self.vcpus = vcpus
        self.options = options
    }

    // MARK: the set-up, on a thread of its own

    /// Answers everything up to `ready`, and sends `start` with the number 1000.
    func serveSetup() {
        while case .message(let bytes, _)? = try? socket.receive() {
            guard let packet = try? Packet.decoded(bytes) else { continue }
            received.append(packet)
            if case .hello(let hello) = packet.body {
                self.hello = hello
                sendAttach(packet.id)
            } else {
                answer(packet)
            }
            if case .ready = packet.body {
                send(Packet(.start, id: 1000))
                break
            }
        }
        try? socket.descriptor.setNonBlocking(true)
    }

    private func sendAttach(_ id: UInt32?) {
        guard let domain = DomainID(7), let server = ServerID(3) else { return }
        var descriptors = [pages.counters.memory.descriptor.raw, pages.slots.memory.descriptor.raw, pages.kick.descriptor.raw, pages.done.descriptor.raw]
        if let ring = pages.ring { descriptors.append(ring.memory.descriptor.raw) }
        var grant: StateGrant?
        if let state {
            descriptors.append(state.memory.memory.descriptor.raw)
            grant = StateGrant(
                length: state.memory.memory.length, fresh: state.fresh, version: stateVersion, restored: isRestored ? true : nil)
        }
        if let observation { descriptors.append(observation.memory.descriptor.raw) }
        let attach = Attach(
            mode: mode, domain: domain, server: server, vcpus: vcpus, ring: ring != nil, name: "tested", options: options, state: grant,
            observe: observation.map { ObserveGrant(length: $0.memory.length, slow: slowMilliseconds) })
        send(Packet(.attach(attach), re: id), descriptors)
    }

    // MARK: afterwards

    func send(_ packet: Packet, _ descriptors: [CInt] = []) { try? socket.send(packet.encoded(), descriptors: descriptors) }
    func sendRaw(_ bytes: [UInt8]) { try? socket.send(bytes) }

    /// Reads what the emulator sent; answers it unless told otherwise.
    func read() {
        while case .message(let bytes, _)? = try? socket.receive() {
            guard let packet = try? Packet.decoded(bytes) else { continue }
            received.append(packet)
            if answersAtOnce { answer(packet) } else { unanswered.append(packet) }
        }
    }

    func answerAll() {
        let waiting = unanswered
        unanswered = []
        for packet in waiting { answer(packet) }
    }

    /// Takes what was received so far.
    func takeReceived() -> [Message] {
        defer { received = [] }
        return received.map(\.body)
    }

    func answered(_ id: UInt32) -> Message? { received.first { $0.re == id }?.body }

    var logLines: [String] {
        received.compactMap { if case .log(let log) = $0.body { log.message } else { nil } }
    }

    private func answer(_ packet: Packet) {
        guard let id = packet.id else { return }
        switch packet.body {
        case .claim(let claim):
            guard let range = claim.range, !refused.contains(where: { $0.overlaps(range) }) else {
                let clash = Refusal.Clash(owner: "somebody", range: "ports 0x0-0xffff")
                return send(Packet(.error(Refusal(.clash, asked: "claim", message: "it is taken", clash: clash)), re: id))
            }
            claims[nextClaim] = range
            send(Packet(.ok(Reply(claim: nextClaim)), re: id))
            nextClaim += 1
        case .unclaim(let unclaim):
            claims[unclaim.claim] = nil
            send(Packet(.ok(Reply()), re: id))
        case .pci(let request):
            let address = request.slot.flatMap { PCIAddress(parsing: $0) } ?? PCIAddress(device: 5)
            send(Packet(.ok(Reply(claim: 900, address: address)), re: id))
        case .memory:
            guard let raw = pages.ram?.memory.descriptor.raw else {
                return send(Packet(.error(Refusal(.unsupported, asked: "memory", message: "there is none")), re: id))
            }
            // Two regions that touch and one that lies apart, so that holes and joins are walked through.
            let half = UInt64(Self.ramLength / 2)
            let grant = MemoryGrant(
                kind: .shared, length: UInt64(Self.ramLength),
                regions: [
                    .init(address: GuestAddress(Self.ramBase), length: half, offset: 0),
                    .init(address: GuestAddress(Self.ramBase + half), length: half - 0x1000, offset: half),
                    .init(address: GuestAddress(0x100_0000), length: 0x1000, offset: half * 2 - 0x1000),
                ])
            send(Packet(.ok(Reply(memory: grant)), re: id), [raw])
        case .region(let request):
            let known = regions[request.label]
            guard let region = known ?? (try? FakeRegion(number: regions.count + 40, length: Int(request.length.value))) else { return }
            regions[request.label] = region
            var grant = RegionGrant(region: region.number, gfn: region.place.map { $0 >> 12 }, doorbell: true, adopted: known != nil)
            var descriptors = [region.content.memory.descriptor.raw, region.bitmap.memory.descriptor.raw, region.doorbell.descriptor.raw]
            distort(&grant, &descriptors)
            send(Packet(.ok(Reply(region: grant)), re: id), descriptors)
        case .regionPlace(let place):
            guard place.address.map({ !refusedPlaces.contains($0.value) }) ?? true else {
                return send(Packet(.error(Refusal(.host, asked: "region-place", message: "the guest's RAM is there")), re: id))
            }
            regions.values.first { $0.number == place.region }?.place = place.address?.value
            send(Packet(.ok(Reply()), re: id))
        case .surface(let size):
            guard let memory = makeSurface(size.width, size.height) else {
                return send(Packet(.error(Refusal(.invalid, asked: "surface", message: "it is too large")), re: id))
            }
            send(Packet(.ok(Reply()), re: id), [memory.descriptor.raw])
        default: send(Packet(.ok(Reply()), re: id))
        }
    }

    /// Goes away, as a coordinator that was killed.
    func close() { _ = shutdown(socket.descriptor.raw, CInt(SHUT_RDWR)) }

    /// Whether the doorbell was rung and nobody has cleared it.
    var isKicked: Bool {
        var wait = pollfd(fd: pages.kick.descriptor.raw, events: Int16(POLLIN), revents: 0)
        return poll(&wait, 1, 0) == 1
    }
    func ringKick() { pages.kick.ring() }
    func takeDone() -> Bool { pages.done.clear() }
}

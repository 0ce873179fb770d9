import EmulatorProtocol
import Glibc
import Host
import Platform

/// The emulator protocol by hand, so that a test can break it at any place.
final class Wire {
    let socket = MessageSocket(adopting: OwnedDescriptor(adopting: 3))
    private var nextID: UInt32 = 1
    private(set) var attach: Attach?
    private(set) var bag = DescriptorBag()
    /// What came with the last packet.
    private(set) var descriptors = DescriptorBag()

    private var counterMapping: Mapping?
    /// Its doorbells' numbers, as long as the channel lives.
    private(set) var doorbells: (kick: CInt, done: CInt) = (-1, -1)

    /// Says in the counters how far it has got: a way that no limit on messages closes.
    func count(_ counter: Counter) {
        if let base = counterMapping?.base { CounterPage(page: base).add(counter) }
    }

    /// Sends, and does not look whether it arrived.
    @discardableResult
    func say(_ message: Message, re: UInt32? = nil) -> UInt32? {
        let id = re == nil ? nextID : nil
        nextID &+= 1
        raw(Packet(message, id: id, re: re).encoded())
        return id
    }

    func raw(_ bytes: [UInt8]) { try? socket.send(bytes) }

    /// The next packet; exits when the coordinator has closed the connection.
    func hear() -> Packet {
        while true { if let packet = look(wait: true) { return packet } }
    }

    /// A packet that has come already; nil when there is none.
    func next() -> Packet? { look(wait: false) }

    private func look(wait: Bool) -> Packet? {
        guard let received = try? socket.receive(wait: wait) else { return nil }
        switch received {
        case .message(let bytes, let descriptors):
            guard let packet = try? Packet.decoded(bytes) else { return nil }
            self.descriptors = descriptors
            if case .attach(let attach) = packet.body { (self.attach, bag) = (attach, descriptors) }
            return packet
        case .nothing: return nil
        case .closed: exit(1)
        }
    }

    /// Says something and waits for what comes next.
    @discardableResult
    func ask(_ message: Message) -> Packet {
        say(message)
        return hear()
    }

    @discardableResult
    func hello(modes: [AttachMode] = [.isolated], versions: [Int] = [1], capabilities: [String] = []) -> Packet {
        ask(.hello(Hello(versions: versions, name: "test", modes: modes, capabilities: capabilities)))
    }

    @discardableResult
    func claim(ports first: UInt64, _ last: UInt64) -> Packet {
        guard let low = UInt16(exactly: first), let high = UInt16(exactly: last), let range = PortRange(first: low, last: high) else { exit(90) }
        return ask(.claim(Claim(.ports(range), label: "test")))
    }

    /// Says ready, takes its answer, and gives the number of `start`.
    func ready() -> UInt32 {
        say(.ready)
        while true {
            let packet = hear()
            if case .start = packet.body { return packet.id ?? 0 }
        }
    }

    /// All of the start with one claim, up to serving.
    func start(ports first: UInt64 = 0x700, _ last: UInt64 = 0x70f, capabilities: [String] = []) -> EventFDChannel {
        hello(capabilities: capabilities)
        claim(ports: first, last)
        let channel = channel()
        say(.ok(Reply()), re: ready())
        return channel
    }

    /// The pages and doorbells that came with `attach`.
    func channel() -> EventFDChannel {
        guard let attach, let counters = bag.take(), let page = try? SharedMemory(adopting: counters, length: CounterPage.length, what: "counters"),
            let mapping = try? page.map(what: "counters")
        else { exit(94) }
        counterMapping = consume mapping
        guard let slots = bag.take(), let kick = bag.take(), let done = bag.take() else { exit(91) }
        doorbells = (kick.raw, done.raw)
        guard let page = try? SharedMemory(adopting: slots, length: SlotPage.length, what: "slots"),
            let channel = try? EventFDChannel(slots: page, ring: nil, kick: EventFD(adopting: kick), done: EventFD(adopting: done), vcpuCount: attach.vcpus)
        else { exit(91) }
        return channel
    }

    /// Answers `quit` and exits in order; everything else is passed over.
    func untilQuit() -> Never {
        while true {
            let packet = hear()
            if case .quit = packet.body {
                say(.ok(Reply()), re: packet.id)
                exit(0)
            }
        }
    }
}

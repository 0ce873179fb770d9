import EmulatorProtocol
import Host
import Platform

/// What an emulator was given when it was attached, and its ways to act on the guest: through the coordinator, or its own.
final class Attachment {
    let attach: Attach
    let domain: DomainID
    let server: ServerID
    let control: ControlConnection
    let counters: CounterPage
    private let counterMapping: Mapping
    private let uncounted: UnsafeMutableRawPointer?
    private var observationMapping: MappingBox?
    /// Where latencies are counted; nil: nobody wants to know them.
    private(set) var observation: ObservationPage?
    /// A direct emulator's own way to the guest.
    var guest: (any DirectGuest)?
    /// The guest's memory; nil when this emulator has no access to it.
    var memory: (any GuestMemory)?
    private var shared: SharedRAM?
    private var refusals = RateLimit(burst: 10, interval: 1_000_000_000)

    /// - Parameter counters: a sealed page of 4096 bytes.
    init(_ attach: Attach, counters: consuming OwnedDescriptor, control: ControlConnection) throws(SetupError) {
        guard let domain = DomainID(attach.domain), let server = ServerID(attach.server), (1...VCPUID.limit).contains(attach.vcpus) else {
            throw SetupError(
                "attach to", "domain \(attach.domain), server \(attach.server), \(attach.vcpus) vCPUs", reason: "there can be no such thing",
                remedy: "this is a fault of the coordinator's")
        }
        do {
            counterMapping = try SharedMemory(adopting: counters, length: CounterPage.length, what: "the counters page").map(what: "the counters page")
        } catch {
            throw SetupError(error)
        }
        let page = CounterPage(page: counterMapping.base)
        guard page.hasHeader else {
            throw SetupError("accept", "the counters page", reason: "it does not begin with its magic", remedy: "this is a fault of the coordinator's")
        }
        // An older coordinator has no place for the newer counters; what is counted then goes to a page that nobody reads.
        if page.count < UInt64(Counter.allCases.count) {
            let own = UnsafeMutableRawPointer.allocate(byteCount: CounterPage.length, alignment: 8)
            own.initializeMemory(as: UInt8.self, repeating: 0, count: CounterPage.length)
            (uncounted, self.counters) = (own, CounterPage(page: own))
        } else {
            (uncounted, self.counters) = (nil, page)
        }
        self.attach = attach
        self.domain = domain
        self.server = server
        self.control = control
    }

    deinit { uncounted?.deallocate() }

    /// Takes the observation memory. One that cannot be used is no reason not to serve: nobody sees anything then.
    func observe(_ grant: ObserveGrant, _ descriptor: consuming OwnedDescriptor?) {
        guard let descriptor, grant.length == ObservationPage.length else {
            return control.log(.warning, "the observation memory of \(grant.length) bytes is of another version: nothing is observed")
        }
        do {
            let mapping = try SharedMemory(adopting: descriptor, length: ObservationPage.length, what: "the observation memory").map(what: "the observation memory")
            let page = ObservationPage(base: mapping.base)
            page.initialize()
            observation = page
            observationMapping = MappingBox(mapping)
        } catch {
            control.log(.warning, "\(error)")
        }
    }

    /// A mapping held by reference.
    private final class MappingBox {
        private let mapping: Mapping
        init(_ mapping: consuming Mapping) { self.mapping = mapping }
    }

    /// Asks the coordinator for the guest's memory, unless the emulator reaches it by itself. A refusal is not an
    /// error: most devices never touch it.
    func openMemory() throws(SetupError) {
        if let guest {
            memory = guest.memory
            return
        }
        guard let answer = control.request(.memory) else { throw .closed("ask for", "the guest's memory") }
        guard case .ok(let reply) = answer.packet.body, let grant = reply.memory else { return }
        switch grant.kind {
        case .foreign: return
        case .shared:
            guard let descriptor = answer.descriptors.take() else { throw .missing("the guest's memory") }
            let ram = try SharedRAM(grant, descriptor: descriptor, control: control)
            (shared, memory) = (ram, ram)
        case .bounce:
            guard let descriptor = answer.descriptors.take() else { throw .missing("the bounce buffer") }
            memory = try BounceMemory(grant, descriptor: descriptor, control: control)
        }
    }

    func setDirtyLogging(_ on: Bool) {
        guest?.setDirtyLogging(on)
        shared?.reportsWrites = on
    }

    // MARK: interrupts

    func setINTx(_ function: PCIAddress, pin: UInt8, asserted: Bool) {
        guard let guest else { return control.send(Packet(.intx(INTx(function: function, pin: pin, asserted: asserted)))) }
        do { try guest.setINTx(device: function.device, pin: pin, asserted: asserted) } catch { report(error) }
    }

    func setISAInterrupt(_ line: UInt8, asserted: Bool) {
        guard let guest else { return control.send(Packet(.intx(INTx(isa: line, asserted: asserted)))) }
        do { try guest.setISAInterrupt(line, asserted: asserted) } catch { report(error) }
    }

    func injectMSI(address: UInt64, data: UInt32) {
        guard let guest else { return control.send(Packet(.msi(MSI(address: address, data: data)))) }
        do { try guest.injectMSI(address: address, data: data) } catch { report(error) }
    }

    private func report(_ error: HostError) {
        if refusals.allows(at: EventLoop.now()) { control.log(.error, error.description) }
    }
}

extension SetupError {
    static func closed(_ operation: String, _ subject: String) -> SetupError {
        SetupError(operation, subject, reason: "the coordinator has closed the connection", remedy: "its log says why")
    }

    static func missing(_ what: String) -> SetupError {
        SetupError("accept", what, reason: "no descriptor came with the message", remedy: "this is a fault of the coordinator's")
    }
}

import ControlProtocol
import Host
import Platform

/// The memory in which one process of an emulator counts its latencies and traces its requests.
final class ObservationMemory {
    private let memory: MappedMemory

    init(name: String) throws(SystemError) {
        memory = try MappedMemory(name: "demux-observe-\(name)", length: ObservationPage.length, what: "the observation memory of \(name)")
    }

    /// Takes over a predecessor's.
    init(adopting descriptor: consuming OwnedDescriptor) throws(SystemError) {
        memory = try MappedMemory(adopting: descriptor, length: ObservationPage.length, what: "an emulator's observation memory")
    }

    var descriptor: CInt { memory.descriptor }

    /// For the emulator, which writes it.
    func duplicate() throws(SystemError) -> OwnedDescriptor { try memory.duplicate() }

    /// For whoever looks.
    func readOnly() throws(SystemError) -> OwnedDescriptor { try memory.readOnly() }

    /// Switches the ring on or off. Touches the first page only, which the emulator has touched.
    func setTracing(_ on: Bool) { ObservationPage(base: memory.base).setTracing(on) }
}

/// Who looks at the emulators' observation memory: control connections that were handed it, and read it without asking anybody again.
final class ObservationBoard {
    private final class Observer {
        weak var peer: ControlPeer?
        let traced: TraceWish?
        init(_ peer: ControlPeer, _ traced: TraceWish?) {
            self.peer = peer
            self.traced = traced
        }
    }

    private var observers: [Observer] = []
    /// Whether emulators get any memory to count in.
    var isOpen = true
    /// Every ring is written although nobody may read it.
    var tracesAll = false {
        didSet { for session in sessions() { settle(session) } }
    }
    /// The guest's emulators.
    var sessions: () -> [EmulatorSession] = { [] }

    /// Makes a connection an observer until it is closed: it gets every emulator's memory now, and its successor's when it has one.
    func add(_ peer: ControlPeer, tracing traced: TraceWish?) {
        let observer = Observer(peer, traced)
        observers.append(observer)
        peer.closed = { [weak self, weak observer] in
            guard let self else { return }
            self.observers.removeAll { $0 === observer || $0.peer == nil }
            for session in self.sessions() { self.settle(session) }
        }
        for session in sessions() where session.mode != .exporter {
            settle(session)
            tell(observer, session)
        }
    }

    /// A process serves: whoever looks is handed its memory.
    func serving(_ session: EmulatorSession) {
        guard session.mode != .exporter else { return }
        settle(session)
        for observer in observers { tell(observer, session) }
    }

    /// The ring is written only while somebody reads it.
    private func settle(_ session: EmulatorSession) {
        session.observation?.setTracing(tracesAll || observers.contains { $0.peer != nil && $0.traced?.includes(session.name) ?? false })
    }

    private func tell(_ observer: Observer, _ session: EmulatorSession) {
        let bag = DescriptorBag()
        if let descriptor = try? session.observation?.readOnly() { bag.add(descriptor) }
        observer.peer?.send(.observed(ObservedEmulator(name: session.name, pid: session.process?.pid ?? 0, kept: bag.count > 0)), bag)
    }
}

import Glibc
import Host
import Platform

/// The observation memory of one guest's emulators, by its control socket: what `demux top`, `demux trace` and `demux metrics` look at. The
/// coordinator hands the memory out and is not asked again.
///
/// It ends with the connection, and with it the tracing. Not Sendable: it belongs to one thread.
public final class ObservationSubscription {
    /// One process of an emulator.
    public final class Emulator {
        public let name: String
        public let pid: Int32
        /// nil: it counts no latencies.
        public let reader: ObservationReader?

        init(_ observed: ObservedEmulator, _ descriptors: DescriptorBag) {
            name = observed.name
            pid = observed.pid
            if let descriptor = descriptors.take() { reader = ObservationReader(descriptor) } else { reader = nil }
        }
    }

    private let socket: MessageSocket
    /// The newest process of each emulator, in the order in which the coordinator named them.
    public private(set) var emulators: [Emulator] = []
    /// Processes whose place another one has taken: their last requests can still be read, once.
    private var former: [Emulator] = []

    /// Readable when an emulator has another process (`update`), or the guest is gone.
    public var descriptor: CInt { socket.descriptor.raw }

    /// Connects and subscribes; waits at most `limit` for the answer.
    /// - Parameter trace: whose requests are traced for as long as this lives.
    public init(domain: UInt16, base: String, trace: TraceWish? = nil, limit: Duration = ControlSocket.answerLimit) throws(Unreachable) {
        socket = try ControlSocket.connect(domain: domain, base: base, limit: limit)
        try ControlSocket.send(.observe(trace: trace), on: socket)
        while true {
            let (reply, descriptors) = try ControlSocket.receivePacket(on: socket, limit: limit)
            switch reply {
            case .observed(let observed): take(observed, descriptors)
            case .done: return
            case .failed(let reason): throw .other(reason)
            default: throw .other("the coordinator gave an answer to something else; it and this program must be of the same version")
            }
        }
    }

    /// Takes what the coordinator has sent since.
    /// - Throws: Unreachable.closed when the guest is gone.
    public func update() throws(Unreachable) {
        // Bounded: a coordinator that sends without end is not listened to without end.
        for _ in 0..<64 {
            var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&waiting, 1, 0) == 1 else { return }
            let (reply, descriptors) = try ControlSocket.receivePacket(on: socket, limit: .zero)
            if case .observed(let observed) = reply { take(observed, descriptors) }
        }
    }

    /// Processes that another one has taken the place of since the last call.
    public func takeFormer() -> [Emulator] {
        defer { former = [] }
        return former
    }

    private func take(_ observed: ObservedEmulator, _ descriptors: DescriptorBag) {
        let emulator = Emulator(observed, descriptors)
        if let place = emulators.firstIndex(where: { $0.name == emulator.name }) {
            // The same process is told of twice when it began to serve just now.
            guard emulators[place].pid != emulator.pid || emulators[place].reader == nil else { return }
            former.append(emulators[place])
            emulators[place] = emulator
        } else {
            emulators.append(emulator)
        }
    }
}

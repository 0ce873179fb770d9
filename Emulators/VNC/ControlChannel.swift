import EmulatorProtocol
import Glibc
import Platform

/// The exporter's end of its socket to the coordinator. Never waits for it once it serves: what cannot be sent is kept up to a
/// limit, and dropped beyond.
final class ControlChannel {
    struct Incoming {
        let packet: Packet
        let descriptors: DescriptorBag
    }

    /// Packets that may wait.
    private static let most = 256
    private let socket: MessageSocket
    private var outgoing: [[UInt8]] = []
    private(set) var isClosed = false
    private var nextID: UInt32 = 1

    init(adopting descriptor: consuming OwnedDescriptor) { socket = MessageSocket(adopting: descriptor) }

    var descriptor: CInt { socket.descriptor.raw }
    var wantsToWrite: Bool { !outgoing.isEmpty }

    /// Says something and waits for the answer: only at the start.
    func ask(_ message: Message) throws(SystemError) -> Incoming {
        let id = nextID
        nextID &+= 1
        try socket.send(Packet(message, id: id).encoded())
        while true {
            guard let incoming = try receive(wait: true) else {
                throw SystemError("\(message.type)", "the coordinator", reason: "it has closed the connection", remedy: "its log says why")
            }
            if incoming.packet.re == id { return incoming }
        }
    }

    /// From now on nothing waits.
    func serve() throws(SystemError) { try socket.descriptor.setNonBlocking(true) }

    /// The next packet; nil when none has come or the connection is closed. What is not of the protocol is passed over.
    func receive(wait: Bool = false) throws(SystemError) -> Incoming? {
        while !isClosed {
            switch try socket.receive(wait: wait) {
            case .nothing: return nil
            case .closed: isClosed = true
            case .message(let bytes, let descriptors):
                do {
                    return Incoming(packet: try Packet.decoded(bytes), descriptors: descriptors)
                } catch {
                    if !error.isAnswer {
                        send(Packet(.error(Refusal(error.unsupported ? .unsupported : .malformed, asked: "a packet", message: error.reason)), re: error.id))
                    }
                }
            }
        }
        return nil
    }

    /// Sends a packet now or when the coordinator reads again.
    func send(_ packet: Packet) {
        guard !isClosed else { return }
        flush()
        let bytes = packet.encoded()
        guard !bytes.isEmpty, bytes.count <= Packet.largest else { return }
        if outgoing.isEmpty, trySend(bytes) { return }
        if outgoing.count < Self.most { outgoing.append(bytes) }
    }

    func log(_ level: Log.Level, _ text: String) { send(Packet(.log(Log(level, text)))) }

    func flush() {
        var sent = 0
        while sent < outgoing.count, trySend(outgoing[sent]) { sent += 1 }
        outgoing.removeFirst(sent)
    }

    /// False when the socket takes nothing now.
    private func trySend(_ bytes: [UInt8]) -> Bool {
        do {
            try socket.send(bytes)
            return true
        } catch {
            if error.code == EAGAIN || error.code == ENOBUFS { return false }
            // It is gone, and reading says so.
            return true
        }
    }
}

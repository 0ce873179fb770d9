import EmulatorProtocol
import Glibc
import Host
import Platform

/// The emulator's end of its socket to the coordinator: blocking while the emulator sets itself up, never waiting for the
/// coordinator to read once it serves.
///
/// Belongs to the one thread that serves. A closed connection is not an error here: what is sent is then dropped.
final class ControlConnection {
    /// A packet and the descriptors beside it.
    struct Incoming {
        let packet: Packet
        let descriptors: DescriptorBag
    }

    /// How many packets may wait for a coordinator that does not read; then `send` waits for it, a second at most.
    private static let longestQueue = 4096
    /// Log lines are dropped already when this many packets wait.
    private static let logQueue = 64

    private let socket: MessageSocket
    private var nextID: UInt32 = 1
    private var outgoing: [[UInt8]] = []
    /// Requests that were sent and not answered: another coordinator that takes over is asked them again.
    private var unanswered: [(id: UInt32, bytes: [UInt8])] = []
    /// What came while an answer was waited for.
    private var stash: [Incoming] = []
    private var limits: [RateLimit]
    /// Whether the coordinator has closed its end and everything it sent before was read.
    private(set) var isClosed = false
    /// Whether sending failed for good; what came before that can still be read.
    private var cannotSend = false
    /// Packets that could not be sent, logs included.
    private(set) var dropped: UInt64 = 0

    init(adopting descriptor: consuming OwnedDescriptor) throws(SystemError) {
        try descriptor.setNonBlocking(true)
        socket = MessageSocket(adopting: descriptor)
        // A hundred lines at once and ten a second from the emulator. A guest's own lines: what the coordinator takes at most.
        limits = [RateLimit(burst: 100, interval: 100_000_000), RateLimit(burst: 400, interval: 10_000_000)]
    }

    var descriptor: CInt { socket.descriptor.raw }
    var hasStash: Bool { !stash.isEmpty }
    var wantsToWrite: Bool { !outgoing.isEmpty }

    func newID() -> UInt32 {
        defer { nextID = nextID == .max ? 1 : nextID + 1 }
        return nextID
    }

    // MARK: sending

    /// Sends a packet, or keeps it until the coordinator reads.
    func send(_ packet: Packet) {
        guard !cannotSend else { return }
        let bytes = packet.encoded()
        guard !bytes.isEmpty, bytes.count <= Packet.largest else {
            dropped &+= 1
            return
        }
        flush()
        if let id = packet.id, packet.re == nil, unanswered.count < Self.longestQueue { unanswered.append((id, bytes)) }
        guard outgoing.isEmpty else { return queue(bytes) }
        if !trySend(bytes) && !cannotSend { queue(bytes) }
    }

    /// Sends what waits, as far as the socket takes it.
    func flush() {
        var sent = 0
        while sent < outgoing.count, trySend(outgoing[sent]) { sent += 1 }
        outgoing.removeFirst(min(sent, outgoing.count))
    }

    private func queue(_ bytes: [UInt8]) {
        if outgoing.count >= Self.longestQueue {
            _ = wait(for: CInt(POLLOUT), milliseconds: 1000)
            flush()
        }
        if outgoing.count >= Self.longestQueue { dropped &+= 1 } else { outgoing.append(bytes) }
    }

    /// False when the socket takes nothing now, or the connection is closed.
    private func trySend(_ bytes: [UInt8]) -> Bool {
        do {
            try socket.send(bytes)
            return true
        } catch {
            if error.code != EAGAIN && error.code != ENOBUFS { stopSending() }
            return false
        }
    }

    private func stopSending() {
        cannotSend = true
        outgoing = []
    }

    private func close() {
        isClosed = true
        stopSending()
    }

    /// False when nothing came in time; an interrupted wait counts as something.
    private func wait(for events: CInt, milliseconds: CInt) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: events), revents: 0)
        return poll(&entry, 1, milliseconds) != 0
    }

    // MARK: receiving

    /// The next packet that has come; nil when none has, or the connection is closed. What is not of the protocol is refused.
    func receive() -> Incoming? {
        stash.isEmpty ? fetch() : stash.removeFirst()
    }

    private func fetch() -> Incoming? {
        while !isClosed {
            let received: MessageSocket.Received
            do { received = try socket.receive() } catch {
                // Too long or too many descriptors: the packet is gone, the connection is sound. Anything else ends it.
                if error.code == 0 {
                    send(Packet(.error(Refusal(.malformed, asked: "a packet", message: error.reason))))
                } else {
                    close()
                }
                continue
            }
            switch received {
            case .nothing: return nil
            case .closed: close()
            case .message(let bytes, let descriptors):
                do {
                    let packet = try Packet.decoded(bytes)
                    if let answered = packet.re, let index = unanswered.firstIndex(where: { $0.id == answered }) { unanswered.remove(at: index) }
                    if packet.body == .adopted {
                        askAgain(packet.id)
                        continue
                    }
                    return Incoming(packet: packet, descriptors: descriptors)
                } catch {
                    guard !error.isAnswer else { continue }
                    let refusal = Refusal(error.unsupported ? .unsupported : .malformed, asked: "a packet", message: error.reason)
                    send(Packet(.error(refusal), re: error.id))
                }
            }
        }
        return nil
    }

    /// Another coordinator has taken over. It passes over what it has got twice.
    private func askAgain(_ id: UInt32?) {
        for request in unanswered { queue(request.bytes) }
        if let id { queue(Packet(.ok(Reply()), re: id).encoded()) }
        flush()
    }

    /// Waits for the next packet; nil when the connection is closed or nothing came in time.
    func nextPacket(milliseconds: CInt = -1) -> Incoming? {
        while true {
            if let incoming = receive() { return incoming }
            if isClosed { return nil }
            flush()
            let events = CInt(POLLIN) | (wantsToWrite ? CInt(POLLOUT) : 0)
            if !wait(for: events, milliseconds: milliseconds) { return nil }
        }
    }

    /// Sends a request and waits for its answer. Other packets that come meanwhile are kept for `receive`.
    /// - Parameter milliseconds: how long each packet may take to come; negative: for ever.
    /// - Returns: the answer; nil when the connection is closed or no answer came in time.
    func request(_ message: Message, milliseconds: CInt = -1) -> Incoming? {
        let id = newID()
        send(Packet(message, id: id))
        var others: [Incoming] = stash
        stash = []
        defer { stash = others + stash }
        while let incoming = nextPacket(milliseconds: milliseconds) {
            if incoming.packet.re == id { return incoming }
            others.append(incoming)
        }
        return nil
    }

    // MARK: logging

    /// Sends a log line, unless too many were sent just now or the coordinator does not read.
    func log(_ level: LogLevel, _ message: String) {
        let index = level == .guest ? 1 : 0
        let now = EventLoop.now()
        guard outgoing.count < Self.logQueue, limits[index].allows(at: now) else { return }
        let held = limits[index].takeSuppressed()
        let word: Log.Level = switch level {
        case .debug: .debug
        case .info: .info
        case .warning: .warning
        case .error: .error
        case .guest: .guest
        }
        if held > 0 { send(Packet(.log(Log(.warning, "\(held) lines were held back because they came too fast")))) }
        // A line that does not fit a packet, every byte of it escaped, would be lost whole.
        send(Packet(.log(Log(word, String(decoding: message.utf8.prefix(4096), as: UTF8.self)))))
    }
}

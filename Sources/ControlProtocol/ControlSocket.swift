import CLinux
import Glibc
import Platform

/// Why a guest's coordinator could not be asked.
public enum Unreachable: Error, Equatable, Sendable {
    /// No socket: no such guest, or one without Demux.
    case missing
    /// A socket that nobody listens at: its coordinator ended without removing it.
    case gone
    case notPermitted
    /// It closed the connection instead of answering.
    case closed
    /// Its process, when it is known.
    case noAnswer(pid: Int32?, seconds: Int)
    case other(String)

    /// What happened and what to do about it.
    public func message(domain: UInt16, base: String) -> String {
        let socket = RunDirectory.controlSocket(domain: domain, base: base)
        switch self {
        case .missing:
            return "no guest of Demux runs as domain \(domain): there is no \(socket); 'demux list' shows the guests that run, "
                + "--run-dir looks elsewhere"
        case .gone:
            return "the coordinator of domain \(domain) is gone: nobody listens at \(socket); 'xl destroy \(domain)' ends what is left of "
                + "the guest on Xen, 'demux run' replaces one without Xen"
        case .notPermitted:
            return "no permission to ask the coordinator of domain \(domain) (uid \(geteuid()), \(socket)); run it as root, or as the user "
                + "who started the guest"
        case .closed:
            return "the coordinator of domain \(domain) closed the connection without an answer; it answers root and the user who started "
                + "the guest (this is uid \(geteuid())), and has ended if 'demux list' does not show it"
        case .noAnswer(let pid, let seconds):
            let process = pid.map { " (pid \($0))" } ?? ""
            return "the coordinator of domain \(domain)\(process) did not answer within \(seconds) s; it may be stopped or overloaded: look "
                + "at it with ps, and at its log (/var/log/xen/qemu-dm-NAME.log on Xen)"
        case .other(let reason): return reason
        }
    }
}

extension Unreachable {
    /// For programs.
    public var word: String {
        switch self {
        case .missing: "missing"
        case .gone: "gone"
        case .notPermitted: "not-permitted"
        case .closed: "closed"
        case .noAnswer: "no-answer"
        case .other: "failed"
        }
    }

    /// For a table.
    public var phrase: String {
        switch self {
        case .missing: "no socket"
        case .gone: "gone (stale socket)"
        case .notPermitted: "no permission"
        case .closed: "closed the connection"
        case .noAnswer: "does not answer"
        case .other(let reason): reason
        }
    }

    /// Its process, when that is known.
    public var pid: Int32? {
        if case .noAnswer(let pid, _) = self { return pid }
        return nil
    }
}

/// The steps of asking a guest's coordinator something.
public enum ControlSocket {
    /// How long an ordinary answer may take.
    public static let answerLimit = Duration.seconds(10)

    /// Connects; waits at most `limit` for a coordinator whose queue is full, not at all when nil.
    public static func connect(domain: UInt16, base: String, limit: Duration?) throws(Unreachable) -> MessageSocket {
        do {
            let descriptor = try UnixSocket.make(.messages)
            if let limit {
                var time = timeval(tv_sec: Int(limit.components.seconds), tv_usec: 0)
                // Covers connect and send; a failure leaves them waiting, which is no worse than what follows.
                setsockopt(descriptor.raw, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
            } else {
                try descriptor.setNonBlocking(true)
            }
            if demux_connect_unix(descriptor.raw, RunDirectory.controlSocket(domain: domain, base: base)) == 0 {
                let peer = try UnixSocket.peer(of: descriptor.raw)
                // In a run directory that others can write, anybody could listen there.
                guard peer.uid == 0 || peer.uid == geteuid() else {
                    let socket = RunDirectory.controlSocket(domain: domain, base: base)
                    throw Unreachable.other("\(socket) is served by uid \(peer.uid), who is neither root nor uid \(geteuid()): nothing is asked there")
                }
                return MessageSocket(adopting: descriptor)
            }
        } catch let error as Unreachable {
            throw error
        } catch {
            throw .other("\(error)")
        }
        let code = errno
        switch code {
        case ENOENT: throw .missing
        case ECONNREFUSED: throw .gone
        case EACCES, EPERM: throw .notPermitted
        case EAGAIN, EINTR: throw .noAnswer(pid: nil, seconds: Int(limit?.components.seconds ?? 0))
        default:
            throw .other("\(UnixSocket.failure("connect to", RunDirectory.controlSocket(domain: domain, base: base), code: code))")
        }
    }

    /// Sends a request.
    public static func send(_ request: ControlRequest, on socket: borrowing MessageSocket) throws(Unreachable) {
        let bytes = ControlCodec.encode(request)
        guard bytes.count <= MessageSocket.largestMessage else {
            throw .other("the request has \(bytes.count) bytes, and the coordinator takes \(MessageSocket.largestMessage); shorten the options")
        }
        do {
            try socket.send(bytes)
        } catch {
            switch error.code {
            case EPIPE, ECONNRESET: throw .closed
            case EAGAIN: throw .noAnswer(pid: pid(of: socket), seconds: Int(answerLimit.components.seconds))
            default: throw .other("\(error)")
            }
        }
    }

    /// Waits for a reply; descriptors beside it are closed.
    public static func receive(on socket: borrowing MessageSocket, limit: Duration) throws(Unreachable) -> ControlReply {
        try receivePacket(on: socket, limit: limit).reply
    }

    /// Waits for a reply, and takes the descriptors beside it.
    public static func receivePacket(
        on socket: borrowing MessageSocket, limit: Duration
    ) throws(Unreachable) -> (reply: ControlReply, descriptors: DescriptorBag) {
        let end = EventLoop.now() &+ limit.clampedNanoseconds
        while true {
            do {
                switch try socket.receive(wait: false) {
                case .message(let bytes, let descriptors): return (try ControlCodec.decode(ControlReply.self, from: bytes), descriptors)
                case .closed: throw Unreachable.closed
                case .nothing: break
                }
            } catch let error as Unreachable {
                throw error
            } catch {
                throw .other("\(error)")
            }
            let now = EventLoop.now()
            guard now < end else { throw .noAnswer(pid: pid(of: socket), seconds: Int(limit.components.seconds)) }
            var waiting = pollfd(fd: socket.descriptor.raw, events: Int16(POLLIN), revents: 0)
            _ = poll(&waiting, 1, CInt(clamping: (end - now) / 1_000_000 + 1))
        }
    }

    private static func pid(of socket: borrowing MessageSocket) -> Int32? { (try? UnixSocket.peer(of: socket.descriptor.raw))?.pid }
}

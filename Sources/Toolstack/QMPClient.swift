import CLinux
import Glibc
import Platform

/// Demux's own connection to QEMU, on a monitor that nobody else uses.
///
/// Commands given before QEMU is ready wait until it is. Not Sendable: it belongs to the thread of its event loop.
public final class QMPClient {
    public typealias Reply = (Result<JSONValue, QMPError>) -> Void

    private enum State { case connecting, greeting, negotiating, ready, closed }

    private struct Pending {
        let command: String
        let timer: EventLoop.Timer
        let reply: Reply
    }

    /// The longest message taken from QEMU, in bytes.
    private static let messageLimit = 4 << 20
    private static let outputLimit = 1 << 20

    let loop: EventLoop
    private let path: String
    private var state = State.connecting
    private var socket: OwnedDescriptor?
    private var retry: EventLoop.Timer?
    private var backoff = Backoff()
    private var scanner = QMPScanner(limit: QMPClient.messageLimit)
    private var output = RelayBuffer()
    /// Commands that wait until the capabilities are agreed on.
    private var early = RelayBuffer()
    private var pending: [Int64: Pending] = [:]
    private var nextID: Int64 = 1

    /// Called with every event of QEMU's: its name ("SHUTDOWN", "RESET", …) and its data.
    public var event: ((String, JSONValue) -> Void)?
    /// Called once, when QEMU has closed the connection or it had to be given up.
    public var closed: ((QMPError) -> Void)?

    /// Connects as soon as QEMU listens at `path`.
    public init(loop: EventLoop, path: String) {
        self.loop = loop
        self.path = path
        loop.soon { [weak self] in self?.connect() }
    }

    deinit { if let raw = socket?.raw { loop.forget(raw) } }

    /// Whether QEMU can be asked.
    public var isReady: Bool { state == .ready }

    /// Sends a command. `reply` is called exactly once: with what QEMU returned, or with why there is nothing.
    /// - Parameter deadline: from now on, the wait for QEMU's start included.
    public func execute(_ command: String, arguments: JSONValue? = nil, deadline: Duration = .seconds(10), reply: @escaping Reply) {
        guard state != .closed else {
            loop.soon { reply(.failure(QMPError(command: command, reason: .closed("the connection to QEMU is closed")))) }
            return
        }
        let id = nextID
        nextID &+= 1
        var members: [String: JSONValue] = ["execute": .string(command), "id": .integer(id)]
        if let arguments { members["arguments"] = arguments }
        let bytes = JSONValue.object(members).encoded() + Array("\r\n".utf8)
        guard early.count + output.count + bytes.count <= Self.outputLimit else {
            loop.soon { reply(.failure(QMPError(command: command, reason: .closed("QEMU takes no more commands")))) }
            return
        }
        let timer = loop.after(deadline) { [weak self] in
            guard let self, let late = self.pending.removeValue(forKey: id) else { return }
            late.reply(.failure(QMPError(command: command, reason: .timedOut(deadline, self.progress))))
        }
        pending[id] = Pending(command: command, timer: timer, reply: reply)
        if state == .ready {
            output.append(bytes[...])
            send()
        } else {
            early.append(bytes[...])
        }
    }

    /// Runs a command of QEMU's human monitor and gives what it prints.
    public func humanCommand(
        _ line: String, deadline: Duration = .seconds(10), reply: @escaping (Result<String, QMPError>) -> Void
    ) {
        execute("human-monitor-command", arguments: ["command-line": .string(line)], deadline: deadline) { result in
            reply(result.map { $0.text ?? "" })
        }
    }

    /// Asks for QEMU's PCI functions.
    public func queryPCI(deadline: Duration = .seconds(10), reply: @escaping (Result<[PCIFunctionReport], QMPError>) -> Void) {
        execute("query-pci", deadline: deadline) { result in
            reply(
                result.flatMap { value in
                    PCIFunctionReport.list(from: value).map(Result.success)
                        ?? .failure(QMPError(command: "query-pci", reason: .closed("QEMU's list of PCI functions cannot be read")))
                })
        }
    }

    /// Gives the connection up; commands without a reply get an error.
    public func close() { end("it was closed") }

    private func connect() {
        guard state == .connecting else { return }
        do throws(SystemError) {
            guard let connection = try MonitorConnection.attempt(path) else {
                retry = loop.after(backoff.take()) { [weak self] in self?.connect() }
                return
            }
            state = .greeting
            let raw = connection.raw
            socket = consume connection
            try loop.watch(raw, for: .readable) { [weak self] in self?.ready($0) }
        } catch {
            end(error.description)
        }
    }

    private func ready(_ what: EventLoop.Interest) {
        if what.contains(.readable) || !what.isDisjoint(with: .hangUp) { receive() }
        if state != .closed { send() }
    }

    private func receive() {
        guard let raw = socket?.raw else { return }
        var numbers = [CInt](repeating: -1, count: Int(DEMUX_MAX_DESCRIPTORS))
        var count: CInt = 0
        var truncated: CInt = 0
        var length = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, initialized in
            length = demux_receive(raw, buffer.baseAddress, buffer.count, &numbers, &count, &truncated, CInt(MSG_DONTWAIT))
            initialized = max(0, length)
        }
        // QEMU sends none; should it, they are not kept.
        for number in numbers.prefix(Int(count)) { _ = Glibc.close(number) }
        if length < 0, errno == EAGAIN || errno == EWOULDBLOCK { return }
        guard length > 0 else { return end("QEMU has closed it") }
        for item in scanner.feed(bytes[...]) {
            guard let text = item.bytes, let object = JSONValue(parsing: text) else {
                return end("QEMU sent a message that cannot be read")
            }
            take(object)
            if state == .closed { return }
        }
        if scanner.isOverLimit { end("QEMU sent a message of more than \(Self.messageLimit) bytes") }
    }

    private func take(_ object: JSONValue) {
        if state == .greeting {
            guard object["QMP"] != nil else { return end("QEMU did not greet as a monitor does") }
            state = .negotiating
            // id 0 is ours alone: commands count from 1.
            let hello: JSONValue = ["execute": "qmp_capabilities", "id": 0]
            output.append((hello.encoded() + Array("\r\n".utf8))[...])
            return
        }
        if let name = object["event"]?.text {
            event?(name, object["data"] ?? [:])
            return
        }
        guard let id = object["id"]?.integer else { return }
        if id == 0, state == .negotiating {
            guard object["return"] != nil else { return end("QEMU refused the capabilities: \(Self.refusal(object))") }
            state = .ready
            early.move(to: &output)
            return
        }
        // One that came after its deadline has no one left who waits.
        guard let waiting = pending.removeValue(forKey: id) else { return }
        loop.cancel(waiting.timer)
        if let value = object["return"] {
            waiting.reply(.success(value))
        } else {
            let kind = object["error"]?["class"]?.text ?? ""
            waiting.reply(.failure(QMPError(command: waiting.command, reason: .refused(kind: kind, text: Self.refusal(object)))))
        }
    }

    /// How far the connection has come, for errors.
    var progress: String {
        switch state {
        case .connecting: "QEMU does not listen at \(path) yet"
        case .greeting: "QEMU has taken the connection or will, and has said nothing"
        case .negotiating: "QEMU has greeted and not answered qmp_capabilities"
        case .ready: "QEMU has the command"
        case .closed: "the connection is closed"
        }
    }

    private static func refusal(_ object: JSONValue) -> String { object["error"]?["desc"]?.text ?? "no reason given" }

    private func send() {
        guard let raw = socket?.raw, state != .closed else { return }
        let outcome = output.isEmpty ? RelayBuffer.Outcome.drained : output.send(to: raw)
        if outcome == .broken {
            // What QEMU sent before it closed is still to be read; the end comes after it.
            output.removeAll()
        }
        do throws(SystemError) {
            try loop.change(raw, to: outcome == .blocked ? [.readable, .writable] : .readable)
        } catch {
            end(error.description)
        }
    }

    private func end(_ reason: String) {
        guard state != .closed else { return }
        state = .closed
        if let retry { loop.cancel(retry) }
        retry = nil
        if let raw = socket?.raw { loop.forget(raw) }
        socket = nil
        output.removeAll()
        early.removeAll()
        let lost = pending.sorted { $0.key < $1.key }.map(\.value)
        pending = [:]
        for waiting in lost {
            loop.cancel(waiting.timer)
            waiting.reply(.failure(QMPError(command: waiting.command, reason: .closed(reason))))
        }
        closed?(QMPError(command: "", reason: .closed(reason)))
    }
}

/// Why a command of Demux's own to QEMU has no result.
public struct QMPError: Error, Equatable, CustomStringConvertible {
    public enum Reason: Equatable, Sendable {
        /// QEMU answered with an error: its class and its words.
        case refused(kind: String, text: String)
        /// No answer within this time, and how far QEMU had come by then.
        case timedOut(Duration, String)
        /// There is no connection any more, and why.
        case closed(String)
    }

    /// The command; empty for what concerns the connection as a whole.
    public let command: String
    public let reason: Reason

    public var description: String {
        let asked = command.isEmpty ? "could not go on with QEMU's monitor" : "could not have QEMU do '\(command)'"
        switch reason {
        case .refused(let kind, let text): return "\(asked): \(text)" + (kind.isEmpty || kind == "GenericError" ? "" : " (\(kind))")
        case .timedOut(let limit, let progress):
            return "\(asked): no answer within \(limit): \(progress); QEMU may be stuck, see the device model's log"
        case .closed(let why): return "\(asked): \(why); see the device model's log for QEMU's own words"
        }
    }
}

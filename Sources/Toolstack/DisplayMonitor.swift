import EmulatorProtocol
import Platform

/// Answers, in QEMU's place and in its words, what libxl and people ask a monitor about VNC: `query-vnc`, `query-vnc-servers`,
/// `change-vnc-password`, `set_password`, `expire_password`, and the same through `human-monitor-command`.
///
/// QEMU's forms are in qapi/ui.json, its behaviour in ui/vnc.c and monitor/hmp-cmds.c. Only for a guest whose exporter is ours; otherwise
/// these go to QEMU. Belongs to the thread of its event loop.
public final class DisplayMonitor {
    /// What there is to tell.
    public struct State: Equatable, Sendable {
        /// Where the exporter listens, as bound; empty: nobody can connect.
        public var listeners: [Listener]
        public var clients: [VNCStatus.Client]
        /// What viewers have to pass, in QEMU's words: "none", "vnc", "vencrypt+x509+vnc".
        public var security: String

        public init(listeners: [Listener], clients: [VNCStatus.Client] = [], security: String) {
            self.listeners = listeners
            self.clients = clients
            self.security = security
        }

        /// "vencrypt+x509+vnc" is method "vencrypt" with the further method "x509-vnc" to query-vnc-servers; others have none.
        var method: (first: String, further: String?) {
            let words = security.split(separator: "+")
            guard words.count > 1 else { return (security, nil) }
            return (String(words[0]), words.dropFirst().joined(separator: "-"))
        }
    }

    /// Does what was asked of the exporter; calls back once, with nil or with why not.
    public typealias Perform = (VNCCommand, @escaping (String?) -> Void) -> Void

    private let loop: EventLoop
    private let state: () -> State
    private let perform: Perform
    /// libxl waits ten seconds for an answer (LIBXL_QMP_CMD_TIMEOUT).
    private let limit: Duration

    public init(loop: EventLoop, limit: Duration = .seconds(8), state: @escaping () -> State, perform: @escaping Perform) {
        self.loop = loop
        self.limit = limit
        self.state = state
        self.perform = perform
    }

    /// What becomes of a command; nil when it is none of these.
    public func decide(_ command: QMPCommand) -> QMPVerdict? {
        let arguments = command.arguments
        switch command.name {
        case "query-vnc": return .answer(command.reply(single))
        case "query-vnc-servers": return .answer(command.reply(servers))
        case "change-vnc-password":
            guard let password = arguments?["password"]?.text else { return .answer(command.refusal("Parameter 'password' is missing")) }
            return run([.password(password)], command)
        case "set_password", "expire_password":
            guard arguments?["protocol"]?.text == "vnc" else { return nil }
            let request = Request(command.name, value: arguments?[command.name == "set_password" ? "password" : "time"]?.text, connected: arguments?["connected"]?.text)
            switch request {
            case .orders(let orders): return run(orders, command)
            case .refused(let reason): return .answer(command.refusal(reason))
            }
        case "human-monitor-command":
            guard let line = arguments?["command-line"]?.text else { return nil }
            return decide(HumanLine(line), command)
        default: return nil
        }
    }

    // MARK: what is told

    private func place(_ listener: Listener) -> (host: String, service: String, family: String) {
        // A UNIX socket's host is empty, its service the path.
        if listener.kind == .unix { return ("", listener.path ?? "", "unix") }
        let host = listener.host ?? ""
        return (host, listener.port.map(String.init) ?? "", host.contains(":") ? "ipv6" : "ipv4")
    }

    private var clients: JSONValue {
        .array(
            state().clients.map { client in
                ["host": .string(client.host), "service": .string(client.service), "family": .string(client.family), "websocket": .bool(client.websocket)]
            })
    }

    /// The reply of query-vnc: libxl writes `host` and `service` to xenstore, where xl vncviewer finds them.
    private var single: JSONValue {
        let state = state()
        guard let first = state.listeners.first else { return ["enabled": false] }
        let place = place(first)
        return [
            "enabled": true, "host": .string(place.host), "service": .string(place.service), "family": .string(place.family),
            "auth": .string(state.security), "clients": clients,
        ]
    }

    private var servers: JSONValue {
        let state = state()
        var method: [String: JSONValue] = ["auth": .string(state.method.first)]
        if let further = state.method.further { method["vencrypt"] = .string(further) }
        let sockets = state.listeners.map { listener -> JSONValue in
            let place = place(listener)
            // `websocket` tells a socket that takes nothing else; ours take both.
            let told: JSONValue = [
                "host": .string(place.host), "service": .string(place.service), "family": .string(place.family), "websocket": false,
            ]
            return told.merging(method)
        }
        let server: JSONValue = ["id": "default", "server": .array(sockets), "clients": clients]
        return .array([server.merging(method)])
    }

    /// As `info vnc` prints it.
    private var humanText: String {
        let state = state()
        var lines = ["default:"]
        for listener in state.listeners {
            let place = place(listener)
            lines += ["  Server: \(place.host):\(place.service) (\(place.family))", "    Auth: \(state.security) (Sub: none)"]
        }
        for client in state.clients {
            lines += ["  Client: \(client.host):\(client.service) (\(client.family))", "    x509_dname: none", "    sasl_username: none"]
        }
        if state.listeners.isEmpty { lines.append("  Auth: \(state.security) (Sub: none)") }
        return lines.map { $0 + "\r\n" }.joined()
    }

    // MARK: what is done

    /// What a monitor's command means for the exporter.
    private enum Request {
        case orders([Order])
        case refused(String)

        /// `value`: the password or the time.
        init(_ name: String, value: String?, connected: String?) {
            guard let value else {
                self = .refused("Parameter '\(name == "set_password" ? "password" : "time")' is missing")
                return
            }
            if name == "expire_password" {
                self = .orders([.expire(value)])
                return
            }
            switch connected {
            case nil, "keep": self = .orders([.password(value)])
            // QEMU's VNC does not; ours can.
            case "disconnect": self = .orders([.password(value), .disconnect])
            case "fail": self = .refused("Invalid parameter 'connected'")
            case let other?: self = .refused("Parameter 'connected' does not accept value '\(other)'")
            }
        }
    }

    private enum Order {
        case password(String)
        case expire(String)
        case disconnect

        var command: VNCCommand {
            switch self {
            // An empty password lets nobody in, as with QEMU: no viewer can answer for it.
            case .password(let text): VNCCommand(.setPassword, password: text.isEmpty ? nil : text)
            case .expire(let time): VNCCommand(.expirePassword, at: time)
            case .disconnect: VNCCommand(.disconnect)
            }
        }
    }

    /// Has the exporter do it, one after the other, and answers when it has.
    private func run(_ orders: [Order], _ command: QMPCommand) -> QMPVerdict {
        let deferral = QMPDeferral()
        carryOut(orders[...]) { reason in
            deferral.settle(.answer(reason.map { command.refusal($0) } ?? command.reply([:])))
        }
        return .later(deferral)
    }

    private func runHuman(_ orders: [Order], _ command: QMPCommand) -> QMPVerdict {
        let deferral = QMPDeferral()
        carryOut(orders[...]) { reason in deferral.settle(.answer(command.reply(.string(reason.map { "Error: \($0)\r\n" } ?? "")))) }
        return .later(deferral)
    }

    private func carryOut(_ orders: ArraySlice<Order>, _ done: @escaping (String?) -> Void) {
        guard let order = orders.first else { return done(nil) }
        var isDone = false
        let timer = loop.after(limit) { [limit] in
            guard !isDone else { return }
            isDone = true
            done("the VNC exporter did not answer within \(limit); see the guest's log: demux logs")
        }
        perform(order.command) { [weak self] reason in
            guard !isDone else { return }
            isDone = true
            self?.loop.cancel(timer)
            if let reason { return done(reason) }
            guard let self else { return done("the coordinator is ending") }
            self.carryOut(orders.dropFirst(), done)
        }
    }

    /// `info vnc`, `change vnc password X`, `set_password vnc X [connected]`, `expire_password vnc T`.
    private func decide(_ line: HumanLine, _ command: QMPCommand) -> QMPVerdict? {
        let words = line.words
        guard words.count >= 2, words[1] == "vnc" else { return nil }
        func text(_ text: String) -> QMPVerdict { .answer(command.reply(.string(text))) }
        switch words[0] {
        case "info": return text(humanText)
        case "change":
            guard words.count > 2, words[2] == "passwd" || words[2] == "password" else { return text("Expected 'password' after 'vnc'\r\n") }
            guard words.count > 3 else { return text("terminal does not support password prompting\r\n") }
            return runHuman([.password(words[3])], command)
        case "set_password", "expire_password":
            guard words.count > 2 else {
                return text("\(words[0]): string expected\r\nTry \"help \(words[0])\" for more information\r\n")
            }
            switch Request(words[0], value: words[2], connected: words.count > 3 ? words[3] : nil) {
            case .orders(let orders): return runHuman(orders, command)
            case .refused(let reason): return text("Error: \(reason)\r\n")
            }
        default: return nil
        }
    }
}

/// A line of QEMU's human monitor cut into words (monitor/hmp.c): "quoted text" is one word, with \n, \r, \\, \' and \" in it; flags
/// (`-d id`) are left out with their values.
struct HumanLine {
    let words: [String]

    init(_ line: String) {
        var words: [String] = []
        var word: [UInt8]?
        var isQuoted = false
        var isEscaped = false
        for byte in line.utf8 {
            if isEscaped {
                isEscaped = false
                word?.append(byte == UInt8(ascii: "n") ? 10 : byte == UInt8(ascii: "r") ? 13 : byte)
            } else if isQuoted, byte == UInt8(ascii: "\\") {
                isEscaped = true
            } else if byte == UInt8(ascii: "\""), isQuoted || word == nil {
                isQuoted.toggle()
                if isQuoted { word = [] }
            } else if !isQuoted, byte == 0x20 || (9...13).contains(byte) {
                if let whole = word { words.append(String(decoding: whole, as: UTF8.self)) }
                word = nil
            } else {
                word = (word ?? []) + [byte]
            }
        }
        if let whole = word { words.append(String(decoding: whole, as: UTF8.self)) }
        while let index = words.firstIndex(of: "-d"), index > 0 { words.removeSubrange(index..<min(index + 2, words.count)) }
        self.words = words
    }
}

import EmulatorProtocol
import Glibc
import Platform
import SeededNumbers
import TestTools
import Testing

@testable import Toolstack

/// The protocol's listener; these tests have another one.
private typealias Socket = EmulatorProtocol.Listener

@Suite("What a monitor is asked about VNC")
struct DisplayMonitorTests {
    let loop: EventLoop

    init() throws { loop = try EventLoop() }

    private func command(_ name: String, _ arguments: JSONValue? = nil) throws -> QMPCommand {
        var members: [String: JSONValue] = ["execute": .string(name), "id": 1]
        if let arguments { members["arguments"] = arguments }
        return try #require(QMPCommand(.object(members), connection: 1))
    }

    /// What the client gets; nil when QEMU is to answer, or nobody has yet.
    private func reply(_ monitor: DisplayMonitor, _ name: String, _ arguments: JSONValue? = nil) throws -> JSONValue? {
        switch monitor.decide(try command(name, arguments)) {
        case .answer(let bytes)?: return JSONValue(parsing: bytes)
        case .later(let deferral)?:
            guard case .answer(let bytes)? = deferral.verdict else { return nil }
            return JSONValue(parsing: bytes)
        default: return nil
        }
    }

    private func human(_ line: String) -> JSONValue { ["command-line": .string(line)] }

    /// A real QEMU with these arguments, asked these questions one after the other.
    private func qemu(_ arguments: [String], _ questions: [(String, JSONValue?)]) throws -> [JSONValue] {
        let folder = try TemporaryFolder()
        let monitors = try PrivateMonitors(folder: folder.path)
        let qemu = try QEMU(
            ["-nodefaults", "-no-user-config", "-display", "none", "-S", "-machine", "none", "-chardev",
             "socket,id=m,\(monitors.demux.part.key ?? "")=\(monitors.demux.part.value),server=on,wait=off", "-mon", "chardev=m,mode=control"] + arguments,
            inherited: monitors.inherited)
        let client = QMPClient(loop: loop, path: monitors.demuxPath)
        var answers: [JSONValue] = []
        for (name, arguments) in questions {
            client.execute(name, arguments: arguments, deadline: .seconds(60)) { result in
                switch result {
                case .success(let value): answers.append(value)
                case .failure(let error): answers.append(.string("\(error)"))
                }
            }
        }
        try turn(loop, until: "QEMU has answered") { answers.count == questions.count || qemu.process.poll() != nil }
        return answers
    }

    @Test("query-vnc, query-vnc-servers and info vnc say what QEMU would say with the same sockets", arguments: ["tcp", "password", "unix", "none"])
    func asQEMU(kind: String) throws {
        let folder = try TemporaryFolder()
        let port: UInt16 = 5900 + 4711
        let (option, listeners, security): (String, [Socket], String) =
            switch kind {
            case "tcp": ("127.0.0.1:4711", [Socket(host: "127.0.0.1", port: port)], "none")
            case "password": ("127.0.0.1:4711,password=on", [Socket(host: "127.0.0.1", port: port)], "vnc")
            case "unix": ("unix:\(folder.path)/v", [Socket(path: "\(folder.path)/v")], "none")
            default: ("none", [], "none")
            }
        let questions: [(String, JSONValue?)] = [("query-vnc", nil), ("query-vnc-servers", nil), ("human-monitor-command", human("info vnc"))]
        let real = try qemu(["-vnc", option], questions)
        let monitor = DisplayMonitor(loop: loop, state: { .init(listeners: listeners, security: security) }, perform: { _, done in done(nil) })
        let ours = try questions.map { try reply(monitor, $0.0, $0.1)?["return"] ?? .null }
        #expect(ours == real)
    }

    @Test("Viewers are listed with their places, at IPv6 and at a socket too")
    func clients() throws {
        let client = VNCStatus.Client(host: "::1", service: "4000", family: "ipv6", websocket: true, security: "vnc", shared: true)
        let monitor = DisplayMonitor(
            loop: loop, state: { .init(listeners: [Socket(host: "::1", port: 5901), Socket(path: "/v")], clients: [client], security: "vnc") },
            perform: { _, done in done(nil) })
        let expected: JSONValue = [["host": "::1", "service": "4000", "family": "ipv6", "websocket": true]]
        let single = try reply(monitor, "query-vnc")?["return"]
        #expect(single?["family"] == "ipv6" && single?["service"] == "5901" && single?["clients"] == expected)
        let servers = try reply(monitor, "query-vnc-servers")?["return"]?.elements
        #expect(servers?.count == 1 && servers?.first?["server"]?.elements?.map { $0["family"]?.text } == ["ipv6", "unix"])
        #expect(try reply(monitor, "human-monitor-command", human("info  vnc"))?["return"]?.text?.contains("  Client: ::1:4000 (ipv6)\r\n") == true)
    }

    @Test("Passwords and their expiry become orders for the exporter, in every form that libxl and people use")
    func orders() throws {
        var orders: [VNCCommand] = []
        let monitor = DisplayMonitor(loop: loop, state: { .init(listeners: [], security: "vnc") }) { command, done in
            orders.append(command)
            done(nil)
        }
        let cases: [(String, JSONValue, [VNCCommand])] = [
            ("change-vnc-password", ["password": "s"], [VNCCommand(.setPassword, password: "s")]),
            ("change-vnc-password", ["password": ""], [VNCCommand(.setPassword)]),
            ("set_password", ["protocol": "vnc", "password": "s"], [VNCCommand(.setPassword, password: "s")]),
            ("set_password", ["protocol": "vnc", "password": "s", "connected": "keep"], [VNCCommand(.setPassword, password: "s")]),
            ("set_password", ["protocol": "vnc", "password": "s", "connected": "disconnect"], [VNCCommand(.setPassword, password: "s"), VNCCommand(.disconnect)]),
            ("expire_password", ["protocol": "vnc", "time": "+30"], [VNCCommand(.expirePassword, at: "+30")]),
            ("human-monitor-command", human("change vnc password \"a b\\\"c\""), [VNCCommand(.setPassword, password: "a b\"c")]),
            ("human-monitor-command", human("set_password -d default vnc s"), [VNCCommand(.setPassword, password: "s")]),
            ("human-monitor-command", human("set_password vnc s disconnect"), [VNCCommand(.setPassword, password: "s"), VNCCommand(.disconnect)]),
            ("human-monitor-command", human("expire_password vnc never"), [VNCCommand(.expirePassword, at: "never")]),
        ]
        for (name, arguments, expected) in cases {
            orders = []
            let value = try reply(monitor, name, arguments)?["return"]
            #expect(value == (name == "human-monitor-command" ? "" : [:]), "\(name) \(arguments)")
            #expect(orders == expected, "\(name) \(arguments)")
        }
    }

    @Test("What QEMU refuses is refused in its words")
    func refusals() throws {
        let monitor = DisplayMonitor(loop: loop, state: { .init(listeners: [], security: "vnc") }) { _, done in done("no") }
        let same: [(String, JSONValue?)] = [
            ("change-vnc-password", nil), ("set_password", ["protocol": "vnc", "password": "x", "connected": "fail"]),
            ("set_password", ["protocol": "vnc", "password": "x", "connected": "bad"]), ("set_password", ["protocol": "vnc"]),
            ("human-monitor-command", human("change vnc password")), ("human-monitor-command", human("change vnc :5")),
            ("human-monitor-command", human("set_password vnc x fail")), ("human-monitor-command", human("expire_password vnc")),
        ]
        let real = try qemu(["-vnc", "127.0.0.1:4712,password=on"], same)
        for ((name, arguments), said) in zip(same, real) {
            let answer = try reply(monitor, name, arguments)
            if let text = answer?["return"] {
                #expect(text == said, "\(name)")
            } else {
                let words = answer?["error"]?["desc"]?.text ?? "nothing"
                #expect(said.text?.contains(words) == true, "\(name): \(words), QEMU: \(said)")
            }
        }
        #expect(try reply(monitor, "set_password", ["protocol": "vnc", "password": "x"])?["error"]?["desc"] == "no")
        #expect(try reply(monitor, "human-monitor-command", human("set_password vnc x"))?["return"] == "Error: no\r\n")
    }

    @Test("Everything else is QEMU's")
    func others() throws {
        let monitor = DisplayMonitor(loop: loop, state: { .init(listeners: [], security: "vnc") }) { _, done in done(nil) }
        let others: [(String, JSONValue?)] = [
            ("query-status", nil), ("set_password", ["protocol": "spice", "password": "x"]), ("expire_password", nil),
            ("human-monitor-command", human("info block")), ("human-monitor-command", human("change ide0-cd0 /x")),
            ("human-monitor-command", human("vnc")), ("human-monitor-command", nil), ("human-monitor-command", human("")), ("query-spice", nil),
        ]
        for (name, arguments) in others { #expect(monitor.decide(try command(name, arguments)) == nil, "\(name)") }
    }

    @Test("An exporter that does not answer is given up before libxl loses its patience, and its late answer harms nobody")
    func silent() throws {
        var late: ((String?) -> Void)?
        let monitor = DisplayMonitor(loop: loop, limit: .milliseconds(20), state: { .init(listeners: [], security: "vnc") }) { late = $1 }
        guard case .later(let deferral)? = monitor.decide(try command("change-vnc-password", ["password": "x"])) else { throw CancellationError() }
        try turn(loop, until: "it is given up") { deferral.verdict != nil }
        guard case .answer(let bytes)? = deferral.verdict else { throw CancellationError() }
        #expect(JSONValue(parsing: bytes)?["error"]?["desc"]?.text?.contains("exporter") == true)
        late?(nil)
    }

    @Test("Lines are cut as QEMU cuts them")
    func lines() {
        #expect(HumanLine("").words == [] && HumanLine("  a\t b ").words == ["a", "b"])
        #expect(HumanLine("a \"b c\" d\"e").words == ["a", "b c", "d\"e"])
        #expect(HumanLine("a \"\" \"x\\n\\\\").words == ["a", "", "x\n\\"])
        #expect(HumanLine("set_password -d").words == ["set_password"])
        var random = SplitMix(state: 0x5eed_0011)
        let alphabet = Array("ab \"\\-d\t\n".utf8)
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &random)] }
            #expect(HumanLine(String(decoding: bytes, as: UTF8.self)).words.count <= bytes.count)
        }
    }
}

extension QMPVerdict? {
    fileprivate static func == (left: Self, right: Never?) -> Bool { if case .none = left { true } else { false } }
}

@Suite("Devices that are plugged in while the guest runs")
struct DevicePlacementTests {
    private func verdict(_ arguments: JSONValue, ours: Set<UInt8> = [3], qemu: Set<UInt8> = [0, 1, 2, 4], added: @escaping () -> Void = {}) throws -> QMPVerdict? {
        let placement = DevicePlacement(isOurs: { ours.contains($0.device) && $0.function == 0 }, isQEMUs: { qemu.contains($0) }, added: added)
        return placement.decide(try #require(QMPCommand(["execute": "device_add", "id": 5, "arguments": arguments], connection: 1)))
    }

    @Test("One without a place gets the first slot that neither QEMU nor an emulator has")
    func placed() throws {
        var added = 0
        guard case .replace(let bytes, let watch?)? = try verdict(["driver": "xen-pci-passthrough", "id": "p", "hostaddr": "0:1:2.3"], added: { added += 1 })
        else { throw CancellationError() }
        #expect(JSONValue(parsing: bytes)?["arguments"] == ["driver": "xen-pci-passthrough", "id": "p", "hostaddr": "0:1:2.3", "addr": "5"])
        #expect(JSONValue(parsing: bytes)?["id"] == 5)
        #expect(watch(["return": [:]]) && watch(["error": [:]]) && watch(.null) && added == 1)
        guard case .replace(let late, _)? = try verdict(["driver": "e1000"], qemu: Set(0..<31)) else { throw CancellationError() }
        #expect(JSONValue(parsing: late)?["arguments"]?["addr"] == "1f")
    }

    @Test("A place of ours is refused, another one is left to QEMU, as are devices on other buses")
    func given() throws {
        guard case .answer(let bytes)? = try verdict(["driver": "e1000", "addr": "3"]) else { throw CancellationError() }
        #expect(JSONValue(parsing: bytes)?["error"]?["desc"]?.text?.contains("slot 3 function 0") == true)
        guard case .answer? = try verdict(["driver": "e1000", "addr": 24]) else { throw CancellationError() }
        guard case .watch? = try verdict(["driver": "e1000", "addr": "6.1"]) else { throw CancellationError() }
        guard case .answer? = try verdict(["driver": "e1000"], qemu: Set(0..<32)) else { throw CancellationError() }
        #expect(try verdict(["driver": "usb-tablet"]) == nil && verdict(["driver": "e1000", "bus": "b"]) == nil && verdict([:]) == nil)
    }
}

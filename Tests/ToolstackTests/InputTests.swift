import EmulatorProtocol
import Glibc
import Platform
import TestTools
import Testing

@testable import Toolstack

@Suite("Input on its way to QEMU")
struct InputTests {
    let folder: TemporaryFolder
    let loop: EventLoop
    let path: String

    init() throws {
        folder = try TemporaryFolder()
        loop = try EventLoop()
        path = folder.path + "/q"
    }

    /// A stand-in for QEMU that has greeted; nothing is answered unless a test does.
    private func ready() throws -> (QEMUInput, QMPClient, Peer, Listener) {
        let client = QMPClient(loop: loop, path: path)
        let qemu = try Listener(loop, path: path)
        try turn(loop, until: "it has connected") { qemu.peers.count == 1 }
        let peer = qemu.peers[0]
        try peer.send("{\"QMP\":{}}\r\n{\"return\":{},\"id\":0}\r\n")
        try turn(loop, until: "it is ready") { client.isReady }
        return (QEMUInput(client: client), client, peer, qemu)
    }

    private func commands(_ peer: Peer, _ name: String = "input-send-event") -> [JSONValue] {
        peer.lines.compactMap { JSONValue(parsing: Array($0.utf8)) }.filter { $0["execute"]?.text == name }
    }

    private func answer(_ peer: Peer, _ command: JSONValue, _ reply: String = "\"return\":{}") throws {
        try peer.send("{\(reply),\"id\":\(command["id"]?.integer ?? -1)}\r\n")
    }

    private func key(_ number: Int64, _ down: Bool) -> JSONValue {
        ["type": "key", "data": ["down": .bool(down), "key": ["type": "number", "data": .integer(number)]]]
    }

    @Test("Events are QEMU's events; kinds are not mixed in one command, and no reply is waited for")
    func forms() throws {
        let (input, client, peer, _) = try ready()
        input.send([
            .key(30, down: true), .key(0x9d, down: false), .absolute(x: 0, y: 32767), .button(.wheelUp, down: true), .button(.left, down: false),
            .relative(x: -3, y: 4), .key(0x100, down: true),
        ])
        try turn(loop, until: "QEMU has them") { commands(peer).count == 4 }
        let events = commands(peer).map { $0["arguments"]?["events"] ?? .null }
        #expect(events[0] == [key(30, true), key(0x9d, false)])
        #expect(events[1] == [["type": "abs", "data": ["axis": "x", "value": 0]], ["type": "abs", "data": ["axis": "y", "value": 32767]]])
        #expect(events[2] == [["type": "btn", "data": ["down": true, "button": "wheel-up"]], ["type": "btn", "data": ["down": false, "button": "left"]]])
        #expect(events[3] == [["type": "rel", "data": ["axis": "x", "value": -3]], ["type": "rel", "data": ["axis": "y", "value": 4]]])
        #expect(input.dropped == 1)
        client.close()
    }

    @Test("Behind, motion is joined and presses are lost, but never a release of what was pressed; all is in order")
    func behind() throws {
        let (input, client, peer, _) = try ready()
        // QEMU answers nothing: only so many commands go out.
        for number in 0..<UInt16(QEMUInput.mostInFlight) { input.send([.key(number, down: true)]) }
        try turn(loop, until: "QEMU has as many as may be on their way") { commands(peer).count == QEMUInput.mostInFlight }
        input.send([.absolute(x: 1, y: 1), .absolute(x: 2, y: 2)])
        input.send((0..<1000).map { _ in .relative(x: 30, y: -1) })
        for number in 0x20..<UInt16(0xa0) { input.send([.key(number, down: true), .relative(x: 1, y: 1), .button(.left, down: true), .button(.left, down: false)]) }
        for number in 0..<UInt16(0x100) { input.send([.key(number, down: false)]) }
        // Everything is answered now, and whatever comes as well.
        var answered = 0
        var quiet = 0
        try turn(loop, until: "all is sent") {
            let lines = peer.lines.count - 1
            if lines == answered { quiet += 1 } else { quiet = 0 }
            for id in answered..<lines { try? peer.send("{\"return\":{},\"id\":\(id + 1)}\r\n") }
            answered = lines
            return quiet == 20
        }
        var pressed: Set<Int64> = []
        var everPressed: Set<Int64> = []
        var total = 0
        for event in commands(peer).flatMap({ $0["arguments"]?["events"]?.elements ?? [] }) {
            total += 1
            guard event["type"] == "key", let number = event["data"]?["key"]?["data"]?.integer, let down = event["data"]?["down"]?.bool else { continue }
            if down {
                pressed.insert(number)
                everPressed.insert(number)
            } else {
                pressed.remove(number)
            }
        }
        #expect(pressed == [] && everPressed.isSuperset(of: 0..<16) && everPressed.count < 16 + 128)
        #expect(total <= 16 + 2 * (QEMUInput.mostKept + 256 + 16))
        #expect(input.dropped > 0)
        let first = commands(peer)[QEMUInput.mostInFlight]["arguments"]?["events"]
        #expect(first == [["type": "abs", "data": ["axis": "x", "value": 2]], ["type": "abs", "data": ["axis": "y", "value": 2]]])
        client.close()
    }

    @Test("A release that a paused guest's QEMU refuses is sent when the guest runs again; a lost viewer's keys are released")
    func paused() throws {
        let (input, client, peer, _) = try ready()
        input.send([.key(30, down: true), .button(.right, down: true)])
        try turn(loop, until: "it is there") { commands(peer).count == 2 }
        for command in commands(peer) { try answer(peer, command) }
        input.releaseAll()
        try turn(loop, until: "both releases are there") { commands(peer).count == 4 }
        for command in commands(peer).dropFirst(2) { try answer(peer, command, "\"error\":{\"class\":\"GenericError\",\"desc\":\"VM not running\"}") }
        var replied = false
        client.execute("x") { _ in replied = true }
        try turn(loop, until: "it is there") { commands(peer, "x").count == 1 }
        try answer(peer, commands(peer, "x")[0])
        try turn(loop, until: "both refusals have come") { replied }
        #expect(commands(peer).count == 4)
        input.guestResumed()
        try turn(loop, until: "the releases come again") { commands(peer).count == 6 }
        let sent = commands(peer).map { $0["arguments"] }
        #expect(sent[4...].allSatisfy { sent[2...3].contains($0) } && sent[4] != sent[5])
        client.close()
    }

    @Test("Whether the pointer is absolute is asked at the start and while it is used, not by keys and not without end")
    func mode() throws {
        let (input, client, peer, _) = try ready()
        var told: [Bool] = []
        input.modeChanged = { told.append($0) }
        input.send([.key(1, down: true)])
        input.askMode()
        input.askMode()
        try turn(loop, until: "it is asked") { commands(peer, "query-mice").count == 1 }
        let mice = { (tablet: Bool) in
            "\"return\":[{\"index\":3,\"name\":\"Tablet\",\"current\":\(tablet),\"absolute\":true},{\"index\":2,\"name\":\"PS/2\",\"current\":\(!tablet),\"absolute\":false}]"
        }
        try answer(peer, commands(peer, "query-mice")[0], mice(false))
        try turn(loop, until: "it is known") { input.isAbsolute == false }
        for _ in 0..<100 { input.send([.relative(x: 1, y: 0)]) }
        try turn(loop, until: "half a second has gone by and it is asked again") {
            input.send([.relative(x: 1, y: 0)])
            for command in commands(peer).suffix(QEMUInput.mostInFlight) { try? answer(peer, command) }
            return commands(peer, "query-mice").count == 2
        }
        try answer(peer, commands(peer, "query-mice")[1], mice(true))
        try turn(loop, until: "it is known") { input.isAbsolute == true }
        #expect(told == [false, true])
        client.close()
    }

    @Test("A real QEMU takes keys, buttons and both kinds of motion, and says which pointer its guest has")
    func real() throws {
        let monitors = try PrivateMonitors(folder: folder.path)
        let qemu = try QEMU(
            [
                "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc,accel=tcg", "-m", "32", "-usb", "-usbdevice", "tablet", "-chardev",
                "socket,id=m,\(monitors.demux.part.key ?? "")=\(monitors.demux.part.value),server=on,wait=off", "-mon", "chardev=m,mode=control", "-S",
            ], inherited: monitors.inherited)
        let client = QMPClient(loop: loop, path: monitors.demuxPath)
        let input = QEMUInput(client: client)
        var refused: [QMPError] = []
        input.trouble = { refused.append($0) }
        input.askMode()
        input.send([.key(30, down: true), .key(30, down: false)])
        var stands = false
        client.execute("query-status", deadline: .seconds(60)) { _ in stands = true }
        try turn(loop, until: "QEMU has refused, standing still") { stands || qemu.process.poll() != nil }
        client.event = { name, _ in if name == "RESUME" { input.guestResumed() } }
        client.execute("cont", deadline: .seconds(60)) { _ in }
        let buttons = InputEvent.Button.allCases.flatMap { [InputEvent.button($0, down: true), .button($0, down: false)] }
        input.send((0...UInt16(0xff)).flatMap { [InputEvent.key($0, down: true), .key($0, down: false)] })
        for event in buttons + [.absolute(x: 0, y: 0), .absolute(x: 32767, y: 32767), .relative(x: Int16.min, y: Int16.max)] { input.send([event]) }
        var done = false
        client.execute("query-status", deadline: .seconds(60)) { _ in done = true }
        try turn(loop, until: "QEMU has taken all") { done || qemu.process.poll() != nil }
        #expect(refused == [] && input.isAbsolute == false && qemu.process.poll() == nil)
    }
}

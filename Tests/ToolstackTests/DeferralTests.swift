import Glibc
import Platform
import SeededNumbers
import TestTools
import Testing

@testable import Toolstack

@Suite("Verdicts that come later, replies that are watched, commands that are changed")
struct DeferralTests {
    let folder: TemporaryFolder
    let loop: EventLoop
    let libxl: String
    let private_: String

    init() throws {
        folder = try TemporaryFolder()
        loop = try EventLoop()
        libxl = folder.path + "/libxl"
        private_ = folder.path + "/qemu"
    }

    @Test("What comes after a command that waits waits too, with its descriptors, and goes on in order", arguments: [1, 7, 1000])
    func order(piece: Int) throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        var waiting: [(QMPCommand, QMPDeferral)] = []
        facade.decide = { command in
            guard command.name == "slow" else { return .pass }
            let deferral = QMPDeferral()
            waiting.append((command, deferral))
            return .later(deferral)
        }
        let client = try Peer(loop, connectingTo: libxl)
        let said = [(1, "a"), (2, "slow"), (3, "b"), (4, "slow"), (5, "c")].map { "{\"execute\":\"\($0.1)\",\"id\":\($0.0)}\r\n" }.joined()
        let bytes = Array(said.utf8)
        for start in stride(from: 0, to: bytes.count, by: piece) {
            try client.send(Array(bytes.dropFirst(start).prefix(piece)))
            try loop.turn(limit: .milliseconds(1))
        }
        try turn(loop, until: "the first one waits") { waiting.count == 1 && qemu.peers.first?.lines.count == 1 }
        let peer = try #require(qemu.peers.first)
        try peer.send("{\"return\":\"a\",\"id\":1}\r\n")
        try turn(loop, until: "its reply has come") { client.lines.count == 1 }
        // Events go by meanwhile.
        try peer.send("{\"event\":\"STOP\"}\r\n")
        try turn(loop, until: "the event has come") { client.lines.count == 2 }
        #expect(!peer.text.contains("\"b\""))
        let file = try memory("file")
        try client.send("{\"execute\":\"d\"}\r\n", descriptors: [file.raw])
        waiting[0].1.settle(.answer(waiting[0].0.reply("ours")))
        waiting[0].1.settle(.pass)
        try turn(loop, until: "the second one waits") { waiting.count == 2 && peer.text.contains("\"b\"") }
        #expect(!peer.text.contains("\"c\""))
        waiting[1].1.settle(.pass)
        try turn(loop, until: "QEMU has all") { peer.text.contains("\"d\"") }
        #expect(peer.lines.map { JSONValue(parsing: Array($0.utf8))?["execute"]?.text ?? "" } == ["a", "b", "slow", "c", "d"])
        #expect(peer.descriptors.map { contents($0.descriptor) } == ["file"])
        try turn(loop, until: "the answer is there") { client.lines.count == 3 }
        #expect(client.lines[2] == "{\"id\":2,\"return\":\"ours\"}")
    }

    @Test("A verdict that is known at once does not wait, and one that never comes keeps nobody else")
    func atOnceAndNever() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        var kept: [QMPDeferral] = []
        facade.decide = { command in
            let deferral = QMPDeferral()
            if command.name == "known" { deferral.settle(.answer(command.reply(1))) } else { kept.append(deferral) }
            return .later(deferral)
        }
        var client: Peer? = try Peer(loop, connectingTo: libxl)
        try client?.send("{\"execute\":\"known\"}{\"execute\":\"never\"}{\"execute\":\"after\"}")
        try turn(loop, until: "the first is answered") { client?.lines.count == 1 && kept.count == 1 }
        client = nil
        // Its end is not looked for while it waits; QEMU's is.
        try turn(loop, until: "QEMU has taken it") { qemu.peers.count == 1 }
        kept[0].settle(.pass)
        try turn(loop, until: "QEMU sees its end") { qemu.peers[0].ended || kept.count == 2 }
        if kept.count == 2 { kept[1].settle(.pass) }
        try turn(loop, until: "QEMU sees its end") { qemu.peers[0].ended }
        qemu.peers[0].endWriting()
        let next = try Peer(loop, connectingTo: libxl)
        try next.send("{\"execute\":\"known\"}")
        try turn(loop, until: "the next one is served") { next.lines.count == 1 }
        facade.close()
        try turn(loop, until: "the end is seen") { next.ended }
    }

    @Test("A watched command's reply is told, whole, and nothing when the connection ends first")
    func watched() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        var told: [JSONValue] = []
        facade.decide = { $0.name == "watched" ? .watch { reply in
            told.append(reply)
            return true
        } : .pass }
        let client = try Peer(loop, connectingTo: libxl)
        try client.send("{\"execute\":\"a\"}{\"execute\":\"watched\",\"id\":7}{\"execute\":\"b\"}{\"execute\":\"watched\"}")
        try turn(loop, until: "QEMU has them") { qemu.peers.first?.text.hasSuffix("{\"execute\":\"watched\"}") == true }
        let peer = qemu.peers[0]
        try peer.send("{\"QMP\":{}}\r\n{\"return\":1}\r\n{\"event\":\"X\"}\r\n{\"return\":{\"fdset-id\":3},\"id\":7}\r\n{\"return\":2}\r\n")
        try turn(loop, until: "the reply is told") { told.count == 1 }
        #expect(told == [["return": ["fdset-id": 3], "id": 7]])
        try turn(loop, until: "the client has all") { client.lines.count == 5 }
        peer.endWriting()
        try turn(loop, until: "the end is told") { told.count == 2 }
        #expect(told[1] == .null)
    }

    @Test("A reply that its watcher does not let pass ends the connection in its place")
    func notBelieved() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        facade.decide = { _ in .watch { $0["return"] == nil } }
        let client = try Peer(loop, connectingTo: libxl)
        try client.send("{\"execute\":\"a\"}{\"execute\":\"b\"}")
        try turn(loop, until: "QEMU has them") { qemu.peers.first?.text.contains("\"b\"") == true }
        try qemu.peers[0].send("{\"error\":{}}\r\n{\"event\":\"X\"}\r\n")
        try turn(loop, until: "the first reply passes") { client.lines.count == 2 }
        try qemu.peers[0].send("{\"return\":{}}\r\n")
        try turn(loop, until: "the connection ends") { client.ended && qemu.peers[0].ended && facade.clientCount == 0 }
        #expect(client.lines.count == 2)
    }

    @Test("A changed command keeps its id and the descriptors that came with it, which the verdict can see")
    func replaced() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        var seen = ""
        facade.decide = { command in
            if let raw = command.descriptors.first { seen = contents(raw) }
            return command.name == "device_add" ? .replace(command.with(arguments: ["addr": "5"])) : .pass
        }
        let client = try Peer(loop, connectingTo: libxl)
        let file = try memory("file")
        try client.send("{", descriptors: [file.raw])
        try client.send("\"execute\":\"device_add\",\"id\":[9]}\r\n")
        try turn(loop, until: "QEMU has it") { qemu.peers.first?.lines.count == 1 }
        let peer = qemu.peers[0]
        #expect(peer.lines == ["{\"arguments\":{\"addr\":\"5\"},\"execute\":\"device_add\",\"id\":[9]}"])
        #expect(peer.descriptors.map { contents($0.descriptor) } == ["file"] && seen == "file")
    }

    @Test("Many clients, random verdicts at random times: every reply comes, in order")
    func random() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        var random = SplitMix(state: 0x5eed_0010)
        var waiting: [(QMPCommand, QMPDeferral)] = []
        facade.decide = { command in
            switch Int.random(in: 0..<4, using: &random) {
            case 0: return .answer(command.reply("ours"))
            case 1:
                let deferral = QMPDeferral()
                waiting.append((command, deferral))
                return .later(deferral)
            case 2: return .watch { _ in true }
            default: return .pass
            }
        }
        let client = try Peer(loop, connectingTo: libxl)
        let count = 400
        for id in 0..<count { try client.send("{\"execute\":\"x\",\"id\":\(id)}" + (id % 3 == 0 ? "\r\n" : "")) }
        var answered = 0
        try turn(loop, until: "all is answered") {
            if let peer = qemu.peers.first {
                // Commands that were let through stand one after the other, each with its id at its end.
                let all = peer.text.split(separator: "}").compactMap { $0.split(separator: ":").last }.filter { $0.allSatisfy(\.isNumber) }
                for id in all.dropFirst(answered) { try? peer.send("{\"return\":{},\"id\":\(id)}\r\n") }
                answered = all.count
            }
            for (command, deferral) in waiting { deferral.settle(Bool.random(using: &random) ? .pass : .answer(command.reply("late"))) }
            waiting = []
            return client.lines.count == count
        }
        #expect(client.lines.map { JSONValue(parsing: Array($0.utf8))?["id"]?.integer ?? -1 } == (0..<count).map(Int64.init))
    }
}

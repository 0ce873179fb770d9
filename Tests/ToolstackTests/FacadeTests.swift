import Glibc
import Platform
import SeededNumbers
import TestTools
import Testing

@testable import Toolstack

@Suite("The façade before a stand-in for QEMU")
struct FacadeTests {
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

    @Test("Bytes, descriptors and ends pass both ways in their order")
    func both() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        let client = try Peer(loop, connectingTo: libxl)
        let first = try memory("first")
        let second = try memory("second")
        // As libxl does it: the descriptor goes with the first byte alone.
        try client.send("before ")
        try client.send("{", descriptors: [first.raw])
        try client.send("\"execute\":\"add-fd\"}\r\n")
        try turn(loop, until: "the command is there") { qemu.peers.first?.text == "before {\"execute\":\"add-fd\"}\r\n" }
        let peer = try #require(qemu.peers.first)
        #expect(peer.descriptors.map { contents($0.descriptor) } == ["first"])
        #expect((peer.descriptors.first?.at ?? 99) <= 7)
        try peer.send("{\"return\":{}}\r\n", descriptors: [second.raw])
        try turn(loop, until: "the reply is there") { client.text == "{\"return\":{}}\r\n" }
        #expect(client.descriptors.map { contents($0.descriptor) } == ["second"])
        client.endWriting()
        try turn(loop, until: "QEMU sees the end") { peer.ended }
        #expect(!client.ended)
        try peer.send("last words")
        try turn(loop, until: "the last words arrive") { client.text.hasSuffix("last words") }
        peer.endWriting()
        try turn(loop, until: "the client sees the end") { client.ended && facade.clientCount == 0 }
    }

    @Test("Held clients wait in their order until it is opened, and nothing they sent is lost")
    func held() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        facade.hold()
        let qemu = try Listener(loop, path: private_)
        let clients = try (1...3).map { number in
            let client = try Peer(loop, connectingTo: libxl)
            try client.send("client \(number)")
            client.endWriting()
            return client
        }
        try turn(loop, until: "all are taken in") { facade.clientCount == 3 }
        for _ in 0..<5 { try loop.turn(limit: .milliseconds(10)) }
        #expect(qemu.peers.isEmpty)
        facade.open()
        for number in 1...3 {
            try turn(loop, until: "client \(number) is served") { qemu.peers.count == number && qemu.peers[number - 1].ended }
            #expect(qemu.peers[number - 1].text == "client \(number)")
            qemu.peers[number - 1].endWriting()
        }
        try turn(loop, until: "all have ended") { clients.allSatisfy(\.ended) && facade.clientCount == 0 }
    }

    @Test("A client that comes before QEMU listens is served once it does")
    func early() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let client = try Peer(loop, connectingTo: libxl)
        try client.send("early")
        try turn(loop, until: "it is taken in") { facade.clientCount == 1 }
        for _ in 0..<5 { try loop.turn(limit: .milliseconds(10)) }
        let qemu = try Listener(loop, path: private_)
        try turn(loop, until: "QEMU has it") { qemu.peers.first?.text == "early" }
        _ = facade
    }

    @Test("A side that does not read makes the other one wait, and then gets all of it", arguments: [true, false])
    func backPressure(upwards: Bool) throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_, reading: !upwards)
        let client = try Peer(loop, connectingTo: libxl, reading: upwards)
        try turn(loop, until: "it is served") { qemu.peers.count == 1 }
        let (from, to) = upwards ? (client, qemu.peers[0]) : (qemu.peers[0], client)
        let pattern = (0..<8_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 11) }
        try from.send(pattern)
        // What the kernel and the façade hold is far less than 8 MB, so it comes to a stop.
        var before = -1
        try turn(loop, until: "it stands still") {
            defer { before = from.unsent }
            return before == from.unsent && from.unsent < pattern.count
        }
        #expect(from.unsent > 4_000_000)
        // The other direction is not held up by it.
        let (back, word) = upwards ? (qemu.peers[0], client) : (client, qemu.peers[0])
        try back.send("meanwhile")
        try turn(loop, until: "the other direction goes on") { word.text == "meanwhile" }
        try to.startReading()
        try turn(loop, until: "all has come") { to.received.count == pattern.count }
        #expect(to.received == pattern)
        _ = facade
    }

    @Test("A client that hangs up with replies unread is forgotten, and the next one is served")
    func hangUp() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        var client: Peer? = try Peer(loop, connectingTo: libxl, reading: false)
        try turn(loop, until: "it is served") { qemu.peers.count == 1 }
        try qemu.peers[0].send([UInt8](repeating: 0x20, count: 2_000_000))
        try client?.send("{\"execute\":")
        try turn(loop, until: "half a command is there") { qemu.peers[0].text == "{\"execute\":" }
        client = nil
        try turn(loop, until: "QEMU sees the end") { qemu.peers[0].ended }
        let next = try Peer(loop, connectingTo: libxl)
        try next.send("next")
        try turn(loop, until: "the next one is served") { qemu.peers.count == 2 && qemu.peers[1].text == "next" }
        try turn(loop, until: "only one is left") { facade.clientCount == 1 }
    }

    @Test("When QEMU closes, the client still gets what was said, then the end; the next one is served meanwhile")
    func qemuCloses() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        let slow = try Peer(loop, connectingTo: libxl, reading: false)
        try turn(loop, until: "it is served") { qemu.peers.count == 1 }
        // More than the kernel holds, less than that and the façade's buffer: the rest stays with the façade.
        let last = [UInt8](repeating: 0x41, count: 250_000)
        try qemu.peers[0].send(last)
        try turn(loop, until: "QEMU has said it") { qemu.peers[0].unsent == 0 }
        qemu.peers.removeFirst()
        let next = try Peer(loop, connectingTo: libxl)
        try next.send("next")
        try turn(loop, until: "the next one is served") { qemu.peers.count == 1 && qemu.peers[0].text == "next" }
        try slow.startReading()
        try turn(loop, until: "the slow one has all and the end") { slow.ended }
        #expect(slow.received == last)
        _ = facade
    }

    @Test("Closing ends every client, and nobody can connect any more")
    func closing() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        let served = try Peer(loop, connectingTo: libxl)
        let waiting = try Peer(loop, connectingTo: libxl)
        try turn(loop, until: "both are there") { facade.clientCount == 2 && qemu.peers.count == 1 }
        facade.close()
        try turn(loop, until: "all see the end") { served.ended && waiting.ended && qemu.peers[0].ended }
        #expect(throws: SystemError.self) { _ = try UnixSocket.connectStream(libxl) }
        #expect(access(libxl, F_OK) != 0)
    }

    @Test("A socket that libxl opened itself is taken over, with the client that connected before")
    func adopted() throws {
        let descriptor = try UnixSocket.listen(.stream, path: libxl).release()
        let client = try Peer(loop, connectingTo: libxl)
        let facade = try QMPFacade(loop: loop, at: .descriptor(descriptor), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        try client.send("hello")
        try turn(loop, until: "QEMU has it") { qemu.peers.first?.text == "hello" }
        facade.close()
        // The file is libxl's, and libxl removes it.
        #expect(access(libxl, F_OK) == 0)
    }

    @Test("A descriptor that is no listening socket is refused")
    func notListening() throws {
        var ends: [CInt] = [-1, -1]
        #expect(pipe(&ends) == 0)
        let first = OwnedDescriptor(adopting: ends[0])
        let second = OwnedDescriptor(adopting: ends[1])
        #expect(throws: SystemError.self) { try QMPFacade(loop: loop, at: .descriptor(first.raw), qemu: private_) }
        let plain = try UnixSocket.make(.stream)
        #expect(throws: SystemError.self) { try QMPFacade(loop: loop, at: .descriptor(plain.raw), qemu: private_) }
        _ = second.raw
    }

    @Test("Commands are seen, in whatever pieces they come, before QEMU has them whole", arguments: [1, 5, 1000])
    func observed(piece: Int) throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        var seen: [String] = []
        facade.observe = { command in
            seen.append("\(command.connection) \(command.name) \(command.arguments?["live"]?.bool?.description ?? "-")")
        }
        let text = #"{"execute":"stop","id":1}junk{"x":1}{"execute":"xen-save-devices-state","arguments":{"live":true}} {"execute":"cont"}"#
        let client = try Peer(loop, connectingTo: libxl)
        let bytes = Array(text.utf8)
        for start in stride(from: 0, to: bytes.count, by: piece) {
            try client.send(Array(bytes[start..<min(bytes.count, start + piece)]))
            if piece < 1000 { try loop.turn(limit: .milliseconds(1)) }
        }
        try turn(loop, until: "QEMU has all of it") { qemu.peers.first?.text == text }
        #expect(seen == ["1 stop -", "1 xen-save-devices-state true", "1 cont -"])
    }

    @Test("Answers of ours stand among QEMU's replies where their commands stood", arguments: [1, 9, 1000])
    func answered(piece: Int) throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        facade.decide = { $0.name == "query-vnc" ? .answer($0.reply(["enabled": false])) : .pass }
        let client = try Peer(loop, connectingTo: libxl)
        let commands = ["a", "query-vnc", "b", "query-vnc", "query-vnc", "c"].enumerated().map {
            "{\"execute\":\"\($0.element)\",\"id\":\($0.offset)}\r\n"
        }
        for start in stride(from: 0, to: commands.joined().utf8.count, by: piece) {
            try client.send(Array(commands.joined().utf8.dropFirst(start).prefix(piece)))
        }
        try turn(loop, until: "QEMU has its own") { qemu.peers.first?.text.contains("\"c\",\"id\":5}") == true }
        let peer = try #require(qemu.peers.first)
        #expect(!peer.text.contains("query-vnc"))
        let said = [
            #"{"QMP":{}}"#, #"{"return":{},"id":0}"#, #"{"event":"STOP"}"#, #"{"error":{"class":"GenericError","desc":"x"},"id":2}"#,
            #"{"return":[],"id":5}"#,
        ].map { $0 + "\r\n" }.joined()
        for start in stride(from: 0, to: said.utf8.count, by: piece) {
            try peer.send(Array(said.utf8.dropFirst(start).prefix(piece)))
            try loop.turn(limit: .milliseconds(1))
        }
        try turn(loop, until: "all replies are there") { client.lines.count == 8 }
        let ours = { (id: Int) in "{\"id\":\(id),\"return\":{\"enabled\":false}}" }
        #expect(
            client.lines == [
                #"{"QMP":{}}"#, #"{"return":{},"id":0}"#, ours(1), #"{"event":"STOP"}"#, #"{"error":{"class":"GenericError","desc":"x"},"id":2}"#,
                ours(3), ours(4), #"{"return":[],"id":5}"#,
            ])
    }

    @Test("A descriptor goes with the command that it came with, also when others are answered")
    func answeredWithDescriptor() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        facade.decide = { $0.name == "query-vnc" ? .answer($0.reply([:])) : .pass }
        let client = try Peer(loop, connectingTo: libxl)
        let file = try memory("file")
        let lost = try memory("lost")
        try client.send("{\"execute\":\"query-vnc\"}\r\n", descriptors: [lost.raw])
        try turn(loop, until: "it is answered") { client.lines.count == 1 }
        try client.send("{\"execute\":\"query-vnc\"}\r\n{\"execute\":\"add-fd\"}\r\n", descriptors: [file.raw])
        try turn(loop, until: "QEMU has the other") { qemu.peers.first?.text.contains("add-fd") == true }
        #expect(qemu.peers.first?.descriptors.map { contents($0.descriptor) } == ["file"])
    }

    @Test("With commands decided on, garbage and overlong commands pass unchanged, and a broken-off one at the end too")
    func decidedGarbage() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        let qemu = try Listener(loop, path: private_)
        var decided = 0
        facade.decide = { _ in
            decided += 1
            return .pass
        }
        var random = SplitMix(state: 0x5eed_0003)
        var sent: [UInt8] = []
        let client = try Peer(loop, connectingTo: libxl)
        let alphabet = Array("{}[]\"'\\,: \n\rabc".utf8) + [0xff, 0x00]
        for _ in 0..<300 {
            let chunk = (0..<Int.random(in: 1...300, using: &random)).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &random)] }
            sent += chunk
            try client.send(chunk)
        }
        for extra in ["\u{1}\u{1}{\"execute\":\"" + String(repeating: "x", count: 200_000) + "\"}", "{\"execute\":\"stop\"}", "{\"execute\":\"con"] {
            sent += Array(extra.utf8)
            try client.send(extra)
        }
        try turn(loop, until: "all has been sent") { client.unsent == 0 }
        client.endWriting()
        try turn(loop, until: "QEMU has all of it") { qemu.peers.first?.ended == true }
        #expect(qemu.peers.first?.received == sent)
        #expect(decided <= sent.count)
    }

    @Test("More clients than it takes in at a time are all served in the end")
    func crowd() throws {
        let facade = try QMPFacade(loop: loop, at: .path(libxl), qemu: private_)
        facade.hold()
        let qemu = try Listener(loop, path: private_)
        let clients = try (0..<(QMPFacade.clientLimit + 30)).map { number in
            let client = try Peer(loop, connectingTo: libxl)
            try client.send("\(number)")
            client.endWriting()
            // The kernel lets 64 wait; the next connection would block this thread.
            try loop.turn(limit: .zero)
            return client
        }
        try turn(loop, until: "it is full") { facade.clientCount == QMPFacade.clientLimit }
        facade.open()
        var served: [String] = []
        try turn(loop, until: "all are served") {
            while let peer = qemu.peers.first, peer.ended {
                served.append(peer.text)
                qemu.peers.removeFirst()
            }
            return clients.allSatisfy(\.ended)
        }
        #expect(served == clients.indices.map(String.init))
    }
}

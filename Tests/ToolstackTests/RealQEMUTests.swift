import CLinux
import Glibc
import Platform
import TestTools
import Testing

@testable import Toolstack

@Suite("The façade before a real QEMU")
struct RealQEMUTests {
    /// A QEMU started as `demux-dm` starts it, with the arguments of libxl rewritten, and the façade before it.
    final class Setup {
        let folder: TemporaryFolder
        let loop: EventLoop
        let facade: QMPFacade
        let client: QMPClient
        let qemu: QEMU
        let libxl: String

        init(held: Bool = false, more: [String] = [], decide: ((QMPCommand) -> QMPVerdict)? = nil) throws {
            folder = try TemporaryFolder()
            loop = try EventLoop()
            libxl = folder.path + "/qmp-libxl-1"
            // libxl opens the socket itself, as with dm_restrict.
            let opened = try UnixSocket.listen(.stream, path: libxl).release()
            let monitors = try PrivateMonitors(folder: folder.path)
            let given = try DeviceModelArguments([
                "-xen-domid", "1", "-no-shutdown", "-chardev", "socket,id=libxl-cmd,fd=\(opened),server=on,wait=off", "-S", "-mon",
                "chardev=libxl-cmd,mode=control", "-chardev", "socket,id=libxenstat-cmd,path=\(folder.path)/xenstat,server=on,wait=off",
                "-mon", "chardev=libxenstat-cmd,mode=control", "-nodefaults", "-no-user-config", "-vnc", "none", "-display", "none", "-machine",
                "none", "--demux-verbose",
            ] + more)
            var arguments = try given.rewritten(libxl: monitors.libxl, demux: monitors.demux)
            // This machine has no Xen.
            let place = try #require(arguments.firstIndex(of: "-xen-domid"))
            arguments.removeSubrange(place...place + 1)
            facade = try QMPFacade(loop: loop, at: try #require(given.monitor), qemu: monitors.libxlPath)
            facade.decide = decide
            if held { facade.hold() }
            client = QMPClient(loop: loop, path: monitors.demuxPath)
            qemu = try QEMU(arguments, inherited: monitors.inherited)
        }

        func connect() throws -> Peer { try Peer(loop, connectingTo: libxl) }

        /// Sends a command and waits for its reply, which carries the id.
        func ask(_ peer: Peer, _ command: String, id: Int, arguments: String = "{}", descriptors: [CInt] = []) throws -> JSONValue {
            let text = "{\"execute\":\"\(command)\",\"id\":\(id),\"arguments\":\(arguments)}\r\n"
            try peer.send(String(text.prefix(1)), descriptors: descriptors)
            try peer.send(String(text.dropFirst()))
            var reply: JSONValue?
            try turn(loop, until: "QEMU has answered \(command)") {
                reply = Self.messages(peer).first { $0["id"] == .integer(Int64(id)) }
                return reply != nil || peer.ended
            }
            return try #require(reply, "\(command) had no reply: \(peer.text)")
        }

        static func messages(_ peer: Peer) -> [JSONValue] { peer.lines.compactMap { JSONValue(parsing: Array($0.utf8)) } }
    }

    @Test("A session as libxl leads it: greeting, capabilities, version, a descriptor in a set")
    func session() throws {
        let setup = try Setup()
        var seen: [String] = []
        setup.facade.observe = { seen.append($0.name) }
        let peer = try setup.connect()
        try turn(setup.loop, until: "QEMU greets") { !peer.lines.isEmpty }
        #expect(Setup.messages(peer).first?["QMP"]?["version"]?["qemu"]?["major"]?.integer != nil)
        #expect(try setup.ask(peer, "qmp_capabilities", id: 1)["return"] == [:])
        #expect(try setup.ask(peer, "query-version", id: 2)["return"]?["qemu"]?["major"]?.integer != nil)
        let file = OwnedDescriptor(adopting: demux_memfd_create("state"))
        let added = try setup.ask(peer, "add-fd", id: 3, descriptors: [file.raw])
        let set = try #require(added["return"]?["fdset-id"]?.integer)
        let sets = try setup.ask(peer, "query-fdsets", id: 4)
        #expect(sets["return"]?.elements?.first?["fdset-id"]?.integer == set)
        #expect(sets["return"]?.elements?.first?["fds"]?.elements?.count == 1)
        // dm_restrict's libxl takes this for readiness.
        #expect(try setup.ask(peer, "query-status", id: 5)["return"]?["status"] == "prelaunch")
        #expect(seen == ["qmp_capabilities", "query-version", "add-fd", "query-fdsets", "query-status"])
        // xenstat's monitor is QEMU's own still.
        #expect(access(setup.folder.path + "/xenstat", F_OK) == 0)
    }

    @Test("A QEMU that has given up root and locked itself in an empty folder is reached all the same", .enabled(if: geteuid() == 0, "only root can do this"))
    func restricted() throws {
        let root = try TemporaryFolder()
        #expect(chmod(root.path, 0) == 0)
        let setup = try Setup(more: ["-chroot", root.path, "-runas", "65534:65534"])
        for _ in 0..<2 {
            let peer = try setup.connect()
            #expect(try setup.ask(peer, "qmp_capabilities", id: 1)["return"] == [:])
            #expect(try setup.ask(peer, "query-status", id: 2)["return"]?["status"] == "prelaunch")
            let file = OwnedDescriptor(adopting: demux_memfd_create("state"))
            #expect(try setup.ask(peer, "add-fd", id: 3, descriptors: [file.raw])["return"]?["fdset-id"] != nil)
        }
        var status = stat()
        #expect(stat("/proc/\(setup.qemu.process.pid)/root", &status) == 0)
        var locked = stat()
        #expect(stat(root.path, &locked) == 0 && status.st_ino == locked.st_ino)
        // Demux's own monitor was opened before QEMU let go of its rights, and works after it.
        var answer: Result<JSONValue, QMPError>?
        setup.client.execute("query-status", deadline: .seconds(60)) { answer = $0 }
        try turn(setup.loop, until: "Demux has its answer") { answer != nil }
        #expect(try answer?.get()["status"] == "prelaunch")
    }

    @Test("The sockets that QEMU inherits do not block, or two of its threads may wait for one connection for ever")
    func nonBlocking() throws {
        let folder = try TemporaryFolder()
        let monitors = try PrivateMonitors(folder: folder.path)
        for pair in monitors.inherited {
            #expect(fcntl(pair.ours, F_GETFL) & O_NONBLOCK != 0)
            #expect(pair.ours == pair.theirs)
        }
        #expect([monitors.libxl, monitors.demux] == monitors.inherited.map { .descriptor($0.theirs) })
        PrivateMonitors.removeFiles(folder: folder.path)
        #expect(access(monitors.libxlPath, F_OK) != 0 && access(monitors.demuxPath, F_OK) != 0)
    }

    @Test("Three clients at once are served one after the other, as QEMU itself would")
    func three() throws {
        let setup = try Setup()
        var peers = try (0..<3).map { _ in try setup.connect() }
        while let peer = peers.first {
            #expect(try setup.ask(peer, "qmp_capabilities", id: 1)["return"] == [:])
            #expect(try setup.ask(peer, "query-name", id: 2)["return"] == [:])
            #expect(peers.dropFirst().allSatisfy { $0.received.isEmpty })
            peers.removeFirst()
        }
        try turn(setup.loop, until: "all have gone") { setup.facade.clientCount == 0 }
    }

    @Test("A megabyte of commands sent at once is answered whole and in order", arguments: [false, true])
    func pipelined(decided: Bool) throws {
        let setup = try Setup(decide: decided ? { $0.name == "query-vnc" ? .answer($0.reply("ours")) : .pass } : nil)
        let peer = try setup.connect()
        #expect(try setup.ask(peer, "qmp_capabilities", id: 0)["return"] == [:])
        // QEMU reads its monitor byte by byte, so a megabyte takes it seconds; once is enough.
        let count = decided ? 3_000 : 12_000
        var text = ""
        for id in 1...count {
            let command = decided && id % 7 == 0 ? "query-vnc" : "query-name"
            text += "{\"execute\":\"\(command)\",\"id\":\(id),\"arguments\":{}}" + String(repeating: " ", count: 40) + "\r\n"
        }
        #expect(text.utf8.count > (decided ? 250_000 : 1_000_000))
        let before = peer.lines.count
        try peer.send(text)
        try turn(setup.loop, until: "all is answered") {
            // The last command is QEMU's; asking for all lines each time would take the longest of all.
            peer.ended || String(decoding: peer.received.suffix(80), as: UTF8.self).contains("\(count)")
        }
        let replies = Setup.messages(peer).dropFirst(before)
        #expect(replies.map { $0["id"]?.integer ?? -1 } == (1...count).map(Int64.init))
        for reply in replies {
            let id = reply["id"]?.integer ?? 0
            #expect(reply["return"] == (decided && id % 7 == 0 ? "ours" : [:]))
        }
    }

    @Test("A client that hangs up in the middle of a command leaves nothing behind for the next one")
    func hangUp() throws {
        let setup = try Setup()
        for _ in 0..<20 {
            let peer = try setup.connect()
            try peer.send("{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quer")
        }
        let peer = try setup.connect()
        #expect(try setup.ask(peer, "qmp_capabilities", id: 1)["return"] == [:])
        #expect(Setup.messages(peer).count == 2)
    }

    @Test("While it is held libxl waits, and Demux asks on its own monitor")
    func held() throws {
        let setup = try Setup(held: true)
        let peer = try setup.connect()
        try peer.send("{\"execute\":\"qmp_capabilities\",\"id\":1}\r\n")
        var status: Result<JSONValue, QMPError>?
        setup.client.execute("query-status", deadline: .seconds(60)) { status = $0 }
        try turn(setup.loop, until: "Demux has its answer") { status != nil }
        #expect(try status?.get()["running"] == false)
        #expect(peer.received.isEmpty && setup.facade.clientCount == 1)
        setup.facade.open()
        try turn(setup.loop, until: "libxl is served") { peer.lines.count == 2 }
    }

    @Test("When QEMU is killed every client sees the end, and so does Demux's own")
    func killed() throws {
        let setup = try Setup()
        let first = try setup.connect()
        let second = try setup.connect()
        #expect(try setup.ask(first, "qmp_capabilities", id: 1)["return"] == [:])
        var lost: QMPError?
        setup.client.closed = { lost = $0 }
        try turn(setup.loop, until: "Demux is connected") { setup.client.isReady }
        // As the coordinator does it.
        try setup.loop.watch(setup.qemu.process.exitDescriptor, for: .readable) { [facade = setup.facade, loop = setup.loop, raw = setup.qemu.process.exitDescriptor] _ in
            loop.forget(raw)
            facade.close()
        }
        setup.qemu.process.signal(SIGKILL)
        try turn(setup.loop, until: "all see the end") { first.ended && second.ended && lost != nil }
        #expect(setup.facade.clientCount == 0)
        var refused: Result<JSONValue, QMPError>?
        setup.client.execute("query-status") { refused = $0 }
        try turn(setup.loop, until: "it is refused") { refused != nil }
        #expect(throws: QMPError.self) { try refused?.get() }
    }

    @Test("Demux's own client: human commands, refusals in QEMU's words, events, many at once")
    func ownClient() throws {
        let setup = try Setup()
        var version: Result<String, QMPError>?
        var refusal: Result<JSONValue, QMPError>?
        var order: [Int] = []
        var events: [String] = []
        setup.client.event = { name, _ in events.append(name) }
        setup.client.humanCommand("info version", deadline: .seconds(60)) { version = $0 }
        setup.client.execute("no-such-command", deadline: .seconds(60)) { refusal = $0 }
        for number in 0..<500 { setup.client.execute("query-name", deadline: .seconds(60)) { _ in order.append(number) } }
        try turn(setup.loop, until: "all is answered") { order.count == 500 }
        #expect(try version?.get().contains(".") == true)
        #expect(order == Array(0..<500))
        #expect {
            try refusal?.get()
        } throws: { "\($0)".contains("no-such-command") && "\($0)".contains("CommandNotFound") }
        var ended = false
        setup.client.closed = { _ in ended = true }
        setup.client.execute("quit") { _ in }
        try turn(setup.loop, until: "QEMU has gone") { ended }
        #expect(events.contains("SHUTDOWN"))
        #expect(setup.qemu.process.wait(limit: .seconds(30)) == .status(0))
    }
}

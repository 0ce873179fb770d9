import CLinux
import Glibc
import Platform
import TestTools
import Testing

@testable import Toolstack

@Suite("Demux's own monitor before a stand-in for QEMU")
struct ClientTests {
    let folder: TemporaryFolder
    let loop: EventLoop
    let path: String

    init() throws {
        folder = try TemporaryFolder()
        loop = try EventLoop()
        path = folder.path + "/q"
    }

    private func greeted(_ client: QMPClient, _ qemu: Listener) throws -> Peer {
        try turn(loop, until: "it has connected") { qemu.peers.count == 1 }
        let peer = qemu.peers[0]
        try peer.send("{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n")
        try turn(loop, until: "it asks for the capabilities") { peer.text.contains("qmp_capabilities") }
        #expect(peer.lines.count == 1)
        try peer.send("{\"return\":{},\"id\":0}\r\n")
        try turn(loop, until: "it is ready") { client.isReady }
        return peer
    }

    @Test("A command whose answer does not come ends at its deadline, and the late answer harms nobody")
    func deadline() throws {
        let client = QMPClient(loop: loop, path: path)
        let qemu = try Listener(loop, path: path)
        let peer = try greeted(client, qemu)
        var late: Result<JSONValue, QMPError>?
        client.execute("slow", deadline: .milliseconds(20)) { late = $0 }
        try turn(loop, until: "it is given up") { late != nil }
        #expect(late == .failure(QMPError(command: "slow", reason: .timedOut(.milliseconds(20), "QEMU has the command"))))
        var next: Result<JSONValue, QMPError>?
        client.execute("quick", deadline: .seconds(60)) { next = $0 }
        try peer.send("{\"return\":1,\"id\":1}\r\n{\"event\":\"X\"}\r\n{\"return\":2,\"id\":2}\r\n")
        try turn(loop, until: "the next is answered") { next != nil }
        #expect(try next?.get() == 2)
    }

    @Test("The deadline counts while QEMU does not even listen")
    func neverListens() throws {
        let client = QMPClient(loop: loop, path: path)
        var result: Result<JSONValue, QMPError>?
        client.execute("query-pci", deadline: .milliseconds(30)) { result = $0 }
        try turn(loop, until: "it is given up") { result != nil }
        #expect(throws: QMPError.self) { try result?.get() }
        client.close()
    }

    @Test(
        "A peer that is no monitor is given up, with every command told",
        arguments: ["{\"hello\":1}\r\n", "{nonsense}\r\n", "{\"QMP\":{}}\r\n{\"error\":{\"desc\":\"no\"},\"id\":0}\r\n"])
    func noMonitor(words: String) throws {
        let client = QMPClient(loop: loop, path: path)
        let qemu = try Listener(loop, path: path)
        var results = 0
        var closed = 0
        client.closed = { _ in closed += 1 }
        for _ in 0..<3 { client.execute("query-status", deadline: .seconds(60)) { if case .failure = $0 { results += 1 } } }
        try turn(loop, until: "it has connected") { qemu.peers.count == 1 }
        try qemu.peers[0].send(words)
        try turn(loop, until: "it is given up") { closed == 1 }
        #expect(results == 3)
        try turn(loop, until: "the peer sees the end") { qemu.peers[0].ended }
    }

    @Test("A list of PCI functions that cannot be read is an error, not a guess")
    func badPCI() throws {
        let client = QMPClient(loop: loop, path: path)
        let qemu = try Listener(loop, path: path)
        let peer = try greeted(client, qemu)
        var result: Result<[PCIFunctionReport], QMPError>?
        client.queryPCI { result = $0 }
        try peer.send("{\"return\":[{\"bus\":0}],\"id\":1}\r\n")
        try turn(loop, until: "it is answered") { result != nil }
        #expect(throws: QMPError.self) { try result?.get() }
    }
}

@Suite("What libxl's time for a start leaves QEMU")
struct StartLimitTests {
    private static let second: UInt64 = 1_000_000_000

    @Test("sixty seconds from the process's start, but for a margin to say why", arguments: [(0, 55), (8, 47), (54, 1), (55, 0), (61, 0)] as [(UInt64, Int)])
    func left(after seconds: UInt64, left: Int) {
        let began = 7 * Self.second
        #expect(StartLimit(began: began).left(at: began + seconds * Self.second) == .seconds(left))
    }

    @Test("a QEMU that says nothing for long is told of in the log, once, and answers all the same")
    func slow() throws {
        let folder = try TemporaryFolder()
        let loop = try EventLoop()
        let client = QMPClient(loop: loop, path: folder.path + "/q")
        let qemu = try Listener(loop, path: folder.path + "/q")
        var words: [String] = []
        var result: Result<[PCIFunctionReport], QMPError>?
        client.queryPCI(within: StartLimit(), patience: .zero, slow: { words.append($0) }) { result = $0 }
        // Only then does it begin to answer.
        try turn(loop, until: "it is told of") { words.count == 1 && qemu.peers.count == 1 }
        #expect(words[0].contains("has not said within 0.0 seconds which PCI slots it has (QEMU "))
        try qemu.peers[0].send("{\"QMP\":{}}\r\n{\"return\":{},\"id\":0}\r\n{\"return\":[],\"id\":1}\r\n")
        try turn(loop, until: "it is answered") { result != nil }
        #expect(try result?.get().isEmpty == true)
        #expect(words.count == 1)
    }

    @Test("one that answers in time is not told of")
    func quick() throws {
        let folder = try TemporaryFolder()
        let loop = try EventLoop()
        let client = QMPClient(loop: loop, path: folder.path + "/q")
        let qemu = try Listener(loop, path: folder.path + "/q")
        var words = 0
        var result: Result<[PCIFunctionReport], QMPError>?
        client.queryPCI(within: StartLimit(), patience: .milliseconds(1), slow: { _ in words += 1 }) { result = $0 }
        client.close()
        try turn(loop, until: "it is answered") { result != nil }
        // A later moment of the same clock comes after every earlier one.
        var later = false
        loop.after(.milliseconds(2)) { later = true }
        try turn(loop, until: "the time for a word is over") { later }
        #expect(words == 0)
        withExtendedLifetime(qemu) {}
    }

    @Test("at the end of libxl's time it is said how far QEMU has come")
    func over() throws {
        let folder = try TemporaryFolder()
        let loop = try EventLoop()
        let client = QMPClient(loop: loop, path: folder.path + "/q")
        var result: Result<[PCIFunctionReport], QMPError>?
        client.queryPCI(within: StartLimit(began: EventLoop.now() &- 55 * Self.second), slow: { _ in }) { result = $0 }
        try turn(loop, until: "it is given up") { result != nil }
        #expect(throws: QMPError(command: "query-pci", reason: .timedOut(.zero, "QEMU does not listen at \(folder.path)/q yet"))) { try result?.get() }
    }
}

@Suite("The limits that dm_restrict sets")
struct LimitTests {
    @Test("A child gets the limits as they were found, and they are put back afterwards")
    func restored() throws {
        // Only the soft limit is moved, and stays far above what other tests write; the hard one could not be raised again without root.
        var before = rlimit()
        #expect(getrlimit(1, &before) == 0)
        defer {
            var limit = before
            _ = setrlimit(1, &limit)
        }
        let tight: rlim_t = 1 << 30
        var limit = rlimit(rlim_cur: tight, rlim_max: before.rlim_max)
        #expect(setrlimit(1, &limit) == 0)
        let limits = InheritedLimits()
        #expect(limits.areTight)
        if before.rlim_max == rlim_t.max {
            try limits.lift()
            #expect(getrlimit(1, &limit) == 0 && limit.rlim_cur == rlim_t.max)
        }
        let child = try limits.restored { () throws(SystemError) in
            try ChildProcess(program: "/bin/sh", arguments: ["-c", "test $(ulimit -f) -le 2097152"])
        }
        let after = limit.rlim_cur
        #expect(child.wait(limit: .seconds(60)) == .status(0))
        #expect(getrlimit(1, &limit) == 0 && limit.rlim_cur == after)
    }
}

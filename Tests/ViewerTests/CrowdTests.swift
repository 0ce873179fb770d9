import CLinux
import EmulatorProtocol
import Glibc
import Platform
import RFB
import Synchronization
import TestTools
import Testing

/// Many at once, and some that never stop.
@Suite("Crowds", .serialized)
struct CrowdTests {
    private func descriptors(_ coordinator: FakeCoordinator) -> Int { TestFolder.count("/proc/\(coordinator.process.pid)/fd") }

    @Test("a viewer that sends the smallest of TLS records without end keeps nobody waiting")
    func smallRecords() throws {
        let certificate = try TestCertificate()
        defer { certificate.remove() }
        let coordinator = try FakeCoordinator(options: ["tls": "x509", "tls-certificate": certificate.certificate, "tls-key": certificate.key]).start()
        _ = try coordinator.setMode(320, 200)
        // Several, so that they send faster than all of it can be worked off.
        let viewers = try (0..<4).map { _ in FloodingViewer(try coordinator.viewer()) }
        let floods = try viewers.map { viewer in try TestThread { viewer.flood(atMost: 500_000) } }
        while viewers.contains(where: { $0.sent < 10_000 && !$0.isOver }) { sched_yield() }
        let other = Stream(try Stream.connectTCP(coordinator.port))
        #expect(try other.read(12) == Handshake.greeting)
        let sent = viewers.map(\.sent)
        #expect(viewers.allSatisfy { !$0.isOver }, "the greeting came when the flood was over: \(sent) records")
        print("a greeting within a flood: after \(sent) records")
        for viewer in viewers { viewer.stop() }
        for flood in floods { flood.join() }
    }

    @Test("who is refused is not listened to any more, and is gone soon whatever it sends")
    func refusedTLS() throws {
        let certificate = try TestCertificate()
        defer { certificate.remove() }
        let coordinator = try FakeCoordinator(
            options: ["tls": "x509", "tls-certificate": certificate.certificate, "tls-key": certificate.key, "password": "right"]).start()
        let stream = Stream(try Stream.connectTCP(coordinator.port))
        #expect(try stream.read(12) == Handshake.greeting)
        try stream.write(Array("RFB 003.008\n".utf8) + [19])
        _ = try stream.read(2 + 2)
        try stream.write([0, 2])
        _ = try stream.read(1 + 1 + 4)
        try stream.write([0, 0, 1, 5])
        _ = try stream.read(1)
        let tls = try TLSStream(try stream.socket.duplicate(), anonymous: false)
        _ = try tls.read(16)
        try tls.write([UInt8](repeating: 7, count: 16))
        // One-byte records, for as long as anybody takes them.
        var sent = 0
        while (try? tls.write([0])) != nil, sent < 3_000_000 { sent += 1 }
        #expect(sent < 3_000_000, "all of them were taken")
    }

    @Test("silent connections from one address crowd out their own, and nobody else's slow ones")
    func shares() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(320, 200)
        let slow = Stream(try Stream.connectTCP(coordinator.port))
        #expect(try slow.read(12) == Handshake.greeting)
        var held: [Stream] = []
        for _ in 0..<200 { held.append(Stream(try Stream.connectTCP(coordinator.port, from: 0x7f00_0002))) }
        // Whoever comes behind them has been accepted after them.
        try coordinator.viewer().see(screen)
        try slow.write(Array("RFB 003.008\n".utf8))
        #expect(try slow.read(2) == [1, 1])
        #expect(held[0].isClosed() && held[183].isClosed())
        _ = try held[184].read(12)
    }

    @Test("of those that are told why they are refused only a few are kept")
    func goodbyes() throws {
        let coordinator = try FakeCoordinator().start()
        let screen = try coordinator.setMode(320, 200)
        let before = descriptors(coordinator)
        var held: [Stream] = []
        for index in 0..<400 {
            let stream = Stream(try Stream.connectTCP(coordinator.port, from: 0x7f00_0002 + UInt32(index % 100)))
            try stream.write(Array("NOT A VIEWER".utf8))
            held.append(stream)
        }
        let viewer = try coordinator.viewer()
        try viewer.see(screen)
        #expect(descriptors(coordinator) <= before + 32 + 64 + 8)
        for stream in held { #expect(stream.isClosed()) }
    }

    @Test("however many connect, a new surface finds a descriptor, and viewers come in afterwards")
    func reserve() throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(320, 200)
        let limited = try ChildProcess(
            program: "/usr/bin/prlimit", arguments: ["--pid", "\(coordinator.process.pid)", "--nofile=\(descriptors(coordinator) + 50):4096"],
            environment: ChildProcess.currentEnvironment(), inherited: [])
        try #require(limited.wait(limit: .seconds(60)) == .status(0))
        var held: [Stream] = []
        for index in 0..<200 {
            let stream = Stream(try Stream.connectTCP(coordinator.port, from: 0x7f00_0002 + UInt32(index)))
            // Some are silent, and some are told why they are refused.
            if index % 4 > 0 { try stream.write(Array("NOT A VIEWER".utf8)) }
            held.append(stream)
            if index % 20 == 19 { try coordinator.setMode(320 + index, 200) }
        }
        held = []
        try coordinator.viewer().see(try #require(coordinator.screen))
    }

    @Test("viewers that never ask for a picture give their places to those that do, and those that do keep theirs")
    func silentViewers() throws {
        let coordinator = try FakeCoordinator(options: ["clients": "2"]).start()
        let screen = try coordinator.setMode(320, 200)
        let silent = [try coordinator.viewer(), try coordinator.viewer()]
        let first = try coordinator.viewer()
        try first.see(screen)
        let second = try coordinator.viewer()
        try second.see(screen)
        for viewer in silent { #expect(viewer.stream.isClosed()) }
        let third = try TestViewer(Stream(try Stream.connectTCP(coordinator.port)), finish: false)
        #expect(third.stream.isClosed())
        for viewer in [first, second] { try viewer.show(try coordinator.setMode(100, 80)) }
    }

    @Test("the kernel asks after a viewer that says nothing within a minute")
    func keepAlive() throws {
        let coordinator = try FakeCoordinator().start()
        _ = try coordinator.setMode(320, 200)
        let viewer = try coordinator.viewer()
        let file = try Files.open("/proc/net/tcp")
        let ours = try port(of: viewer.stream.socket.raw)
        func hex(_ port: UInt16) -> String { ":" + String(repeating: "0", count: 4 - String(port, radix: 16).count) + String(port, radix: 16, uppercase: true) }
        // Local and remote address, state, queues, timer: 02 is the one that keeps alive, in hundredths of a second.
        var timer: [Substring] = []
        // As long as something is not acknowledged, it is another timer.
        for _ in 0..<patience / 5 where timer.first != "02" {
            lseek(file.raw, 0, SEEK_SET)
            let table = String(decoding: try Files.readAll(file.raw, limit: 1 << 22, what: "/proc/net/tcp"), as: UTF8.self)
            let line = table.split(separator: "\n").map { $0.split(separator: " ") }.first {
                $0.count > 5 && $0[1].hasSuffix(hex(coordinator.port)) && $0[2].hasSuffix(hex(ours))
            }
            timer = try #require(line)[5].split(separator: ":")
            if timer.first != "02" { usleep(5000) }
        }
        #expect(timer.first == "02")
        #expect(timer.last.flatMap { UInt64($0, radix: 16) } ?? .max <= 6000)
    }

    private func port(of raw: CInt) throws -> UInt16 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let found = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(raw, $0, &length) }
        }
        try #require(found == 0)
        return UInt16(bigEndian: address.sin_port)
    }

    // MARK: - guessing

    @Test("who guesses at the UNIX socket shuts out nobody who comes there by another process")
    func guessesAtUnixSocket() throws {
        let coordinator = try FakeCoordinator(options: ["password": "right"]).start()
        _ = try coordinator.setMode(320, 200)
        // Another process guesses until it is told to wait.
        let guesses = """
            use IO::Socket::UNIX; $SIG{PIPE} = 'IGNORE';
            for (1..40) {
              my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 2; my $all = ''; my $part;
              syswrite $s, "RFB 003.008\\n\\x02" . "\\0" x 16;
              $all .= $part while sysread $s, $part, 4096;
              exit 0 if $all =~ /too many wrong passwords/;
            }
            exit 1;
            """
        let guesser = try ChildProcess(
            program: "/usr/bin/perl", arguments: ["-e", guesses, coordinator.unixPath], environment: ChildProcess.currentEnvironment(), inherited: [])
        #expect(guesser.wait(limit: .seconds(60)) == .status(0))
        _ = try TestViewer(Stream(try UnixSocket.connectStream(coordinator.unixPath)), password: "right")
    }

    @Test("guessing from many addresses is slowed down, and the right password gets in meanwhile")
    func guessesFromEverywhere() throws {
        let coordinator = try FakeCoordinator(options: ["password": "right"]).start()
        _ = try coordinator.setMode(320, 200)
        var guesses: [Stream] = []
        for index in 0..<UInt32(GuessPacer.burst) + 10 {
            let stream = Stream(try Stream.connectTCP(coordinator.port, from: 0x7f00_0100 + index))
            try stream.write(Array("RFB 003.008\n".utf8) + [2] + [UInt8](repeating: 1, count: 16))
            guesses.append(stream)
        }
        _ = try coordinator.viewer(password: "right")
        let status = try coordinator.waitForStatus("a viewer") { !$0.clients.isEmpty }
        #expect(status.statistics["delayed-verdicts", default: 0] >= 10)
        for stream in guesses { #expect(stream.isClosed()) }
    }
}

/// A viewer that moves its pointer without end, a byte a record, in a thread of its own.
private final class FloodingViewer: @unchecked Sendable {
    // Sendable: the stream is used by the flooding thread only, the rest is atomic.
    private let viewer: TestViewer
    private let count = Atomic<Int>(0)
    private let isStopped = Atomic<Bool>(false)
    private let hasEnded = Atomic<Bool>(false)

    init(_ viewer: TestViewer) { self.viewer = viewer }

    var sent: Int { count.load(ordering: .relaxed) }
    var isOver: Bool { hasEnded.load(ordering: .sequentiallyConsistent) }
    func stop() { isStopped.store(true, ordering: .relaxed) }

    func flood(atMost most: Int) {
        var message = 0
        while message < most, !isStopped.load(ordering: .relaxed) {
            guard (try? viewer.stream.write([message % 6 == 0 ? 5 : 0])) != nil else { break }
            message += 1
            count.store(message, ordering: .relaxed)
        }
        hasEnded.store(true, ordering: .sequentiallyConsistent)
    }
}

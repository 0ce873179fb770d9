import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Logging
import Platform
import SeededNumbers
import Specification
import Testing

@testable import Coordinator

@Suite("When a process that died is started again")
struct BackoffTests {
    private let usual = EmulatorSpecification(name: "e", program: "/e")

    @Test("at once at first, then later and later, and not an eleventh time within a minute")
    func growing() {
        var backoff = RestartBackoff()
        let delays = (0..<10).map { backoff.next(now: UInt64($0), for: usual) }
        #expect(delays == [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000].map { Duration.milliseconds($0) })
        #expect(backoff.next(now: 59_999_999_999, for: usual) == nil)
    }

    @Test("what is longer ago than a minute is forgiven")
    func forgiving() {
        var backoff = RestartBackoff()
        let second: UInt64 = 1_000_000_000
        // One death every ten seconds, for an hour.
        for round in 0..<UInt64(360) { #expect(backoff.next(now: round * 10 * second, for: usual).map { $0 <= .seconds(2) } == true) }
        #expect(backoff.next(now: 3600 * second + 60 * second, for: usual) == .zero)
    }

    @Test("the specification bounds the wait and says how often")
    func specified() {
        var eager = usual
        eager.restartLimit = 1000
        eager.restartDelayMilliseconds = 60
        var backoff = RestartBackoff()
        let delays = (0..<1000).map { backoff.next(now: UInt64($0), for: eager) }
        #expect(delays.prefix(4) == [.zero, .milliseconds(50), .milliseconds(60), .milliseconds(60)] && delays.last == .milliseconds(60))
        #expect(backoff.next(now: 1000, for: eager) == nil)
        eager.restartLimit = 0
        var never = RestartBackoff()
        #expect(never.next(now: 0, for: eager) == nil)
    }
}

@Suite("When one that died too often is tried again")
struct LateRetryTests {
    @Test("later and later, once a minute at last, and soon again when all went well for ten minutes")
    func growing() {
        var retry = LateRetry()
        let second: UInt64 = 1_000_000_000
        var now = 7 * second
        let delays = (0..<6).map { _ in
            defer { now += 60 * second }
            return retry.next(now: now)
        }
        #expect(delays == [5, 10, 20, 40, 60, 60].map { .seconds($0) })
        #expect((0..<100).allSatisfy { _ in retry.next(now: now) == .seconds(60) })
        #expect(retry.next(now: now + LateRetry.memory) == .seconds(5))
    }

    @Test("what people and checkpoints have of it is read back", arguments: ["restarting: was killed by signal 9", "parked: exited with status 3", "parked: "])
    func text(text: String) { #expect(RestartStatus(rawValue: text)?.rawValue == text) }
}

@Suite("Input from an exporter that nobody trusts")
struct InputLimitTests {
    private final class Sink: InputSink {
        var takesAbsolute: Bool { false }
        var events: [InputEvent] = []
        func deliver(_ events: [InputEvent]) { self.events += events }
    }

    @Test("what comes too fast is dropped, but never what lets go of a key that is held")
    func limited() throws {
        let router = InputRouter()
        let sink = Sink()
        router.sink = sink
        let flood = (0..<64).map { InputEvent.relative(x: Int16($0), y: 1) }
        try router.take(Input([.key(30, down: true)]))
        let before = EventLoop.now()
        for _ in 0..<500 { try router.take(Input(flood)) }
        // What was earned meanwhile, one in 0.5 ms, comes on top.
        let most = 2049 + Int((EventLoop.now() - before) / 500_000)
        #expect(sink.events.count <= most && sink.events.count >= 2048, "\(sink.events.count), not \(most)")
        try router.take(Input([.key(30, down: false)]))
        #expect(sink.events.last == .key(30, down: false))
    }
}

@Suite("Input that waits")
struct InputQueueTests {
    @Test("movements are merged, keys keep their order")
    func merging() {
        var queue = InputQueue()
        for event in [InputEvent.key(1, down: true), .absolute(x: 1, y: 1), .absolute(x: 9, y: 8), .relative(x: 3, y: -4), .relative(x: .max, y: .min), .key(1, down: false)] {
            queue.add(event)
        }
        #expect(queue.events == [.key(1, down: true), .absolute(x: 9, y: 8), .relative(x: .max, y: .min), .key(1, down: false)])
    }

    @Test("it never grows beyond its capacity, and what it drops is never the last release of a key")
    func bounded() {
        var queue = InputQueue()
        var generator = SplitMix(state: 3)
        var down: Set<UInt16> = []
        for _ in 0..<20_000 {
            let key = UInt16(generator.next() % 100)
            let isDown = generator.next() % 3 > 0
            if isDown { down.insert(key) } else { down.remove(key) }
            queue.add(.key(key, down: isDown))
            #expect(queue.events.count <= InputQueue.capacity)
        }
        for key in Set(UInt16(0)..<100).subtracting(down) {
            let last = queue.events.last { $0 == .key(key, down: true) || $0 == .key(key, down: false) }
            #expect(last != .key(key, down: true), "key \(key) stays down")
        }
    }
}

@Suite("The VNC desk")
struct VNCDeskTests {
    @Test("an expiry is read as QEMU reads it", arguments: [("now", 1000), ("+30", 1030), ("0", 0), ("4102444800", 4_102_444_800)] as [(String, Int64)])
    func moments(text: String, seconds: Int64) { #expect(VNCDesk.expiry(text, now: 1000) == .at(seconds)) }

    @Test("never is never, and nonsense is refused")
    func never() {
        #expect(VNCDesk.expiry("never", now: 1000) == .never)
        for text in ["", "+", "-5", "+-5", "1e3", "99999999999999999999", "+9223372036854775807", " 5", "now "] {
            #expect(VNCDesk.expiry(text, now: 1000) == nil, "'\(text)'")
        }
    }

    @Test("addresses are displays, and ports when they are shown")
    func addresses() throws {
        #expect(VNCAddress.parse("127.0.0.1:0-99")?.description == "127.0.0.1:5900-5999")
        #expect(VNCAddress.parse("[::1]:3")?.description == "[::1]:5903")
        #expect(VNCAddress.parse(":1")?.description == ":5901")
        #expect(VNCAddress.parse("unix:/run/x")?.description == "unix:/run/x")
        for text in ["", ":", "1", "a b:1", "[::1:1", "::1:1", "h:59636", "h:1-", "h:-1", "h:1-2-3", "unix:x", "unix:/" + String(repeating: "x", count: 107), "[h]:1"] {
            #expect(VNCAddress.parse(text) == nil, "'\(text)'")
        }
    }

    @Test("a name stands for its v4 and its v6 address, with one port for both")
    func bothFamilies() throws {
        let sockets = try TCPListener.listen(host: "", ports: 0...0)
        #expect(Set(sockets.map(\.port)).count == 1 && !sockets.isEmpty)
        let error = #expect(throws: SystemError.self) { try TCPListener.listen(host: "no.such.host.invalid", ports: 5900...5900) }
        #expect(error?.description.contains("no.such.host.invalid") == true)
        #expect(throws: SystemError.self) { try TCPListener.listen(host: "192.0.2.1", ports: 5900...5901) }
    }
}

@Suite("What outlives a process")
struct HoldingsTests {
    @Test("a state is fresh until somebody has served with it, and its length is bounded")
    func state() throws {
        let holdings = try Holdings(name: "e")
        for length in [-1, 0, StateGrant.largest + 1, .max] {
            #expect(throws: Refusal.self) { try holdings.grantState(length: length, version: 1, to: DescriptorBag()) }
        }
        let bag = DescriptorBag()
        #expect(try holdings.grantState(length: 64, version: 1, to: bag) == StateGrant(length: 64, fresh: true, version: 1))
        guard let descriptor = bag.take() else { throw CancellationError() }
        var byte: UInt8 = 7
        #expect(pwrite(descriptor.raw, &byte, 1, 0) == 1)
        #expect(try holdings.grantState(length: 64, version: 1, to: DescriptorBag()).fresh, "whoever wrote it never served")
        #expect(holdings.state?.bytes.first == 0)
        #expect(pwrite(descriptor.raw, &byte, 1, 0) == 1)
        holdings.noteServing(version: 1)
        #expect(try !holdings.grantState(length: 64, version: 1, to: DescriptorBag()).fresh)
        #expect(holdings.state?.bytes.first == 7)
    }

    @Test("a program goes on from a state of its own version or one that it accepts, of the same length, and from no other")
    func versions() throws {
        func hello(_ length: Int?, version: Int? = nil, accepts: [Int]? = nil) -> Hello {
            Hello(name: "e", modes: [.isolated], state: length, stateVersion: version, stateAccepts: accepts)
        }
        let holdings = try Holdings(name: "e")
        try holdings.checkState(hello(64, version: 9))
        #expect(try holdings.grantState(length: 64, version: 2, to: DescriptorBag()).version == 2)
        holdings.noteServing(version: 2)
        try holdings.checkState(hello(64, version: 2))
        try holdings.checkState(hello(64, version: 3, accepts: [1, 2]))
        // One that asks for no state would begin anew where the guest expects it to go on.
        for bad in [hello(nil), hello(64), hello(64, version: 3), hello(64, version: 3, accepts: [1]), hello(128, version: 2)] {
            #expect(throws: Refusal.self) { try holdings.checkState(bad) }
        }
        #expect(try holdings.grantState(length: 64, version: 3, to: DescriptorBag()) == StateGrant(length: 64, fresh: false, version: 2))
        holdings.noteServing(version: 3)
        #expect(throws: Refusal.self) { try holdings.checkState(hello(64, version: 2)) }
    }

    @Test("regions are whole pages, few and not too large, and need a host that has them")
    func regions() throws {
        let holdings = try Holdings(name: "e")
        let host = try LocalHost(domain: try #require(DomainID(1)))
        for length in [UInt64(0), 1, 4095, 4097, Holdings.largestRegion + 4096, .max, .max & ~0xfff] {
            #expect(throws: Refusal.self) { try holdings.region(RegionRequest(length: length, label: "x"), host: host) }
        }
        #expect(throws: Refusal.self) { try holdings.region(7, asked: "x") }
        #expect(holdings.releaseRegions(host: host, dying: false) == nil)
    }
}

import CLinux
import Glibc
import Platform
import Testing

@testable import Toolstack

/// Turns the loop until something is so. The limit is only there so that a mistake does not hang the run.
func turn(_ loop: EventLoop, until what: String, limit: Duration = .seconds(60), _ condition: () -> Bool) throws {
    let end = EventLoop.now() &+ limit.clampedNanoseconds
    while !condition() {
        guard EventLoop.now() < end else {
            Issue.record("waited in vain until \(what)")
            throw CancellationError()
        }
        try loop.turn(limit: .milliseconds(50))
    }
}

/// A descriptor for a file with this text in it.
func memory(_ text: String) throws -> OwnedDescriptor {
    let owned = OwnedDescriptor(adopting: demux_memfd_create("test"))
    #expect(write(owned.raw, text, text.utf8.count) == text.utf8.count)
    return owned
}

/// What such a file has; at most 100 bytes of it.
func contents(_ raw: CInt) -> String {
    var buffer = [UInt8](repeating: 0, count: 100)
    let length = pread(raw, &buffer, buffer.count, 0)
    return String(decoding: buffer.prefix(max(0, length)), as: UTF8.self)
}

/// One side of a stream socket, read on the loop.
final class Peer {
    let loop: EventLoop
    let descriptor: OwnedDescriptor
    var received: [UInt8] = []
    /// For each descriptor that came: how many bytes had come before the read that brought it.
    var descriptors: [(at: Int, descriptor: CInt)] = []
    var ended = false
    private var output = RelayBuffer()
    private var reading = true

    init(_ loop: EventLoop, adopting descriptor: consuming OwnedDescriptor, reading: Bool = true) throws {
        self.loop = loop
        self.descriptor = descriptor
        self.reading = reading
        try self.descriptor.setNonBlocking(true)
        try watch()
    }

    convenience init(_ loop: EventLoop, connectingTo path: String, reading: Bool = true) throws {
        try self.init(loop, adopting: UnixSocket.connectStream(path), reading: reading)
    }

    deinit {
        loop.forget(descriptor.raw)
        for entry in descriptors { close(entry.descriptor) }
    }

    var text: String { String(decoding: received, as: UTF8.self) }
    /// Everything that came, cut where QEMU ends its messages.
    var lines: [String] {
        text.split(separator: "\r\n").map(String.init)
    }

    func send(_ text: String, descriptors: [CInt] = []) throws { try send(Array(text.utf8), descriptors: descriptors) }

    func send(_ bytes: [UInt8], descriptors: [CInt] = []) throws {
        let bag = DescriptorBag()
        for number in descriptors { bag.add(OwnedDescriptor(adopting: dup(number))) }
        output.append(bytes[...], descriptors: bag)
        flush()
        try watch()
    }

    var unsent: Int { output.count }

    func startReading() throws {
        reading = true
        try watch()
    }

    func endWriting() { _ = shutdown(descriptor.raw, CInt(SHUT_WR)) }

    private func watch() throws {
        var interest: EventLoop.Interest = []
        if reading, !ended { interest.insert(.readable) }
        if !output.isEmpty { interest.insert(.writable) }
        if interest.isEmpty {
            loop.forget(descriptor.raw)
        } else {
            try loop.watch(descriptor.raw, for: interest) { [unowned self] what in
                if what.contains(.readable) || !what.isDisjoint(with: .hangUp) { read() }
                flush()
                try? watch()
            }
        }
    }

    private func flush() {
        if output.send(to: descriptor.raw) == .broken { output.removeAll() }
    }

    private func read() {
        guard reading, !ended else { return }
        var numbers = [CInt](repeating: -1, count: 16)
        var count: CInt = 0
        var truncated: CInt = 0
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let length = demux_receive(descriptor.raw, &buffer, buffer.count, &numbers, &count, &truncated, CInt(MSG_DONTWAIT))
        for number in numbers.prefix(Int(count)) { descriptors.append((received.count, number)) }
        if length > 0 {
            received.append(contentsOf: buffer.prefix(length))
        } else if length == 0 || errno != EAGAIN {
            ended = true
        }
    }
}

/// A stand-in for QEMU's monitor socket that takes several connections and says nothing of its own accord.
final class Listener {
    let descriptor: OwnedDescriptor
    var peers: [Peer] = []
    private let loop: EventLoop

    init(_ loop: EventLoop, path: String, reading: Bool = true) throws {
        self.loop = loop
        descriptor = try UnixSocket.listen(.stream, path: path)
        try descriptor.setNonBlocking(true)
        try loop.watch(descriptor.raw, for: .readable) { [unowned self] _ in
            while let connection = try? UnixSocket.accept(descriptor.raw) {
                if let peer = try? Peer(self.loop, adopting: connection, reading: reading) { peers.append(peer) }
            }
        }
    }

    deinit { loop.forget(descriptor.raw) }
}

/// A real QEMU. Killed when the test lets it go.
final class QEMU {
    static let program = "/usr/bin/qemu-system-i386"
    let process: ChildProcess

    init(_ arguments: [String], inherited: [ChildProcess.Inherited] = []) throws {
        try Self.require()
        // No sound card is looked for.
        process = try ChildProcess(
            program: Self.program, arguments: arguments, environment: ["QEMU_AUDIO_DRV": "none", "PATH": "/usr/bin:/bin"], inherited: inherited)
    }

    deinit {
        process.signal(SIGKILL)
        _ = process.wait(limit: .seconds(30))
    }

    static func require() throws {
        try #require(
            access(program, X_OK) == 0,
            "QEMU is not installed at \(program): these tests need the real one (apt-get install qemu-system-x86; make test does it)")
    }

    /// What QEMU prints for such a call.
    static func output(_ arguments: [String]) throws -> String {
        try require()
        var ends: [CInt] = [-1, -1]
        guard pipe(&ends) == 0 else { throw SystemError("create", "a pipe") }
        let reader = OwnedDescriptor(adopting: ends[0])
        let writer = OwnedDescriptor(adopting: ends[1])
        _ = demux_set_cloexec(reader.raw, 1)
        _ = demux_set_cloexec(writer.raw, 1)
        let process = try ChildProcess(program: program, arguments: arguments, inherited: [.init(ours: writer.raw, theirs: 1)])
        _ = consume writer
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let length = read(reader.raw, &buffer, buffer.count)
            guard length > 0 else { break }
            text.append(contentsOf: buffer.prefix(length))
        }
        _ = process.wait(limit: .seconds(30))
        return String(decoding: text, as: UTF8.self)
    }
}

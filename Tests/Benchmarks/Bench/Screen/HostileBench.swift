import Glibc
import Host
import Platform
import RFB
import Synchronization
import TestTools

/// The guest's requests to another emulator while viewers do their worst to the exporter.
struct HostileBench {
    let bin: String
    let rounds: Int

    /// The ratio of the p99 of a round trip, hammered over quiet: of the median pair of rounds.
    func run() throws -> Double {
        let machine = try LocalMachine(bin: bin, width: 1024, height: 768)
        defer { machine.end() }
        guard let guest = machine.scratch, let request = Workload.all.first?.request else { throw BenchError("there is no demux-scratch to ask") }
        var (quiet, hammered, greetings): ([Double], [Double], [Double]) = ([], [], [])
        var (quietMedian, hammeredMedian): ([Double], [Double]) = ([], [])
        for _ in 0..<rounds {
            let calm = try round(guest, request)
            quiet.append(calm.p99)
            quietMedian.append(calm.median)
            let crowd = try Crowd(path: machine.path)
            usleep(300_000)
            let busy = try round(guest, request)
            hammered.append(busy.p99)
            hammeredMedian.append(busy.median)
            for _ in 0..<5 {
                let start = EventLoop.now()
                let socket = try UnixSocket.connectStream(machine.path)
                var text = [UInt8](repeating: 0, count: 12)
                guard recv(socket.raw, &text, 12, CInt(MSG_WAITALL)) == 12 else { continue }
                greetings.append(Double(EventLoop.now() &- start) / 1e6)
            }
            crowd.end()
            usleep(300_000)
        }
        let ratio = Ratio(hammered, over: quiet)
        let middle = Ratio(hammeredMedian, over: quietMedian)
        greetings.sort()
        print("")
        print("The guest's round trips to demux-scratch on LocalHost, one every 500 µs, while nobody looks and while 200 silent connections, 4 readers that stall,")
        print("SetScale, huge SetEncodings and connects in a loop beset demux-vnc, whose senders run here with the lowest priority; \(rounds) rounds of each, in turn.")
        var table = Table(["", "quiet µs", "beset µs", "ratio", "from", "to"])
        for (name, calm, busy, ratio) in [("median", quietMedian, hammeredMedian, middle), ("p99", quiet, hammered, ratio)] {
            table.add([name, Table.text(calm.median, digits: 1), Table.text(busy.median, digits: 1), Table.text(ratio.median), Table.text(ratio.low), Table.text(ratio.high)])
        }
        table.print()
        print("A good viewer's greeting meanwhile: \(Table.text(greetings.median)) ms in the median, \(Table.text(greetings.last ?? .nan)) ms at most.")
        return ratio.median
    }

    private func round(_ guest: GuestEnd, _ request: IORequest) throws -> (median: Double, p99: Double) {
        var times: [Double] = []
        var next = EventLoop.now()
        for _ in 0..<2000 {
            next &+= 500_000
            sleep(until: next)
            let start = EventLoop.now()
            guard guest.roundTrip(request, bits: request.fixedBits) != nil else { throw BenchError("demux-scratch did not answer in ten seconds") }
            times.append(Double(EventLoop.now() &- start) / 1000)
        }
        times.sort()
        return (times[times.count / 2], times[times.count * 99 / 100])
    }
}

/// Viewers that mean no good, all at once.
private final class Crowd {
    private final class Flag: Sendable { let isOver = Atomic<Bool>(false) }
    private var held: [OwnedBox] = []
    private let flag = Flag()
    private var thread: TestThread?

    init(path: String) throws {
        // Fewer than are waited for at a time are let in; the others wait at the door.
        for _ in 0..<200 { if let socket = try? Self.connect(path) { held.append(socket) } }
        for _ in 0..<4 {
            guard let stalled = try? Self.enter(path) else { continue }
            let ask = EncoderMessage.updateRequest(.init(incremental: false, x: 0, y: 0, width: 1024, height: 768))
            for _ in 0..<20 { stalled.write(ask) }
            held.append(stalled)
        }
        thread = try TestThread { [flag] in
            // They would be on other machines.
            setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 19)
            while !flag.isOver.load(ordering: .relaxed) {
                for kind in 0..<4 {
                    guard let viewer = try? kind == 3 ? Self.connect(path) : Self.enter(path) else { continue }
                    switch kind {
                    case 0: viewer.write([8, 2, 0, 0])
                    case 1: for _ in 0..<4 { viewer.write(EncoderMessage.setEncodings((0..<4000).map { Int32($0) })) }
                    case 2: viewer.write([2, 0, 0xff, 0xff] + [UInt8](repeating: 0xff, count: 65_000))
                    default: break
                    }
                }
            }
        }
    }

    func end() {
        flag.isOver.store(true, ordering: .relaxed)
        thread?.join()
        held = []
    }

    private static func connect(_ path: String) throws -> OwnedBox {
        let socket = try UnixSocket.connectStream(path)
        let copy = fcntl(socket.raw, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw SystemError("duplicate", "a socket") }
        var limit = timeval(tv_sec: 1, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] { setsockopt(copy, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size)) }
        return OwnedBox(copy)
    }

    /// Through the whole handshake.
    private static func enter(_ path: String) throws -> OwnedBox {
        let socket = try connect(path)
        var scratch = [UInt8](repeating: 0, count: 256)
        for (words, answer) in [(Array("RFB 003.008\n".utf8), 12), ([1], 2), ([1], 4)] as [([UInt8], Int)] {
            guard recv(socket.raw, &scratch, answer, CInt(MSG_WAITALL)) == answer else { throw BenchError("not let in") }
            socket.write(words)
        }
        guard recv(socket.raw, &scratch, 24, CInt(MSG_WAITALL)) == 24 else { throw BenchError("not let in") }
        return socket
    }
}

private final class OwnedBox: Sendable {
    private let owned: OwnedDescriptor
    init(_ raw: CInt) { owned = OwnedDescriptor(adopting: raw) }
    var raw: CInt { owned.raw }
    func write(_ bytes: [UInt8]) { _ = send(raw, bytes, bytes.count, CInt(MSG_NOSIGNAL)) }
}

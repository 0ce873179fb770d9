import Glibc
import Platform
import RFB

/// The exporter beside other VNC servers, and the whole way of a pixel, in one run:
///
///     demux-bench --screen BIN FIRMWARE
///
/// BIN has demux-vnc, demux-display and demux-scratch; FIRMWARE is built by Tests/Benchmarks/ScreenGuest. DEMUX_BENCH_SECONDS is how long each line
/// is measured (1.5), DEMUX_BENCH_SCREEN which parts run ("encoding,latency,hostile"), DEMUX_BENCH_ONLY how the name of what is drawn begins. Nothing that is measured makes it fail.
struct ScreenBench {
    private let bin: String
    private let firmware: String
    private let environment = ChildProcess.currentEnvironment()

    init(bin: String, firmware: String) {
        self.bin = bin
        self.firmware = firmware
    }

    /// One measurement, per update where there were updates.
    private struct Line {
        let rate: Double
        /// Milliseconds.
        let cost: Double
        let bytes: Double
        let wakeUps: Double
    }

    func run() throws {
        let parts = (environment["DEMUX_BENCH_SCREEN"] ?? "encoding,latency,hostile").split(separator: ",")
        var closing: [String] = []
        if parts.contains("encoding") { closing += try encode() }
        if parts.contains("latency") {
            let ratios = try LatencyBench(bin: bin, firmware: firmware, samples: number("DEMUX_BENCH_SAMPLES", 300, 10...100_000), rests: number("DEMUX_BENCH_RESTS", 12, 1...1000)).run()
            closing.append(aim("pixel to client p99 over QEMU's, dense", ratios.dense, 0.1))
            closing.append(aim("after rest", ratios.rested, 0.1))
        }
        if parts.contains("hostile") {
            let ratio = try HostileBench(bin: bin, rounds: number("DEMUX_BENCH_ROUNDS", 5, 1...1000)).run()
            closing.append(aim("the guest's p99 with hostile viewers over quiet", ratio, 1.2))
        }
        print("screen: " + closing.joined(separator: "; "))
    }

    private func number(_ name: String, _ usual: Int, _ range: ClosedRange<Int>) -> Int {
        environment[name].flatMap { Int($0) }.map { min(max($0, range.lowerBound), range.upperBound) } ?? usual
    }

    private func aim(_ what: String, _ found: Double, _ most: Double) -> String {
        let digits = most < 0.1 ? 3 : 2
        return "\(what) \(Table.text(found, digits: digits)) (aim \(Table.text(most, digits: digits)): \(found.isFinite ? found <= most ? "met" : "missed" : "not measured"))"
    }

    // MARK: servers

    private func encode() throws -> [String] {
        let seconds = environment["DEMUX_BENCH_SECONDS"].flatMap { Double($0) }.map { min(max($0, 0.1), 600) } ?? 1.5
        print("VNC servers, one viewer that asks for the next update at once, 60 times a second at most, each over a UNIX socket: updates a second, processor time and")
        print("bytes of an update, and how often a second the server was woken up. Demux is demux-vnc, and the surface is drawn by the benchmark; QEMU is without its")
        print("vCPU's thread, its display is in it; Xvnc has the X client's drawing in it. Over QEMU is ours over QEMU's, an update, then bytes. No JPEG anywhere.")
        let only = environment["DEMUX_BENCH_ONLY"] ?? ""
        let paintings = Painting.allCases.filter { $0.name.hasPrefix(only) }
        var worst: [String: Double] = [:]
        func note(_ what: String, _ value: Double) { if value.isFinite { worst[what] = max(worst[what] ?? 0, value) } }
        for (width, height) in [(1024, 768), (1920, 1080)] {
            print("")
            var contestants: [any ScreenContestant] = [try ExporterContestant(program: bin + "/demux-vnc", width: width, height: height)]
            defer { for contestant in contestants { contestant.end() } }
            contestants.append(try QEMUContestant(firmware: firmware, width: width))
            if let program = XvncContestant.program {
                contestants.append(try XvncContestant(program: program, width: width, height: height))
            } else {
                print("(TigerVNC's Xvnc is not installed: package tigervnc-standalone-server.)")
            }
            var table = Table(["\(width)×\(height)", ""] + contestants.flatMap { ["\($0.name) upd/s", "ms", "KB", "wakes/s"] } + ["over QEMU", "bytes"])
            for (encoding, name) in [(Encoding.raw, "raw"), (Encoding.tight, "tight"), (Encoding.zrle, "ZRLE")] {
                for painting in paintings where painting != .idle || encoding == Encoding.raw {
                    let lines = try contestants.map { try measure($0, painting, encoding, seconds: seconds) }
                    let (ours, qemu) = (lines[0], lines[1])
                    let (cost, bytes) = (ours.cost / qemu.cost, ours.bytes / qemu.bytes)
                    var cells = [painting.name, name]
                    for line in lines {
                        cells += painting == .idle
                            ? ["-", "-", "-", Table.text(line.wakeUps, digits: 1)]
                            : [Table.text(line.rate, digits: 1), Table.text(line.cost, digits: 3), Table.text(line.bytes / 1000, digits: 2), Table.text(line.wakeUps, digits: 0)]
                    }
                    table.add(cells + (painting == .idle ? ["-", "-"] : [Table.text(cost, digits: 3), Table.text(bytes, digits: 3)]))
                    switch painting {
                    case .noise: if encoding == Encoding.raw { note("raw", cost) }
                    case .scroll:
                        // Raw pixels are what they are, but a CopyRect is sent with them too.
                        note("scroll", cost)
                        note("bytes", bytes)
                    case .change: note("change", cost)
                    case .idle: note("idle", ours.wakeUps)
                    }
                }
            }
            table.print()
        }
        func found(_ what: String) -> Double { worst[what] ?? .nan }
        return [
            aim("processor time over QEMU's, the worst line: scrolling text", found("scroll"), 0.05), aim("its bytes", found("bytes"), 0.05),
            aim("a 16×16 change", found("change"), 0.45), aim("raw frames", found("raw"), 0.33), aim("wake-ups a second when idle", found("idle"), 0),
        ]
    }

    private func measure(_ contestant: any ScreenContestant, _ painting: Painting, _ encoding: Int32, seconds: Double) throws -> Line {
        let viewer = try BenchViewer(path: contestant.path, encoding: encoding)
        try contestant.paint(painting)
        _ = try viewer.run(seconds: painting == .idle ? 3 : 0.4)
        let before = contestant.usage
        let count = try viewer.run(seconds: seconds)
        let used = contestant.usage - before
        try contestant.paint(.idle)
        _ = try viewer.run(seconds: 0.1)
        let updates = Double(count.updates)
        return Line(
            rate: updates / count.seconds, cost: Double(used.processor) / 1e6 / updates, bytes: Double(count.bytes) / updates,
            wakeUps: Double(used.wakeUps) / count.seconds)
    }
}

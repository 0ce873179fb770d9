import Glibc
import Platform
import TestTools

/// What many guests on one host cost at rest, and what they cost one that is busy: `make bench-density`.
///
///     demux-bench --density BIN GUESTS
///
/// BIN has the programs as they are installed. Each of the GUESTS is a coordinator with Scratch, the display and its exporter. Every figure is printed with
/// the aim that it has; none fails the benchmark, but a guest that does not start, or a wrong answer, does.
struct DensityBench {
    private static let mebibyte = 1_048_576.0
    /// Of the processes that every guest has; Scratch stands for a plugin.
    private static let counted = ["demux-dm", "demux-display", "demux-vnc"]
    /// One a host, not one a guest; a comm has 15 bytes.
    private static let watchdog = "demux-watchdog"
    private static let restSeconds = 30
    private static let viewerSeconds = 15
    private static let rounds = 31

    let bin: String
    let guests: Int
    private let folder: TemporaryFolder
    private var aims: [(text: String, met: Bool)] = []

    init(bin: String, guests: Int) throws {
        self.bin = bin
        self.guests = guests
        folder = try TemporaryFolder()
    }

    mutating func run() throws {
        let base = folder.path + "/run"
        var running: [IdleGuest] = []
        defer {
            for guest in running { guest.end() }
            _ = rmdir(base)
        }
        print("Guests at rest on this machine (LocalHost): \(guests) coordinators, each with demux-scratch, demux-display and demux-vnc, no viewer.")
        let before = try Load(bin: bin, rounds: Self.rounds)
        var sizes = Table(["PSS in MiB, a guest", "guests"] + Self.counted + ["the three", "demux-scratch", "memfds"])
        for number in 1...guests {
            running.append(try IdleGuest(bin: bin, number: number, base: base))
            if [1, 10, 100, guests].contains(number) { sizes.add(weigh(running)) }
        }
        sizes.print()
        print("")
        startTimes(running)
        holdings(running)
        try rest(running)
        try watch(running)
        try load(before: before, during: try Load(bin: bin, rounds: Self.rounds), running: &running)
        try compareQEMU()
        print("")
        for aim in aims { print("aim: \(aim.text): \(aim.met ? "met" : "MISSED")") }
        print("density: \(guests) guests; \(aims.filter(\.met).count) of \(aims.count) aims met")
    }

    private mutating func aim(_ text: String, _ met: Bool) { aims.append((text, met)) }

    // MARK: memory

    private mutating func weigh(_ running: [IdleGuest]) -> [String] {
        var sums: [String: UInt64] = [:]
        var shared: UInt64 = 0
        for process in running.flatMap({ Footprint.family(of: $0.process.pid) }).compactMap({ Footprint(of: $0) }) {
            sums[process.name, default: 0] &+= process.memory
            shared &+= process.shared
        }
        func each(_ bytes: UInt64) -> Double { Double(bytes) / Double(running.count) / Self.mebibyte }
        let three = Self.counted.reduce(0) { $0 &+ sums[$1, default: 0] }
        if running.count == guests {
            aim("PSS of coordinator, display and exporter at most 12 MiB a guest, memfds aside: \(Table.text(each(three)))", each(three) <= 12)
        }
        return ["", "\(running.count)"] + Self.counted.map { Table.text(each(sums[$0, default: 0])) }
            + [Table.text(each(three)), Table.text(each(sums["demux-scratch", default: 0])), Table.text(each(shared))]
    }

    // MARK: start

    private func startTimes(_ running: [IdleGuest]) {
        let times = running.map { Double($0.startTime) / 1e6 }.sorted()
        print(
            "From a coordinator's start until every emulator serves, one guest after another: p50 \(Table.text(times.median, digits: 0)) ms, "
                + "p99 \(Table.text(times[min(times.count - 1, times.count * 99 / 100)], digits: 0)) ms")
    }

    // MARK: descriptors

    private func holdings(_ running: [IdleGuest]) {
        guard let guest = running.first else { return }
        var table = Table(["", "descriptors", "threads"])
        var sum = (descriptors: 0, threads: 0)
        for process in Footprint.family(of: guest.process.pid).compactMap({ Footprint(of: $0) }) {
            table.add([process.name, "\(process.descriptors)", "\(process.threads)"])
            sum = (sum.descriptors + process.descriptors, sum.threads + process.threads)
        }
        table.add(["a guest", "\(sum.descriptors)", "\(sum.threads)"])
        print("")
        table.print()
    }

    // MARK: rest

    private mutating func rest(_ running: [IdleGuest]) throws {
        let all = running.flatMap { Footprint.family(of: $0.process.pid) }
        // One for the host, whichever coordinator has started it.
        let watchdogs = all.filter { Footprint(of: $0)?.name == Self.watchdog }
        let pids = all.filter { !watchdogs.contains($0) }
        // What their start has left over settles first.
        sleep(3)
        let everything = Self.use(of: pids + watchdogs, seconds: Self.restSeconds)
        let used = everything.prefix(pids.count)
        let wakeUps = used.reduce(0) { $0 &+ $1.wakeUps }
        let processor = Double(used.reduce(0) { $0 &+ $1.processor }) / 1e9 / Double(Self.restSeconds) * 100
        print("")
        print(
            "At rest, in \(Self.restSeconds) s, all \(pids.count) processes together: \(wakeUps) wake-ups, \(Table.text(processor, digits: 3)) % of a processor")
        let rate = Double(wakeUps) / Double(Self.restSeconds) / Double(running.count)
        aim("no wake-ups at rest: \(Table.text(rate, digits: 4)) a second a guest", wakeUps == 0)
        guard !watchdogs.isEmpty else { return }
        let watching = Double(everything.dropFirst(pids.count).reduce(0) { $0 &+ $1.wakeUps }) / Double(Self.restSeconds)
        print("The host's \(Self.watchdog): \(Table.text(watching)) wake-ups a second")
        aim("the host's watchdog wakes up at most once in two seconds: \(Table.text(watching)) a second", watchdogs.count == 1 && watching <= 0.55)
    }

    private static func use(of pids: [pid_t], seconds: Int) -> [Usage] {
        let before = pids.map { Usage(of: $0) }
        sleep(UInt32(clamping: seconds))
        return zip(pids, before).map { Usage(of: $0) - $1 }
    }

    /// One viewer that looks on.
    private mutating func watch(_ running: [IdleGuest]) throws {
        guard let guest = running.first else { return }
        let viewer = try BenchViewer(path: guest.viewers, encoding: 0)
        try viewer.ask()
        // Until the limit on its greeting has passed, which wakes the exporter once.
        sleep(12)
        let pids = Footprint.family(of: guest.process.pid)
        let names = pids.map { Footprint(of: $0)?.name ?? "" }
        let used = Self.use(of: pids, seconds: Self.viewerSeconds)
        var display = 0.0
        var others = 0.0
        for (name, usage) in zip(names, used) {
            let rate = Double(usage.wakeUps) / Double(Self.viewerSeconds)
            if name == Self.watchdog { continue }
            if name == "demux-display" { display += rate } else { others += rate }
        }
        print("With an idle viewer, wake-ups a second: the display \(Table.text(display)), the others \(Table.text(others))")
        aim("an idle viewer costs at most 4 wake-ups a second in the display, none elsewhere: \(Table.text(display)), \(Table.text(others))", display <= 4 && others == 0)
        withExtendedLifetime(viewer) {}
    }

    // MARK: a busy neighbour

    private mutating func load(before: Load, during: Load, running: inout [IdleGuest]) throws {
        for guest in running { guest.process.signal(SIGTERM) }
        for guest in running { guest.end() }
        running = []
        let after = try Load(bin: bin, rounds: Self.rounds)
        print("A busy guest's round trips to Scratch, in microseconds: the median of \(Self.rounds) batches' p50 and p99")
        var table = Table(["", "p50", "p99"])
        table.add(["alone, before", Table.text(before.p50, digits: 1), Table.text(before.p99, digits: 1)])
        table.add(["beside \(guests) at rest", Table.text(during.p50, digits: 1), Table.text(during.p99, digits: 1)])
        table.add(["alone, after", Table.text(after.p50, digits: 1), Table.text(after.p99, digits: 1)])
        table.print()
        let ratio = during.p99 / ((before.p99 + after.p99) / 2)
        aim("a busy guest's p99 beside \(guests) at rest is at most 1.2 of that alone: \(Table.text(ratio))", ratio <= 1.2)
    }

    // MARK: QEMU

    private mutating func compareQEMU() throws {
        guard access(QEMUContestant.program, X_OK) == 0 else { return print("(QEMU is not installed: nothing to compare with.)") }
        print("")
        print("QEMU's own process on this machine, its vCPU stopped:")
        var table = Table(["", "PSS in MiB", "wake-ups/s", "start in ms"])
        for (name, screen, viewer) in [("without VGA", false, false), ("with VGA and VNC", true, false), ("with a viewer", true, true)] {
            let qemu = try RestingQEMU(screen: screen)
            defer { qemu.end() }
            // Its monitor comes before its VNC server.
            let watching = try viewer ? qemu.viewers.map { path in try retry("QEMU's VNC server") { try? BenchViewer(path: path, encoding: 0) } } : nil
            try watching?.ask()
            sleep(2)
            let used = Self.use(of: [qemu.process.pid], seconds: Self.viewerSeconds)
            let size = Double(Footprint(of: qemu.process.pid)?.memory ?? 0) / Self.mebibyte
            table.add([
                name, Table.text(size, digits: 1), Table.text(Double(used[0].wakeUps) / Double(Self.viewerSeconds)),
                Table.text(Double(qemu.startTime) / 1e6, digits: 0),
            ])
            withExtendedLifetime(watching) {}
        }
        table.print()
    }
}

/// A guest under full load: round trips as fast as they are answered, guest and server on one processor, where neither may spin.
private struct Load {
    /// Microseconds: the median over the batches.
    let p50: Double
    let p99: Double

    init(bin: String, rounds: Int) throws {
        let contestant = try SwiftContestant(program: bin + "/demux-scratch", environment: ["DEMUX_SPIN_MICROSECONDS": "0"])
        defer {
            contestant.end()
            // The guests that are started afterwards must not all be on one processor.
            Placement.forget()
        }
        if let placement = Placement.choices().together { try placement.apply(servers: [contestant.pid]) }
        var middles: [Double] = []
        var tails: [Double] = []
        let workload = Workload.all[1]
        for _ in 0..<rounds {
            var series = Series()
            try series.run(Workload.all[0], on: contestant.guest)
            series = Series()
            try series.run(workload, on: contestant.guest)
            middles.append(series.microseconds(at: 50))
            tails.append(series.microseconds(at: 99))
        }
        p50 = middles.median
        p99 = tails.median
    }
}

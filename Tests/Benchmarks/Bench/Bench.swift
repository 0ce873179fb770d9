import Glibc
import Platform

/// Round trips between a guest and a server in another process, on LocalHost: the Swift emulator against a bare C loop.
///
///     demux-bench BIN COUNTER WORKDIR
///
/// BIN has demux-scratch and demux-c-loop, not stripped; COUNTER is the built AllocationCounter; files are made in WORKDIR. DEMUX_BENCH_PAIRS
/// is how many pairs of batches each line is made of (21), DEMUX_BENCH_ONLY how the names begin of the lines that are wanted. Fails when an answer is wrong or a request costs an
/// allocation, a lock or a reference count; how fast anything is never fails it.
@main
struct Bench {
    private static let aim = 1.10
    private static let spinMicroseconds = 100
    private static let countedTrips = 5000
    private static let pairs = ChildProcess.currentEnvironment()["DEMUX_BENCH_PAIRS"].flatMap { Int($0) }.map { min(max($0, 1), 10_000) } ?? 21
    /// Read before anything is put anywhere.
    private static let choices = Placement.choices()

    static func main() {
        let arguments = CommandLine.arguments
        if arguments.dropFirst() == ["--control"] { return Control.misbehave() }
        signal(SIGPIPE, SIG_IGN)
        if arguments.count == 4, arguments[1] == "--screen" { return screen(bin: arguments[2], firmware: arguments[3]) }
        if arguments.count == 4, arguments[1] == "--density", let guests = Int(arguments[3]), (1...1000).contains(guests) {
            return density(bin: arguments[2], guests: guests)
        }
        guard arguments.count == 4 else {
            StandardError.line("usage: demux-bench BIN COUNTER WORKDIR, or demux-bench --screen BIN FIRMWARE, or demux-bench --density BIN GUESTS (1 to 1000)")
            exit(2)
        }
        _ = choices
        do {
            let ratios = try compare(bin: arguments[1])
            let journal = try compareJournal(bin: arguments[1])
            let counts = try count(bin: arguments[1], counter: arguments[2], folder: arguments[3])
            let seeing = try Seeing.compare(bin: arguments[1], pairs: pairs, choices: choices, spinMicroseconds: spinMicroseconds)
            let worst = ratios.map(\.median).max() ?? .nan
            print(
                "localhost: Swift over C \(Table.text(ratios.map(\.median).median)) in the median, \(Table.text(worst)) at most "
                    + "(aim \(Table.text(aim)): \(worst <= aim ? "met" : "missed")); "
                    + "journal on over off \(Table.text(journal.map(\.median).median)); "
                    + "per request \(counts.allocations) allocations, \(counts.retains + counts.releases) reference counts, \(counts.locks) locks; \(seeing)")
            guard counts == Counts(allocations: 0, retains: 0, releases: 0, locks: 0) else {
                throw BenchError("a request must cost no allocation, no reference count and no lock")
            }
        } catch {
            StandardError.line("demux-bench: \(error)")
            exit(1)
        }
    }

    private static func screen(bin: String, firmware: String) {
        do {
            try ScreenBench(bin: bin, firmware: firmware).run()
        } catch {
            StandardError.line("demux-bench --screen: \(error)")
            exit(1)
        }
    }

    private static func density(bin: String, guests: Int) {
        do {
            var bench = try DensityBench(bin: bin, guests: guests)
            try bench.run()
        } catch {
            StandardError.line("demux-bench --density: \(error)")
            exit(1)
        }
    }

    // MARK: time

    private static func compare(bin: String) throws -> [Ratio] {
        print("Round trips of a guest to a server in another process, on LocalHost: demux-scratch (Swift, started by its coordinator) and")
        print("a bare C loop, on pages and eventfds of the same kind; \(pairs) batches of each, in turn. Latencies in microseconds. The ratio is that")
        print("of a batch's median trip to the one of the batch beside it, Swift over C: the median pair, and the ends of the middle half of the")
        print("pairs. Without spinning, guest and server share a processor; with it, for \(spinMicroseconds) microseconds at most and on both ends")
        print("alike, each has one.")
        var table = Table(["", "spin", "Swift/s", "p50", "p99", "p99.9", "C/s", "p50", "p99", "p99.9", "ratio", "from", "to"])
        var ratios: [Ratio] = []
        for spin in [0, spinMicroseconds] {
            guard let placement = spin == 0 ? choices.together : choices.apart else {
                print("(There is one processor only: no line with spinning.)")
                continue
            }
            let swift = try SwiftContestant(program: bin + "/demux-scratch", environment: ["DEMUX_SPIN_MICROSECONDS": "\(spin)"])
            defer { swift.end() }
            let c = try CContestant(program: bin + "/demux-c-loop", spinMicroseconds: spin)
            defer { c.end() }
            try placement.apply(servers: [swift.pid, c.pid])
            for guest in [swift.guest, c.guest] { guest.spinNanoseconds = UInt64(spin) * 1000 }
            ratios += try run(swift.guest, c.guest, spin: spin, into: &table)
        }
        table.print()
        return ratios
    }

    /// The same emulator with its state committed with each request, and without any that is kept.
    private static func compareJournal(bin: String) throws -> [Ratio] {
        print("")
        print("The journal: demux-scratch, whose 4096 bytes of state are committed with each request, and the same that keeps none (DEMUX_KEEP_STATE=no);")
        print("\(pairs) batches of each, in turn. The ratio is on over off.")
        var table = Table(["", "spin", "on/s", "p50", "p99", "p99.9", "off/s", "p50", "p99", "p99.9", "ratio", "from", "to"])
        var ratios: [Ratio] = []
        for spin in [0, spinMicroseconds] {
            guard let placement = spin == 0 ? choices.together : choices.apart else { continue }
            let environment = ["DEMUX_SPIN_MICROSECONDS": "\(spin)"]
            let on = try SwiftContestant(program: bin + "/demux-scratch", environment: environment)
            defer { on.end() }
            let off = try SwiftContestant(program: bin + "/demux-scratch", environment: environment.merging(["DEMUX_KEEP_STATE": "no"]) { $1 })
            defer { off.end() }
            try placement.apply(servers: [on.pid, off.pid])
            for guest in [on.guest, off.guest] { guest.spinNanoseconds = UInt64(spin) * 1000 }
            ratios += try run(on.guest, off.guest, spin: spin, into: &table)
        }
        table.print()
        return ratios
    }

    /// Runs each workload on both, in turn, and adds a row for each.
    private static func run(_ first: GuestEnd, _ second: GuestEnd, spin: Int, into table: inout Table) throws -> [Ratio] {
        try Workload.chosen.map { workload in
            var ours = Series()
            var theirs = Series()
            for _ in 0..<pairs {
                try ours.run(workload, on: first)
                try theirs.run(workload, on: second)
            }
            let ratio = Ratio(ours.medians, over: theirs.medians)
            var cells = [workload.name, spin == 0 ? "off" : "\(spin)"]
            for series in [ours, theirs] {
                cells.append("\(Int(series.tripsPerSecond))")
                cells += [50, 99, 99.9].map { Table.text(series.microseconds(at: $0), digits: 1) }
            }
            cells += [ratio.median, ratio.low, ratio.high].map { Table.text($0) }
            table.add(cells)
            return ratio
        }
    }

    // MARK: what a request costs

    private static func count(bin: String, counter: String, folder: String) throws -> Counts {
        let control = try CountsPage(path: folder + "/control", library: counter)
        try Control.check(program: bin + "/demux-bench", page: control)
        print("")
        print("What \(countedTrips) requests made demux-scratch do, after a warm-up. Control: a process that allocates, retains, releases and locks")
        print("\(Control.times) times each was counted as \(control.now.allocations), \(control.now.retains), \(control.now.releases), \(control.now.locks).")
        let page = try CountsPage(path: folder + "/counts", library: counter)
        let swift = try SwiftContestant(program: bin + "/demux-scratch", environment: page.environment)
        defer { swift.end() }
        guard page.countsReferences else { throw BenchError("the counter did not find Swift's reference counting in demux-scratch: was it stripped?") }
        var table = Table(["", "allocations", "retains", "releases", "locks"])
        let start = page.now
        table.add(["(its start)"] + [start.allocations, start.retains, start.releases, start.locks].map { "\($0)" })
        var most = Counts(allocations: 0, retains: 0, releases: 0, locks: 0)
        for spin in [0, spinMicroseconds] {
            guard let placement = spin == 0 ? choices.together : choices.apart else { continue }
            try placement.apply(servers: [swift.pid])
            swift.guest.spinNanoseconds = UInt64(spin) * 1000
            for workload in Workload.chosen {
                var warmUp = Series()
                try warmUp.run(workload, on: swift.guest)
                let before = page.now
                for _ in 0..<countedTrips {
                    guard swift.guest.roundTrip(workload.request, bits: workload.request.fixedBits) != nil else {
                        throw BenchError("\(workload.name): no answer in ten seconds")
                    }
                }
                let cost = page.now - before
                table.add(
                    ["\(workload.name), spin \(spin == 0 ? "off" : "on")"]
                        + [cost.allocations, cost.retains, cost.releases, cost.locks].map { "\($0)" })
                most = Counts(
                    allocations: max(most.allocations, cost.allocations), retains: max(most.retains, cost.retains),
                    releases: max(most.releases, cost.releases), locks: max(most.locks, cost.locks))
            }
        }
        table.print()
        print("")
        return most
    }
}

/// What it costs to be seen: the Swift emulator that counts its latencies, and one that traces as well, each against one that does neither.
enum Seeing {
    /// - Returns: the medians, in words.
    static func compare(
        bin: String, pairs: Int, choices: (together: Placement?, apart: Placement?), spinMicroseconds: Int
    ) throws -> String {
        print("")
        print("What it costs to be seen: demux-scratch with its latencies counted, and traced besides, against itself with neither. The ratio is that of the")
        print("batches' median trips, as above.")
        var table = Table(["", "spin", "", "ratio", "from", "to"])
        var counted: [Double] = []
        var traced: [Double] = []
        for spin in [0, spinMicroseconds] {
            guard let placement = spin == 0 ? choices.together : choices.apart else { continue }
            let environment = ["DEMUX_SPIN_MICROSECONDS": "\(spin)"]
            let unseen = try SwiftContestant(program: bin + "/demux-scratch", environment: environment, observes: false)
            defer { unseen.end() }
            let seen = try SwiftContestant(program: bin + "/demux-scratch", environment: environment)
            defer { seen.end() }
            let tracing = try SwiftContestant(program: bin + "/demux-scratch", environment: environment)
            defer { tracing.end() }
            tracing.trace()
            let all = [unseen, seen, tracing]
            try placement.apply(servers: all.map(\.pid))
            for contestant in all { contestant.guest.spinNanoseconds = UInt64(spin) * 1000 }
            for workload in Workload.chosen {
                var series = [Series(), Series(), Series()]
                // In turn, and each of them first as often as the others: what runs first finds another machine than what runs last.
                for round in 0..<pairs {
                    for place in 0..<3 {
                        let index = (place + round) % 3
                        try series[index].run(workload, on: all[index].guest)
                    }
                }
                for (index, name) in [(1, "counted"), (2, "counted and traced")] {
                    let ratio = Ratio(series[index].medians, over: series[0].medians)
                    if index == 1 { counted.append(ratio.median) } else { traced.append(ratio.median) }
                    table.add([workload.name, spin == 0 ? "off" : "\(spin)", name] + [ratio.median, ratio.low, ratio.high].map { Table.text($0) })
                }
            }
        }
        table.print()
        return "observation on over off \(Table.text(counted.median)), with a trace \(Table.text(traced.median))"
    }
}

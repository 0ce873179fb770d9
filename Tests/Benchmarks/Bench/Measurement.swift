import Histogram
import Host
import Platform

/// One kind of access that is timed.
struct Workload {
    let name: String
    let request: IORequest
    /// Round trips of one batch.
    let trips: Int
    /// What every answer has to be; nil: anything.
    let answer: UInt64?

    /// Those that are run: DEMUX_BENCH_ONLY picks the ones whose name begins with it.
    static let chosen: [Workload] = {
        guard let wanted = ChildProcess.currentEnvironment()["DEMUX_BENCH_ONLY"] else { return all }
        return all.filter { $0.name.hasPrefix(wanted) }
    }()

    static let all = [
        Workload(
            name: "port write, 4 bytes", request: IORequest(kind: .portIO, direction: .write, address: UInt64(Layout.ports), data: 0x1234_5678, size: 4),
            trips: 1000, answer: nil),
        Workload(
            name: "port read, 4 bytes", request: IORequest(kind: .portIO, direction: .read, address: UInt64(Layout.ports), size: 4), trips: 1000,
            answer: 0x1234_5678),
        Workload(
            name: "MMIO write, 8 bytes",
            request: IORequest(kind: .copy, direction: .write, address: Layout.window + Layout.windowMemory, data: 0x0123_4567_89ab_cdef, size: 8),
            trips: 1000, answer: nil),
        Workload(
            name: "MMIO read, 8 bytes", request: IORequest(kind: .copy, direction: .read, address: Layout.window + Layout.windowMemory, size: 8),
            trips: 1000, answer: 0x0123_4567_89ab_cdef),
        Workload(
            name: "rep outsb, 1000",
            request: IORequest(
                kind: .portIO, direction: .write, address: UInt64(Layout.ports) + 8, data: Layout.buffer.rawValue, size: 1, count: 1000, dataIsPointer: true),
            trips: 200, answer: nil),
    ]
}

/// What one contestant did with one workload.
struct Series {
    /// Nanoseconds of each round trip.
    private(set) var latencies = Histogram<UInt64>(highestTrackableValue: 60_000_000_000, numberOfSignificantValueDigits: .three)
    /// Nanoseconds of each batch's median trip: what else the machine does shows in the mean before anything of the server's.
    private(set) var medians: [Double] = []
    /// Nanoseconds a trip took on average, for each batch.
    private(set) var means: [Double] = []

    /// Runs one batch, after a few trips that are not counted: they wake the server up and let its spinning adapt.
    mutating func run(_ workload: Workload, on guest: GuestEnd) throws {
        let request = workload.request
        let bits = request.fixedBits
        for _ in 0..<64 { try check(guest.roundTrip(request, bits: bits), workload) }
        var batch = [UInt64](repeating: 0, count: workload.trips)
        for index in 0..<workload.trips {
            let start = EventLoop.now()
            let answer = guest.roundTrip(request, bits: bits)
            batch[index] = EventLoop.now() &- start
            try check(answer, workload)
        }
        for latency in batch { _ = latencies.record(latency) }
        batch.sort()
        means.append(Double(batch.reduce(0, &+)) / Double(batch.count))
        medians.append(Double(batch[batch.count / 2]))
    }

    private func check(_ answer: UInt64?, _ workload: Workload) throws {
        guard let answer else { throw BenchError("\(workload.name): no answer in ten seconds") }
        guard workload.answer == nil || workload.answer == answer else {
            throw BenchError("\(workload.name): the answer was \(Hex.string(answer)), not \(Hex.string(workload.answer ?? 0))")
        }
    }

    /// Round trips a second: of the median batch, so that a batch during which the machine did something else does not count.
    var tripsPerSecond: Double { 1e9 / means.median }

    func microseconds(at percentile: Double) -> Double { Double(latencies.valueAtPercentile(percentile)) / 1000 }
}

/// The quotient of two series whose batches were run in turn: each batch is compared with its neighbour only, because what else
/// the machine does changes from one moment to the next.
struct Ratio {
    let median: Double
    let low: Double
    let high: Double

    /// How much longer a trip took in `one` than in `other`; the ends hold the middle half of the pairs.
    init(_ one: [Double], over other: [Double]) {
        let quotients = zip(one, other).map { $0 / $1 }.sorted()
        median = quotients.median
        low = quotients.isEmpty ? .nan : quotients[quotients.count / 4]
        high = quotients.isEmpty ? .nan : quotients[quotients.count * 3 / 4]
    }
}

extension [Double] {
    var median: Double {
        let sorted = sorted()
        guard !isEmpty else { return .nan }
        return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2
    }
}

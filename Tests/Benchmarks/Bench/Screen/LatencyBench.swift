import Histogram
import Platform
import RFB

/// From a pixel that the guest writes to the same pixel at a viewer: the whole chain on LocalHost (the guest's memory, demux-display, demux-vnc)
/// against QEMU's.
struct LatencyBench {
    struct Result {
        var samples: [Double] = []
        /// Milliseconds.
        var mean: Double { samples.reduce(0, +) / Double(samples.count) }
        var p99: Double { samples.sorted()[max(0, (samples.count * 99 + 99) / 100 - 1)] }
    }
    struct Ratios {
        var dense: Double
        var rested: Double
        var worst: Double { max(dense, rested) }
    }

    let bin: String
    let firmware: String
    let samples: Int
    let rests: Int

    func run() throws -> Ratios {
        let machine = try LocalMachine(bin: bin, width: 1024, height: 768)
        defer { machine.end() }
        let qemu = try QEMUContestant(firmware: firmware, width: 1024)
        defer { qemu.end() }
        let ours = try BenchViewer(path: machine.path, encoding: Encoding.raw)
        let theirs = try BenchViewer(path: qemu.path, encoding: Encoding.raw)
        var colour: UInt32 = 0
        // Each has its own count of what it drew: QEMU's guest counts for itself.
        var count: UInt32 = 0
        func one(ours result: inout Result) throws {
            if colour == 0 { try ours.ask() }
            colour &+= 0x01_0305
            try ours.ask()
            let start = EventLoop.now()
            try machine.pixel(64, 64, colour: colour & 0xff_ffff)
            try ours.wait(for: colour & 0xff_ffff)
            result.samples.append(Double(EventLoop.now() &- start) / 1e6)
        }
        func one(theirs result: inout Result) throws {
            count += 1
            try theirs.ask()
            try qemu.tell("p")
            // The guest says that it has drawn: the way to it is not counted.
            let start = EventLoop.now()
            try theirs.wait(for: count &* 0x01_0305 & 0xff_ffff)
            result.samples.append(Double(EventLoop.now() &- start) / 1e6)
        }
        var (dense, denseQEMU, rested, restedQEMU) = (Result(), Result(), Result(), Result())
        var warmUp = Result()
        for _ in 0..<10 {
            try one(ours: &warmUp)
            try one(theirs: &warmUp)
        }
        // In turn, in blocks, so that neither rests while the other one is measured, and both have the same machine.
        var random = Drawing(width: 1024, height: 768)
        for _ in 0..<10 {
            for _ in 0..<samples / 10 {
                // No more often than 60 times a second, which is as often as the display shows anything.
                sleep(until: EventLoop.now() &+ 17_000_000 &+ UInt64(random.random() % 16_000_000))
                try one(ours: &dense)
            }
            for _ in 0..<4 { try one(theirs: &warmUp) }
            for _ in 0..<samples / 10 {
                sleep(until: EventLoop.now() &+ 17_000_000 &+ UInt64(random.random() % 16_000_000))
                try one(theirs: &denseQEMU)
            }
        }
        for _ in 0..<rests {
            sleep(until: EventLoop.now() &+ 3_000_000_000 &+ UInt64(random.random() % 1_000_000_000))
            try one(ours: &rested)
            try one(theirs: &restedQEMU)
        }
        print("")
        print("From a pixel that the guest writes to the pixel at a viewer (raw, 1024×768), milliseconds: the whole chain on LocalHost (the guest's memory,")
        print("demux-display, demux-vnc) and QEMU; \(dense.samples.count) pixels, each 17 to 33 ms after the one before, and \(rests) after 3 to 4 s of rest.")
        var table = Table(["", "Demux mean", "p99", "QEMU mean", "p99", "ratio mean", "p99"])
        for (name, mine, qemus) in [("dense", dense, denseQEMU), ("after rest", rested, restedQEMU)] {
            table.add([
                name, Table.text(mine.mean), Table.text(mine.p99), Table.text(qemus.mean), Table.text(qemus.p99), Table.text(mine.mean / qemus.mean, digits: 3),
                Table.text(mine.p99 / qemus.p99, digits: 3),
            ])
        }
        table.print()
        return Ratios(dense: dense.p99 / denseQEMU.p99, rested: rested.p99 / restedQEMU.p99)
    }
}

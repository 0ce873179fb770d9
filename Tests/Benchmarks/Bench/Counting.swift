import Glibc
import Platform

/// What the preloaded AllocationCounter has counted in another process.
struct Counts: Equatable {
    var allocations: UInt64
    var retains: UInt64
    var releases: UInt64
    var locks: UInt64

    static func - (later: Counts, earlier: Counts) -> Counts {
        Counts(
            allocations: later.allocations &- earlier.allocations, retains: later.retains &- earlier.retains,
            releases: later.releases &- earlier.releases, locks: later.locks &- earlier.locks)
    }
}

/// A page in which the counter counts, shared through a file.
final class CountsPage {
    private let mapping: Mapping
    private let words: UnsafeMutablePointer<UInt64>
    /// The environment of the process that is to be counted.
    let environment: [String: String]

    /// - Parameters:
    ///   - path: where the file is made.
    ///   - library: the built AllocationCounter.
    init(path: String, library: String) throws {
        let raw = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard raw >= 0 else { throw SystemError("create", path) }
        let file = OwnedDescriptor(adopting: raw)
        guard ftruncate(file.raw, 4096) == 0 else { throw SystemError("size", path) }
        mapping = try Mapping(descriptor: file.raw, length: 4096, what: path)
        words = mapping.base.bindMemory(to: UInt64.self, capacity: 512)
        environment = ["LD_PRELOAD": library, "DEMUX_COUNTS": path]
    }

    var now: Counts { Counts(allocations: words[0], retains: words[1], releases: words[2], locks: words[4]) }

    /// Whether the counter has found Swift's reference counting.
    var countsReferences: Bool { words[3] == 1 }
}

/// The positive control: a process that does what the counter is to count, so that a count of 0 means something.
enum Control {
    static let times = 1000

    private final class Thing {}

    /// Run in a process of its own: allocates, retains, releases and locks that many times.
    static func misbehave() {
        var kept: [Thing] = []
        var lock = pthread_mutex_t()
        pthread_mutex_init(&lock, nil)
        let original = Thing()
        for _ in 0..<times {
            kept.append(Thing())
            // Each place in the array holds a reference of its own: no optimizer can take that out.
            kept.append(original)
            pthread_mutex_lock(&lock)
            pthread_mutex_unlock(&lock)
        }
        withExtendedLifetime((kept, original)) {}
    }

    /// Starts that process and checks its counts.
    static func check(program: String, page: CountsPage) throws {
        let environment = ChildProcess.currentEnvironment().merging(page.environment) { $1 }
        let child = try ChildProcess(program: program, arguments: ["--control"], environment: environment)
        guard child.wait(limit: .seconds(60)) == .status(0) else { throw BenchError("the control of the counters did not end in order") }
        let counts = page.now
        let least = UInt64(times)
        guard page.countsReferences else { throw BenchError("the counter did not find Swift's reference counting in \(program): was it stripped?") }
        guard counts.allocations >= least, counts.retains >= least, counts.releases >= least, counts.locks >= least else {
            throw BenchError("the counter counts too little: \(counts), and each was done \(times) times")
        }
    }
}

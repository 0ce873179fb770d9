import CPlacement
import Glibc

/// On which processor the guest's end and the server run: left to the scheduler, a result would depend on where it happened to
/// put them.
struct Placement {
    let guest: CInt
    let server: CInt

    /// Both on one, where a wake-up goes from one to the other without a second processor; and one each, for spinning. Nil when there are
    /// too few. To be asked before anything is put anywhere.
    static func choices() -> (together: Placement?, apart: Placement?) {
        let first = demux_bench_processor(0)
        let second = demux_bench_processor(1)
        return (
            first < 0 ? nil : Placement(guest: first, server: first),
            first < 0 || second < 0 ? nil : Placement(guest: first, server: second)
        )
    }

    /// Moves this thread and the servers' processes.
    func apply(servers: [pid_t]) throws {
        for (pid, processor) in [(pid_t(0), guest)] + servers.map({ ($0, server) }) {
            guard demux_bench_pin(pid, processor) == 0 else { throw BenchError("process \(pid) could not be put on processor \(processor)") }
        }
    }
    /// Lets this thread run anywhere again; what it starts inherits that.
    static func forget() { _ = demux_bench_unpin() }
}

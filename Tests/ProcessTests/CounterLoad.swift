import Glibc
import Host
import LocalHost
import Platform
import Synchronization
import Testing

/// What each vCPU of a guest program does without pause: writes the next number into a register of its own of Scratch's, reads it back, and adds one to
/// the sum that all share. A write that is lost or carried out twice shows in the sum.
final class CounterLoad: @unchecked Sendable {
    // Sendable: atomics and a mutex.
    private let stopped = Atomic<Bool>(false)
    private let rounds = Atomic<Int>(0)
    private let ones = Atomic<Int>(0)
    private let longest = Mutex<[UInt64]>([])
    private var runs: [Promise<String?>] = []

    /// Rounds of all vCPUs.
    var count: Int { rounds.load(ordering: .relaxed) }
    /// Reads that gave all-ones: somebody answered in the emulator's place.
    var allOnes: Int { ones.load(ordering: .relaxed) }

    /// - Parameters:
    ///   - base: the first of Scratch's ports.
    ///   - parking: whether the coordinator may answer in Scratch's place.
    init(_ guest: Guest, vcpus: Int, base: UInt16 = 0x500, parking: Bool = false) throws {
        for index in 0..<vcpus {
            let vcpu = try guest.vcpu(index)
            runs.append(onThread { [self] in run(vcpu, index, base: base, parking: parking) })
        }
    }

    private func run(_ vcpu: LocalVCPU, _ index: Int, base: UInt16, parking: Bool) -> String? {
        let own = base + UInt16(index) * 4
        var number: UInt64 = 0
        var worst: UInt64 = 0
        defer { longest.withLock { $0.append(worst) } }
        while !stopped.load(ordering: .relaxed) {
            number = number &+ 1 & 0xffff_ffff
            do {
                let begin = EventLoop.now()
                try vcpu.write(port: own, size: 4, value: number)
                let read = try vcpu.read(port: own, size: 4)
                try vcpu.write(port: base + 0x14, size: 4, value: 1)
                worst = max(worst, EventLoop.now() &- begin)
                if read != number {
                    // A write that was dropped leaves the last number.
                    guard parking, read == 0xffff_ffff || read < number else { return "vCPU \(index) wrote \(number) and read \(Hex.string(read))" }
                    if read == 0xffff_ffff { ones.add(1, ordering: .relaxed) }
                }
            } catch { return "vCPU \(index): \(error)" }
            rounds.add(1, ordering: .relaxed)
        }
        return nil
    }

    /// Waits until the vCPUs have made so many rounds more.
    func go(on more: Int) throws {
        let goal = count + more
        try eventually("the guest goes on") { count >= goal }
    }

    /// Ends the program.
    /// - Returns: what was wrong on each vCPU that found something, and the longest time that three accesses took, in nanoseconds.
    func stop() throws -> (troubles: [String], longest: UInt64) {
        stopped.store(true, ordering: .relaxed)
        let troubles = try runs.compactMap { try $0.get("a vCPU of the guest program") }
        return (troubles, longest.withLock { $0.max() ?? 0 })
    }
}

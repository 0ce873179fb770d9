/// A page of memory as shared pages are: 4096 zeroed bytes, aligned.
final class Page {
    let base: UnsafeMutableRawPointer

    init() {
        base = .allocate(byteCount: 4096, alignment: 4096)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
    }

    deinit { base.deallocate() }
}

/// A generator that gives the same numbers in every run.
struct FixedRandom: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return (state >> 33) ^ state
    }
}

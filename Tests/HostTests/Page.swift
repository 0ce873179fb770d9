/// A page of memory as shared pages are: 4096 zeroed bytes, aligned.
final class Page {
    let base: UnsafeMutableRawPointer

    init() {
        base = .allocate(byteCount: 4096, alignment: 4096)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
    }

    deinit { base.deallocate() }
}

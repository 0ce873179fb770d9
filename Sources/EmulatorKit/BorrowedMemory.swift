import Host

/// The guest's memory as a request reaches it: called without counting a reference each time, because the core keeps it anyway.
struct BorrowedMemory {
    private final class Holder {
        let memory: any GuestMemory
        init(_ memory: any GuestMemory) { self.memory = memory }
    }

    private let holder: Unmanaged<Holder>

    /// Keeps `memory` until `release`.
    init(_ memory: any GuestMemory) { holder = .passRetained(Holder(memory)) }

    /// Ends it: to be called once, and nothing afterwards.
    func release() { holder.release() }

    /// Copies guest memory into a buffer; false when some of it is not there. See GuestMemory.
    func read(_ address: GuestAddress, into destination: UnsafeMutableRawBufferPointer) -> Bool {
        holder._withUnsafeGuaranteedRef { $0.memory.read(address, into: destination) }
    }

    /// Copies a buffer into guest memory; false when some of it is not there.
    func write(_ address: GuestAddress, from source: UnsafeRawBufferPointer) -> Bool {
        holder._withUnsafeGuaranteedRef { $0.memory.write(address, from: source) }
    }

    /// What was cached of the guest's address space is void.
    func invalidate() { holder._withUnsafeGuaranteedRef { $0.memory.invalidate() } }
}

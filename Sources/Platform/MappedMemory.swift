/// A memfd and the mapping of all of it, together: what a process keeps that others share.
public struct MappedMemory: ~Copyable, Sendable {
    public let memory: SharedMemory
    private let mapping: Mapping

    /// The first byte. Sound for `length` bytes while this value lives.
    public var base: UnsafeMutableRawPointer { mapping.base }
    /// Length in bytes.
    public var length: Int { mapping.length }
    /// Of the memfd; valid while this value lives.
    public var descriptor: CInt { memory.descriptor.raw }

    /// Creates zeroed memory whose size is sealed.
    /// - Parameter what: what it is to a person: "the counters of display".
    /// - Throws: SystemError when the kernel refuses.
    public init(name: String, length: Int, what: String) throws(SystemError) {
        try self.init(SharedMemory(name: name, length: length), what: what)
    }

    /// Takes over memory that another process made.
    /// - Throws: SystemError when its size is not sealed, or is another one.
    public init(adopting descriptor: consuming OwnedDescriptor, length: Int, what: String) throws(SystemError) {
        try self.init(SharedMemory(adopting: descriptor, length: length, what: what), what: what)
    }

    private init(_ memory: consuming SharedMemory, what: String) throws(SystemError) {
        let mapping = try memory.map(what: what)
        self.memory = memory
        self.mapping = mapping
    }

    /// A descriptor of the same memory, to hand out.
    public func duplicate() throws(SystemError) -> OwnedDescriptor { try memory.descriptor.duplicate() }

    /// A descriptor through which it can only be read; see `SharedMemory.readOnly`.
    public func readOnly() throws(SystemError) -> OwnedDescriptor { try memory.readOnly() }
}

import CLinux
import Glibc

/// A mapping with one owner, unmapped when the owner goes away.
///
/// The pointer is handed out because shared pages are read and written in place with atomic moves; whoever keeps it must
/// keep the mapping alive for as long.
public struct Mapping: ~Copyable, @unchecked Sendable {
    // Sendable: the mapping itself is immutable; the memory behind it is shared by nature, and its users order their accesses.
    /// The first byte. Sound for `length` bytes while this value lives.
    public let base: UnsafeMutableRawPointer
    /// Length in bytes.
    public let length: Int

    /// Maps `length` bytes of a file from `offset` on, shared.
    /// - Throws: SystemError when the kernel refuses.
    public init(descriptor: CInt, length: Int, offset: Int = 0, writable: Bool = true, what: String) throws(SystemError) {
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        let address = mmap(nil, length, protection, MAP_SHARED, descriptor, off_t(offset))
        guard let address, address != demux_map_failed() else { throw SystemError("map", what) }
        base = address
        self.length = length
    }

    deinit { munmap(base, length) }
}

/// A memfd whose size cannot change any more, so that nobody who shares it can make another process take SIGBUS.
public struct SharedMemory: ~Copyable, Sendable {
    public let descriptor: OwnedDescriptor
    /// Length in bytes.
    public let length: Int

    /// Creates zeroed memory, sealed against growing, shrinking and further seals.
    public init(name: String, length: Int) throws(SystemError) {
        let raw = demux_memfd_create(name)
        guard raw >= 0 else { throw SystemError("create", "shared memory '\(name)'") }
        let owned = OwnedDescriptor(adopting: raw)
        guard ftruncate(raw, off_t(length)) == 0 else {
            throw SystemError("size", "shared memory '\(name)' of \(length) bytes")
        }
        guard demux_add_seals(raw, CInt(DEMUX_SEAL_SIZE)) == 0 else { throw SystemError("seal", "shared memory '\(name)'") }
        descriptor = owned
        self.length = length
    }

    /// Creates memory that holds these bytes and that nobody can change any more.
    public init(name: String, content: [UInt8]) throws(SystemError) {
        let raw = demux_memfd_create(name)
        guard raw >= 0 else { throw SystemError("create", "shared memory '\(name)'") }
        let owned = OwnedDescriptor(adopting: raw)
        guard pwrite(raw, content, content.count, 0) == content.count else { throw SystemError("fill", "shared memory '\(name)' of \(content.count) bytes") }
        guard demux_add_seals(raw, CInt(DEMUX_SEAL_SIZE) | CInt(DEMUX_SEAL_WRITE)) == 0 else { throw SystemError("seal", "shared memory '\(name)'") }
        descriptor = owned
        length = content.count
    }

    /// Takes over memory that another process made, after checking that its size is sealed and is what was agreed.
    public init(adopting descriptor: consuming OwnedDescriptor, length: Int, what: String) throws(SystemError) {
        let seals = demux_get_seals(descriptor.raw)
        let sizeSeals = CInt(DEMUX_SEAL_SIZE)
        guard seals >= 0, seals & sizeSeals == sizeSeals else {
            throw SystemError("accept", what, reason: "its size is not sealed", remedy: "the sender must add F_SEAL_GROW, F_SEAL_SHRINK and F_SEAL_SEAL")
        }
        var status = stat()
        guard fstat(descriptor.raw, &status) == 0 else { throw SystemError("look at", what) }
        guard status.st_size == length else {
            throw SystemError("accept", what, reason: "it has \(status.st_size) bytes, not \(length)")
        }
        self.descriptor = descriptor
        self.length = length
    }

    /// Maps all of it.
    public borrowing func map(writable: Bool = true, what: String) throws(SystemError) -> Mapping {
        try Mapping(descriptor: descriptor.raw, length: length, writable: writable, what: what)
    }

    /// Nobody but its owner may open the file anew from now on, and that for reading only.
    /// - Throws: SystemError when the kernel refuses.
    public borrowing func restrict() throws(SystemError) {
        guard fchmod(descriptor.raw, 0o400) == 0 else { throw SystemError("restrict", "shared memory") }
    }

    /// A descriptor through which the memory can be read and never be written, nor be opened for writing by another user.
    /// - Throws: SystemError when the kernel refuses, or /proc is not mounted.
    public borrowing func readOnly() throws(SystemError) -> OwnedDescriptor {
        // A memfd is made with mode 0777: without this, whoever holds a descriptor could open the file for writing.
        try restrict()
        return try Files.open("/proc/self/fd/\(descriptor.raw)")
    }
}

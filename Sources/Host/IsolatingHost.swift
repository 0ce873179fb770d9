import Platform

/// A host that can hand a server's pages and doorbells to another process: LocalHost. Xen cannot (a foreign mapping is not a
/// descriptor), so that there a relay in the coordinator stands between.
public protocol IsolatingHost: Host {
    /// Duplicates of a server's descriptors, in the order of the emulator protocol's `attach`: slots page, kick eventfd,
    /// done eventfd and, when it has one, ring page.
    func attachmentDescriptors(of server: ServerID) throws(HostError) -> DescriptorBag

    /// The guest's RAM as a file: one descriptor, and which part of it lies where in the guest.
    func sharedMemory() throws(HostError) -> SharedGuestMemory
}

/// Guest RAM that can be mapped by another process.
public struct SharedGuestMemory {
    /// A run of guest-physical bytes and its place in the file.
    public struct Region: Equatable, Sendable {
        public var address: GuestAddress
        /// Bytes.
        public var length: UInt64
        /// Bytes from the file's start.
        public var offset: UInt64
        public init(address: GuestAddress, length: UInt64, offset: UInt64) {
            self.address = address
            self.length = length
            self.offset = offset
        }
    }
    public var descriptors: DescriptorBag
    /// The file's length in bytes.
    public var length: UInt64
    public var regions: [Region]
    public init(descriptors: DescriptorBag, length: UInt64, regions: [Region]) {
        self.descriptors = descriptors
        self.length = length
        self.regions = regions
    }
}

import CXen
import Glibc
import Host

/// A resource of Xen's mapped into this process, unmapped when its owner goes away.
private struct ResourceMapping: ~Copyable {
    private let handles: XenHandles
    private let resource: OpaquePointer
    let base: UnsafeMutableRawPointer

    /// - Returns: nil with errno set when Xen refuses.
    init?(_ handles: XenHandles, server: ServerID, firstFrame: UInt, frames: UInt) {
        var address: UnsafeMutableRawPointer?
        let mapped = xenforeignmemory_map_resource(
            handles.foreignMemory.raw, handles.domain.rawValue, UInt32(DEMUX_XENMEM_RESOURCE_IOREQ_SERVER), UInt32(server.rawValue),
            firstFrame, frames, &address, PROT_READ | PROT_WRITE, 0)
        guard let mapped, let address else { return nil }
        self.handles = handles
        resource = mapped
        base = address
    }

    deinit { xenforeignmemory_unmap_resource(handles.foreignMemory.raw, resource) }
}

/// The pages of one ioreq server, mapped: frame 0 of the resource is the ring of posted writes, frame 1 the slots.
///
/// Only a view of what the owner and Xen share: mapping them binds nothing and answers nothing. The memory stays mapped
/// while this is held, which keeps a dead domain around as a zombie: let go of it when the domain dies.
final class ServerPages {
    let slots: SlotPage
    let ring: BufferedRing?
    private let mapping: ResourceMapping

    /// - Parameter ring: whether the server has one; nil finds out.
    init(_ handles: XenHandles, server: ServerID, ring wanted: Bool?) throws(HostError) {
        if wanted != false {
            if let both = ResourceMapping(handles, server: server, firstFrame: 0, frames: 2) {
                ring = BufferedRing(page: both.base)
                slots = SlotPage(page: both.base + 4096)
                mapping = both
                return
            }
            // A server without a ring has no frame 0 (ENOENT), which is also what a missing server gives.
            guard wanted == nil, errno == ENOENT || errno == EINVAL else { throw handles.failure("map", "the pages of \(server) of \(handles.domain)", .server(server)) }
        }
        guard let only = ResourceMapping(handles, server: server, firstFrame: 1, frames: 1) else {
            throw handles.failure("map", "the page of slots of \(server) of \(handles.domain)", .server(server))
        }
        ring = nil
        slots = SlotPage(page: only.base)
        mapping = only
    }
}

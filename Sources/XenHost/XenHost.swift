import CXen
import Host

/// A guest on real Xen, for a process of dom0 with full rights over it: the coordinator.
///
/// It uses the stable libraries only (xendevicemodel, xenforeignmemory, xenevtchn). A direct emulator uses `XenDirect`.
public final class XenHost: Host {
    public let domain: DomainID
    let handles: XenHandles
    /// The pages of the servers made here. Mapping them is what makes Xen allocate them, and only for pages that exist
    /// does enabling a server publish its event channels; so they are mapped at once and kept.
    private var pages: [ServerID: ServerPages] = [:]
    private var memory: XenGuestMemory?

    func keep(_ known: ServerPages, of server: ServerID) { pages[server] = known }

    /// Guest memory of devices, by number, and the next number.
    var regions: [Int: HostRegion] = [:]
    var nextRegion = 1

    /// Opens the handles and makes sure that the guest is there.
    /// - Throws: `notPermitted` without root, `noSuchDomain`, `invalid` for a guest that is not an HVM one.
    public init(domain: DomainID) throws(HostError) {
        self.domain = domain
        handles = try XenHandles(domain: domain)
        _ = try handles.vcpuCount()
    }

    /// Whether Xen still knows the domain, be it a dying one: that has no servers any more (`noSuchServer`), gets none
    /// (`invalid`), and goes when nobody holds its pages. Who wants to know earlier watches xenstore.
    public var exists: Bool { handles.exists }

    public func vcpuCount() throws(HostError) -> Int { try handles.vcpuCount() }

    public func createServer(ring: Bool) throws(HostError) -> ServerID {
        var id: ioservid_t = 0
        let mode = ring ? CInt(DEMUX_BUFIOREQ_ATOMIC) : CInt(DEMUX_BUFIOREQ_OFF)
        guard xendevicemodel_create_ioreq_server(handles.deviceModel.raw, domain.rawValue, mode, &id) == 0 else {
            throw handles.failure("create", "an ioreq server of \(domain)", .create)
        }
        guard let server = ServerID(id) else {
            xendevicemodel_destroy_ioreq_server(handles.deviceModel.raw, domain.rawValue, id)
            throw HostError(
                "create", "an ioreq server of \(domain)", .invalid, detail: "Xen gave it the number \(id), and \(ServerID.limit - 1) is the highest that is known")
        }
        do throws(HostError) {
            pages[server] = try ServerPages(handles, server: server, ring: ring)
        } catch {
            xendevicemodel_destroy_ioreq_server(handles.deviceModel.raw, domain.rawValue, id)
            throw error
        }
        return server
    }

    public func destroyServer(_ server: ServerID) throws(HostError) {
        guard xendevicemodel_destroy_ioreq_server(handles.deviceModel.raw, domain.rawValue, server.rawValue) == 0 else {
            throw handles.failure("destroy", "\(server) of \(domain)", .server(server))
        }
        pages[server] = nil
    }

    public func setServer(_ server: ServerID, enabled: Bool) throws(HostError) {
        guard xendevicemodel_set_ioreq_server_state(handles.deviceModel.raw, domain.rawValue, server.rawValue, enabled ? 1 : 0) == 0 else {
            throw handles.failure(enabled ? "enable" : "disable", "\(server) of \(domain)", .server(server))
        }
    }

    public func map(_ range: IORange, to server: ServerID) throws(HostError) {
        let dm = handles.deviceModel.raw
        let result = switch range {
        case .ports(let ports):
            xendevicemodel_map_io_range_to_ioreq_server(dm, domain.rawValue, server.rawValue, 0, UInt64(ports.first), UInt64(ports.last))
        case .memory(let bytes):
            xendevicemodel_map_io_range_to_ioreq_server(dm, domain.rawValue, server.rawValue, 1, bytes.first.rawValue, bytes.last.rawValue)
        case .pci(let place):
            xendevicemodel_map_pcidev_to_ioreq_server(dm, domain.rawValue, server.rawValue, place.segment, place.bus, place.device, place.function)
        }
        guard result == 0 else { throw handles.failure("map", "\(range) to \(server) of \(domain)", .map(server)) }
    }

    public func unmap(_ range: IORange, from server: ServerID) throws(HostError) {
        let dm = handles.deviceModel.raw
        let result = switch range {
        case .ports(let ports):
            xendevicemodel_unmap_io_range_from_ioreq_server(dm, domain.rawValue, server.rawValue, 0, UInt64(ports.first), UInt64(ports.last))
        case .memory(let bytes):
            xendevicemodel_unmap_io_range_from_ioreq_server(dm, domain.rawValue, server.rawValue, 1, bytes.first.rawValue, bytes.last.rawValue)
        case .pci(let place):
            xendevicemodel_unmap_pcidev_from_ioreq_server(dm, domain.rawValue, server.rawValue, place.segment, place.bus, place.device, place.function)
        }
        guard result == 0 else { throw handles.failure("unmap", "\(range) from \(server) of \(domain)", .unmap(server)) }
    }

    /// A channel of any server of the guest, made here or not; an observer until it is bound.
    public func openChannel(_ server: ServerID) throws(HostError) -> any SharedChannel { ChannelBox(try channel(server)) }

    /// The same, as a value.
    public func channel(_ server: ServerID) throws(HostError) -> XenChannel {
        try XenChannel(handles, server: server, ring: nil, vcpuCount: handles.vcpuCount())
    }

    public func setINTx(device: UInt8, pin: UInt8, asserted: Bool) throws(HostError) {
        try handles.setINTx(device: device, pin: pin, asserted: asserted)
    }

    public func setISAInterrupt(_ line: UInt8, asserted: Bool) throws(HostError) {
        try handles.setISAInterrupt(line, asserted: asserted)
    }

    public func injectMSI(address: UInt64, data: UInt32) throws(HostError) {
        try handles.injectMSI(address: address, data: data)
    }

    public func crashGuest(_ reason: String) throws(HostError) {
        // SHUTDOWN_crash (xen/include/public/sched.h).
        guard xendevicemodel_shutdown(handles.deviceModel.raw, domain.rawValue, 3) == 0 else {
            throw handles.failure("crash", "\(domain)", .domain)
        }
    }

    public func guestMemory() throws(HostError) -> any GuestMemory {
        if let memory { return memory }
        let made = XenGuestMemory(handles)
        memory = made
        return made
    }

    /// Lets go of every mapping of the guest, so that a dead domain can go: one whose pages are held stays as a zombie.
    /// Channels and memory that others hold must be let go of by them.
    public func release() {
        pages.removeAll()
        memory?.invalidate()
        memory = nil
    }
}

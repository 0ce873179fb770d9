import CXen
import Glibc
import Host

/// The pages and event channels of one of Xen's ioreq servers.
///
/// Until `bind` it is an observer: it shows the slots and the ring, and takes nothing from whoever serves them. Only
/// one living process can bind a server's channels; the coordinator observes all of them.
public struct XenChannel: Channel, ~Copyable {
    private let handles: XenHandles
    private let server: ServerID
    private let pages: ServerPages
    /// Owns the event channels; used through `events`.
    private var eventOwner: EventChannelHandle?
    private var events: OpaquePointer?
    public let slots: SlotPage
    public let ring: BufferedRing?
    public let vcpuCount: Int
    public private(set) var named: VCPUSet?
    /// -1 before `bind`, for a channel that was opened without event channels.
    public private(set) var waitDescriptor: CInt

    // Fixed tables: nothing is allocated once bound.
    /// This process's port for each vCPU; 0, which Xen never gives out, for none.
    private var ports: [evtchn_port_t]
    private var ringPort: evtchn_port_t = 0
    private var pending: [evtchn_port_t]

    /// Maps a server's pages.
    /// - Parameter ring: whether it has a ring; nil finds out.
    init(_ handles: XenHandles, server: ServerID, ring: Bool?, vcpuCount: Int) throws(HostError) {
        let pages = try ServerPages(handles, server: server, ring: ring)
        let count = min(max(vcpuCount, 1), VCPUID.limit)
        self.handles = handles
        self.server = server
        self.pages = pages
        slots = pages.slots
        self.ring = pages.ring
        self.vcpuCount = count
        ports = [evtchn_port_t](repeating: 0, count: count)
        pending = [evtchn_port_t](repeating: 0, count: count + 1)
        eventOwner = nil
        events = nil
        waitDescriptor = -1
    }

    /// Binds every vCPU's event channel and the ring's. The server must be enabled: only then has Xen published the numbers.
    /// Binding leaves each port pending once, so that the first `acknowledge` names every slot.
    /// - Throws: `invalid` when a port is not free (its owner lives, or the server is not enabled).
    public mutating func bind() throws(HostError) {
        var ringRemote: evtchn_port_t = 0
        if ring != nil {
            // No frame numbers: asking for them is refused once the pages are mapped as a resource.
            guard xendevicemodel_get_ioreq_server_info(
                handles.deviceModel.raw, handles.domain.rawValue, server.rawValue, nil, nil, &ringRemote) == 0
            else { throw handles.failure("ask for the ring's event channel of", "\(server) of \(handles.domain)", .server(server)) }
        }
        if events == nil { try openEvents() }
        guard let raw = events else { return }
        // Whatever this channel had bound before is its own.
        unbindAll()
        for vcpu in 0..<vcpuCount {
            ports[vcpu] = try bind(slots.remotePort(vcpu), with: raw, what: "the event channel of vCPU \(vcpu)")
        }
        if ring != nil { ringPort = try bind(ringRemote, with: raw, what: "the ring's event channel") }
    }

    /// Opens the handle for event channels, which `bind` does otherwise: for a process that restricts its handles
    /// before it binds. A mere observer has none.
    mutating func openEvents() throws(HostError) {
        let opened = try EventChannelHandle()
        events = opened.raw
        waitDescriptor = opened.descriptor
        eventOwner = consume opened
    }

    private mutating func bind(_ remote: evtchn_port_t, with raw: OpaquePointer, what: String) throws(HostError) -> evtchn_port_t {
        let local = remote == 0 ? -1 : xenevtchn_bind_interdomain(raw, UInt32(handles.domain.rawValue), remote)
        guard local > 0 else {
            let code = remote == 0 ? EINVAL : errno
            unbindAll()
            throw handles.failure("bind", "\(what) (port \(remote)) of \(server) of \(handles.domain)", .bind(server), code: code)
        }
        return evtchn_port_t(local)
    }

    public mutating func unbind() { unbindAll() }

    private mutating func unbindAll() {
        guard let raw = events else { return }
        for vcpu in 0..<vcpuCount where ports[vcpu] != 0 {
            xenevtchn_unbind(raw, ports[vcpu])
            ports[vcpu] = 0
        }
        if ringPort != 0 { xenevtchn_unbind(raw, ringPort) }
        ringPort = 0
    }

    /// Takes what is pending and unmasks it before anyone looks at the slots, so that no later event is lost.
    ///
    /// Reads the descriptor itself, where libxenevtchn would take one port a call: one read gives all the ports
    /// that are pending and one write unmasks them (Linux's drivers/xen/evtchn.c).
    public mutating func acknowledge() -> Bool {
        guard waitDescriptor >= 0 else { return false }
        let descriptor = waitDescriptor
        let got = pending.withUnsafeMutableBytes { buffer in
            let bytes = read(descriptor, buffer.baseAddress, buffer.count)
            if bytes > 0 { _ = write(descriptor, buffer.baseAddress, bytes) }
            return bytes
        }
        guard got > 0 else {
            // EAGAIN: a spurious wake-up. Anything else: have every slot looked at, as nothing is known.
            named = got < 0 && errno == EAGAIN ? VCPUSet() : nil
            return false
        }
        var found = VCPUSet()
        var everything = false
        for place in 0..<(got / MemoryLayout<evtchn_port_t>.size) {
            let port = pending[place]
            if port == ringPort {
                everything = true
            } else if let vcpu = ports.firstIndex(of: port) {
                found.insert(vcpu)
            }
        }
        named = everything ? nil : found
        return true
    }

    public func notify(_ vcpu: Int) {
        guard let raw = events, ports.indices.contains(vcpu), ports[vcpu] != 0 else { return }
        // It can fail only for a port that is not ours.
        xenevtchn_notify(raw, ports[vcpu])
    }
}

import CXen
import Glibc
import Host

/// A direct emulator's end of Xen: its server's channel, and its guest, with every other right given up.
public struct XenDirect: DirectAttachment, ~Copyable {
    private var channel: XenChannel
    public let guest: any DirectGuest

    /// Everything that needs rights, in the one order that leaves none behind. Nothing that the guest controls is looked at
    /// before the last line.
    public init(_ request: DirectRequest) throws(HostError) {
        // 1. Every handle: one opened after the restriction would not be restricted.
        let handles = try XenHandles(domain: request.domain)
        var channel = try XenChannel(handles, server: request.server, ring: request.ring, vcpuCount: request.vcpus)
        try channel.openEvents()
        // 2. Ties them all to the one guest.
        try Privileges.restrict(to: request.domain)
        // 3. Gives up root for good.
        try Privileges.drop(uid: request.uid, gid: request.gid)
        self.channel = consume channel
        guest = XenGuest(handles)
    }

    public var slots: SlotPage { channel.slots }
    public var ring: BufferedRing? { channel.ring }
    public var vcpuCount: Int { channel.vcpuCount }
    public var waitDescriptor: CInt { channel.waitDescriptor }
    public var named: VCPUSet? { channel.named }
    public mutating func bind() throws(HostError) { try channel.bind() }
    public mutating func unbind() { channel.unbind() }
    public mutating func acknowledge() -> Bool { channel.acknowledge() }
    public func notify(_ vcpu: Int) { channel.notify(vcpu) }
}

/// The guest of a direct emulator: memory and interrupts by restricted handles.
final class XenGuest: DirectGuest {
    private let handles: XenHandles
    private let pages: XenGuestMemory

    init(_ handles: XenHandles) {
        self.handles = handles
        pages = XenGuestMemory(handles)
    }

    var memory: any GuestMemory { pages }

    func setINTx(device: UInt8, pin: UInt8, asserted: Bool) throws(HostError) {
        try handles.setINTx(device: device, pin: pin, asserted: asserted)
    }

    func setISAInterrupt(_ line: UInt8, asserted: Bool) throws(HostError) {
        try handles.setISAInterrupt(line, asserted: asserted)
    }

    func injectMSI(address: UInt64, data: UInt32) throws(HostError) { try handles.injectMSI(address: address, data: data) }
    func setDirtyLogging(_ on: Bool) { pages.dirtyLogging = on }
    func markModified(_ first: GFN, count: Int) throws(HostError) { try handles.markModified(first, count: count) }

    // MARK: regions

    func mapRegion(first: GFN, pages: Int) throws(HostError) -> RegionMemory { try handles.mapRegion(first: first, pages: pages) }

    func relocate(from source: GFN, to target: GFN, pages: Int) throws(HostError) {
        // What is cached of the guest's memory is by frame.
        self.pages.invalidate()
        try handles.relocate(from: source, to: target, pages: pages)
    }

    func framesPresent(first: GFN, pages: Int, stride: Int) -> Int { handles.framesPresent(first: first, pages: pages, stride: stride) }

    func dirtyPages(first: GFN, pages: Int, into bitmap: UnsafeMutablePointer<UInt64>) throws(HostError) {
        try handles.dirtyPages(first: first, pages: pages, into: bitmap)
    }

    func stopDirtyTracking() throws(HostError) { try handles.stopDirtyTracking() }
}

import EmulatorProtocol
import Host
import Platform

extension Setup {
    /// Has memory made that the guest will use as RAM, or takes over what a predecessor had under the same label. It is nowhere in the guest until
    /// a BAR shows it (`PCIDescription.BAR.region`) or `Context.place` puts it somewhere.
    /// - Parameters:
    ///   - length: bytes; whole pages of 4096, a power of two for a BAR. An emulator can have 8 regions.
    ///   - label: what a person calls it, and what it is found by again.
    /// - Throws: SetupError when there is no room for it (the error names the setting to change), or this emulator's host offers none.
    public mutating func region(length: Int, label: String) throws(SetupError) -> DeviceRegion {
        let asked = "the region '\(label)' of \(length) bytes"
        let index = core.pointee.belongings.regions.count
        guard index < Core.mostRegions else {
            throw SetupError("make", asked, reason: "an emulator can have \(Core.mostRegions)", remedy: "divide one up")
        }
        guard length > 0, length & 4095 == 0, length <= 1 << 40 else {
            throw SetupError("make", asked, reason: "it has not whole pages of 4096 bytes", remedy: "this is a fault of the emulator's program")
        }
        let control = core.pointee.control
        guard let answer = control.request(.region(RegionRequest(length: UInt64(length), label: label))) else { throw .closed("make", asked) }
        let grant: RegionGrant
        switch answer.packet.body {
        case .ok(let reply):
            guard let given = reply.region else {
                throw SetupError("make", asked, reason: "the answer names no region", remedy: "this is a fault of the coordinator's")
            }
            grant = given
        case .error(let refusal): throw SetupError("make", asked, refused: refusal)
        default: throw SetupError("make", asked, reason: "the answer is neither ok nor error", remedy: "this is a fault of the coordinator's")
        }
        let region = if let guest = core.pointee.attachment.guest {
            try foreign(grant, guest, index: index, length: length, label: label)
        } else {
            try shared(grant, answer.descriptors, index: index, length: length, label: label)
        }
        core.pointee.belongings.regions.append(region)
        if region.hasDoorbell { _ = core.pointee.events.watch(region.doorbellDescriptor, own: true) }
        return region
    }

    /// Guest memory that the coordinator has populated.
    private func foreign(_ grant: RegionGrant, _ guest: any DirectGuest, index: Int, length: Int, label: String) throws(SetupError) -> DeviceRegion {
        let pages = length / 4096
        // 48 bits of address: no frame beyond can be moved or mapped.
        guard let given = grant.gfn?.value, given < 1 << 36, grant.home.map({ $0.value < 1 << 36 }) ?? true else {
            throw SetupError("use", "the region '\(label)'", reason: "the coordinator does not say where it is", remedy: "this is a fault of the coordinator's")
        }
        let frame = core.pointee.finishMove(ofRegion: index, pages: pages, presentFrame: given)
        let memory: RegionMemory
        do throws(HostError) { memory = try guest.mapRegion(first: GFN(frame), pages: pages) } catch { throw SetupError(error) }
        if frame != given {
            let control = core.pointee.control
            control.send(Packet(.regionPlace(RegionPlace(region: grant.region, address: frame << 12)), id: control.newID()))
        }
        // What Xen gives may hold what another guest left.
        if !grant.adopted { memory.base.initializeMemory(as: UInt8.self, repeating: 0, count: memory.length) }
        // New memory is where it belongs, said or not.
        let home = grant.home?.value ?? (grant.adopted ? nil : given)
        return DeviceRegion(
            label: label, index: index, number: grant.region, memory: memory, adopted: grant.adopted, bitmap: nil, doorbell: nil, frame: frame, home: home)
    }

    /// A memfd that the host shows to the guest.
    private func shared(_ grant: RegionGrant, _ descriptors: DescriptorBag, index: Int, length: Int, label: String) throws(SetupError) -> DeviceRegion {
        guard let content = descriptors.take() else { throw .missing("the region '\(label)'") }
        guard let bits = descriptors.take() else { throw .missing("the bitmap of the region '\(label)'") }
        do throws(SystemError) {
            let what = "the region '\(label)'"
            let mapping = try SharedMemory(adopting: content, length: length, what: what).map(what: what)
            let holder = MappingHolder(mapping)
            let memory = RegionMemory(base: holder.mapping.base, length: length) { _, _ in withExtendedLifetime(holder) {} }
            let bitmap = try SharedMemory(adopting: bits, length: DeviceRegion.bitmapLength(pages: length / 4096), what: "the bitmap of \(what)")
                .map(writable: false, what: "the bitmap of \(what)")
            var doorbell: EventFD?
            if grant.doorbell, let bell = descriptors.take() {
                // Cleared by reading, which must not wait.
                try bell.setNonBlocking(true)
                doorbell = EventFD(adopting: bell)
            }
            return DeviceRegion(
                label: label, index: index, number: grant.region, memory: memory, adopted: grant.adopted, bitmap: bitmap, doorbell: doorbell,
                frame: grant.gfn?.value, home: nil)
        } catch {
            throw SetupError(error)
        }
    }
}

private final class MappingHolder: Sendable {
    let mapping: Mapping
    init(_ mapping: consuming Mapping) { self.mapping = mapping }
}

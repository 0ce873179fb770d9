import EmulatorProtocol
import Host
import Unplug

/// Answers all that the coordinator serves itself: the unplug ports, and the Xen platform device in QEMU's place, whose BARs it follows.
///
/// QEMU goes on having the device and never hears of the guest's accesses: what it does with them, this does for every emulator.
final class PlatformFunction: OwnAccessHandler {
    /// A range of the device's that is claimed.
    private struct Placed {
        let range: IORange
        let claim: Int
    }

    private unowned let context: GuestContext
    /// nil: QEMU's alone, or none.
    private(set) var saved: SavedPlatform?
    private var ports: Placed?
    private var memory: Placed?
    /// Whether the guest has written something else than there was, in the request that is being carried out.
    private var isChanged = false
    /// Places that were refused, and are not asked for again while the guest leaves a BAR there.
    private var refused: Set<IORange> = []

    init(_ context: GuestContext) { self.context = context }

    // MARK: its place

    /// Stands in QEMU's place from now on. Before the server is enabled its function is only claimed, whoever enables it maps it, and the BARs of a restored
    /// guest wait for `follow`: a place that an emulator has is the emulator's, as it was before the guest was saved.
    func present(_ platform: SavedPlatform) throws(HostError) {
        let range = IORange.pci(platform.address)
        let claim: Int
        do throws(Refusal) {
            claim = try context.registry.claim(range, owner: .coordinator, label: "Xen platform device", interposing: [range])
        } catch {
            throw HostError("claim", "\(range)", .invalid, detail: "\(error)")
        }
        do throws(HostError) { try map(range) } catch {
            _ = context.registry.release(claim, owner: .coordinator)
            throw error
        }
        saved = platform
        context.recorder.changed()
        if context.servesOwnPorts { follow() }
    }

    /// As a predecessor had it: what it had claimed is in the registry.
    func adopt(_ platform: SavedPlatform) {
        saved = platform
        let claims = context.registry.claims(of: .coordinator)
        func placed(_ wanted: IORange?) -> Placed? { claims.first { $0.range == wanted }.map { Placed(range: $0.range, claim: $0.number) } }
        (ports, memory) = (placed(wantedPorts), placed(wantedMemory))
        // The predecessor may have written down one of the two claims of a write, and not the other. Whoever enables the server maps it.
        follow()
    }

    private func map(_ range: IORange) throws(HostError) {
        guard let own = context.own, context.servesOwnPorts else { return }
        // Written down first: a range that nobody knows of would never be taken back.
        context.recorder.commit()
        try context.host.map(range, to: own)
    }

    private var wantedPorts: IORange? {
        saved?.device.firstPort.flatMap { PortRange(first: $0, count: PlatformDevice.portCount) }.map(IORange.ports)
    }

    private var wantedMemory: IORange? {
        saved?.device.memoryBase.flatMap { MMIORange(first: GuestAddress(UInt64($0)), length: PlatformDevice.memoryLength) }.map(IORange.memory)
    }

    /// Has the claims be where the guest has put the BARs: old ones are given back before new ones are asked for.
    func follow() {
        let (wantedPorts, wantedMemory) = (wantedPorts, wantedMemory)
        refused = refused.filter { $0 == wantedPorts || $0 == wantedMemory }
        if ports?.range != wantedPorts { giveBack(&ports) }
        if memory?.range != wantedMemory { giveBack(&memory) }
        if ports == nil { ports = take(wantedPorts, "Xen platform device BAR0") }
        if memory == nil { memory = take(wantedMemory, "Xen platform device BAR1") }
    }

    private func giveBack(_ place: inout Placed?) {
        guard let old = place else { return }
        place = nil
        _ = context.registry.release(old.claim, owner: .coordinator)
        guard let own = context.own, context.servesOwnPorts else { return }
        do { try context.host.unmap(old.range, from: own) } catch { say("\(error)") }
    }

    private func take(_ range: IORange?, _ label: String) -> Placed? {
        guard let range, !refused.contains(range) else { return nil }
        do throws(Refusal) {
            let claim = try context.registry.claim(range, owner: .coordinator, label: label)
            do throws(HostError) {
                try map(range)
                return Placed(range: range, claim: claim)
            } catch {
                _ = context.registry.release(claim, owner: .coordinator)
                say("\(error)")
            }
        } catch {
            say("\(label) stays unmapped: \(error)")
        }
        refused.insert(range)
        return nil
    }

    /// A guest can have it said as often as it likes: limited like its own lines.
    private func say(_ text: String) { context.logBook.record(source: "platform device", level: .warning, text: text) }

    // MARK: accesses

    private enum Target {
        case unplugPorts(UInt16)
        case window(Int)
        case memory
        case configuration(Int)
    }

    private func target(_ access: OwnAccess) -> Target? {
        switch access.space {
        case .ports:
            guard let port = UInt16(exactly: access.address), let range = PortRange(first: port, count: access.size) else { return nil }
            if port >= UnplugPorts.firstPort, range.last <= UnplugPorts.lastPort { return .unplugPorts(port) }
            if case .ports(let ours) = ports?.range, ours.contains(range) { return .window(Int(port) - Int(ours.first)) }
            return nil
        case .memory:
            guard case .memory(let ours) = memory?.range,
                let range = MMIORange(first: GuestAddress(access.address), length: UInt64(access.size)), ours.contains(range)
            else { return nil }
            return .memory
        case .configuration:
            guard PCIAddress(requestAddress: access.address) == saved?.address else { return nil }
            return .configuration(Int(truncatingIfNeeded: access.address & 0xffff_ffff))
        }
    }

    func serves(_ access: OwnAccess) -> Bool { target(access) != nil }

    func read(_ access: OwnAccess) -> UInt64 {
        switch target(access) {
        case .unplugPorts(let port): UInt64(context.unplug.read(port: port, size: access.size))
        case .window(let offset): UInt64(context.unplug.readWindow(offset, size: access.size))
        // As in QEMU: memory that has nothing in it but what Xen has been told to put there.
        case .memory: 0
        case .configuration(let register): UInt64(saved?.device.readConfiguration(register, size: access.size) ?? .max)
        case nil: .max
        }
    }

    func write(_ access: OwnAccess, value: UInt64, later: @escaping () -> Void) -> Bool {
        let low = UInt32(truncatingIfNeeded: value)
        switch target(access) {
        case .unplugPorts(let port): return context.unplug.write(port: port, size: access.size, value: low, later: later)
        case .window(let offset): return context.unplug.writeWindow(offset, size: access.size, value: low, later: later)
        case .configuration(let register):
            let before = saved
            saved?.device.writeConfiguration(register, size: access.size, value: low)
            if saved != before { isChanged = true }
        case .memory, nil: break
        }
        return true
    }

    /// Once for a request, however often it is repeated, and before the guest knows that it is done.
    func settle() {
        guard isChanged else { return }
        isChanged = false
        follow()
        context.recorder.changed()
        context.recorder.commit()
    }
}

extension Coordinator {
    /// Stands in QEMU's place as the guest's Xen platform device: what a guest writes to its ports concerns every emulator. To be called before the guest
    /// runs; for a restored guest, with what was saved, before emulators are started.
    /// - Throws: HostError when its PCI function cannot be had; nothing has changed then.
    public func present(_ platform: SavedPlatform) throws(HostError) {
        guard context.platform.saved == nil else { return }
        try context.platform.present(platform)
    }

    /// The guest's platform device; nil: it is QEMU's alone, or there is none.
    public var platform: SavedPlatform? { context.platform.saved }
}

import CKVM
import Glibc
import Host
import LocalHost
import Platform
import Synchronization

/// A LocalHost guest's machine on KVM: its RAM, the memory of devices, its interrupt controllers and its timer. The vCPUs are `KVMCPU`s.
///
/// RAM lies where LocalMemory says, so that every access elsewhere (the legacy window 0xa0000–0xbffff, the PCI hole) leaves KVM and
/// becomes a request. The PIC, IOAPIC, LAPICs and the PIT are the kernel's, where it has them: their ports never become requests,
/// as on Xen, whose hypervisor emulates them too.
public final class KVMMachine: GuestAddressSpace, @unchecked Sendable {
    // Sendable: the descriptors never change, KVM orders its own calls, and what is ours is inside a mutex.
    private let system: OwnedDescriptor
    private let vm: OwnedDescriptor
    private let ram: Mapping
    let runLength: Int
    /// Whether the kernel has the interrupt controllers: without them no interrupt reaches the guest, and HLT ends a vCPU's run.
    public let hasInterruptController: Bool
    /// Whether the guest has a timer (8254).
    public let hasTimer: Bool

    private struct Region {
        /// The slot and address where the region is shown; nil while it is not.
        var place: (slot: UInt32, address: UInt64, length: UInt64)?
        /// Pages whose writes were taken out of KVM's log but not asked for yet.
        var kept: [UInt64]
    }
    private struct Regions {
        var all: [Int: Region] = [:]
        var usedSlots = Set<UInt32>()
    }
    private let regions = Mutex(Regions())
    private let ramRanges: [ClosedRange<UInt64>]
    /// Serialises changes of the shared interrupt links.
    private let links = Mutex<Void>(())

    /// The first slot for regions; those before it are RAM.
    private static let firstRegionSlot: UInt32 = 8
    /// Regions that are shown at once. (KVM has at least 32 slots.)
    private static let mostRegions: UInt32 = 16
    /// Three pages that Intel's processors need for real mode; where SeaBIOS guests have them too, in the BIOS's own area below 4 GiB.
    private static let tssAddress: UInt = 0xfffb_d000

    /// What opens KVM.
    public static let device = "/dev/kvm"

    /// Makes the machine of a guest, attaches it to the guest's interrupts and makes it the guest's address space.
    /// - Parameter interruptController: false for a machine whose HLT ends the run: small programs in tests.
    /// - Throws: SystemError when /dev/kvm does not open or lacks what is needed.
    public convenience init(for host: LocalHost, interruptController: Bool = true) throws(SystemError) {
        let shared: SharedGuestMemory
        do throws(HostError) { shared = try host.sharedMemory() } catch {
            throw SystemError("share", "the guest's RAM with KVM", reason: "\(error)")
        }
        try self.init(shared, interruptController: interruptController)
        host.attach(self)
        guard hasInterruptController else { return }
        // The guest's host keeps the machine; the machine does not keep the host.
        let interrupts = host.interrupts
        interrupts.onEvent { [self, unowned interrupts] event in deliver(event, interrupts) }
    }

    private init(_ shared: SharedGuestMemory, interruptController: Bool) throws(SystemError) {
        let raw = open(Self.device, O_RDWR | O_CLOEXEC)
        guard raw >= 0 else {
            throw SystemError("open", Self.device, remedy: "load kvm-intel or kvm-amd and let this user open it, or run the guest's script (engine: script)")
        }
        let system = OwnedDescriptor(adopting: raw)
        let version = demux_kvm_api_version(raw)
        guard version == 12 else {
            throw SystemError("use", Self.device, reason: "its interface has version \(version), not 12", remedy: "use another kernel")
        }
        for (capability, name) in [(KVM_CAP_USER_MEMORY, "memory of its user's"), (KVM_CAP_IMMEDIATE_EXIT, "an immediate exit")]
        where demux_kvm_has(raw, capability) <= 0 {
            throw SystemError("use", Self.device, reason: "it does not offer \(name)", remedy: "use Linux 4.13 or later")
        }
        let machine = demux_kvm_create_vm(raw)
        guard machine >= 0 else { throw SystemError("create", "a virtual machine with \(Self.device)") }
        let vm = OwnedDescriptor(adopting: machine)
        let length = demux_kvm_run_length(raw)
        guard length >= MemoryLayout<kvm_run>.size else { throw SystemError("ask", "\(Self.device) for the size of a vCPU's page") }
        // Only Intel's need it, and the others take it.
        _ = demux_kvm_set_tss(machine, Self.tssAddress)
        let hasController = interruptController && demux_kvm_has(raw, KVM_CAP_IRQCHIP) > 0
        if hasController {
            guard demux_kvm_create_irqchip(machine) == 0 else { throw SystemError("create", "the guest's interrupt controllers in KVM") }
        }
        let hasTimer = hasController && demux_kvm_has(raw, KVM_CAP_PIT2) > 0 && demux_kvm_create_pit(machine) == 0
        guard let file = shared.descriptors.take() else { throw SystemError("map", "the guest's RAM", reason: "it has no file") }
        let ram = try Mapping(descriptor: file.raw, length: Int(clamping: shared.length), what: "the guest's RAM")
        var ranges: [ClosedRange<UInt64>] = []
        for (slot, region) in shared.regions.prefix(Int(Self.firstRegionSlot)).enumerated() {
            // Sound: the host says where its file lies in the guest, every edge a page's, within the file's length.
            let memory = ram.base + Int(clamping: region.offset)
            guard demux_kvm_set_memory(machine, UInt32(slot), 0, region.address.rawValue, region.length, memory) == 0 else {
                throw SystemError("give", "KVM the RAM at \(region.address)")
            }
            ranges.append(region.address.rawValue...(region.address.rawValue &+ region.length &- 1))
        }
        self.system = system
        self.vm = vm
        self.ram = ram
        runLength = Int(length)
        hasInterruptController = hasController
        self.hasTimer = hasTimer
        ramRanges = ranges
    }

    /// A new vCPU's descriptor, with the features of this machine's processor.
    func createVCPU(_ index: Int) throws(SystemError) -> OwnedDescriptor {
        let raw = demux_kvm_create_vcpu(vm.raw, CInt(clamping: index))
        guard raw >= 0 else { throw SystemError("create", "vCPU \(index) with KVM") }
        let vcpu = OwnedDescriptor(adopting: raw)
        guard demux_kvm_give_features(system.raw, raw, UInt32(clamping: index)) == 0 else {
            throw SystemError("set", "the processor features of vCPU \(index)")
        }
        return vcpu
    }

    // MARK: interrupts

    /// The PIC's lines to which links A to D of the PCI interrupts are wired: what a PIIX3's firmware would choose. On the IOAPIC they are 16 to 19.
    private static let linkLines: [UInt32] = [10, 11, 10, 11]

    private func deliver(_ event: Interrupts.Event, _ interrupts: Interrupts) {
        switch event {
        case .isa(let line, let asserted): _ = demux_kvm_set_line(vm.raw, UInt32(line), asserted ? 1 : 0)
        case .message(let message): _ = demux_kvm_signal_msi(vm.raw, message.address, message.data)
        case .intx(let device, let pin, _):
            // Devices share links, and links share lines: a line is asserted while any device asserts it.
            let link = (device &+ pin) & 3
            links.withLock { _ in
                func isAsserted(_ wanted: (UInt8) -> Bool) -> Bool {
                    for device: UInt8 in 0..<32 {
                        for pin: UInt8 in 0..<4 where wanted((device &+ pin) & 3) && interrupts.intx(device: device, pin: pin) { return true }
                    }
                    return false
                }
                let line = Self.linkLines[Int(link)]
                _ = demux_kvm_set_line(vm.raw, 16 + UInt32(link), isAsserted { $0 == link } ? 1 : 0)
                _ = demux_kvm_set_line(vm.raw, line, isAsserted { Self.linkLines[Int($0)] == line } ? 1 : 0)
            }
        }
    }

    // MARK: regions

    public func map(region: Int, at address: GuestAddress, memory: UnsafeMutableRawBufferPointer) throws(SystemError) {
        let subject = "device region \(region) at \(address)"
        let length = UInt64(memory.count)
        let (last, over) = address.rawValue.addingReportingOverflow(length &- 1)
        guard let base = memory.baseAddress, length > 0, length & 0xfff == 0, address.pageOffset == 0, !over else {
            throw SystemError("map", subject, reason: "its address or its \(length) bytes are not whole pages")
        }
        guard UInt(bitPattern: base) & 0xfff == 0 else { throw SystemError("map", subject, reason: "its memory does not begin with a page") }
        guard !ramRanges.contains(where: { $0.overlaps(address.rawValue...last) }) else {
            throw SystemError("map", subject, reason: "the guest has RAM there")
        }
        let pointer = UInt(bitPattern: base)
        let failure: SystemError? = regions.withLock { regions in
            for (other, entry) in regions.all where other != region {
                guard let place = entry.place, place.address <= last, address.rawValue <= place.address &+ place.length &- 1 else { continue }
                return SystemError("map", subject, reason: "region \(other) lies at \(Hex.string(place.address)) already")
            }
            if let failure = hide(region, &regions) { return failure }
            guard let slot = (Self.firstRegionSlot..<Self.firstRegionSlot + Self.mostRegions).first(where: { !regions.usedSlots.contains($0) }) else {
                return SystemError("map", subject, reason: "\(Self.mostRegions) regions are shown already")
            }
            guard demux_kvm_set_memory(vm.raw, slot, 1, address.rawValue, length, UnsafeMutableRawPointer(bitPattern: pointer)) == 0 else { return SystemError("map", subject) }
            let words = Self.words(length)
            var entry = regions.all[region] ?? Region(place: nil, kept: [])
            if entry.kept.count < words { entry.kept += [UInt64](repeating: 0, count: words - entry.kept.count) }
            entry.place = (slot, address.rawValue, length)
            regions.all[region] = entry
            regions.usedSlots.insert(slot)
            return nil
        }
        if let failure { throw failure }
    }

    public func unmap(region: Int) throws(SystemError) {
        if let failure = regions.withLock({ hide(region, &$0) }) { throw failure }
    }

    public func collectDirty(region: Int, into bitmap: UnsafeMutableRawBufferPointer) throws(SystemError) {
        var failure: SystemError?
        let written: [UInt64] = regions.withLock { regions in
            failure = takeLog(region, &regions)
            guard failure == nil, let kept = regions.all[region]?.kept else { return [] }
            regions.all[region]?.kept = [UInt64](repeating: 0, count: kept.count)
            return kept
        }
        if let failure { throw failure }
        for (index, word) in written.enumerated() where word != 0 {
            for byte in 0..<8 where index * 8 + byte < bitmap.count {
                bitmap[index * 8 + byte] |= UInt8(truncatingIfNeeded: word >> UInt64(byte * 8))
            }
        }
    }

    /// Takes a region out of the address space, its log kept. To be called under the lock.
    private func hide(_ region: Int, _ regions: inout Regions) -> SystemError? {
        guard let place = regions.all[region]?.place else { return nil }
        // What vCPUs write between here and the slot's end cannot be known: the guest moves a BAR under its own feet.
        if let failure = takeLog(region, &regions) { return failure }
        guard demux_kvm_set_memory(vm.raw, place.slot, 0, place.address, 0, nil) == 0 else {
            return SystemError("unmap", "device region \(region) from \(Hex.string(place.address))")
        }
        regions.usedSlots.remove(place.slot)
        regions.all[region]?.place = nil
        return nil
    }

    /// The 64-bit words of a region's log: a bit a page.
    private static func words(_ length: UInt64) -> Int { Int(clamping: ((length >> 12) + 63) / 64) }

    /// Moves KVM's log of a region to ours. To be called under the lock.
    private func takeLog(_ region: Int, _ regions: inout Regions) -> SystemError? {
        guard var entry = regions.all[region], let place = entry.place else { return nil }
        var log = [UInt64](repeating: 0, count: Self.words(place.length))
        // Sound: KVM writes a bit a page, rounded up to 64.
        let result = log.withUnsafeMutableBytes { demux_kvm_dirty_log(vm.raw, place.slot, $0.baseAddress) }
        guard result == 0 else { return SystemError("read", "the pages that the guest wrote of device region \(region)") }
        for (index, word) in log.enumerated() where index < entry.kept.count { entry.kept[index] |= word }
        regions.all[region] = entry
        return nil
    }
}

import CXen
import Glibc
import Host
import HostConformance
import XenHost

/// Makes the suite's accesses in a real guest: the rig's agent does them, one command a vCPU at a time.
final class XenGuestDriver: GuestDriver {
    private let domain: DomainID
    private let mailboxes: [Mailbox]
    private let control: XenControl
    private var busy: Set<Int> = []
    private var looks = 0
    private var death: String?
    let memory: any GuestMemory

    init(domain: DomainID, memory: any GuestMemory, mailboxes: [Mailbox]) throws {
        self.domain = domain
        self.memory = memory
        self.mailboxes = mailboxes
        control = try XenControl()
    }

    func place(_ region: inout HostRegion, at gfn: GFN?, on host: any RegionHost) throws(HostError) {
        guard let source = region.gfn, let target = gfn ?? region.home else { return }
        if source != target {
            let deviceModel = xendevicemodel_open(nil, 0)
            defer { xendevicemodel_close(deviceModel) }
            let pages = UInt32(region.length / 4096)
            guard xendevicemodel_relocate_memory(deviceModel, domain.rawValue, pages, source.rawValue, target.rawValue) == 0 else {
                throw HostError("move", "a region from \(source) to \(target)", .failed(errno), detail: String(cString: strerror(errno)))
            }
            memory.invalidate()
        }
        region.gfn = target
        try host.placeRegion(region.number, at: target)
    }

    var vcpuCount: Int { mailboxes.count }

    /// The agent says in memory only that it is done.
    var waitDescriptor: CInt? { nil }

    func start(_ access: GuestAccess, on vcpu: Int) -> Bool {
        guard mailboxes.indices.contains(vcpu), !busy.contains(vcpu), mailboxes[vcpu].isDone,
            let opcode = Mailbox.Opcode(rawValue: UInt64(access.operation.rawValue))
        else { return false }
        busy.insert(vcpu)
        mailboxes[vcpu].submit(
            opcode, address: access.address, value: access.value, size: access.size, count: access.count, buffer: access.buffer,
            down: access.backwards)
        return true
    }

    func outcome(of vcpu: Int) -> GuestOutcome? {
        guard busy.contains(vcpu) else { return nil }
        if let death { return .crashed(death) }
        guard mailboxes[vcpu].isDone else {
            looks += 1
            // A request to Xen, so not at every look.
            if looks % 64 == 0 { lookForDeath() }
            return death.map { .crashed($0) }
        }
        busy.remove(vcpu)
        return mailboxes[vcpu].wasRefused ? .refused : .done(mailboxes[vcpu].value)
    }

    /// Whether the guest has ended.
    var isOver: Bool {
        lookForDeath()
        return death != nil
    }

    private func lookForDeath() {
        guard let info = try? control.info(domain) else {
            death = "\(domain) is gone"
            return
        }
        if info.dying { death = "\(domain) is dying" }
        if info.shutdown {
            death = switch info.shutdownReason {
            case 3: "\(domain) crashed"
            case let reason: "\(domain) shut down (reason \(reason.map { "\($0)" } ?? "unknown"))"
            }
        }
    }
}

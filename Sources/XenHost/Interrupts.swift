import CXen
import Host

extension XenHandles {
    /// Drives an INTx line of a device on bus 0 (XEN_DMOP_set_pci_intx_level).
    func setINTx(device: UInt8, pin: UInt8, asserted: Bool) throws(HostError) {
        guard xendevicemodel_set_pci_intx_level(deviceModel.raw, domain.rawValue, 0, 0, device, pin, asserted ? 1 : 0) == 0 else {
            throw failure(asserted ? "assert" : "deassert", "interrupt pin \(pin) of PCI device \(Hex.string(device)) of \(domain)", .domain)
        }
    }

    /// Drives an ISA interrupt line (XEN_DMOP_set_isa_irq_level).
    func setISAInterrupt(_ line: UInt8, asserted: Bool) throws(HostError) {
        guard xendevicemodel_set_isa_irq_level(deviceModel.raw, domain.rawValue, line, asserted ? 1 : 0) == 0 else {
            throw failure(asserted ? "assert" : "deassert", "ISA interrupt \(line) of \(domain)", .domain)
        }
    }

    /// Sends a message-signalled interrupt (XEN_DMOP_inject_msi). The upper address half matters to Xen: a message with
    /// vector 0 names a guest's pirq by it.
    func injectMSI(address: UInt64, data: UInt32) throws(HostError) {
        guard xendevicemodel_inject_msi(deviceModel.raw, domain.rawValue, address, data) == 0 else {
            throw failure("send", "the message \(Hex.string(data)) to \(Hex.string(address)) of \(domain)", .domain)
        }
    }

    /// Has pages counted as modified while the guest is being logged (XEN_DMOP_modified_memory).
    func markModified(_ first: GFN, count: Int) throws(HostError) {
        guard let pages = UInt32(exactly: count) else {
            throw HostError("report as modified", "\(count) pages of \(domain) from \(first)", .invalid, detail: "that is not a number of pages")
        }
        guard pages > 0 else { return }
        guard xendevicemodel_modified_memory(deviceModel.raw, domain.rawValue, first.rawValue, pages) == 0 else {
            throw failure("report as modified", "\(count) pages of \(domain) from \(first)", .domain)
        }
    }
}

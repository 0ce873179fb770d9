import EmulatorProtocol
import Host

extension KeptClaim {
    init(_ entry: ClaimRegistry.Entry) {
        number = entry.number
        label = entry.label
        switch entry.owner {
        case .emulator(let emulator): (owner, name) = (.emulator, emulator)
        case .qemu: (owner, name) = (.qemu, nil)
        case .coordinator: (owner, name) = (.coordinator, nil)
        }
        switch entry.range {
        case .ports(let ports): (kind, place, first, last) = (.ports, nil, UInt64(ports.first), UInt64(ports.last))
        case .memory(let memory): (kind, place, first, last) = (.memory, nil, memory.first.rawValue, memory.last.rawValue)
        case .pci(let address): (kind, place, first, last) = (.pci, "\(address)", 0, 0)
        }
    }

    /// Nil for what is no claim.
    var entry: ClaimRegistry.Entry? {
        let range: IORange?
        switch kind {
        case .ports:
            guard let low = UInt16(exactly: first), let high = UInt16(exactly: last) else { return nil }
            range = PortRange(first: low, last: high).map(IORange.ports)
        case .memory: range = MMIORange(first: GuestAddress(first), last: GuestAddress(last)).map(IORange.memory)
        case .pci: range = place.flatMap { PCIAddress(parsing: $0) }.map(IORange.pci)
        }
        let whose: ClaimRegistry.Owner
        switch owner {
        case .emulator:
            guard let name else { return nil }
            whose = .emulator(name)
        case .qemu: whose = .qemu
        case .coordinator: whose = .coordinator
        }
        guard let range, number > 0 else { return nil }
        return ClaimRegistry.Entry(number: number, owner: whose, range: range, label: label)
    }
}

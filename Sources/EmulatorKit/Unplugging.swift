import EmulatorProtocol
import Host

// What a device does when the guest unplugs it (Event.unplug).
extension Context {
    /// Takes a PCI function away: its interrupt is lowered, its BARs are no longer decoded, its claims are given back, and its configuration space
    /// reads as all-ones from now on. For good; once is enough. A BAR of a region has gone when `Event.regionPlaced` is told.
    public func remove(_ function: PCIFunction) { core.pointee.remove(function) }

    /// Gives back what was claimed by `Setup.claim`: accesses that still come read as all-ones. For good; once is enough.
    public func remove(_ window: Window) { core.pointee.remove(window) }

    /// Says that the devices are gone: nothing of them is in flight, and what they held has been written out.
    /// - Parameter removed: their names, for people; at most 32. Empty when they were gone already.
    public func answer(_ request: UnplugRequest, removed: [String]) { core.pointee.answer(request, .ok(Reply(removed: Array(removed.prefix(32))))) }

    /// Says that the devices stay, and why. What then becomes of the guest is its specification's decision.
    public func refuse(_ request: UnplugRequest, _ reason: String) {
        core.pointee.answer(request, .error(Refusal(.host, asked: "unplug", message: reason)))
    }
}

extension Core {
    func answer(_ request: UnplugRequest, _ message: Message) {
        guard belongings.unplugging.remove(request.id) != nil else { return }
        control.send(Packet(message, re: request.id))
    }

    mutating func remove(_ function: PCIFunction) {
        let index = function.index
        guard index < functionCount, !functions[index].isRemoved else { return }
        functions[index].setAsserted(false)
        driveLine(index)
        // As if the guest had switched decoding off: the BARs' claims are given back by the same steps.
        functions[index].config.set(ConfigSpace.Register.command, size: 2, 0)
        functions[index].isRemoved = true
        followBARs(index)
        if let claim = functions[index].claim { control.send(Packet(.unclaim(Unclaim(claim: claim)), id: control.newID())) }
        functions[index].claim = nil
    }

    mutating func remove(_ window: Window) {
        guard let claim = belongings.claims.removeValue(forKey: window) else { return }
        switch claim.range {
        case .ports(let range): ports.remove(first: UInt64(range.first), window: window.index)
        case .memory(let range): memory.remove(first: range.first.rawValue, window: window.index)
        case .pci: break
        }
        control.send(Packet(.unclaim(Unclaim(claim: claim.number)), id: control.newID()))
    }
}

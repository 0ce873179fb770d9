import ControlProtocol
import EmulatorProtocol
import Host
import Keeping
import Platform
import Specification

/// What a coordinator leaves for the case that it is killed.
extension Coordinator {
    /// From now on the keeper holds what a successor needs. To be called before anything is made; what is not a descriptor is written
    /// from the first `record` on, before which there is no guest to take over.
    public func recordFor(_ keeper: any DescriptorKeeper) throws(SystemError) {
        try context.recorder.begin(keeper)
        context.recorder.snapshot = { [unowned self] in self.checkpoint }
        context.recorder.changed()
    }

    /// What the coordinator's owner adds has changed.
    public func ownerChanged() { context.recorder.changed() }

    /// Writes what has changed, now.
    public func record() { context.recorder.open() }

    var checkpoint: Checkpoint {
        Checkpoint(
            guestName: settings.guestName, specification: specification, restrictedTo: settings.restrictedTo.map { Checkpoint.Account(uid: $0.uid, gid: $0.gid) },
            dirtyLogging: context.dirtyLogging, ownServer: context.own?.rawValue, servesOwnPorts: context.servesOwnPorts,
            reserved: context.reserved.map(\.rawValue), claims: context.registry.entries.map { KeptClaim($0) }, nextClaim: context.registry.nextNumber,
            emulators: sessions.map { $0.kept(isBeingReplaced: replacements[$0.name] != nil) }, holdings: context.allHoldings.map { $0.holdings.kept($0.name) }, unplug: context.unplug.kept,
            platform: platform?.bytes, surface: context.surfaces.kept, vnc: context.vnc?.kept, owner: ownerRecord?())
    }
}

extension Holdings {
    func kept(_ name: String) -> KeptHoldings {
        KeptHoldings(
            name: name, server: server?.id.rawValue, isOpen: server?.isOpen ?? false, isClosed: server?.isClosed ?? false,
            hasRelay: server?.relay != nil, state: state?.length, isUsed: state?.isUsed ?? false, stateVersion: stateVersion,
            regions: regions.map {
                KeptHoldings.Region(
                    label: $0.label, number: $0.host.number, length: $0.host.length, gfn: $0.host.gfn?.rawValue, home: $0.host.home?.rawValue,
                    hasDoorbell: $0.host.hasDoorbell)
            },
            restarts: restarts, replacements: replacements)
    }
}

extension UnplugDesk {
    var kept: KeptUnplug {
        let saved = saved
        return KeptUnplug(
            classes: classes.ordered, product: saved?.product, build: saved?.build, isBlacklisted: saved?.isBlacklisted ?? false,
            isROMLocked: saved?.isROMLocked ?? false)
    }
}

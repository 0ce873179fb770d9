import EmulatorProtocol
import Host
import Platform

/// The memory that an emulator is given: the guest's, and that of its own device.
extension EmulatorSession {
    func grantMemory(re: UInt32?) throws(Refusal) {
        if mode == .direct { return send(.ok(Reply(memory: MemoryGrant(kind: .foreign))), re: re) }
        do {
            if let host = context.host as? any IsolatingHost {
                let shared = try host.sharedMemory()
                let regions = shared.regions.map { MemoryGrant.Region(address: $0.address, length: $0.length, offset: $0.offset) }
                send(.ok(Reply(memory: MemoryGrant(kind: .shared, length: shared.length, regions: regions))), re: re, descriptors: shared.descriptors)
            } else {
                let bounce = try BounceBuffer(name: name, memory: try context.host.guestMemory())
                self.bounce = bounce
                context.recorder.keep(bounce.descriptor, as: prefix + KeptPart.bounce)
                context.recorder.changed()
                let bag = DescriptorBag()
                bag.add(try bounce.duplicate())
                send(.ok(Reply(memory: MemoryGrant(kind: .bounce, length: UInt64(BounceBuffer.length)))), re: re, descriptors: bag)
            }
        } catch {
            throw Refusal(.host, asked: "memory", message: "\(error)")
        }
    }

    func copy(_ dma: DMA) throws(Refusal) {
        guard let bounce else { throw Refusal(.order, asked: "dma", message: "ask for 'memory' first; only a bounce grant has dma") }
        try bounce.copy(dma)
    }

    // MARK: the device's own

    func grantRegion(_ request: RegionRequest, re: UInt32?) throws(Refusal) {
        guard !context.dying else { throw Refusal(.order, asked: "region", message: "the guest is going away") }
        guard mode == .direct || context.host is any IsolatingHost else {
            throw Refusal(.unsupported, asked: "region", message: "on Xen only a direct emulator can map device memory; leave out 'mode: isolated'")
        }
        let (region, adopted) = try holdings.region(request, host: context.host)
        let grant = RegionGrant(region: region.number, gfn: region.gfn?.rawValue, home: region.home?.rawValue, doorbell: region.hasDoorbell, adopted: adopted)
        do {
            let bag = try (context.host as? any RegionHost)?.regionDescriptors(of: region.number) ?? DescriptorBag()
            send(.ok(Reply(region: grant)), re: re, descriptors: bag)
        } catch {
            throw Refusal(.host, asked: "region '\(PrintableText.escaped(request.label))'", message: "\(error)")
        }
    }

    func place(_ request: RegionPlace) throws(Refusal) {
        let asked = "region \(request.region) at \(request.address.map { Hex.string($0.value) } ?? "no address")"
        let region = try holdings.region(request.region, asked: asked)
        var gfn: GFN?
        if let address = request.address?.value {
            let (end, overflow) = address.addingReportingOverflow(region.length)
            guard address & 0xfff == 0, !overflow, end <= 1 << 48 else {
                throw Refusal(.invalid, asked: asked, message: "the address is a page's first byte, and all of it lies below \(Hex.string(UInt64(1) << 48))")
            }
            gfn = GuestAddress(address).frame
        }
        guard !context.dying, let host = context.host as? any RegionHost else { throw Refusal(.order, asked: asked, message: "the guest is going away") }
        try asHost(asked) { () throws(HostError) in try host.placeRegion(region.number, at: gfn) }
        holdings.notePlace(region.number, gfn)
    }

    func collectDirty(_ request: RegionDirty) throws(Refusal) {
        let asked = "the dirty pages of region \(request.region)"
        let region = try holdings.region(request.region, asked: asked)
        guard !context.dying, let host = context.host as? any RegionHost else { throw Refusal(.order, asked: asked, message: "the guest is going away") }
        try asHost(asked) { () throws(HostError) in try host.collectDirty(region.number) }
    }
}

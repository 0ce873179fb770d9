import EmulatorProtocol
import Host
import Platform

// Regions: memory of the device that the guest uses as RAM, and where it is.
//
// An isolated emulator asks the coordinator, which has the host show the memory at another place. A direct one moves its memory itself, in
// slices between which other requests are served: moving 16 MiB takes Xen long, and only the vCPU that asked for it should wait.
extension Core {
    static let mostRegions = 8
    /// Pages moved in one go.
    private static let slicePages = 64
    /// Beyond what a guest can address: 48 bits.
    private static let addressLimit: UInt64 = 1 << 48

    var isDirect: Bool { attachment.guest != nil }

    /// Before anything is served: regions that the device has placed are there afterwards.
    mutating func endRelocating() { while relocating { relocateSlice() } }

    // MARK: placing

    /// Puts a region somewhere for the device. Ends with `Event.regionPlaced`, whatever became of it.
    mutating func place(_ region: DeviceRegion, at address: UInt64?, answering token: Token?) {
        guard belongings.region(region) else { return endPlacing(region, token) }
        guard !region.isBound else {
            control.log(.error, "region '\(region.label)' is where its BAR is: it cannot be placed otherwise")
            return endPlacing(region, token)
        }
        if let address, !Self.canBe(address, region.length) {
            control.log(.error, "region '\(region.label)' cannot be at \(Hex.string(address))")
            return endPlacing(region, token)
        }
        begin(RegionMove(region: region.index, goal: address, token: token))
    }

    private mutating func endPlacing(_ region: DeviceRegion, _ token: Token?) {
        belongings.queue(.regionPlaced(region), answering: token)
        hasEvents = true
    }

    /// Has a region follow its BAR. False when it is there already, or nothing has to wait for it.
    mutating func follow(_ function: Int, _ bar: Int, _ region: Int, to address: UInt64?) -> Bool {
        guard region < belongings.regions.count else { return false }
        if isDirect {
            // Moved only when the address really changes: a guest that sizes its BARs switches decoding off and on, each move would cost it
            // up to half a second, and memory has to be somewhere.
            guard let address, belongings.regions[region].frame != address >> 12 else {
                belongings.regions[region].address = address
                return false
            }
        } else if control.isClosed {
            return false
        }
        functions[function].outstanding += 1
        begin(RegionMove(region: region, goal: address, function: function, bar: bar))
        return true
    }

    /// Whether a region can be at an address at all, as far as this side knows.
    static func canBe(_ address: UInt64, _ length: Int) -> Bool {
        address & 4095 == 0 && address < addressLimit && addressLimit - address >= UInt64(length)
    }

    private mutating func begin(_ move: RegionMove) {
        if isDirect {
            belongings.moves.append(move)
            hasMoves = true
            relocating = true
        } else if control.isClosed {
            end(move, arrived: false)
        } else {
            let id = control.newID()
            belongings.asked.append((id, move))
            control.send(Packet(.regionPlace(RegionPlace(region: belongings.regions[move.region].number, address: move.goal)), id: id))
        }
    }

    /// What follows from the end of a move.
    private mutating func end(_ move: RegionMove, arrived: Bool) {
        let region = belongings.regions[move.region]
        if arrived { region.address = move.goal }
        guard move.function >= 0 else { return endPlacing(region, move.token) }
        barArrived(move.function, move.bar, at: move.goal, arrived: arrived)
    }

    // MARK: moving by ourselves

    /// Moves the next pages of the first region that is under way.
    mutating func relocateSlice() {
        guard var move = belongings.moves.first, let guest = attachment.guest else {
            relocating = false
            return
        }
        let region = belongings.regions[move.region]
        let pages = region.pageCount
        var arrived = false
        var over = true
        if let source = region.frame, let target = move.goal.map({ $0 >> 12 }) ?? region.home {
            do throws(HostError) {
                if source == target {
                    arrived = true
                } else {
                    if !move.begun { try check(region, guest, from: source, to: target) }
                    move.begun = true
                    let step = min(Self.slicePages, pages &- move.done)
                    let done = UInt64(move.done)
                    belongings.state.note(KitState.Move(from: source, to: target, done: done), ofRegion: region.index)
                    try guest.relocate(from: GFN(source &+ done), to: GFN(target &+ done), pages: step)
                    move.done += step
                    over = move.done >= pages
                    arrived = over
                }
            } catch {
                control.log(.error, "region '\(region.label)' stays where it is: \(error)")
                if move.begun { bringBack(region, guest, from: source, to: target, done: move.done) }
            }
            if over {
                belongings.state.note(nil, ofRegion: region.index)
                if arrived && source != target {
                    region.frame = target
                    // A new range is all dirty at first, and its writes are tracked by frame.
                    region.tracked = nil
                    control.send(Packet(.regionPlace(RegionPlace(region: region.number, address: target << 12)), id: control.newID()))
                }
            }
        } else {
            control.log(.error, "region '\(region.label)' cannot be taken out of the guest's sight: the coordinator named no place for it")
        }
        guard over else {
            belongings.moves[0] = move
            return
        }
        belongings.moves.removeFirst()
        relocating = !belongings.moves.isEmpty
        end(move, arrived: arrived)
    }

    /// Memory moved to where there is some already would drive that out for good.
    private func check(_ region: DeviceRegion, _ guest: any DirectGuest, from source: UInt64, to target: UInt64) throws(HostError) {
        let pages = UInt64(region.pageCount)
        let what = "region '\(region.label)' to \(Hex.string(target << 12))"
        guard source &+ pages <= target || target &+ pages <= source else {
            throw HostError("move", what, .invalid, detail: "it would lie over where it is now", remedy: "place it elsewhere in between")
        }
        // Xen's own pages in a guest come in eights at least; a guest's RAM is longer by far. Only the guest itself would suffer.
        guard guest.framesPresent(first: GFN(target), pages: region.pageCount, stride: 8) == 0 else {
            throw HostError("move", what, .invalid, detail: "the guest has other memory there", remedy: "the guest must put it elsewhere")
        }
    }

    private mutating func bringBack(_ region: DeviceRegion, _ guest: any DirectGuest, from source: UInt64, to target: UInt64, done: Int) {
        // Of the slice that failed some pages may have arrived: those that are missing here and are there.
        let slice = done..<min(done + Self.slicePages, region.pageCount)
        for page in slice.map({ UInt64($0) }) where guest.framesPresent(first: GFN(source &+ page), pages: 1, stride: 1) == 0 {
            guard guest.framesPresent(first: GFN(target &+ page), pages: 1, stride: 1) == 1 else { continue }
            try? guest.relocate(from: GFN(target &+ page), to: GFN(source &+ page), pages: 1)
        }
        guard done > 0 else { return }
        do throws(HostError) { try guest.relocate(from: GFN(target), to: GFN(source), pages: done) } catch {
            control.log(.error, "region '\(region.label)' is torn: \(done) pages of it are at \(Hex.string(target << 12)): \(error)")
        }
    }

    /// Finishes a move in the middle of which a predecessor died. Part of the pages counted as not done may have arrived: moving them
    /// again fails, one by one.
    func finishMove(ofRegion index: Int, pages: Int, presentFrame: UInt64) -> UInt64 {
        guard let guest = attachment.guest, let move = belongings.state.move(ofRegion: index), move.from == presentFrame,
            Self.canBe(move.to << 12, pages << 12), move.to < 1 << 36, move.done <= UInt64(pages)
        else { return presentFrame }
        for page in move.done..<UInt64(pages) where guest.framesPresent(first: GFN(move.from &+ page), pages: 1, stride: 1) == 1 {
            guard guest.framesPresent(first: GFN(move.to &+ page), pages: 1, stride: 1) == 0 else { continue }
            try? guest.relocate(from: GFN(move.from &+ page), to: GFN(move.to &+ page), pages: 1)
        }
        belongings.state.note(nil, ofRegion: index)
        return move.to
    }

    // MARK: the coordinator's answers

    /// Takes an answer about a region or a scan-out. False when it is not one.
    mutating func takeBelongingAnswer(_ id: UInt32, _ answer: Message, _ descriptors: DescriptorBag) -> Bool {
        if let place = belongings.asked.firstIndex(where: { $0.id == id }) {
            let move = belongings.asked.remove(at: place).move
            if case .error(let refusal) = answer {
                let whereto = move.goal.map { "at \(Hex.string($0))" } ?? "nowhere"
                control.log(.warning, "region '\(belongings.regions[move.region].label)' cannot be \(whereto): \(refusal.message)")
            }
            end(move, arrived: { if case .ok = answer { true } else { false } }())
            return true
        }
        if let place = belongings.collecting.firstIndex(where: { $0.id == id }) {
            let region = belongings.regions[belongings.collecting.remove(at: place).region]
            if case .ok = answer { region.takeBitmap() } else { region.markAll() }
            tell(.regionDirty(region))
            return true
        }
        if let place = belongings.surfaces.firstIndex(where: { $0.id == id }) {
            let asked = belongings.surfaces.remove(at: place)
            switch answer {
            case .ok where descriptors.count > 0: tell(.surface(width: asked.width, height: asked.height, EventDescriptors(descriptors)))
            case .error(let refusal): tell(.surfaceRefused(width: asked.width, height: asked.height, reason: refusal.message))
            default: tell(.surfaceRefused(width: asked.width, height: asked.height, reason: "no descriptor came with the answer"))
            }
            return true
        }
        return false
    }

    /// Answers that will never come, because the coordinator is gone.
    mutating func abandonBelongings() {
        for asked in belongings.asked { end(asked.move, arrived: false) }
        belongings.asked = []
        for collecting in belongings.collecting {
            belongings.regions[collecting.region].markAll()
            tell(.regionDirty(belongings.regions[collecting.region]))
        }
        belongings.collecting = []
        for asked in belongings.surfaces {
            tell(.surfaceRefused(width: asked.width, height: asked.height, reason: "the coordinator is gone"))
        }
        belongings.surfaces = []
    }

    mutating func tell(_ event: Event) {
        belongings.queue(event)
        hasEvents = true
    }

    // MARK: what the guest wrote

    /// Has the device told which pages the guest has written.
    mutating func requestDirty(_ region: DeviceRegion, pages: Range<Int>?) {
        guard belongings.region(region) else { return }
        if let guest = attachment.guest {
            let wanted = (pages ?? 0..<region.pageCount).clamped(to: 0..<region.pageCount)
            collect(region, guest, wanted)
            tell(.regionDirty(region))
        } else if control.isClosed {
            region.markAll()
            tell(.regionDirty(region))
        } else if !belongings.collecting.contains(where: { $0.region == region.index }) {
            let id = control.newID()
            belongings.collecting.append((id, region.index))
            control.send(Packet(.regionDirty(RegionDirty(region: region.number)), id: id))
        }
    }

    private func collect(_ region: DeviceRegion, _ guest: any DirectGuest, _ wanted: Range<Int>) {
        // Xen tracks whole words of its bitmap best, and so do we: bit 0 of the range is bit 0 of a word.
        let first = wanted.lowerBound & ~63
        // Below 1 MiB tracking would have Xen 4.17 hand the guest's writes to whoever claims the place, instead of to the memory (seen).
        guard let frame = region.frame, frame >= 256, !wanted.isEmpty, !belongings.moves.contains(where: { $0.region == region.index }) else { return region.markAll() }
        for word in 0..<region.wordCount { region.words[word] = 0 }
        for other in belongings.regions where other !== region { other.tracked = nil }
        do throws(HostError) {
            try guest.dirtyPages(first: GFN(frame &+ UInt64(first)), pages: wanted.upperBound - first, into: region.words + first / 64)
            region.tracked = first..<wanted.upperBound
        } catch {
            region.tracked = nil
            region.markAll()
        }
    }

    /// Ends tracking.
    func stopTracking(_ region: DeviceRegion) {
        guard belongings.region(region), region.tracked != nil, let guest = attachment.guest else { return }
        region.tracked = nil
        try? guest.stopDirtyTracking()
    }

    /// A doorbell of a region's that was rung.
    func touched(_ descriptor: CInt) -> DeviceRegion? {
        guard let region = belongings.regions.first(where: { $0.doorbellDescriptor == descriptor }) else { return nil }
        _ = EventFD.clear(descriptor)
        return region
    }

    // MARK: the scan-out

    mutating func requestSurface(width: Int, height: Int) {
        guard !control.isClosed else { return tell(.surfaceRefused(width: width, height: height, reason: "the coordinator is gone")) }
        let id = control.newID()
        belongings.surfaces.append((id, width, height))
        control.send(Packet(.surface(SurfaceSize(width: width, height: height)), id: id))
    }
}

import EmulatorProtocol
import Host

/// A claim or its return that the coordinator has been asked for, because a BAR moved.
struct PendingRemap {
    var id: UInt32
    var function: Int
    var bar: Int
    /// Where it shall be; nil when an old claim is being given back.
    var address: UInt64?
}

// Configuration space accesses, and the claims that follow the BARs. A guest's configuration write is completed only when
// the coordinator has answered: old claims are given back first, all of them, then new ones asked for, so that two
// BARs that change places do not clash with themselves.
extension Core {
    /// Carries one repetition of a configuration access out.
    mutating func configAccess(_ slot: Int) {
        let request = work[slot].request
        let key = UInt32(truncatingIfNeeded: request.address >> 32)
        var index = 0
        while index < functionCount, functions[index].key != key || functions[index].isRemoved { index += 1 }
        guard index < functionCount else {
            return deliver(slot, .max)  // a function that was given back
        }
        // Bytes beyond the 256 that 0xcf8 can name read as all-ones.
        let offset = Int(truncatingIfNeeded: request.address & 0xffff_ffff)
        work[slot].block = functions[index].block
        guard request.direction == .write else { return deliver(slot, functions[index].config.read(offset, size: Int(request.size))) }
        functions[index].config.guestWrite(offset, size: Int(request.size), written(slot))
        driveLine(index)
        sendUnmasked(index)
        followBARs(index)
        if functions[index].remapping != .settled || functions[index].movedBars != 0 {
            work[slot].phase = .waiting
            functions[index].waiting.insert(slot)
        } else {
            deliver(slot, 0)
        }
    }

    /// Starts moving what is not where the guest wants it; does nothing while an earlier move is under way.
    mutating func followBARs(_ index: Int) {
        for bar in 0..<PCIState.barCount where functions[index].bars[bar].refused != nil {
            // The guest has taken a refused address back: it may be asked for again later.
            if functions[index].wanted(bar) != functions[index].bars[bar].refused { functions[index].bars[bar].refused = nil }
        }
        guard functions[index].remapping == .settled else { return }
        giveBack(index)
        if functions[index].outstanding > 0 {
            functions[index].remapping = .unclaiming
        } else {
            ask(index)
            functions[index].remapping = functions[index].outstanding > 0 ? .claiming : .settled
        }
    }

    /// Gives the claims of BARs back that are no longer where they were.
    private mutating func giveBack(_ index: Int) {
        for bar in 0..<PCIState.barCount {
            guard functions[index].isMisplaced(bar), functions[index].bars[bar].mapped != nil else { continue }
            let region = functions[index].bars[bar].region
            if region >= 0 {
                // A direct emulator's memory stays where it is until the guest wants it elsewhere.
                if !follow(index, bar, region, to: nil), isDirect { setMapped(index, bar, nil) }
            } else if let claim = functions[index].bars[bar].claim, !control.isClosed {
                send(.unclaim(Unclaim(claim: claim)), PendingRemap(id: control.newID(), function: index, bar: bar, address: nil))
            } else if functions[index].bars[bar].claim == nil {
                remove(index, bar)
                setMapped(index, bar, nil)
            }
        }
    }

    /// Asks for the places where BARs shall be.
    private mutating func ask(_ index: Int) {
        for bar in 0..<PCIState.barCount {
            let state = functions[index].bars[bar]
            guard functions[index].isMisplaced(bar), state.mapped == nil, let address = functions[index].wanted(bar) else { continue }
            if state.region >= 0 {
                guard Self.canBe(address, Int(clamping: state.size)), isDirect || !control.isClosed else {
                    functions[index].bars[bar].refused = address
                    continue
                }
                if !follow(index, bar, state.region, to: address) { setMapped(index, bar, address) }
                continue
            }
            guard state.claimed else {
                setMapped(index, bar, address)
                continue
            }
            guard let range = state.range(at: address), !control.isClosed else {
                functions[index].bars[bar].refused = address
                continue
            }
            let label = functions[index].label + (bar == 6 ? " ROM" : " BAR\(bar)")
            // Looked up already now: another vCPU's access may come before the coordinator's answer.
            insert(index, bar, address)
            send(.claim(Claim(range, label: label)), PendingRemap(id: control.newID(), function: index, bar: bar, address: address))
        }
    }

    private mutating func send(_ message: Message, _ remap: PendingRemap) {
        remaps.append(remap)
        functions[remap.function].outstanding += 1
        control.send(Packet(message, id: remap.id))
    }

    /// Takes an answer of the coordinator's. False when it is not one to a move of a BAR.
    mutating func takeRemapAnswer(_ id: UInt32, _ answer: Message) -> Bool {
        guard let place = remaps.firstIndex(where: { $0.id == id }) else { return false }
        let remap = remaps.remove(at: place)
        let (index, bar) = (remap.function, remap.bar)
        switch (answer, remap.address) {
        case (.ok, nil):
            remove(index, bar)
            functions[index].bars[bar].claim = nil
            setMapped(index, bar, nil)
        case (.ok(let reply), let address?):
            functions[index].bars[bar].claim = reply.claim
            setMapped(index, bar, address)
        case (.error(let refusal), nil):
            control.log(.error, "\(functions[index].label): the old place of BAR \(bar) could not be given back: \(refusal)")
            remove(index, bar)
            functions[index].bars[bar].claim = nil
            setMapped(index, bar, nil)
        case (.error(let refusal), let address?):
            let clash = refusal.clash.map { ", \($0.owner) has \($0.range)" } ?? ""
            control.log(.warning, "\(functions[index].label): BAR \(bar) stays unmapped, because \(Hex.string(address)) was refused: \(refusal.message)\(clash)")
            refuse(index, bar, address)
        default:
            if let address = remap.address { refuse(index, bar, address) }
        }
        functions[index].outstanding -= 1
        if functions[index].outstanding == 0 { goOn(index) }
        return true
    }

    /// A region has followed its BAR, or could not.
    mutating func barArrived(_ index: Int, _ bar: Int, at address: UInt64?, arrived: Bool) {
        if arrived || address == nil {
            setMapped(index, bar, address)
        } else {
            functions[index].bars[bar].refused = address
        }
        functions[index].outstanding -= 1
        if functions[index].outstanding == 0 { goOn(index) }
    }

    /// After a predecessor: claims BARs where the guest had put them, before anything is served. The device is told of each by `moved`.
    mutating func restoreBARs() {
        for index in 0..<functionCount {
            if functions[index].isRestored {
                // Whatever the predecessor drove, the line is the device's to raise again.
                functions[index].line = functions[index].pin != 0
                driveLine(index)
            }
            // A region that the predecessor showed where no BAR is any more.
            for bar in 0..<PCIState.barCount where functions[index].bars[bar].region >= 0 && functions[index].wanted(bar) == nil {
                let region = functions[index].bars[bar].region
                if belongings.regions[region].address != nil { _ = follow(index, bar, region, to: nil) }
            }
            followBARs(index)
            while functions[index].outstanding > 0 {
                if relocating {
                    relocateSlice()
                    continue
                }
                guard let incoming = control.nextPacket() else {
                    abandonRemaps()
                    break
                }
                handle(incoming)
                if run == .quitting { return }
            }
        }
    }

    /// Answers that will never come, because the coordinator is gone: nothing moves, and no vCPU is left waiting.
    mutating func abandonRemaps() {
        for remap in remaps {
            if let address = remap.address { refuse(remap.function, remap.bar, address) }
            functions[remap.function].outstanding -= 1
        }
        remaps = []
        abandonBelongings()
        for index in 0..<functionCount where functions[index].remapping != .settled && functions[index].outstanding == 0 {
            functions[index].remapping = .settled
            if functions[index].movedBars == 0 { releaseWaiting(index) }
        }
    }

    private mutating func goOn(_ index: Int) {
        if functions[index].remapping == .unclaiming {
            functions[index].remapping = .claiming
            ask(index)
            if functions[index].outstanding > 0 { return }
        }
        functions[index].remapping = .settled
        // Another vCPU may have written while the answers were under way.
        followBARs(index)
        if functions[index].remapping == .settled && functions[index].movedBars == 0 { releaseWaiting(index) }
    }

    // MARK: the tables

    private mutating func insert(_ index: Int, _ bar: Int, _ address: UInt64) {
        let state = functions[index].bars[bar]
        let last = address &+ (state.size &- 1)
        let window = PCIFunction.window(index, bar)
        let block = state.range(at: address).map { belongings.observed.block(of: window, $0) } ?? 0
        let fits = state.kind == .ports
            ? ports.insert(first: address, last: last, window: window, block: block) : memory.insert(first: address, last: last, window: window, block: block)
        if !fits { control.log(.error, "\(functions[index].label): BAR \(bar) is not served, because this emulator has 256 claims already") }
    }

    private mutating func remove(_ index: Int, _ bar: Int, at address: UInt64? = nil) {
        let state = functions[index].bars[bar]
        guard let first = address ?? state.mapped else { return }
        let window = PCIFunction.window(index, bar)
        if state.kind == .ports { ports.remove(first: first, window: window) } else { memory.remove(first: first, window: window) }
    }

    private mutating func refuse(_ index: Int, _ bar: Int, _ address: UInt64) {
        remove(index, bar, at: address)
        functions[index].bars[bar].refused = address
    }

    private mutating func setMapped(_ index: Int, _ bar: Int, _ address: UInt64?) {
        guard functions[index].bars[bar].mapped != address else { return }
        functions[index].bars[bar].mapped = address
        functions[index].movedBars |= 1 << UInt8(bar)
        hasMoves = true
    }

    // MARK: telling the device

    /// A BAR whose move the device has not been told. After the last one the guest's writes are completed.
    mutating func nextMove() -> Step {
        if relocating { relocateSlice() }
        for index in 0..<functionCount {
            let moved = functions[index].movedBars
            guard functions[index].remapping == .settled, moved != 0 || !functions[index].waiting.isEmpty else { continue }
            guard moved != 0 else {
                releaseWaiting(index)
                continue
            }
            let bar = moved.trailingZeroBitCount
            functions[index].movedBars = moved & (moved &- 1)
            dispatched = -1
            access = Access(window: Window(index: PCIFunction.window(index, bar)), offset: 0, size: 1)
            movedTo = functions[index].bars[bar].mapped
            isChanged = true
            return .moved
        }
        hasMoves = relocating || (0..<functionCount).contains { functions[$0].movedBars != 0 }
        return .nothing
    }

    private mutating func releaseWaiting(_ index: Int) {
        while let slot = functions[index].waiting.popFirst() { resume(slot, 0) }
    }

    // MARK: interrupts

    /// Drives the function's line when its level should be another one.
    mutating func driveLine(_ index: Int) {
        let level = functions[index].wantedLine
        guard level != functions[index].line else { return }
        functions[index].line = level
        attachment.setINTx(functions[index].address, pin: functions[index].pin &- 1, asserted: level)
    }

    mutating func sendUnmasked(_ index: Int) {
        while let vector = functions[index].nextUnmasked() {
            _ = sendMessage(index, vector)
            // Only now: between the two a death makes one message too many, and never one too few.
            functions[index].clearPending(vector)
        }
    }

    /// Sends a message-signalled interrupt. False when the guest has not enabled messages or masks this one.
    mutating func sendMessage(_ index: Int, _ vector: Int) -> Bool {
        guard let message = functions[index].message(vector) else { return false }
        attachment.injectMSI(address: message.address, data: message.data)
        return true
    }
}

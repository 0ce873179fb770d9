import EmulatorProtocol
import Host
import Platform

// The coordinator's requests, and its answers to ours, while requests are served.
extension Core {
    /// Takes one packet.
    mutating func handle(_ incoming: ControlConnection.Incoming) {
        let packet = incoming.packet
        if let answered = packet.re {
            if takeRemapAnswer(answered, packet.body) || takeBelongingAnswer(answered, packet.body, incoming.descriptors) { return }
            if case .error(let refusal) = packet.body { control.log(.warning, "the coordinator refused: \(refusal)") }
            return
        }
        switch packet.body {
        case .start: reply(packet.id)
        case .pause, .resume:
            guard run != .stopped else { return refuse(packet, .order, "nothing is served yet") }
            setPaused(packet)
        case .vcpu(let change):
            guard (0..<VCPUID.limit).contains(change.vcpu) else {
                return refuse(packet, .invalid, "there are vCPUs 0 to \(VCPUID.limit - 1)")
            }
            // A slot that was in use once stays so: its vCPU may come back.
            if change.change == .added { vcpus = max(vcpus, change.vcpu + 1) }
            lookAtAll()
            reply(packet.id)
        case .dirtyLogging(let logging):
            attachment.setDirtyLogging(logging.on)
            reply(packet.id)
        case .surfaceReader(let change): takeReader(change, packet, incoming.descriptors)
        case .modeHint(let size):
            guard belongings.capabilities.contains("surface") else { return refuse(packet, .unsupported, "this emulator has no scan-out") }
            guard (1...16384).contains(size.width), (1...16384).contains(size.height) else {
                return refuse(packet, .invalid, "no screen has \(size.width)×\(size.height) pixels")
            }
            tell(.modeHint(width: size.width, height: size.height))
            reply(packet.id)
        case .input(let input):
            guard belongings.capabilities.contains("input") else { return refuse(packet, .unsupported, "this emulator takes no input") }
            tell(.input(Array(input.events.prefix(Input.most))))
            reply(packet.id)
        case .unplug(let unplug):
            let classes = belongings.unplugClasses.intersection(unplug.classes)
            guard !belongings.unplugClasses.isEmpty else { return refuse(packet, .unsupported, "this emulator said in hello that it has nothing to unplug") }
            guard let id = packet.id else { return refuse(packet, .malformed, "it needs an 'id'") }
            guard !classes.isEmpty else { return control.send(Packet(.ok(Reply(removed: [])), re: id)) }
            belongings.unplugging.insert(id)
            tell(.unplug(classes, UnplugRequest(id: id)))
        case .quit:
            quitID = packet.id
            run = .quitting
        case .error(let refusal): control.log(.warning, "the coordinator says: \(refusal)")
        case .ok: break
        default: refuse(packet, .unsupported, "an emulator is not asked that")
        }
    }

    private mutating func takeReader(_ change: SurfaceReaderChange, _ packet: Packet, _ descriptors: DescriptorBag) {
        guard belongings.capabilities.contains("surface") else { return refuse(packet, .unsupported, "this emulator has no scan-out") }
        switch change.change {
        case .added:
            guard descriptors.count == 3 else { return refuse(packet, .malformed, "a reader comes with three descriptors, not \(descriptors.count)") }
            tell(.readerAdded(change.reader, EventDescriptors(descriptors)))
        case .gone: tell(.readerGone(change.reader))
        }
        reply(packet.id)
    }

    private mutating func setPaused(_ packet: Packet) {
        let wished = packet.body == .pause
        switch (run, wished) {
        case (.running, true), (.pausing, true):
            // Answered once what was taken is finished.
            if run == .pausing { reply(pauseID) }
            run = .pausing
            pauseID = packet.id
            return
        case (.pausing, false), (.paused, false):
            if run == .pausing { reply(pauseID) }
            run = .running
            pauseID = nil
            lookAtAll()
            resumed = true
        default: break
        }
        reply(packet.id)
    }

    func reply(_ id: UInt32?) {
        guard let id else { return }
        control.send(Packet(.ok(Reply()), re: id))
    }

    private func refuse(_ packet: Packet, _ code: Refusal.Code, _ message: String) {
        control.send(Packet(.error(Refusal(code, asked: packet.body.type, message: message)), re: packet.id))
    }

    /// Takes everything that came on the control socket, and sends what waited for room.
    @usableFromInline
    mutating func readControl() {
        control.flush()
        while let incoming = control.receive() { handle(incoming) }
        if control.isClosed && !toldClosed {
            toldClosed = true
            abandonRemaps()
        }
    }

    /// What became true since the last look and concerns the device: each is told once.
    @usableFromInline
    mutating func nextChange() -> Event? {
        let change = findChange()
        if change != nil { isChanged = true }
        return change
    }

    private mutating func findChange() -> Event? {
        if resumed {
            resumed = false
            return .resumed
        }
        if hasEvents {
            if let event = belongings.nextEvent() { return event }
            hasEvents = false
        }
        if run == .pausing && busy == 0 {
            run = .paused
            return .paused
        }
        if run == .quitting && busy == 0 && !toldStopping {
            toldStopping = true
            return .stopping
        }
        return nil
    }

    /// Answers the pause or the quit after the device was told.
    @usableFromInline
    mutating func acknowledgeChange(_ change: Event) {
        switch change {
        case .paused:
            reply(pauseID)
            pauseID = nil
        case .stopping:
            reply(quitID)
            control.flush()
        default:
            if let token = belongings.takeAnswering() { _ = complete(token, 0) }
        }
    }
}

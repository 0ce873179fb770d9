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
        case .pause, .resume, .release:
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
        let wished = packet.body != .resume
        if packet.body == .release {
            releasing = true
            // One that has paused already is told once more, and lets go then.
            if run == .paused && !isReleased { run = .pausing }
        }
        switch (run, wished) {
        case (.running, true), (.pausing, true):
            // Answered once what was taken is finished.
            if run == .pausing { reply(pauseID) }
            run = .pausing
            pauseID = packet.id
            return
        case (.paused, false) where isReleased:
            rebindID = packet.id ?? 0
            return
        case (.pausing, false), (.paused, false):
            releasing = false
            if run == .pausing { reply(pauseID) }
            run = .running
            pauseID = nil
            lookAtAll()
            resumed = true
        default: break
        }
        reply(packet.id)
    }

    /// The notifications are let go of, at the end of a pause for that purpose.
    @usableFromInline
    mutating func released() {
        isReleased = true
        // What is written from now on is another process's state.
        isLive = false
    }

    /// The notifications are connected again, or could not be.
    @usableFromInline
    mutating func rebound(_ error: HostError?) {
        let id = rebindID ?? 0
        rebindID = nil
        if let error {
            control.send(Packet(.error(Refusal(.host, asked: "resume", message: error.description)), re: id))
            return
        }
        (releasing, isReleased, isLive) = (false, false, true)
        run = .running
        lookAtAll()
        resumed = true
        reply(id)
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
            // Nobody asks an isolated one anything any more, and no other coordinator comes: a keeper would hold the other end. A direct one's guest
            // may run on, and asks it without anybody's help.
            if attachment.attach.mode == .isolated { run = .quitting }
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
        if hasEvents && !isReleased {
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

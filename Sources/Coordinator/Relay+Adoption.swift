import Host
import Keeping
import Platform

/// A relay that goes on where another coordinator's was killed.
extension Relay {
    /// Gives the keeper the page that the emulator has, or its successor gets.
    func keepPage() {
        context.recorder.keep(page.descriptor, page.doorbells.kick, page.doorbells.done, as: KeptName.holdings(name) + KeptPart.relay)
    }

    func keepJournal() { context.recorder.keep(journal.descriptor, as: KeptName.holdings(name) + KeptPart.relayJournal) }

    /// A predecessor's.
    convenience init(adopting name: String, context: GuestContext, server: ServerID, faults: FaultLog) throws {
        let recorder = context.recorder
        guard let bag = recorder.takeAll(KeptName.holdings(name) + KeptPart.relay) else {
            throw SystemError("take over", "the relay of emulator '\(name)'", reason: "the keeper does not hold its page")
        }
        let page = try RelayPage(adopting: bag)
        let journal = try RelayJournal(adopting: try recorder.take(KeptName.holdings(name) + KeptPart.relayJournal))
        try self.init(name: name, context: context, channel: try context.host.openChannel(server), faults: faults, page: page, journal: journal)
    }

    /// Finds the jobs that were under way: what the emulator has not been given is given to it, what it has answered is taken.
    func resumeJobs() {
        for vcpu in 0..<channel.vcpuCount {
            switch channel.slots.state(vcpu) {
            case .inProcess: resume(vcpu, channel.slots.copy(vcpu))
            // It was answered, and perhaps nobody told.
            case .responseReady: channel.notify(vcpu)
            default: continue
            }
        }
        resumePosted()
        collect()
        if jobs.contains(where: { $0 != nil }) { startRounds() }
        // What was submitted last may never have been rung for.
        page.ringEmulator()
    }

    private func resume(_ vcpu: Int, _ request: IORequest) {
        guard isForwarded(request) else { return begin(vcpu, request) }
        let known = journal[vcpu]
        // Its answer was used already.
        if known.submitted == known.done { slots.clear(vcpu) }
        guard known.done < request.count else {
            return finish(vcpu, data: request.direction == .read && !request.dataIsPointer ? known.value : request.data)
        }
        jobs[vcpu] = Job(request: request, single: single(of: request, known.done), index: known.done, value: known.value)
        // Otherwise the emulator has it, or has answered.
        if slots.state(vcpu) == IORequest.State.none { forward(vcpu) }
    }

    private func resumePosted() {
        guard let ring = channel.ring, slots.state(postedSlot) != IORequest.State.none else { return }
        let known = journal[postedSlot]
        guard let peeked = ring.peek(), peeked.position == known.position else { return slots.clear(postedSlot) }
        if known.submitted == known.done {
            ring.consume(peeked.count)
            slots.clear(postedSlot)
        } else if let request = Self.request(of: peeked.entry) {
            jobs[postedSlot] = Job(request: request, single: request)
        }
    }
}

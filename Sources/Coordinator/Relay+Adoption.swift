import Host
import Keeping
import Platform

/// A relay that goes on where another coordinator's was killed.
extension Relay {
    /// Gives the keeper what a successor needs.
    func keepDescriptors(_ recorder: Recorder, _ prefix: String) {
        recorder.keep(page.descriptor, as: prefix + KeptPart.relayPage)
        recorder.keep(page.kick.descriptor.raw, as: prefix + KeptPart.relayKick)
        recorder.keep(page.done.descriptor.raw, as: prefix + KeptPart.relayDone)
        recorder.keep(journal.descriptor, as: prefix + KeptPart.relayJournal)
    }

    /// A predecessor's.
    convenience init(adopting prefix: String, name: String, context: GuestContext, server: ServerID) throws {
        let recorder = context.recorder
        let page = try RelayPage(
            adopting: try recorder.take(prefix + KeptPart.relayPage), kick: try recorder.take(prefix + KeptPart.relayKick),
            done: try recorder.take(prefix + KeptPart.relayDone))
        let journal = try RelayJournal(adopting: try recorder.take(prefix + KeptPart.relayJournal))
        try self.init(name: name, context: context, channel: try context.host.openChannel(server), page: page, journal: journal)
    }

    /// Finds the jobs that were under way: what the emulator has not been given is given to it, what it has answered is taken next.
    func takeOver() {
        for vcpu in 0..<channel.vcpuCount {
            switch channel.slots.state(vcpu) {
            case .inProcess: resume(vcpu, channel.slots.copy(vcpu))
            // It was answered, and perhaps nobody told.
            case .responseReady: channel.notify(vcpu)
            default: continue
            }
        }
        resumePosted()
        // What was submitted last may never have been rung for.
        page.kick.ring()
    }

    private func resume(_ vcpu: Int, _ request: IORequest) {
        guard isForwarded(request) else { return begin(vcpu, request) }
        let known = journal[vcpu]
        jobs[vcpu] = Job(request: request, index: known.done, value: known.value)
        // The answer was used already.
        if known.submitted == known.done { slots.clear(vcpu) }
        if known.done >= request.count {
            jobs[vcpu] = nil
            return finish(vcpu, data: request.direction == .read && !request.dataIsPointer ? known.value : request.data)
        }
        // Otherwise the emulator has it, or has answered.
        if slots.state(vcpu) == IORequest.State.none { forward(vcpu) }
    }

    private func resumePosted() {
        guard let ring = channel.ring, slots.state(postedSlot) != IORequest.State.none else { return }
        let known = journal[postedSlot]
        guard let (entry, words) = ring.peek(), ring.position == known.position else { return slots.clear(postedSlot) }
        if known.submitted == known.done {
            ring.consume(words)
            slots.clear(postedSlot)
        } else if let request = Self.request(of: entry) {
            jobs[postedSlot] = Job(request: request)
        }
    }
}

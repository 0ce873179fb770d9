import CCommit
import Host

// Exactly once: what a death between any two instructions leaves, and what a successor makes of it.
//
//   taken[slot] += 1  →  READY → INPROCESS  →  the device's handler  →  commit  →  data, INPROCESS → IORESP_READY  →  the doorbell
//
// A request that is INPROCESS was committed if an entry of the commit that counts has its slot and the slot's `taken`; otherwise its effects
// are not in the state, and it is carried out (again). A posted write stays in the ring until it was committed.
extension Core {
    /// Places in the ring that are carried out between two commits.
    private static let mostPosted: UInt32 = 32

    // MARK: committing

    /// Commits what the device has written, with the requests that have come to something since.
    mutating func commit() {
        guard area.isOn, isLive else { return }
        var entries = 0
        // Mostly there is one request, which is finished.
        if busy == 1, finished.first >= 0 {
            putAnswered(finished.first, at: 0)
            entries = 1
        } else if busy > 0 {
            for slot in 0..<vcpus {
                switch work[slot].phase {
                case .idle: continue
                case .answering: putAnswered(slot, at: entries)
                case .active, .waiting:
                    // One that has done nothing is carried out from its beginning.
                    guard work[slot].done > 0 else { continue }
                    // What the device has given is nowhere but in this process.
                    flushChunk(slot)
                    area.put(
                        demux_commit_entry(
                            slot: UInt16(truncatingIfNeeded: slot), flags: 0, sequence: area.takenCount(slot), done: work[slot].done, zero: 0,
                            value: work[slot].result, zeros: 0), at: entries)
                }
                entries += 1
            }
        }
        point(.entriesPut)
        area.write(entries: entries, posted: posted)
        // Whatever was written to guest memory, sent or put into the half is before this, and the answers after it.
        point(.written)
        area.flip()
        point(.flipped)
        isChanged = false
    }

    /// Commits in the middle of a handler, which will go on writing.
    mutating func commitEarly() {
        commit()
        isChanged = true
    }

    private mutating func putAnswered(_ slot: Int, at place: Int) {
        area.put(
            demux_commit_entry(
                slot: UInt16(truncatingIfNeeded: slot), flags: UInt16(DEMUX_ENTRY_ANSWERED), sequence: area.takenCount(slot), done: work[slot].done,
                zero: 0, value: work[slot].answer, zeros: 0), at: place)
    }

    /// After a handler has returned: commits, and tells the host of what is finished.
    @usableFromInline
    mutating func settle() {
        if isChanged { commit() }
        while let slot = finished.popFirst() {
            point(.committed)
            giveAnswer(slot)
        }
        if posted.count > 0 {
            point(.committed)
            ring?.consume(posted.count)
            posted.count = 0
            point(.consumed)
        }
    }

    /// Answers a slot that is finished.
    mutating func giveAnswer(_ slot: Int) {
        work[slot].phase = .idle
        busy -= 1
        // False when the host took the slot back meanwhile (the server was disabled): then nobody waits.
        if slots.complete(slot, data: work[slot].answer) { answered.insert(slot) }
        point(.answered)
        observe(slot, work[slot].answer)
    }

    // MARK: taking

    /// Takes a slot's request, if one waits.
    mutating func take(_ slot: Int) -> IORequest? {
        guard area.isOn else { return slots.take(slot) }
        guard slots.isReady(slot) else { return nil }
        // Before the move: a request that is found INPROCESS has a number that no commit knew before it.
        area.advanceTaken(slot)
        point(.numbered)
        guard let request = slots.take(slot) else { return nil }
        point(.taken)
        return request
    }

    /// The next posted write. With a journal it stays in the ring until `settle`.
    mutating func takePosted() -> BufferedEntry? {
        guard area.isOn else { return ring?.next() }
        if posted.count >= Self.mostPosted { settle() }
        guard let peeked = ring?.peek(skipping: posted.count) else { return nil }
        if posted.count == 0 { (posted.position, posted.word) = (peeked.position, peeked.word) }
        postedNow = peeked.count
        // Also for one that is dropped: the commit then says how far the ring was looked at.
        isChanged = true
        return peeked.entry
    }

    /// The posted write that the device had is carried out.
    mutating func endPosted() {
        posted.count &+= postedNow
        postedNow = 0
    }

    // MARK: after a predecessor

    /// The first look after the server was enabled: requests that were READY before, and those that a dead predecessor had taken.
    @usableFromInline
    mutating func takeOver() {
        observer.start()
        let found = area.isOn ? belongings.state.found : nil
        // The predecessor had carried these out and committed them, and did not come to give them back.
        if let posted = found?.posted, posted.count > 0, posted.count <= BufferedRing.capacity, let ring, ring.waiting >= posted.count,
            let first = ring.peek(), first.position == posted.position, first.word == posted.word {
            ring.consume(posted.count)
        }
        for slot in 0..<vcpus {
            switch slots.state(slot) {
            case .inProcess: resume(slot, after: found?.entry(slot: slot, sequence: area.takenCount(slot)))
            // Answered, but perhaps the host was never told.
            case .responseReady: answered.insert(slot)
            default: break
            }
        }
        for slot in 0..<vcpus where work[slot].phase == .active { runnable.insert(slot) }
        run = .running
        // What the device did in its `init`, and before the start, is committed now, and with it where each request stands.
        isLive = true
        isChanged = area.isOn
        settle()
        lookAtAll()
    }

    /// Goes on with a request that a predecessor had taken.
    private mutating func resume(_ slot: Int, after entry: demux_commit_entry?) {
        let request = slots.copy(slot)
        if let entry, entry.flags & UInt16(DEMUX_ENTRY_ANSWERED) != 0 {
            // Carried out and committed: only the answer is missing.
            progress &+= 1
            busy += 1
            work[slot].request = request
            work[slot].sequence &+= 1
            // How long the predecessor had it is not known.
            work[slot].begun = observer.now()
            return finish(slot, entry.value)
        }
        begin(slot, request)
        guard let entry, work[slot].phase == .active else { return }
        // One that was held, or a number that cannot be.
        work[slot].result = entry.value
        work[slot].done = min(entry.done, request.count)
        if work[slot].done == request.count { finish(slot) }
    }

    // MARK: tests

    /// Where a death would leave something else than a moment before.
    enum Point: CaseIterable { case numbered, taken, flushed, entriesPut, written, flipped, committed, answered, consumed }

    @inline(__always)
    mutating func point(_ point: Point) {
        #if DEBUG
            atPoint?(point)
        #endif
    }
}

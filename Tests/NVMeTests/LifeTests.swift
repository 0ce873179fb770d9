import Testing

@testable import NVMe

@Suite("NVMe removal and succession")
struct LifeTests {
    final class Told {
        var outcomes: [QuiesceOutcome] = []
    }

    private func quiesce(_ guest: Guest) -> Told {
        let told = Told()
        guest.controller.quiesce { told.outcomes.append($0) }
        guest.goOn()
        return told
    }

    @Test("no acknowledged write is missing when the device is removed")
    func removal() {
        let guest = Guest()
        guest.start()
        guest.disksAtOnce = false
        var blocks: [UInt16: Int] = [:]
        for block in 0..<10 {
            guest.memory.bytes[Guest.data + block * 4096] = UInt8(block + 1)
            blocks[guest.put(1, 1, namespace: 1, prp1: UInt64(Guest.data + block * 4096), [UInt32(block), 0, 0])] = block
        }
        guest.ring(1)
        for _ in 0..<4 { guest.finishOne() }
        let told = quiesce(guest)
        // Queued after it began: never taken.
        let late = guest.put(1, 1, namespace: 1, prp1: UInt64(Guest.data), [99, 0, 0])
        guest.ring(1)
        #expect(told.outcomes.isEmpty && guest.read(0x1c) == 1)
        for _ in 0..<6 { guest.finishOne() }
        #expect(told.outcomes.isEmpty)
        #expect(guest.disk.waiting.map(\.kind) == [.flush])
        let acknowledged = guest.take(1, acknowledge: false)
        guest.finishOne()
        #expect(told.outcomes == [.removed])
        #expect(acknowledged.count == 10 && !acknowledged.contains { $0.identifier == late })
        for completion in acknowledged {
            let block = blocks[completion.identifier] ?? -1
            #expect(completion.status == [0, 0] && guest.disk.stable[block * 512] == UInt8(block + 1))
        }
        #expect(guest.disk.stable[99 * 512] == 0)
        // Nothing answers any more, now or in a successor.
        #expect(guest.read(0x1c) == 0xffff_ffff && guest.read(0, size: 8) == .max && !guest.line)
        guest.write(0x14, 0)
        guest.enable()
        #expect(guest.read(0x1c) == 0xffff_ffff)
        guest.replaceController()
        #expect(guest.isRemoved && guest.read(0x1c) == 0xffff_ffff)
        #expect(quiesce(guest).outcomes == [.removed])
    }

    @Test("a removal whose flush fails is refused, and the disk goes on")
    func refusal() {
        let guest = Guest()
        guest.start()
        guest.disksAtOnce = false
        let told = quiesce(guest)
        let second = quiesce(guest)
        guest.put(1, 2, namespace: 1, prp1: UInt64(Guest.data), [0, 0, 0])
        guest.ring(1)
        guest.disk.outcome = .failed
        guest.finishOne()
        #expect(told.outcomes == [.failed] && second.outcomes == [.failed])
        guest.disk.outcome = .done
        guest.goOn()
        guest.finishOne()
        #expect(guest.take(1).map(\.status) == [[0, 0]])
    }

    @Test("a removal during a reset waits for it, and one of a controller that was never enabled flushes all the same")
    func removalAndReset() {
        let guest = Guest()
        #expect(quiesce(guest).outcomes == [.removed])
        #expect(guest.disk.kinds == [.flush])
        let other = Guest()
        other.start()
        other.disksAtOnce = false
        other.put(1, 1, namespace: 1, prp1: UInt64(Guest.data), [0, 0, 0])
        other.ring(1)
        other.write(0x14, 0)
        let told = quiesce(other)
        other.finishOne()
        #expect(told.outcomes.isEmpty)
        other.finishOne()
        #expect(told.outcomes == [.removed])
    }

    @Test("a successor does again what was under way, and the guest sees each command completed once")
    func succession() {
        let guest = Guest()
        guest.start()
        #expect(guest.run(0, 0x0c) == nil)
        #expect(guest.status(0, 0x09, [0x06, 0]) == [0, 0])
        guest.disksAtOnce = false
        var identifiers: [UInt16] = []
        for block in 0..<9 {
            guest.memory.bytes[Guest.data + block * 4096] = UInt8(block + 1)
            identifiers.append(guest.put(1, 1, namespace: 1, prp1: UInt64(Guest.data + block * 4096), [UInt32(block), 0, 0]))
        }
        guest.ring(1)
        for _ in 0..<4 { guest.finishOne() }
        guest.disksAtOnce = true
        guest.replaceController()
        #expect(guest.takeMessages() == 2)
        #expect(guest.take(1).map(\.identifier).sorted() == identifiers)
        for block in 0..<9 { #expect(guest.disk.stable[block * 512] == UInt8(block + 1)) }
        #expect(guest.run(0, 0x0a, [0x06])?.result == 0)
        // The event request is still there.
        guest.write(0x1000, 0xffff)
        #expect(guest.take(0).map(\.result) == [0x0001_0100])
        #expect(guest.transfer(2, block: 1, count: 1) == [0, 0])
    }

    @Test("wherever between two stores a process dies, the command is completed once", arguments: 0..<4)
    func betweenStores(stage: Int) {
        let guest = Guest()
        guest.start()
        guest.disksAtOnce = false
        let identifier = guest.put(1, 0, namespace: 1)
        guest.ring(1)
        let slot = guest.controller.state.slot(0)
        let submission = guest.controller.state.submission(1)
        let completion = guest.controller.state.completion(1)
        #expect(slot.stage == .taken && submission.fetched == 1)
        switch stage {
        case 0: submission.fetched = 0  // taken, and the queue not yet moved
        case 1, 2:
            guest.finishOne()
            #expect(slot.stage == .free && completion.posted == 1)
            slot.stage = .finished
            if stage == 1 { completion.posted = 0 }  // written, and the queue not yet moved
        default: break
        }
        guest.disksAtOnce = true
        guest.replaceController()
        #expect(guest.take(1).map(\.identifier) == [identifier])
        #expect(guest.transfer(2, block: 0, count: 1) == [0, 0])
    }

    @Test("what the guest has seen completed is not carried out again, though the process died before its event was over", arguments: 1...3)
    func seen(commands: Int) {
        let guest = Guest()
        guest.start()
        guest.disksAtOnce = false
        var identifiers: [UInt16] = []
        for block in 0..<commands {
            identifiers.append(guest.put(1, 1, namespace: 1, prp1: UInt64(Guest.data + block * 4096), [UInt32(block), 0, 0]))
        }
        guest.ring(1)
        // What a successor finds: the state of the last time that it was to be kept.
        var kept = [UInt8](guest.state)
        guest.memory.onCommit = { [unowned guest] in kept = [UInt8](guest.state) }
        for _ in 0..<commands { guest.finishOne() }
        let begun = guest.disk.begun
        guest.memory.onCommit = {}
        guest.state.copyBytes(from: kept)
        guest.disksAtOnce = true
        guest.replaceController()
        #expect(guest.take(1).map(\.identifier) == identifiers)
        #expect(guest.disk.begun == begun)
        #expect(guest.transfer(2, block: 0, count: 1) == [0, 0])
    }

    @Test("a reset or a queue's deletion that a process did not finish is finished by its successor")
    func unfinished() {
        let guest = Guest()
        guest.start()
        guest.disksAtOnce = false
        guest.put(1, 0, namespace: 1)
        guest.ring(1)
        #expect(guest.run(0, 0x00, [1]) == nil)
        guest.disksAtOnce = true
        guest.replaceController()
        #expect(guest.take(0).map(\.status) == [[0, 0]])
        guest.makeQueues(2)
        guest.disksAtOnce = false
        guest.put(2, 0, namespace: 1)
        guest.ring(2)
        guest.write(0x14, 0)
        #expect(guest.read(0x1c) == 1)
        guest.replaceController()
        #expect(guest.read(0x1c) == 0)
    }

    @Test("a state that another version left, or nobody, is not believed")
    func strangeState() {
        let guest = Guest()
        guest.start()
        guest.state.storeBytes(of: 99, toByteOffset: 8, as: UInt32.self)
        guest.replaceController()
        #expect(guest.read(0x1c) == 0 && guest.read(0x14) == 0)
        guest.start()
        guest.controller.state.submission(1).size = 5000
        guest.replaceController()
        #expect(guest.read(0x1c) & 2 == 2)
        guest.write(0x14, 0)
        guest.start()
        #expect(guest.transfer(2, block: 0, count: 1) == [0, 0])
    }
}

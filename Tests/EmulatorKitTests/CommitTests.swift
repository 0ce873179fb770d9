import CCommit
import EmulatorProtocol
import Host
import SeededNumbers
import Testing

@testable import EmulatorKit

/// A device of which there are three versions: 1, 2 which goes on from 1, and 3 which goes on from nobody.
private protocol Versioned: Emulator, ~Copyable {
    var state: StateRegion { get }
}

private struct First: Versioned, ~Copyable {
    static let name = "versioned"
    static let stateLength = 40
    let state: StateRegion
    init(_ setup: inout Setup) throws(SetupError) {
        _ = try setup.claim(ports: 0x700, count: 4, label: "ports")
        state = setup.state
    }
    mutating func write(_ access: Access, _ value: UInt64) { state[0] = value }
}

private struct Second: Versioned, ~Copyable {
    static let name = "versioned"
    static let stateLength = 64
    static let stateVersion = 2
    static let stateAccepts = [1, 2]
    let state: StateRegion
    init(_ setup: inout Setup) throws(SetupError) {
        _ = try setup.claim(ports: 0x700, count: 4, label: "ports")
        state = setup.state
        // It has moved its register.
        if state.version == 1 {
            state[56] = state[0, UInt64.self]
            state[0] = 0 as UInt64
        }
    }
}

private struct Third: Versioned, ~Copyable {
    static let name = "versioned"
    static let stateLength = 64
    static let stateVersion = 3
    let state: StateRegion
    init(_ setup: inout Setup) throws(SetupError) { state = setup.state }
}

@Suite("What is committed")
struct CommitTests {
    private func coordinator<E: Emulator & ~Copyable>(_ type: E.Type, after other: FakeCoordinator? = nil) throws -> FakeCoordinator {
        let coordinator = try FakeCoordinator(on: other?.pages)
        coordinator.state = (try FakeCoordinator.SharedBox(length: try KitState.wanted(deviceLength: E.stateLength)), true)
        if let other { coordinator.inherit(from: other) }
        return coordinator
    }

    /// Where the half that counts begins, and how long a half is.
    private func half(_ coordinator: FakeCoordinator, active: Bool = true) throws -> UnsafeMutableRawPointer {
        let box = try #require(coordinator.state?.memory)
        let area = box.base + KitState.length
        let length = (box.memory.length - KitState.length - CommitArea.headLength) / 2 & ~63
        let selected = Int(area.load(fromByteOffset: 1024, as: UInt64.self) & 1)
        return area + CommitArea.headLength + (active ? selected : 1 - selected) * length
    }

    @Test("an access is committed when it is answered, whatever the device says or does not say")
    func committed() throws {
        let guest = try Harness(Accountant.self, coordinator(Accountant.self))
        guest.write(port: Accountant.ports, 5, size: 4)
        guest.write(port: Accountant.ports, 7, size: 4)
        let box = try #require(guest.coordinator.state?.memory)
        let bytes = try #require(Committed.bytes(box.base, length: box.memory.length, deviceLength: Accountant.stateLength))
        #expect(bytes[0] == 12)
        #expect(try half(guest.coordinator).load(fromByteOffset: Int(DEMUX_COMMIT_HEAD) + Int(DEMUX_COMMIT_ENTRY) * 128, as: UInt64.self) == 12)
    }

    @Test("a damaged half is not believed: what was committed before it counts, and the log says so", arguments: [0, 8, 16, 20, 24, 64, 68, 4160, 4168])
    func damaged(place: Int) throws {
        let guest = try Harness(Accountant.self, coordinator(Accountant.self))
        guest.write(port: Accountant.ports, 5, size: 4)
        guest.write(port: Accountant.ports, 7, size: 4)
        let spoiled = try half(guest.coordinator) + place
        spoiled.storeBytes(of: spoiled.load(as: UInt8.self) ^ 0x10, as: UInt8.self)
        let heir = try Harness(Accountant.self, coordinator(Accountant.self, after: guest.coordinator))
        #expect(heir.read(port: Accountant.ports + 4, size: 4) == 5)
        #expect(heir.coordinator.logLines.contains { $0.contains("damaged") })
    }

    @Test("two damaged halves are an error that says so, and not a device that was just switched on")
    func bothDamaged() throws {
        let guest = try Harness(Accountant.self, coordinator(Accountant.self))
        guest.write(port: Accountant.ports, 5, size: 4)
        for active in [true, false] { try half(guest.coordinator, active: active).storeBytes(of: 0x55, toByteOffset: 4200, as: UInt8.self) }
        do {
            _ = try Harness(Accountant.self, coordinator(Accountant.self, after: guest.coordinator))
            Issue.record("it started")
        } catch let error as SetupError {
            #expect("\(error)".contains("both of its copies are damaged"))
        }
    }

    @Test("hello says the version of the state and those from which the device goes on")
    func hello() throws {
        let hello = try #require(try Harness(Second.self, coordinator(Second.self)).coordinator.hello)
        #expect(hello.stateVersion == 2 && hello.stateAccepts == [1, 2])
        #expect(try Harness(Probe.self, FakeCoordinator()).coordinator.hello?.stateVersion == nil)
    }

    @Test("a successor of a later version finds what the earlier one left, says which that is, and leaves its own")
    func versions() throws {
        let first = try Harness(First.self, coordinator(First.self))
        first.write(port: 0x700, 0xabcd, size: 4)
        let second = try Harness(Second.self, coordinator(Second.self, after: first.coordinator))
        #expect(second.emulator.state.version == 1 && !second.emulator.state.isFresh)
        #expect(second.emulator.state[56, UInt64.self] == 0xabcd)
        let again = try Harness(Second.self, coordinator(Second.self, after: second.coordinator))
        #expect(again.emulator.state.version == 2)
        #expect(again.emulator.state[56, UInt64.self] == 0xabcd)
        for attempt in 0..<2 {
            do {
                if attempt == 0 {
                    _ = try Harness(Third.self, coordinator(Third.self, after: again.coordinator))
                } else {
                    _ = try Harness(First.self, coordinator(First.self, after: again.coordinator))
                }
                Issue.record("it started")
            } catch let error as SetupError {
                #expect("\(error)".contains("it is of version 2, and this program goes on from"))
            }
        }
    }

    @Test("of a restored guest nothing is under way: a posted write that looks like the saved one is carried out")
    func restored() throws {
        let guest = try Harness(Accountant.self, coordinator(Accountant.self))
        let entry = BufferedEntry(type: 1, direction: .write, size: 4, address: Accountant.low, data: 77)
        let kept = try FakeCoordinator.SharedBox(length: try KitState.wanted(deviceLength: Accountant.stateLength))
        let box = try #require(guest.coordinator.state?.memory)
        // The moment between the commit and giving the entry back.
        guest.core.pointee.atPoint = { point in
            if point == .flipped { kept.base.copyMemory(from: box.base, byteCount: kept.memory.length) }
        }
        #expect(guest.coordinator.ring?.post(entry) == true)
        guest.coordinator.ringKick()
        guest.turn()
        guest.core.pointee.atPoint = nil
        let once = Accountant.hash(0, 77)
        for isRestored in [false, true] {
            let heir = try FakeCoordinator()
            let copy = try FakeCoordinator.SharedBox(length: kept.memory.length)
            copy.base.copyMemory(from: kept.base, byteCount: kept.memory.length)
            heir.state = (copy, false)
            heir.isRestored = isRestored
            #expect(heir.ring?.post(entry) == true)
            let second = try Harness(Accountant.self, heir)
            #expect(second.emulator.state[Accountant.Place.hash, UInt64.self] == (isRestored ? Accountant.hash(once, 77) : once))
            #expect(heir.ring?.waiting == 0)
        }
    }

    @Test("2,000 commit areas full of rubbish, with good checksums and with bad ones: none traps, and every slot is answered")
    func rubbish() throws {
        var random = SplitMix(state: 0x5eed_0055)
        let model = try Harness(Accountant.self, coordinator(Accountant.self))
        model.write(port: Accountant.ports, 5, size: 4)
        let box = try #require(model.coordinator.state?.memory)
        let length = box.memory.length
        for round in 0..<2000 {
            let heir = try FakeCoordinator()
            let copy = try FakeCoordinator.SharedBox(length: length)
            copy.base.copyMemory(from: box.base, byteCount: length)
            heir.state = (copy, false)
            if round % 2 == 0 {
                forge(copy.base, length, &random)
            } else {
                for _ in 0..<40 {
                    let place = KitState.length + (random.next() % 2 == 0 ? 1024 + Int(random.next() % 8) : Int(random.next() % UInt64(length - KitState.length)))
                    copy.base.storeBytes(of: UInt8(truncatingIfNeeded: random.next()), toByteOffset: place, as: UInt8.self)
                }
            }
            for slot in 0..<4 {
                var request = IORequest(
                    kind: .portIO, direction: random.next() % 2 == 0 ? .read : .write, address: Accountant.ports + random.next() % 12,
                    data: FakeCoordinator.ramBase + random.next() % 0x9000, size: 1 << UInt32(random.next() % 4),
                    count: UInt32(truncatingIfNeeded: random.next() % 3000), dataIsPointer: random.next() % 2 == 0, backwards: random.next() % 2 == 0)
                if random.next() % 4 == 0 { request.type = UInt8(truncatingIfNeeded: random.next() % 9) }
                #expect(heir.slots.submit(slot, request))
                if random.next() % 4 != 0 { heir.slots.force(slot, rawState: 2) }
            }
            for _ in 0..<random.next() % 20 {
                _ = heir.ring?.post(BufferedEntry(type: 1, direction: .write, size: 8, address: Accountant.low, data: random.next()))
            }
            // Two damaged halves are refused, which is not what is asked here.
            guard let guest = try? Harness(Accountant.self, heir) else { continue }
            guest.turn(8)
            for slot in 0..<4 { #expect(heir.slots.collect(slot) != nil, "round \(round), slot \(slot)") }
        }
    }

    /// A commit that holds together and means nothing.
    private func forge(_ base: UnsafeMutableRawPointer, _ length: Int, _ random: inout SplitMix) {
        let working = UnsafeMutableRawPointer.allocate(byteCount: CommitArea.padded(Accountant.stateLength), alignment: 32)
        defer { working.deallocate() }
        var area = CommitArea(
            base: base + KitState.length, length: length - KitState.length, isOn: true, working: working, deviceLength: Accountant.stateLength, version: 1)
        guard area.find() != nil else { return }
        for slot in 0..<128 {
            if random.next() % 4 != 0 { (base + KitState.length).storeBytes(of: UInt32(slot & 1), toByteOffset: slot * 4, as: UInt32.self) }
            area.put(
                demux_commit_entry(
                    slot: UInt16(truncatingIfNeeded: random.next() % 3 == 0 ? random.next() : UInt64(slot)), flags: UInt16(truncatingIfNeeded: random.next() % 3),
                    sequence: UInt32(slot & 1), done: UInt32(truncatingIfNeeded: random.next() % 2 == 0 ? random.next() : random.next() % 3000), zero: 0,
                    value: random.next(), zeros: 0), at: slot)
        }
        let posted = CommitArea.Posted(
            position: UInt32(truncatingIfNeeded: random.next() % 4 == 0 ? random.next() : 0), count: UInt32(truncatingIfNeeded: random.next() % 600),
            word: random.next())
        area.write(entries: Int(random.next() % 129), posted: posted)
        area.flip()
    }
}

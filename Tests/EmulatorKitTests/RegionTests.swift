import EmulatorProtocol
import Glibc
import Host
import Platform
import Testing

@testable import EmulatorKit

@Suite("A region")
struct RegionTests {
    private func screen(_ change: (FakeCoordinator) -> Void = { _ in }) throws -> Harness<Screen> {
        let coordinator = try FakeCoordinator()
        change(coordinator)
        let guest = try Harness(Screen.self, coordinator)
        _ = guest.coordinator.takeReceived()
        return guest
    }

    private func placed(_ guest: Harness<Screen>, _ label: String = "video memory") -> UInt64? { guest.coordinator.regions[label]?.place }

    @Test("follows its BAR before the guest's write completes, and claims nothing")
    func follows() throws {
        let guest = try screen()
        guest.write(config: 0x10, 0xffff_ffff)
        #expect(guest.read(config: 0x10) == 0xfff0_0008)
        guest.write(config: 0x10, 0xe000_0000)
        guest.coordinator.answersAtOnce = false
        guest.submit(0, IORequest(kind: .pciConfig, direction: .write, address: 5 << 35 | 4, data: 2, size: 2))
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) == nil)
        // Others are served meanwhile.
        #expect(guest.read(port: 0x3c5, vcpu: 1) == 0x77)
        guest.coordinator.answerAll()
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) != nil)
        guest.coordinator.answersAtOnce = true
        #expect(placed(guest) == 0xe000_0000)
        #expect(guest.emulator.memory.address == 0xe000_0000)
        #expect(guest.emulator.takeMoves() == [.init(window: guest.emulator.function.bar(0), address: 0xe000_0000)])
        #expect(guest.coordinator.claims.count == 1)  // the ports
        guest.write(config: 0x10, 0xd000_0000)
        #expect(placed(guest) == 0xd000_0000)
        guest.write(config: 0x04, 0, size: 2)
        #expect(placed(guest) == nil)
        #expect(guest.emulator.memory.address == nil)
        #expect(guest.emulator.takeMoves().last == .init(window: guest.emulator.function.bar(0), address: nil))
    }

    @Test("whose place is refused leaves its BAR unmapped, until the guest puts it elsewhere")
    func refused() throws {
        let guest = try screen { $0.refusedPlaces = [0x10_0000] }
        guest.write(config: 0x10, 0x10_0000)
        #expect(guest.write(config: 0x04, 2, size: 2) != nil)
        #expect(placed(guest) == nil)
        #expect(guest.coordinator.logLines.contains { $0.contains("'video memory' cannot be at 0x100000: the guest's RAM is there") })
        guest.write(config: 0x10, 0xe000_0000)
        #expect(placed(guest) == 0xe000_0000)
    }

    @Test("is placed by the device while the access that caused it waits, and the device is told in between")
    func window() throws {
        let guest = try screen()
        guest.coordinator.answersAtOnce = false
        guest.submit(0, IORequest(kind: .portIO, direction: .write, address: 0x3c0, data: 1, size: 1))
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) == nil)
        #expect(guest.emulator.events.isEmpty)
        guest.coordinator.answerAll()
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) != nil)
        #expect(guest.emulator.takeEvents() == [.regionPlaced(guest.emulator.window)])
        #expect(guest.emulator.window.address == 0xb8000)
        #expect(placed(guest, "text window") == 0xb8000)
        guest.coordinator.answersAtOnce = true
        guest.coordinator.refusedPlaces = [0x10000]
        guest.write(port: 0x3c0, 2)
        #expect(guest.emulator.takeEvents() == [.regionPlaced(guest.emulator.window)])
        #expect(guest.emulator.window.address == 0xb8000)
        #expect(guest.write(port: 0x3c0, 0) != nil)
        #expect(guest.emulator.window.address == nil)
        // A region that a BAR shows is nobody else's to place; what cannot be an address is not asked for.
        _ = guest.coordinator.takeReceived()
        guest.emulator.events = []
        Context(core: guest.core).place(guest.emulator.memory, at: 0xc000_0000)
        Context(core: guest.core).place(guest.emulator.window, at: 0xb8001)
        Context(core: guest.core).place(guest.emulator.window, at: .max - 4095)
        guest.turn()
        #expect(guest.emulator.takeEvents().count == 3)
        #expect(!guest.coordinator.takeReceived().contains { if case .regionPlace = $0 { true } else { false } })
    }

    @Test("tells which pages were written, by the host's bitmap, and when it is touched, by its doorbell")
    func dirty() throws {
        let guest = try screen()
        let region = try #require(guest.coordinator.regions["video memory"])
        let memory = guest.emulator.memory
        #expect(memory.pageCount == 256 && memory.hasDoorbell)
        region.bitmap.base.storeBytes(of: 0x8000_0000_0000_0001, toByteOffset: 8, as: UInt64.self)
        Context(core: guest.core).requestDirty(memory)
        Context(core: guest.core).requestDirty(memory)
        guest.turn()
        // The second was asked while the first was under way: one answer is for both.
        #expect(guest.emulator.takeEvents() == [.regionDirty(memory)])
        #expect(memory.dirtyCount == 2 && memory.isDirty(page: 64) && memory.isDirty(page: 127))
        #expect(!memory.isDirty(page: 65) && !memory.isDirty(page: -1) && !memory.isDirty(page: 256) && !memory.isDirty(page: .max))
        // The answer is the device's: what the host changes later is not seen.
        region.bitmap.base.storeBytes(of: 0, toByteOffset: 8, as: UInt64.self)
        #expect(memory.isDirty(page: 64))
        region.doorbell.ring()
        guest.turn()
        #expect(guest.emulator.takeEvents() == [.regionTouched(memory)])
        guest.turn()
        #expect(guest.emulator.takeEvents().isEmpty)
    }

    @Test("of a coordinator that is gone counts as written all over, and stays where it is")
    func orphaned() throws {
        // An isolated one ends.
        let guest = try screen { $0.mode = .direct }
        guest.coordinator.answersAtOnce = false
        Context(core: guest.core).requestDirty(guest.emulator.memory)
        Context(core: guest.core).requestSurface(width: 640, height: 480)
        guest.submit(0, IORequest(kind: .portIO, direction: .write, address: 0x3c0, data: 1, size: 1))
        guest.write(config: 0x10, 0xe000_0000, vcpu: 1)
        guest.submit(2, IORequest(kind: .pciConfig, direction: .write, address: 5 << 35 | 4, data: 2, size: 2))
        guest.turn()
        guest.coordinator.close()
        guest.turn()
        #expect(guest.coordinator.slots.collect(0) != nil)
        #expect(guest.coordinator.slots.collect(2) != nil)
        let events = guest.emulator.takeEvents()
        #expect(events.contains(.regionDirty(guest.emulator.memory)) && events.contains(.regionPlaced(guest.emulator.window)))
        #expect(events.contains(.surfaceRefused(width: 640, height: 480, reason: "the coordinator is gone")))
        #expect(guest.emulator.memory.dirtyCount == 256)
        #expect(guest.emulator.window.address == nil && guest.emulator.memory.address == nil)
        Context(core: guest.core).requestDirty(guest.emulator.memory)
        guest.write(port: 0x3c0, 1)
        #expect(guest.emulator.takeEvents() == [.regionDirty(guest.emulator.memory), .regionPlaced(guest.emulator.window)])
    }

    @Test("whose descriptors are missing, short or not sealed ends the start", arguments: 0..<4)
    func distorted(_ kind: Int) throws {
        let other = try SharedMemory(name: "other", length: 8192)
        let raw = other.descriptor.raw
        // A file that anybody can shrink.
        let file = try #require(tmpfile())
        defer { fclose(file) }
        let bare = fileno(file)
        #expect(ftruncate(bare, 1 << 20) == 0)
        do {
            _ = try screen { coordinator in
                coordinator.distort = { grant, descriptors in
                    switch kind {
                    case 0: descriptors = []
                    case 1: descriptors[0] = raw
                    case 2: descriptors[1] = raw
                    default: descriptors[0] = bare
                    }
                }
            }
            Issue.record("it started")
        } catch let error as SetupError {
            #expect("\(error)".contains("video memory"), "\(error)")
        }
    }
}

@Suite("A scan-out and its readers")
struct SurfaceEventTests {
    @Test("are asked for and told, with their descriptors")
    func told() throws {
        let guest = try Harness(Screen.self, FakeCoordinator())
        let context = Context(core: guest.core)
        context.requestSurface(width: 640, height: 480)
        context.requestSurface(width: 4096, height: 480)
        guest.turn()
        let events = guest.emulator.takeEvents()
        guard events.count == 2, case .surface(width: 640, height: 480, let memory) = events[0] else {
            Issue.record("\(events)")
            return
        }
        #expect(memory.count == 1 && memory.take() != nil && memory.take() == nil)
        #expect(events[1] == .surfaceRefused(width: 4096, height: 480, reason: "it is too large"))

        let page = try SharedMemory(name: "page", length: 4096)
        let frame = try EventFD()
        let want = try EventFD()
        guest.coordinator.send(
            Packet(.surfaceReader(SurfaceReaderChange(reader: 3, change: .added)), id: 70), [page.descriptor.raw, frame.descriptor.raw, want.descriptor.raw])
        guest.coordinator.send(Packet(.surfaceReader(SurfaceReaderChange(reader: 4, change: .added)), id: 71), [page.descriptor.raw])
        guest.coordinator.send(Packet(.modeHint(SurfaceSize(width: 1920, height: 1080))))
        guest.coordinator.send(Packet(.modeHint(SurfaceSize(width: -1, height: 1080)), id: 72))
        guest.coordinator.send(Packet(.input(Input([.key(0x1e, down: true), .absolute(x: 1, y: 2), .button(.wheelUp, down: true)]))))
        guest.coordinator.send(Packet(.surfaceReader(SurfaceReaderChange(reader: 3, change: .gone)), id: 73))
        guest.turn()
        let told = guest.emulator.takeEvents()
        guard told.count == 4, case .readerAdded(3, let descriptors) = told[0] else {
            Issue.record("\(told)")
            return
        }
        #expect(descriptors.count == 3)
        #expect(told[1] == .modeHint(width: 1920, height: 1080))
        #expect(told[2] == .input([.key(0x1e, down: true), .absolute(x: 1, y: 2), .button(.wheelUp, down: true)]))
        #expect(told[3] == .readerGone(3))
        for (id, good) in [(70, true), (71, false), (72, false), (73, true)] as [(UInt32, Bool)] {
            #expect((guest.coordinator.answered(id) == .ok(Reply())) == good, "request \(id)")
        }
    }

    @Test("are refused by a device that said nothing of them")
    func incapable() throws {
        let guest = try Harness(Probe.self, FakeCoordinator())
        guest.coordinator.send(Packet(.surfaceReader(SurfaceReaderChange(reader: 3, change: .gone)), id: 70))
        guest.coordinator.send(Packet(.modeHint(SurfaceSize(width: 640, height: 480)), id: 71))
        guest.coordinator.send(Packet(.input(Input([])), id: 72))
        guest.turn()
        for id in [70, 71, 72] as [UInt32] {
            guard case .error(let refusal) = guest.coordinator.answered(id) else {
                Issue.record("request \(id) was not refused")
                continue
            }
            #expect(refusal.code == .unsupported)
        }
        #expect(guest.emulator.events.isEmpty)
    }

    @Test("work in slices leaves no request waiting, however many slices there are")
    func slices() throws {
        let guest = try Harness(Screen.self, FakeCoordinator())
        var asked: [Bool] = []
        guest.emulator.onEvent = { event, context in
            guard case .timer = event, asked.count < 500 else { return }
            // The guest asks in the middle of the first slice.
            if asked.isEmpty {
                #expect(guest.coordinator.slots.submit(0, IORequest(kind: .portIO, direction: .read, address: 0x3c4, size: 1)))
            }
            asked.append(context.isAsked)
            _ = context.wake(after: .zero)
        }
        _ = Context(core: guest.core).wake(after: .zero)
        while asked.count < 500 { guest.turnOnce() }
        #expect(asked[0])
        #expect(asked.dropFirst().allSatisfy { !$0 })
        #expect(guest.coordinator.slots.collect(0) == 0x77)
    }
}

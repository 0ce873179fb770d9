import EmulatorProtocol
import Glibc
import Host
import Platform
import Testing

@testable import EmulatorKit

/// A guest on Xen, made up: frames with a page each, moved as Xen moves them.
private final class FakeGuest: DirectGuest {
    /// Which page of which memory is at a frame: 0 and up the region's, below 0 the guest's own RAM.
    var frames: [UInt64: Int] = [:]
    var moves: [String] = []
    /// Calls until one fails; nil: none does.
    var failsAfter: Int?
    var dirty: [UInt64] = []
    var tracked: [String] = []
    let bytes = UnsafeMutableRawPointer.allocate(byteCount: 2 << 20, alignment: 4096)

    deinit { bytes.deallocate() }

    private final class NoMemory: GuestMemory {
        func read(_ address: GuestAddress, into destination: UnsafeMutableRawBufferPointer) -> Bool { false }
        func write(_ address: GuestAddress, from source: UnsafeRawBufferPointer) -> Bool { false }
        func invalidate() {}
    }

    let memory: any GuestMemory = NoMemory()
    func setINTx(device: UInt8, pin: UInt8, asserted: Bool) throws(HostError) {}
    func setISAInterrupt(_ line: UInt8, asserted: Bool) throws(HostError) {}
    func injectMSI(address: UInt64, data: UInt32) throws(HostError) {}
    func setDirtyLogging(_ on: Bool) {}
    func markModified(_ first: GFN, count: Int) throws(HostError) {}

    func populate(_ first: UInt64, _ pages: Int, from page: Int = 0) {
        for index in 0..<pages { frames[first + UInt64(index)] = page + index }
    }

    func mapRegion(first: GFN, pages: Int) throws(HostError) -> RegionMemory {
        for page in 0..<pages where frames[first.rawValue + UInt64(page)] == nil {
            throw HostError("map", "the region", .invalid, detail: "page \(page) is missing")
        }
        return RegionMemory(base: bytes, length: pages * 4096) { _, _ in }
    }

    func relocate(from source: GFN, to target: GFN, pages: Int) throws(HostError) {
        if let left = failsAfter {
            failsAfter = left > 0 ? left - 1 : nil
            if left == 0 {
                // As Xen does: some of them have gone.
                for page in 0..<UInt64(3) { frames[target.rawValue + page] = frames.removeValue(forKey: source.rawValue + page) }
                throw HostError("move", "pages", .failed(12), detail: "no memory")
            }
        }
        moves.append("\(Hex.string(source.rawValue)) \(Hex.string(target.rawValue)) \(pages)")
        for page in 0..<UInt64(pages) {
            guard let moved = frames.removeValue(forKey: source.rawValue + page) else {
                throw HostError("move", "pages", .invalid, detail: "nothing there")
            }
            frames[target.rawValue + page] = moved
        }
    }

    func framesPresent(first: GFN, pages: Int, stride step: Int) -> Int {
        stride(from: 0, to: pages, by: step).count { frames[first.rawValue + UInt64($0)] != nil }
    }

    func dirtyPages(first: GFN, pages: Int, into bitmap: UnsafeMutablePointer<UInt64>) throws(HostError) {
        tracked.append("\(Hex.string(first.rawValue)) \(pages)")
        if dirty.isEmpty { throw HostError("track", "pages", .failed(1), detail: "no") }
        for word in 0..<((pages + 63) / 64) { bitmap[word] = dirty[0] }
    }

    func stopDirtyTracking() throws(HostError) { tracked.append("stop") }
}

@Suite("A direct emulator's region")
struct DirectRegionTests {
    private static let home: UInt64 = 0x100_0000
    private static let windowHome: UInt64 = 0x100_0200

    private func coordinator(places: [UInt64] = [home, windowHome], adopted: Bool = false) throws -> FakeCoordinator {
        let coordinator = try FakeCoordinator()
        coordinator.state = (try FakeCoordinator.SharedBox(length: try KitState.wanted(deviceLength: Screen.stateLength)), true)
        coordinator.distort = { grant, descriptors in
            let index = grant.region - 40
            descriptors = []
            grant.gfn = HexNumber(places[index])
            grant.home = HexNumber([Self.home, Self.windowHome][index])
            grant.doorbell = false
            grant.adopted = adopted
        }
        return coordinator
    }

    private func screen() throws -> (Harness<Screen>, FakeGuest) {
        let guest = FakeGuest()
        guest.populate(Self.home, 256)
        guest.populate(Self.windowHome, 8, from: 1000)
        guest.populate(0x10, 0x80, from: -1000)
        return (try Harness(Screen.self, coordinator(), guest: guest), guest)
    }

    @Test("moves with its BAR in slices, others being served in between, and tells the coordinator where it is")
    func moves() throws {
        let (screen, guest) = try screen()
        screen.write(config: 0x10, 0xe000_0000)
        screen.submit(0, IORequest(kind: .pciConfig, direction: .write, address: 5 << 35 | 4, data: 2, size: 2))
        screen.turnOnce()
        while screen.coordinator.slots.collect(0) == nil {
            screen.submit(1, IORequest(kind: .portIO, direction: .read, address: 0x3c4, size: 1))
            screen.turnOnce()
            #expect(screen.coordinator.slots.collect(1) == 0x77)
        }
        #expect(guest.moves == (0..<4 as Range<UInt64>).map { "\(Hex.string(Self.home + $0 * 64)) \(Hex.string(0xe0000 + $0 * 64)) 64" })
        #expect(guest.frames[0xe00ff] == 255)
        #expect(screen.emulator.memory.address == 0xe000_0000)
        screen.turn()
        #expect(screen.coordinator.regions["video memory"]?.place == 0xe000_0000)
        #expect(screen.emulator.takeMoves() == [.init(window: screen.emulator.function.bar(0), address: 0xe000_0000)])
    }

    @Test("does not move while the guest toggles decoding, and moves when the address is another one")
    func lazy() throws {
        let (screen, guest) = try screen()
        screen.write(config: 0x10, 0xe000_0000)
        screen.write(config: 0x04, 2, size: 2)
        guest.moves = []
        for _ in 0..<8 {
            screen.write(config: 0x04, 0, size: 2)
            #expect(screen.emulator.memory.address == nil)
            screen.write(config: 0x10, 0xffff_ffff)
            screen.write(config: 0x10, 0xe000_0000)
            screen.write(config: 0x04, 2, size: 2)
            #expect(screen.emulator.memory.address == 0xe000_0000)
        }
        #expect(guest.moves.isEmpty)
        screen.write(config: 0x10, 0xd000_0000)
        #expect(guest.moves.count == 4 && guest.frames[0xd0000] == 0)
    }

    @Test("is not moved over the guest's RAM, and comes back whole when Xen fails half-way")
    func failures() throws {
        let (screen, guest) = try screen()
        screen.write(config: 0x10, 0x10_0000)
        guest.populate(0x100, 256, from: -5000)
        screen.write(config: 0x04, 2, size: 2)
        #expect(guest.moves.isEmpty && screen.emulator.memory.address == nil)
        #expect(screen.coordinator.logLines.contains { $0.contains("the guest has other memory there") })
        guest.failsAfter = 2
        screen.write(config: 0x10, 0xe000_0000)
        screen.turn(6)
        #expect((0..<256).allSatisfy { guest.frames[Self.home + UInt64($0)] == $0 })
        #expect(screen.emulator.memory.address == nil)
        #expect(screen.coordinator.logLines.contains { $0.contains("stays where it is") })
        guest.failsAfter = nil
        screen.write(config: 0x10, 0xd000_0000)
        screen.turn(6)
        #expect(guest.frames[0xd0080] == 128)
    }

    @Test("placed nowhere goes home, and the device is told before the guest goes on")
    func window() throws {
        let (screen, guest) = try screen()
        #expect(screen.write(port: 0x3c0, 1) != nil)
        #expect(guest.frames[0xb8] == 1000 && guest.frames[0xbf] == 1007)
        #expect(screen.emulator.takeEvents() == [.regionPlaced(screen.emulator.window)])
        // Tracking it there would break it.
        Context(core: screen.core).requestDirty(screen.emulator.window)
        screen.turn()
        #expect(guest.tracked.isEmpty && screen.emulator.window.dirtyCount == 8)
        #expect(screen.write(port: 0x3c0, 0) != nil)
        #expect(guest.frames[Self.windowHome] == 1000 && guest.frames[0xb8] == nil)
        #expect(screen.emulator.window.address == nil)
        #expect(screen.write(port: 0x3c0, 2) != nil)
        #expect(screen.emulator.window.address == nil && guest.frames[0x10] == -1000)
    }

    @Test("asks Xen for what was written, at once; what is not known is everything")
    func dirty() throws {
        let (screen, guest) = try screen()
        let memory = screen.emulator.memory
        let context = Context(core: screen.core)
        context.requestDirty(memory)
        screen.turn()
        #expect(memory.dirtyCount == 256)
        guest.dirty = [0b101]
        context.requestDirty(memory, pages: 70..<130)
        screen.turn()
        #expect(guest.tracked == ["\(Hex.string(Self.home)) 256", "\(Hex.string(Self.home + 64)) 66"])
        #expect(memory.isDirty(page: 64) && memory.isDirty(page: 66) && memory.isDirty(page: 128) && !memory.isDirty(page: 0))
        context.requestDirty(memory, pages: 0..<0)
        context.requestDirty(memory, pages: 300..<4000)
        screen.turn()
        #expect(memory.dirtyCount == 256)
        context.stopTracking(memory)
        context.stopTracking(memory)
        #expect(guest.tracked.last == "stop" && guest.tracked.count == 3)
        // A device that asks again in each answer does not keep the loop.
        screen.emulator.onEvent = { event, context in if case .regionDirty(let region) = event { context.requestDirty(region) } }
        context.requestDirty(memory)
        screen.turn(5)
        #expect(screen.read(port: 0x3c4) == 0x77)
    }

    @Test("of a predecessor that died in the middle of a move is put together again, wherever that was", arguments: [0, 1, 63, 64, 100, 255, 256])
    func torn(_ arrived: Int) throws {
        let (screen, guest) = try screen()
        screen.write(config: 0x10, 0xe000_0000)
        // As in the middle of it: some pages there, the last slice not noted.
        screen.write(config: 0x04, 2, size: 2)
        screen.core.pointee.belongings.state.note(.init(from: Self.home, to: 0xe0000, done: UInt64(arrived / 64 * 64)), ofRegion: 0)
        for page in arrived..<256 { guest.frames[Self.home + UInt64(page)] = guest.frames.removeValue(forKey: 0xe0000 + UInt64(page)) }
        let heir = try coordinator(adopted: true)
        heir.state = (try #require(screen.coordinator.state).memory, false)
        let second = try Harness(Screen.self, heir, guest: guest)
        second.turn()
        #expect((0..<256).allSatisfy { guest.frames[0xe0000 + UInt64($0)] == $0 })
        #expect(second.emulator.memory.address == 0xe000_0000)
        #expect(heir.regions["video memory"]?.place == 0xe000_0000)
        #expect(second.emulator.takeMoves() == [.init(window: second.emulator.function.bar(0), address: 0xe000_0000)])
    }
}

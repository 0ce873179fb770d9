import EmulatorProtocol
import Glibc
import Host
import Platform
import Surface
import TestTools
import Testing
import VGA

@testable import EmulatorKit
@testable import demux_display

/// How long a test waits that waits in vain, nanoseconds.
private let guardTime: UInt64 = 60_000_000_000

/// The display before a made-up coordinator, beside it a VGA that is told the same: what the surface shows can be compared pixel by pixel.
final class Machine {
    let coordinator: FakeCoordinator
    let guest: Harness<Display>
    private var model: VGADevice
    private let state: UnsafeMutableRawPointer
    let modelMemory: UnsafeMutableRawBufferPointer
    let surfaces: Surfaces
    /// Kept: a reader that goes away wants nothing.
    private var readers: [Reader] = []
    /// Where the guest has put video memory.
    static let frameBuffer: UInt64 = 0xe000_0000
    static let memory = 1 << 20

    /// The surfaces that were asked for, oldest first.
    final class Surfaces {
        var all: [(descriptor: CInt, width: Int, height: Int)] = []
        deinit { for entry in all { close(entry.descriptor) } }

        func make(_ width: Int, _ height: Int) -> SharedMemory? {
            guard let memory = try? SurfaceMemory.create(width: width, height: height), let copy = try? memory.readOnly() else { return nil }
            all.append((copy.release(), width, height))
            return memory
        }

        /// The newest, as a reader sees it.
        func newest() throws -> SurfaceReader { try at(all.count - 1) }

        func at(_ index: Int) throws -> SurfaceReader {
            try #require(all.indices.contains(index), "there is no surface")
            return try SurfaceReader(OwnedDescriptor(adopting: dup(all[index].descriptor)), width: all[index].width, height: all[index].height)
        }
    }

    /// - Parameters:
    ///   - doorbell: whether the host rings at the guest's first write.
    ///   - predecessor: one whose process has died: its state and its memory are found again.
    ///   - ruin: changes the state region before it is handed out.
    init(_ options: [String: String] = [:], doorbell: Bool = true, after predecessor: Machine? = nil, ruin: (UnsafeMutableRawPointer, Int) -> Void = { _, _ in }) throws {
        var all = ["rom": "no", "memory": "\(Self.memory)"]
        all.merge(options) { $1 }
        coordinator = try FakeCoordinator(options: all)
        let length = try KitState.wanted(deviceLength: Display.stateLength)
        coordinator.state = (try FakeCoordinator.SharedBox(length: length), true)
        if let predecessor { coordinator.inherit(from: predecessor.coordinator) }
        if let box = coordinator.state?.memory { ruin(box.base, length) }
        if !doorbell { coordinator.distort = { grant, _ in grant.doorbell = false } }
        surfaces = Surfaces()
        coordinator.makeSurface = { [surfaces] in surfaces.make($0, $1) }
        guest = try Harness(Display.self, coordinator)
        state = .allocate(byteCount: VGADevice.stateLength, alignment: 4096)
        modelMemory = .allocate(byteCount: Self.memory, alignment: 4096)
        state.initializeMemory(as: UInt8.self, repeating: 0, count: VGADevice.stateLength)
        modelMemory.initializeMemory(as: UInt8.self, repeating: 0)
        if let predecessor {
            state.copyMemory(from: predecessor.state, byteCount: VGADevice.stateLength)
            modelMemory.copyMemory(from: UnsafeRawBufferPointer(predecessor.modelMemory))
        }
        guard let made = VGADevice(memory: modelMemory, state: state) else { throw SystemError("make", "the model", reason: "it cannot be") }
        model = made
        if predecessor == nil {
            guest.write(config: 0x10, Self.frameBuffer)
            guest.write(config: 0x18, 0xf000_0000)
            guest.write(config: 4, 3, size: 2)
        }
        _ = coordinator.takeReceived()
    }

    deinit {
        state.deallocate()
        modelMemory.deallocate()
    }

    // MARK: what the guest does

    var region: FakeCoordinator.FakeRegion { get throws { try #require(coordinator.regions["video memory"]) } }
    var text: FakeCoordinator.FakeRegion { get throws { try #require(coordinator.regions["text window"]) } }

    func out(_ port: UInt16, _ value: UInt64, size: Int = 1) {
        model.writePort(port, size: size, value: value)
        guest.write(port: UInt64(port), value, size: UInt32(size))
    }

    func input(_ port: UInt16) -> UInt64? {
        _ = model.readPort(port, size: 1)
        return guest.read(port: UInt64(port))
    }

    func indexed(_ port: UInt16, _ index: UInt8, _ value: UInt8) { out(port, UInt64(value) << 8 | UInt64(index), size: 2) }

    func dispi(_ index: UInt64, _ value: UInt64) {
        out(0x1ce, index, size: 2)
        out(0x1cf, value, size: 2)
    }

    func setMode(_ width: UInt64, _ height: UInt64, bits: UInt64 = 32) {
        dispi(4, 0)
        for (index, value) in [(UInt64(1), width), (2, height), (3, bits)] { dispi(index, value) }
        dispi(4, 0x41)
        // Colour: the flip-flop is reset at 0x3da.
        out(0x3c2, 0x67)
        _ = input(0x3da)
        out(0x3c0, 0x20)
    }

    /// Writes into video memory as a guest does that has it mapped.
    func store(_ value: UInt32, at offset: Int) throws {
        let region = try region
        region.content.base.storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
        modelMemory.storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
        let word = region.bitmap.base.load(fromByteOffset: offset / 4096 / 64 * 8, as: UInt64.self)
        region.bitmap.base.storeBytes(of: word | 1 << UInt64(offset / 4096 % 64), toByteOffset: offset / 4096 / 64 * 8, as: UInt64.self)
        region.doorbell.ring()
    }

    /// Forgets which pages were written, as the host does when it is asked.
    func clean() throws { memset(try region.bitmap.base, 0, 4096) }

    /// A store to the legacy window: into the memory there, or trapped.
    func window(_ offset: Int, _ value: UInt64, size: Int = 1) {
        model.writeWindow(offset, size: size, value: value)
        if let text = coordinator.regions["text window"], let place = text.place, offset >= Int(place) - 0xa0000, offset + size <= Int(place) - 0xa0000 + 0x8000 {
            let target = text.content.base + (offset - Int(place) + 0xa0000)
            withUnsafeBytes(of: value) { target.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(target), byteCount: size) }
        } else {
            guest.write(memory: 0xa0000 + UInt64(offset), value, size: UInt32(size))
        }
    }

    /// - Parameter moves: whether the guest moves the cursor on, by a port, as a BIOS does.
    func cell(_ index: Int, _ character: UInt8, _ attribute: UInt8, moves: Bool = false) {
        defer { if moves { indexed(0x3d4, 0x0f, UInt8(truncatingIfNeeded: index)) } }
        window(0x18000 + index * 2, UInt64(attribute) << 8 | UInt64(character), size: 2)
    }

    /// Mode 3 without a cursor: nothing in it blinks. Each character's lines are its number.
    func textMode() {
        dispi(4, 0)
        out(0x3c2, 0x67)
        for (index, value) in ([3, 0, 3, 0, 2] as [UInt8]).enumerated() { indexed(0x3c4, UInt8(index), value) }
        indexed(0x3d4, 0x11, 0x0e)
        let controller: [UInt8] = [
            0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0x2d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
        ]
        for (index, value) in controller.enumerated() { indexed(0x3d4, UInt8(index), value) }
        for (index, value) in ([0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff] as [UInt8]).enumerated() { indexed(0x3ce, UInt8(index), value) }
        _ = input(0x3da)
        for index in UInt64(0)..<16 {
            out(0x3c0, index)
            out(0x3c0, index)
        }
        for (index, value) in [(0x10, 4), (0x12, 15)] as [(UInt64, UInt64)] {
            out(0x3c0, index)
            out(0x3c0, value)
        }
        out(0x3c0, 0x20)
        out(0x3c8, 0)
        for colour in UInt64(0)..<16 { for part in [4, 2, 1] as [UInt64] { out(0x3c9, colour & part != 0 ? 42 + colour / 8 * 21 : colour / 8 * 21) } }
        fontAccess(true)
        for character in 0..<16 { for line in 0..<16 { window(character * 32 + line, UInt64(character * 16 + line)) } }
        fontAccess(false)
    }

    func fontAccess(_ on: Bool) {
        for (port, index, value) in [(0x3c4, 2, on ? 4 : 3), (0x3c4, 4, on ? 6 : 2), (0x3ce, 5, on ? 0 : 0x10), (0x3ce, 6, on ? 4 : 0x0e)] as [(UInt16, UInt8, UInt8)] {
            indexed(port, index, value)
        }
    }

    // MARK: readers

    @discardableResult
    func reader(viewers: UInt32, rate: UInt32 = 0) throws -> Reader {
        let reader = try Reader(self, number: readers.count + 1, viewers: viewers, rate: rate)
        readers.append(reader)
        return reader
    }

    final class Reader {
        let number: Int
        let page: SurfaceReaderPage
        let memory: SharedMemory
        private let frame: SurfaceDoorbell
        private let want: SurfaceDoorbell
        private unowned let machine: Machine

        init(_ machine: Machine, number: Int, viewers: UInt32, rate: UInt32) throws {
            (self.machine, self.number) = (machine, number)
            memory = try SurfaceMemory.createReaderPage()
            frame = try SurfaceDoorbell()
            want = try SurfaceDoorbell()
            page = try SurfaceReaderPage(memory.descriptor.duplicate(), frame: frame.hearing.duplicate(), want: want.ringing.duplicate())
            page.set(viewers: viewers, maxRate: rate)
            let readable = try memory.readOnly()
            machine.coordinator.send(
                Packet(.surfaceReader(SurfaceReaderChange(reader: number, change: .added)), id: UInt32(7000 + number)),
                [readable.raw, frame.ringing.raw, want.hearing.raw])
            machine.guest.turn()
        }

        /// As the coordinator does when it is gone.
        func leave() throws {
            try SurfaceMemory.resetReaderPage(memory)
            SurfaceDoorbell.ring(want.ringing.raw)
            machine.coordinator.send(Packet(.surfaceReader(SurfaceReaderChange(reader: number, change: .gone)), id: UInt32(8000 + number)))
            machine.guest.turn()
        }

        func ringWant() { SurfaceDoorbell.ring(want.ringing.raw) }
        /// Whether the display has rung since the last time.
        func isRung() -> Bool {
            var entry = pollfd(fd: page.frameDescriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, 0) == 1 else { return false }
            return page.clear()
        }
    }

    // MARK: what comes of it

    /// Turns the display's loop until something is true; the limit only keeps a test that hangs from hanging for ever.
    func eventually(_ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () throws -> Bool) throws {
        let became = try Waiting.until(within: .nanoseconds(Int64(guardTime))) {
            if try condition() { return true }
            guest.turn()
            return false
        }
        try #require(became, "never: \(what)", sourceLocation: sourceLocation)
    }

    /// What the surface has to show.
    func wanted() -> (width: Int, height: Int, pixels: [UInt32]) {
        let scanout = model.scanout
        var pixels = [UInt32](repeating: 0, count: scanout.width * scanout.height)
        model.invalidate()
        pixels.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return }
            model.render(into: VGATarget(pixels: base, width: scanout.width, height: scanout.height, stride: scanout.width * 4), now: 0) { _ in }
        }
        return (scanout.width, scanout.height, pixels)
    }

    /// Whether the newest surface shows exactly what the model does.
    func isRight() throws -> Bool {
        let (width, height, pixels) = wanted()
        guard let newest = surfaces.all.last, newest.width == width, newest.height == height else { return false }
        let reader = try surfaces.newest()
        return pixels.withUnsafeBytes { memcmp($0.baseAddress ?? reader.pixels, reader.pixels, $0.count) == 0 }
    }

    func showsThePicture(_ what: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        try eventually(what, sourceLocation: sourceLocation) { try isRight() }
    }

    /// Waits until the surface shows the picture and nothing is left to do for it.
    func restsAtThePicture(_ what: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        try showsThePicture(what, sourceLocation: sourceLocation)
        try clean()
        try eventually("rest", sourceLocation: sourceLocation) { rests }
    }

    /// Whether the first bytes of video memory are the model's.
    func hasTheMemory(_ count: Int) throws -> Bool {
        let base = try region.content.base
        return memcmp(base, modelMemory.baseAddress ?? base, count) == 0
    }

    /// Whether the display has no deadline: nothing wakes it but the guest, the coordinator and its readers.
    var rests: Bool {
        let has = guest.core.pointee.events.hasDeadlines
        return !has
    }

    /// Whether anything of the display's runs: a deadline, or something asked of the coordinator.
    func asks() -> Bool {
        let asked = coordinator.takeReceived().contains { message in
            switch message {
            case .surface, .regionDirty: true
            default: false
            }
        }
        return asked || !rests
    }
}

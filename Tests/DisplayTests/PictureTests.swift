import EmulatorProtocol
import Glibc
import Platform
import SeededNumbers
import Surface
import Testing

@testable import EmulatorKit
@testable import demux_display

@Suite("The display's picture")
struct PictureTests {
    @Test("pixels that the guest writes into video memory appear in the surface, with damage where they are")
    func pixels() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        let reader = try machine.reader(viewers: 1)
        try machine.restsAtThePicture("an empty screen")
        var surface = try machine.surfaces.newest()
        _ = surface.take { _ in }
        _ = reader.isRung()
        for (x, y) in [(0, 0), (319, 199), (100, 77)] {
            try machine.store(UInt32(0x10_0000 + x * 256 + y), at: (y * 320 + x) * 4)
            try machine.eventually("the reader is rung") { reader.isRung() }
            try machine.clean()
            var damage: [SurfaceRectangle] = []
            #expect(surface.take { if case .damage(let area) = $0 { damage.append(area) } else { Issue.record("\($0)") } })
            #expect(damage.contains { $0.x <= x && x < $0.x + $0.width && $0.y <= y && y < $0.y + $0.height })
            #expect(damage.reduce(0) { $0 + $1.width * $1.height } < 64 * 64, "\(damage)")
            #expect(try machine.isRight())
        }
    }

    @Test("every depth of DISPI, panning and virtual width are shown as the VGA shows them", arguments: [8, 15, 16, 24, 32] as [UInt64])
    func depths(bits: UInt64) throws {
        let machine = try Machine()
        machine.setMode(320, 200, bits: bits)
        for colour in UInt64(0)..<256 { for part in [1, 3, 5] as [UInt64] { machine.out(0x3c9, colour * part & 63) } }
        var random = SplitMix(state: bits)
        for offset in stride(from: 0, to: Machine.memory, by: 4) where offset % 4096 < 512 { try machine.store(UInt32.random(in: 0 ... .max, using: &random), at: offset) }
        try machine.reader(viewers: 1)
        try machine.showsThePicture("the first picture")
        machine.dispi(6, 400)
        machine.dispi(8, 17)
        machine.dispi(9, 64)
        try machine.showsThePicture("the panned picture")
    }

    @Test("text written through the trapped window appears, without the plain window", arguments: ["no", "yes"])
    func text(plain: String) throws {
        let machine = try Machine(["plain-window": plain])
        machine.textMode()
        try machine.reader(viewers: 1)
        for index in 0..<80 * 25 { machine.cell(index, UInt8(index & 15), UInt8(truncatingIfNeeded: index * 7), moves: true) }
        try machine.showsThePicture("the text")
        #expect(machine.surfaces.all.last?.width == 720 && machine.surfaces.all.last?.height == 400)
        machine.cell(1999, 3, 0x1f)
        try machine.showsThePicture("one more character")
        #expect(machine.coordinator.regions["text window"]?.place == (plain == "yes" ? 0xb8000 : nil))
    }

    @Test("a change of mode is a new surface, the old one is retired, and the reader is rung")
    func modes() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        let reader = try machine.reader(viewers: 1)
        try machine.showsThePicture("the first mode")
        _ = reader.isRung()
        machine.setMode(400, 300)
        try machine.showsThePicture("the second mode")
        #expect(try machine.surfaces.at(0).isRetired && !machine.surfaces.newest().isRetired)
        try machine.eventually("a doorbell") { reader.isRung() }
        #expect(machine.surfaces.all.count == 2)
    }

    @Test("a guest that switches modes faster than surfaces come ends with the right one")
    func modesInARow() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        try machine.reader(viewers: 1)
        try machine.showsThePicture("the first mode")
        machine.coordinator.answersAtOnce = false
        machine.setMode(400, 300)
        try machine.eventually("a request") {
            if machine.coordinator.unanswered.contains(where: { if case .surface = $0.body { true } else { false } }) { return true }
            machine.coordinator.answerAll()
            return false
        }
        machine.coordinator.answersAtOnce = true
        machine.setMode(360, 240)
        machine.coordinator.answerAll()
        try machine.store(0x00ff_00ff, at: 4096)
        try machine.showsThePicture("the last mode")
    }

    @Test("a surface that is refused is said once, and the next mode is shown")
    func refused() throws {
        let machine = try Machine()
        machine.coordinator.makeSurface = { [surfaces = machine.surfaces] width, height in width == 400 ? nil : surfaces.make(width, height) }
        machine.setMode(400, 300)
        try machine.reader(viewers: 1)
        try machine.eventually("it is said") { machine.coordinator.logLines.contains { $0.contains("no surface of 400×300") } }
        for _ in 0..<200 { machine.guest.turn() }
        #expect(machine.coordinator.logLines.count { $0.contains("no surface") } == 1)
        machine.setMode(320, 200)
        try machine.showsThePicture("another mode")
    }

    @Test("a screen that the guest switches off is said to be blank, and comes back")
    func blank() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        try machine.store(0x123456, at: 400)
        let reader = try machine.reader(viewers: 1)
        try machine.showsThePicture("the picture")
        _ = reader.isRung()
        _ = machine.input(0x3da)
        machine.out(0x3c0, 0)
        try machine.eventually("it is blank") { try machine.surfaces.newest().isBlank }
        #expect(machine.surfaces.all.count == 1)
        try machine.eventually("the reader is rung") { reader.isRung() }
        _ = machine.input(0x3da)
        machine.out(0x3c0, 0x20)
        try machine.eventually("it is back") { try !machine.surfaces.newest().isBlank }
        try machine.showsThePicture("the picture again")
    }

    @Test("a wish for a mode changes the EDID and the place where drivers look for it")
    func hint() throws {
        let machine = try Machine()
        func edid() throws -> [UInt8] { try (0..<128).map { UInt8(try #require(machine.guest.read(memory: 0xf000_0000 + UInt64($0), size: 1))) } }
        func preferred() throws -> (Int, Int) {
            let bytes = try edid()
            return (Int(bytes[56]) | Int(bytes[58] >> 4) << 8, Int(bytes[59]) | Int(bytes[61] >> 4) << 8)
        }
        #expect(try preferred() == (640, 480) || preferred() == (1024, 768))
        let before = try edid()
        machine.coordinator.send(Packet(.modeHint(SurfaceSize(width: 504, height: 300))))
        machine.guest.turn()
        #expect(try preferred() == (504, 300))
        #expect(try edid().reduce(0, &+) == 0, "the checksum")
        machine.coordinator.send(Packet(.modeHint(SurfaceSize(width: 8000, height: 8000))))
        machine.guest.turn()
        #expect(try preferred() == (504, 300) && edid() != before)
        #expect(machine.coordinator.logLines.contains { $0.contains("8000×8000") && $0.contains("1 MiB") })
    }
}

import EmulatorProtocol
import Glibc
import Platform
import SeededNumbers
import Surface
import Testing

@testable import EmulatorKit
@testable import demux_display

@Suite("The display and its readers")
struct ReaderTests {
    @Test("without a viewer nothing runs: no deadline, no question, no surface")
    func idle() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        try machine.store(1, at: 0)
        machine.guest.turn()
        #expect(!machine.asks() && machine.surfaces.all.isEmpty)
        // A reader that wants nothing is none.
        let reader = try machine.reader(viewers: 0)
        reader.ringWant()
        try machine.store(2, at: 4)
        machine.setMode(640, 200)
        for _ in 0..<100 { machine.guest.turn() }
        #expect(!machine.asks() && machine.surfaces.all.isEmpty)
        reader.page.set(viewers: 2, maxRate: 0)
        try machine.showsThePicture("somebody looks")
        reader.page.set(viewers: 0, maxRate: 0)
        machine.guest.turn()
        _ = machine.coordinator.takeReceived()
        try machine.store(3, at: 8)
        machine.out(0x3c8, 3)
        for _ in 0..<100 { machine.guest.turn() }
        #expect(!machine.asks())
        #expect(try !machine.isRight(), "nothing was drawn")
        reader.page.set(viewers: 1, maxRate: 0)
        try machine.showsThePicture("somebody looks again")
    }

    @Test("with a viewer and a picture that rests, a host with a doorbell is left alone")
    func rest() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        try machine.reader(viewers: 1)
        try machine.restsAtThePicture("the picture")
        _ = machine.coordinator.takeReceived()
        for _ in 0..<100 { machine.guest.turn() }
        #expect(!machine.asks())
        try machine.store(7, at: 1000)
        try machine.showsThePicture("a change")
    }

    @Test("a cursor blinks while somebody does something; then it stands, and nothing runs until the guest writes or somebody types")
    func blinking() throws {
        let machine = try Machine(["plain-window": "no"])
        machine.textMode()
        // However long a busy machine takes, it blinks until the test says otherwise.
        machine.guest.emulator.screen.blinking.patience = .max
        for index in [0, 7] { machine.cell(index, 3, 0x1f) }
        let reader = try machine.reader(viewers: 1)
        try machine.showsThePicture("text without a cursor")
        machine.indexed(0x3d4, 0x0a, 0)
        machine.indexed(0x3d4, 0x0b, 15)
        // `isRight` compares with a picture whose cursor is shown.
        try machine.showsThePicture("the cursor")
        try machine.eventually("it blinks") { try !machine.isRight() }
        try machine.showsThePicture("the cursor again")
        #expect(!machine.rests)
        machine.guest.emulator.screen.blinking.patience = 0
        try machine.eventually("rest, and the cursor is shown") { try machine.rests && machine.isRight() }
        _ = machine.coordinator.takeReceived()
        for _ in 0..<100 { machine.guest.turn() }
        #expect(!machine.asks())
        machine.guest.emulator.screen.blinking.patience = .max
        reader.ringWant()
        try machine.eventually("it blinks for who types") { try !machine.isRight() }
        machine.guest.emulator.screen.blinking.patience = 0
        try machine.eventually("rest again, and the cursor is shown") { try machine.rests && machine.isRight() }
        machine.guest.emulator.screen.blinking.patience = .max
        machine.indexed(0x3d4, 0x0f, 7)
        try machine.eventually("it blinks elsewhere") { try !machine.isRight() }
        try machine.showsThePicture("the cursor elsewhere")
        machine.cell(7, 4, 0x1f)
        try machine.showsThePicture("a character")
    }

    @Test("a host without a doorbell is asked again and again")
    func noDoorbell() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        try machine.reader(viewers: 1)
        try machine.showsThePicture("the picture")
        let other = try Machine(doorbell: false)
        other.setMode(320, 200)
        try other.reader(viewers: 1)
        try other.showsThePicture("the picture")
        // Written without a sound, as by a CPU that runs on KVM.
        try other.store(7, at: 1000)
        try other.showsThePicture("a change")
        try other.eventually("it keeps looking") { !other.rests }
    }

    @Test("a reader that comes gets an update although nothing has changed, and the others' frame counts on")
    func newcomer() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        let first = try machine.reader(viewers: 1)
        try machine.restsAtThePicture("the picture")
        _ = first.isRung()
        let frame = try machine.surfaces.newest().frame
        let second = try machine.reader(viewers: 1)
        try machine.eventually("it is rung") { second.isRung() }
        #expect(try machine.surfaces.newest().frame > frame)
        #expect(machine.surfaces.all.count == 1)
    }

    @Test("the last reader's death brings rest, one of two goes unnoticed by the other")
    func death() throws {
        let machine = try Machine(doorbell: false)
        machine.setMode(320, 200)
        let first = try machine.reader(viewers: 1)
        let second = try machine.reader(viewers: 3)
        try machine.showsThePicture("the picture")
        try second.leave()
        try machine.store(5, at: 0)
        try machine.showsThePicture("for the first")
        try first.leave()
        machine.guest.turn()
        _ = machine.coordinator.takeReceived()
        try machine.store(6, at: 0)
        for _ in 0..<100 { machine.guest.turn() }
        #expect(!machine.asks())
    }

    @Test("what was written while an answer about dirty pages was under way, and the viewer left, is shown to the next one")
    func leftInBetween() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        let reader = try machine.reader(viewers: 1)
        try machine.restsAtThePicture("the picture")
        machine.coordinator.answersAtOnce = false
        try machine.store(0xabcdef, at: 5000)
        try machine.eventually("it asks") { machine.coordinator.unanswered.contains { if case .regionDirty = $0.body { true } else { false } } }
        reader.page.set(viewers: 0, maxRate: 0)
        machine.guest.turn()
        machine.coordinator.answersAtOnce = true
        machine.coordinator.answerAll()
        machine.guest.turn()
        // The host has named the page once, and will not name it again.
        try machine.clean()
        reader.page.set(viewers: 1, maxRate: 0)
        try machine.showsThePicture("what was written meanwhile")
    }

    @Test("pages named while the guest was between two modes are drawn when there is a mode again")
    func betweenModes() throws {
        let machine = try Machine()
        machine.setMode(320, 200)
        try machine.reader(viewers: 1)
        try machine.restsAtThePicture("the picture")
        machine.coordinator.answersAtOnce = false
        try machine.store(0xabcdef, at: 5000)
        try machine.eventually("it asks") { machine.coordinator.unanswered.contains { if case .regionDirty = $0.body { true } else { false } } }
        // Another mode, and back, around the answer.
        machine.dispi(4, 0)
        machine.dispi(1, 400)
        machine.dispi(4, 0xc1)
        machine.coordinator.answersAtOnce = true
        machine.coordinator.answerAll()
        machine.guest.turn()
        try machine.clean()
        machine.dispi(4, 0)
        machine.dispi(1, 320)
        machine.dispi(4, 0xc1)
        try machine.showsThePicture("the picture as it was")
    }

    @Test("updates come at the rate that the fastest reader takes", arguments: [1, 240] as [UInt64])
    func rate(rate: UInt64) throws {
        let machine = try Machine()
        machine.setMode(64, 64)
        try machine.reader(viewers: 1, rate: UInt32(rate))
        try machine.showsThePicture("the picture")
        let surface = try machine.surfaces.newest()
        let frame = surface.frame
        let start = EventLoop.now()
        var value: UInt32 = 0
        // Half a second of a guest that writes without pause.
        while EventLoop.now() - start < 500_000_000 {
            value += 1
            try machine.store(value, at: Int(value % 512) * 4)
            machine.guest.turn()
        }
        let span = EventLoop.now() - start
        let updates = surface.frame - frame
        #expect(updates <= span * rate / 1_000_000_000 + 8, "never more than asked for, with a few at once after a pause")
    }

    @Test("a reader that rings without pause, with every value in its page, makes the display do no more than its rate")
    func hostileReader() throws {
        let machine = try Machine()
        machine.setMode(64, 64)
        let reader = try machine.reader(viewers: 1, rate: 10)
        try machine.showsThePicture("the picture")
        var random = SplitMix(state: 7)
        _ = machine.coordinator.takeReceived()
        let start = EventLoop.now()
        var rounds = 0
        while rounds < 3000 || EventLoop.now() - start < 300_000_000 {
            rounds += 1
            reader.page.set(viewers: UInt32.random(in: 0 ... .max, using: &random), maxRate: 10)
            reader.page.saw(random.next())
            reader.ringWant()
            machine.guest.turnOnce()
            if rounds & 63 == 0 { machine.coordinator.read() }
        }
        let span = EventLoop.now() - start
        let asked = machine.coordinator.takeReceived().count { if case .regionDirty = $0 { true } else { false } }
        #expect(UInt64(asked) <= span / (1_000_000_000 / 240) + 8)
        for _ in 0..<2000 {
            reader.page.set(viewers: UInt32.random(in: 0 ... .max, using: &random), maxRate: UInt32.random(in: 0 ... .max, using: &random))
            reader.ringWant()
            machine.guest.turnOnce()
        }
        reader.page.set(viewers: 1, maxRate: .max)
        machine.coordinator.read()
        try machine.store(0x55, at: 0)
        try machine.showsThePicture("it goes on")
        reader.page.set(viewers: .max, maxRate: 0)
        try machine.reader(viewers: .max)
        try machine.store(0x66, at: 0)
        try machine.showsThePicture("two with the largest number")
    }

    @Test("readers without their descriptors, or with others', are left out and said")
    func incomplete() throws {
        let machine = try Machine()
        machine.setMode(64, 64)
        let other = try SharedMemory(name: "other", length: 8192)
        let bell = try EventFD()
        let sets: [[CInt]] = [[], [other.descriptor.raw], [other.descriptor.raw, bell.descriptor.raw, bell.descriptor.raw]]
        for (number, descriptors) in sets.enumerated() {
            machine.coordinator.send(Packet(.surfaceReader(SurfaceReaderChange(reader: 50 + number, change: .added)), id: UInt32(9000 + number)), descriptors)
            machine.coordinator.send(Packet(.surfaceReader(SurfaceReaderChange(reader: 50 + number, change: .gone)), id: UInt32(9100 + number)))
        }
        machine.guest.turn(6)
        #expect(machine.rests)
        try machine.reader(viewers: 1)
        try machine.showsThePicture("a good one is served")
        var many: [Machine.Reader] = []
        for _ in 0..<20 { many.append(try machine.reader(viewers: 1)) }
        #expect(machine.coordinator.logLines.contains { $0.contains("there are too many") })
        for reader in many { try reader.leave() }
        try machine.store(9, at: 0)
        try machine.showsThePicture("the good one still is")
    }
}

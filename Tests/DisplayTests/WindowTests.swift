import EmulatorProtocol
import Glibc
import Host
import Platform
import SeededNumbers
import Testing

@testable import EmulatorKit
@testable import demux_display

@Suite("The legacy window as plain memory")
struct WindowTests {
    /// In text mode, with enough traffic for memory to stand in the window.
    private func textual(_ options: [String: String] = [:]) throws -> Machine {
        let machine = try Machine(options)
        machine.textMode()
        for index in 0..<200 where try machine.text.place == nil { machine.cell(index, UInt8(index & 15), 7, moves: true) }
        #expect(try machine.text.place == 0xb8000)
        return machine
    }

    @Test("it is entered after some traffic, with what was written before in it")
    func enters() throws {
        let machine = try Machine()
        machine.textMode()
        let places = machine.coordinator.takeReceived().count { if case .regionPlace = $0 { true } else { false } }
        #expect(places <= 4, "a mode set does not make it come and go without end")
        for index in 0..<300 { machine.cell(index, UInt8(index & 15), UInt8(truncatingIfNeeded: index), moves: true) }
        #expect(try machine.text.place == 0xb8000)
        for index in 0..<300 {
            let cell = try machine.text.content.base.load(fromByteOffset: index * 2, as: UInt16.self)
            #expect(cell == UInt16(index & 15) | UInt16(truncatingIfNeeded: index & 255) << 8)
        }
    }

    @Test("text written there is found by comparing, at rest too, and on a host with a doorbell")
    func found() throws {
        let machine = try textual()
        try machine.reader(viewers: 1)
        try machine.showsThePicture("what was there")
        try machine.clean()
        for index in [0, 77, 1999] {
            for _ in 0..<50 { machine.guest.turn() }
            machine.cell(index, 9, 0x2f)
            try machine.showsThePicture("cell \(index)")
        }
        machine.cell(77, 0, 0)
        try machine.showsThePicture("a cell that becomes zero")
    }

    @Test("it leaves before the register write is answered that makes it anything else, and nothing written is lost")
    func leaves() throws {
        let machine = try textual()
        machine.cell(500, 5, 0x4e)
        machine.coordinator.answersAtOnce = false
        machine.guest.submit(0, IORequest(kind: .portIO, direction: .write, address: 0x3ce, data: 0x0006, size: 2))
        machine.guest.turn()
        #expect(machine.coordinator.slots.collect(0) == nil, "the guest waits")
        machine.coordinator.answersAtOnce = true
        machine.coordinator.answerAll()
        machine.guest.turn()
        #expect(machine.coordinator.slots.collect(0) != nil)
        #expect(try machine.text.place == nil)
        machine.out(0x3ce, 0x0006, size: 2)
        #expect(try machine.hasTheMemory(0x10000))
        // Back in text mode it is all there.
        machine.indexed(0x3ce, 6, 0x0e)
        try machine.reader(viewers: 1)
        try machine.showsThePicture("the text")
    }

    @Test("text that was there when DISPI clears the memory does not come back over the new picture", arguments: [false, true])
    func cleared(watched: Bool) throws {
        let machine = try textual()
        let reader = try machine.reader(viewers: watched ? 1 : 0)
        if watched { try machine.showsThePicture("the text") }
        for index in 0..<80 * 25 { machine.cell(index, 15, 0x7f) }
        machine.setMode(320, 200)
        reader.page.set(viewers: 1, maxRate: 0)
        try machine.showsThePicture("an empty screen")
        #expect(try machine.text.place == nil)
        #expect(try machine.hasTheMemory(Machine.memory))
    }

    @Test("a guest that switches to and fro has it trapped for longer and longer")
    func thrashing() throws {
        let machine = try textual()
        _ = machine.coordinator.takeReceived()
        var entries = 0
        for round in 0..<200 {
            machine.fontAccess(true)
            machine.fontAccess(false)
            for index in 0..<70 { machine.cell(index, UInt8(round & 15), 7, moves: true) }
            entries += machine.coordinator.takeReceived().count { if case .regionPlace(let place) = $0 { place.address != nil } else { false } }
        }
        #expect(entries < 20, "\(entries) times in 200 rounds")
        try machine.reader(viewers: 1)
        try machine.showsThePicture("the text")
    }

    @Test("a host that puts no memory there leaves it trapped, and is asked once")
    func refused() throws {
        let machine = try Machine()
        machine.coordinator.refusedPlaces = [0xb8000]
        machine.textMode()
        for index in 0..<1000 { machine.cell(index, UInt8(index & 15), 7, moves: true) }
        #expect(machine.coordinator.logLines.count { $0.contains("stays trapped") } == 1)
        try machine.reader(viewers: 1)
        try machine.showsThePicture("the text, trapped")
    }

    @Test("a successor takes over what was written since its predecessor looked, zeros too")
    func adopted() throws {
        let first = try textual()
        try first.reader(viewers: 1)
        try first.showsThePicture("the text")
        first.cell(3, 0, 0)
        first.cell(900, 7, 0x5f)
        let second = try Machine(after: first)
        #expect(second.coordinator.takeReceived().allSatisfy { if case .regionPlace = $0 { false } else { true } }, "it stays where it is")
        try second.reader(viewers: 1)
        try second.showsThePicture("the same text")
        second.cell(901, 8, 0x2f)
        try second.showsThePicture("and what follows")
        second.indexed(0x3ce, 6, 0)
        #expect(try second.text.place == nil)
        #expect(try second.hasTheMemory(0x10000))
    }

    @Test("a successor finishes what its predecessor died in: the window was on its way out, or just gone", arguments: [false, true])
    func halfLeft(gone: Bool) throws {
        let first = try textual()
        first.cell(900, 7, 0x5f)
        first.coordinator.answersAtOnce = false
        first.guest.submit(0, IORequest(kind: .portIO, direction: .write, address: 0x3ce, data: 0x0006, size: 2))
        first.guest.turn()
        if gone { try first.text.place = nil }
        let second = try Machine(after: first)
        second.guest.turn()
        // The guest's write comes again: nobody has answered it.
        second.out(0x3ce, 0x0006, size: 2)
        #expect(try second.text.place == nil)
        #expect(try second.hasTheMemory(0x10000))
        second.indexed(0x3ce, 6, 0x0e)
        try second.reader(viewers: 1)
        try second.showsThePicture("the text")
    }

    @Test("a successor shows the same picture in a new surface, without a word of the guest's")
    func successor() throws {
        let first = try Machine()
        first.setMode(320, 200)
        for offset in stride(from: 0, to: 256_000, by: 1000) { try first.store(UInt32(offset), at: offset) }
        try first.reader(viewers: 1)
        try first.showsThePicture("the picture")
        let second = try Machine(after: first)
        try second.reader(viewers: 1)
        try second.showsThePicture("the same picture")
        try second.store(0xffffff, at: 4)
        try second.showsThePicture("the guest draws on")
    }

    @Test("a state region with anything in it makes a display that serves and draws", arguments: 0..<16)
    func ruined(seed: Int) throws {
        let first = try textual()
        var random = SplitMix(state: UInt64(seed) + 1)
        let second = try Machine(after: first) { base, length in
            let isChanged = Committed.change(base, length: length, deviceLength: Display.stateLength) { bytes in
                for place in stride(from: 0, to: bytes.count, by: 8) where seed < 8 || random.next() % 16 == 0 {
                    bytes.storeBytes(of: random.next(), toByteOffset: place, as: UInt64.self)
                }
                // The version, and what says that the record of the plain window is one: else all is thrown away.
                if seed % 2 == 0 {
                    bytes.storeBytes(of: 1, toByteOffset: 0, as: UInt32.self)
                    bytes.storeBytes(of: 0x314e_4950, toByteOffset: 2048, as: UInt32.self)
                    bytes.storeBytes(of: seed % 4 == 0 ? 0x8000 : 0x10000, toByteOffset: 2056, as: UInt32.self)
                    bytes.storeBytes(of: UInt32(seed % 5) << 15, toByteOffset: 2052, as: UInt32.self)
                }
            }
            #expect(isChanged)
        }
        try second.reader(viewers: 1)
        for _ in 0..<20 { second.guest.turn() }
        #expect(second.guest.read(port: 0x3cc) != nil)
        for port in UInt64(0x3b0)..<0x3e0 {
            second.guest.write(port: port, random.next() & 0xff)
            _ = second.guest.read(port: port)
        }
        second.guest.turn()
        #expect(second.guest.read(port: 0x3cc) != nil, "it still answers")
    }
}

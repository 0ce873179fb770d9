import SeededNumbers
import Testing

@testable import EmulatorKit
@testable import demux_keyboard

@Suite("A keyboard controller after the death of its process")
struct ArchiveTests {
    /// The same controller, from what it has left.
    private func again(_ controller: inout I8042, spoil: (UnsafeMutableRawPointer) -> Void = { _ in }) -> I8042 {
        let bytes = UnsafeMutableRawPointer.allocate(byteCount: Archive.length, alignment: 16)
        defer { bytes.deallocate() }
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: Archive.length)
        let state = StateRegion(bytes: bytes, length: Archive.length, isFresh: false, isKept: true, version: 1)
        var archive = Archive(state, loading: false)
        controller.carry(&archive)
        spoil(bytes)
        var successor = I8042()
        archive = Archive(state, loading: true)
        successor.carry(&archive)
        return successor
    }

    @Test("goes on where it was: settings, keys and movements that were not read, a command whose argument is to come")
    func goesOn() {
        var first = I8042()
        _ = first.command(0x60, 0x61)
        _ = first.keyboard(0xf0, 1)
        _ = first.mouse(0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf4)
        first.key(0x1e, down: true)
        first.key(0xc8, down: true)
        first.button(1, down: true)
        first.move(toX: 100, y: 100)
        first.move(x: 300, y: -2)
        first.writeCommand(0xd4)
        var second = again(&first)
        #expect(second.status == first.status && second.keyboardLine == first.keyboardLine && second.mouseLine == first.mouseLine)
        first.writeData(0xe9)
        second.writeData(0xe9)
        first.key(0x1e, down: false)
        second.key(0x1e, down: false)
        first.move(toX: 640, y: 0)
        second.move(toX: 640, y: 0)
        let (wanted, got) = (first.drain(), second.drain())
        #expect(got == wanted && got.count > 12)
    }

    @Test("2,000 states full of rubbish: none traps, and each answers a self test")
    func rubbish() {
        var random = SplitMix(state: 0x5eed_0071)
        for _ in 0..<2_000 {
            var first = I8042()
            var second = again(&first) { bytes in
                for place in 0..<Archive.length {
                    bytes.storeBytes(of: UInt8(truncatingIfNeeded: random.next()), toByteOffset: place, as: UInt8.self)
                }
            }
            second.move(x: .max, y: .min)
            second.move(toX: .min, y: .max)
            for key in UInt16(0)..<256 { second.key(key, down: key & 1 == 0) }
            _ = second.drain()
            second.writeCommand(0xff)
            #expect(second.command(0xaa).contains(0x55))
        }
    }
}

import SeededNumbers
import Testing

@testable import EmulatorKit
@testable import demux_keyboard

extension I8042 {
    /// Reads port 0x60 until nothing is there.
    mutating func drain(most: Int = 4096) -> [UInt8] {
        var bytes: [UInt8] = []
        while status & 1 != 0, bytes.count < most {
            bytes.append(takeOutput())
            advance()
        }
        return bytes
    }

    /// Writes to a device, or the controller, and gives the answer.
    mutating func command(_ byte: UInt8, _ arguments: UInt8...) -> [UInt8] {
        writeCommand(byte)
        for argument in arguments { writeData(argument) }
        return drain()
    }
    mutating func keyboard(_ bytes: UInt8...) -> [UInt8] {
        for byte in bytes { writeData(byte) }
        return drain()
    }
    mutating func mouse(_ bytes: UInt8...) -> [UInt8] {
        for byte in bytes {
            writeCommand(0xd4)
            writeData(byte)
        }
        return drain()
    }
}

@Suite("i8042")
struct ControllerTests {
    @Test("self test, port tests, memory, ports and the gate of address line 20 answer as firmware expects")
    func commands() {
        var controller = I8042()
        #expect(controller.status == 0x10)
        #expect(controller.command(0xaa) == [0x55])
        #expect(controller.status == 0x1c)
        #expect(controller.command(0xab) == [0])
        #expect(controller.command(0xa9) == [0])
        #expect(controller.command(0xa4) == [0xf1])
        #expect(controller.command(0x20) == [0x03])
        #expect(controller.command(0x60, 0x61) == [])
        #expect(controller.command(0x20) == [0x61])
        #expect(controller.command(0x7f, 0x12) == [])
        #expect(controller.command(0x3f) == [0x12])
        #expect(controller.command(0xd0) == [0x03])
        #expect(controller.command(0xd1, 0xdd) == [])
        #expect(controller.command(0xd0) == [0x0d])
        #expect(controller.command(0xdf) == [])
        #expect(controller.command(0xd0) == [0x0f])
        #expect(controller.command(0xfe) == [])
        #expect(controller.command(0xd2, 0x77) == [0x77])
        controller.writeCommand(0xd3)
        controller.writeData(0x42)
        #expect(controller.status & 0x21 == 0x21)
        #expect(controller.drain() == [0x42])
    }

    @Test("what SeaBIOS does at its start brings up a keyboard that sends translated codes")
    func firmware() {
        var controller = I8042()
        #expect(controller.drain() == [])
        #expect(controller.command(0xaa) == [0x55])
        #expect(controller.command(0xab) == [0])
        // Interrupts and both devices off but for the one that is spoken to, as ps2_command does.
        #expect(controller.command(0x60, 0x20) == [])
        #expect(controller.keyboard(0xff) == [0xfa, 0xaa])
        #expect(controller.keyboard(0xf5) == [0xfa])
        #expect(controller.keyboard(0xf0, 0x02) == [0xfa, 0xfa])
        #expect(controller.command(0x60, 0x61) == [])
        #expect(controller.keyboard(0xf4) == [0xfa])
        controller.key(0x1e, down: true)
        #expect(controller.keyboardLine && !controller.mouseLine)
        controller.key(0x1e, down: false)
        #expect(controller.drain() == [0x1e, 0x9e])
        #expect(!controller.keyboardLine)
    }

    @Test("what Linux does at its start finds a keyboard and an IntelliMouse Explorer")
    func linux() {
        var controller = I8042()
        // i8042_controller_check, i8042_check_aux: loop, then the control byte with the mouse off and on.
        #expect(controller.drain() == [])
        #expect(controller.command(0x20) == [0x03])
        #expect(controller.command(0x60, 0x43) == [])
        #expect(controller.command(0xd3, 0x5a) == [0x5a])
        _ = controller.command(0xa7)
        #expect(controller.command(0x20) == [0x63])
        _ = controller.command(0xa8)
        #expect(controller.command(0x20) == [0x43])
        // atkbd: identity, translated on its way; lights; rate.
        #expect(controller.keyboard(0xf2) == [0xfa, 0xab, 0x41])
        #expect(controller.keyboard(0xed, 0x02) == [0xfa, 0xfa])
        #expect(controller.keyboard.lights == 2)
        #expect(controller.keyboard(0xf3, 0x00) == [0xfa, 0xfa])
        #expect(controller.keyboard(0xee) == [0xee])
        // psmouse.
        #expect(controller.mouse(0xff) == [0xfa, 0xaa, 0x00])
        #expect(controller.mouse(0xf2) == [0xfa, 0x00])
        #expect(controller.mouse(0xf3, 200, 0xf3, 100, 0xf3, 80) == [0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa])
        #expect(controller.mouse(0xf2) == [0xfa, 0x03])
        #expect(controller.mouse(0xf3, 200, 0xf3, 200, 0xf3, 80).count == 6)
        #expect(controller.mouse(0xf2) == [0xfa, 0x04])
        #expect(controller.mouse(0xe8, 3, 0xe9) == [0xfa, 0xfa, 0xfa, 0x00, 0x03, 80])
        #expect(controller.mouse(0xf4) == [0xfa])
    }

    @Test("each byte makes an edge on its own device's line, and a device that is switched off keeps its bytes")
    func lines() {
        var controller = I8042()
        _ = controller.command(0x60, 0x43)
        controller.key(0x1e, down: true)
        controller.key(0x30, down: true)
        #expect(controller.keyboardLine)
        #expect(controller.takeOutput() == 0x1e)
        #expect(!controller.keyboardLine)
        controller.advance()
        #expect(controller.keyboardLine)
        #expect(controller.takeOutput() == 0x30)
        controller.advance()
        #expect(!controller.keyboardLine)
        controller.writeCommand(0xad)
        controller.key(0x20, down: true)
        #expect(controller.status & 1 == 0)
        controller.writeCommand(0xae)
        #expect(controller.keyboardLine)
        #expect(controller.drain() == [0x20])
        _ = controller.mouse(0xf4)
        controller.move(x: 1, y: 1)
        #expect(controller.mouseLine && !controller.keyboardLine)
        _ = controller.command(0x60, 0x40)
        controller.key(0x21, down: true)
        #expect(!controller.mouseLine && !controller.keyboardLine)
    }

    @Test("nothing is there: port 0x60 gives the last byte again")
    func nothing() {
        var controller = I8042()
        #expect(controller.command(0xaa) == [0x55])
        #expect(controller.takeOutput() == 0x55)
    }
}

@Suite("PS/2 keyboard")
struct PS2KeyboardTests {
    /// Keys and what each set and the translation make of them: letters, prefixes, F7, SysRq, pause, print screen.
    private static let keys: [(UInt16, first: [UInt8], firstUp: [UInt8], second: [UInt8], secondUp: [UInt8])] = [
        (0x1e, [0x1e], [0x9e], [0x1c], [0xf0, 0x1c]),
        (0x01, [0x01], [0x81], [0x76], [0xf0, 0x76]),
        (0x41, [0x41], [0xc1], [0x83], [0xf0, 0x83]),
        (0x54, [0x54], [0xd4], [0x84], [0xf0, 0x84]),
        (0x58, [0x58], [0xd8], [0x07], [0xf0, 0x07]),
        (0x9c, [0xe0, 0x1c], [0xe0, 0x9c], [0xe0, 0x5a], [0xe0, 0xf0, 0x5a]),
        (0xc8, [0xe0, 0x48], [0xe0, 0xc8], [0xe0, 0x75], [0xe0, 0xf0, 0x75]),
        (0xb7, [0xe0, 0x2a, 0xe0, 0x37], [0xe0, 0xb7, 0xe0, 0xaa], [0xe0, 0x12, 0xe0, 0x7c], [0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12]),
        (0xc6, [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5], [], [0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77], []),
    ]

    @Test("sets 1 and 2, and set 2 translated, say the same keys")
    func sets() {
        for key in Self.keys {
            for (control, set, down, up) in [
                (0x43, 2, key.first, key.firstUp), (0x03, 2, key.second, key.secondUp), (0x03, 1, key.first, key.firstUp),
            ] as [(UInt8, UInt8, [UInt8], [UInt8])] {
                var controller = I8042()
                _ = controller.command(0x60, control)
                _ = controller.keyboard(0xf0, set)
                controller.key(key.0, down: true)
                #expect(controller.drain() == down, "key \(key.0) in set \(set), control \(control)")
                controller.key(key.0, down: false)
                #expect(controller.drain() == up, "key \(key.0) up in set \(set), control \(control)")
            }
        }
    }

    @Test("every key number translates back to itself")
    func everyKey() {
        for number: UInt16 in 1...0xff where number & 0x7f != 0 && number != ScanCodes.pause && number != ScanCodes.print {
            guard !ScanCodes.bytes(number, down: true, in: .second).isEmpty else { continue }
            var controller = I8042()
            _ = controller.command(0x60, 0x43)
            controller.key(number, down: true)
            controller.key(number, down: false)
            let prefix: [UInt8] = number > 0x7f ? [0xe0] : []
            let code = UInt8(number & 0x7f)
            #expect(controller.drain() == prefix + [code] + prefix + [code | 0x80])
        }
        // The keys of a PC keyboard are all there.
        for number: UInt16 in 1...0x58 where number != 0x55 { #expect(!ScanCodes.bytes(number, down: true, in: .second).isEmpty, "key \(number)") }
        for number in [0, 0x80, 0x100, 0xffff] as [UInt16] { #expect(ScanCodes.bytes(number, down: true, in: .first).isEmpty) }
    }

    @Test("a guest that does not read loses keys, never releases of what it was told, and no memory")
    func fullQueue() {
        var controller = I8042()
        _ = controller.command(0x60, 0x43)
        for _ in 0..<1000 {
            for number: UInt16 in 1...0x58 { controller.key(number, down: true) }
        }
        for number: UInt16 in 1...0x58 { controller.key(number, down: false) }
        let bytes = controller.drain()
        #expect(bytes.count < 600)
        var down = Set<UInt8>()
        for byte in bytes { if byte < 0x80 { down.insert(byte) } else { #expect(down.remove(byte & 0x7f) != nil) } }
        #expect(down.isEmpty)
        controller.key(0x1e, down: true)
        #expect(controller.drain() == [0x1e])
    }

    @Test("the commands that take arguments, resend, defaults and what is not known")
    func commands() {
        var controller = I8042()
        _ = controller.command(0x60, 0x03)
        #expect(controller.keyboard(0xf2) == [0xfa, 0xab, 0x83])
        #expect(controller.keyboard(0xf0, 0x00) == [0xfa, 0xfa, 0x02])
        #expect(controller.keyboard(0xf0, 0x03) == [0xfa, 0xfe])
        #expect(controller.keyboard(0xed, 0xf4) == [0xfa, 0xfa])
        #expect(controller.keyboard(0xfe) == [0xfa])
        #expect(controller.keyboard(0x77) == [0xfe])
        #expect(controller.keyboard(0xf5) == [0xfa])
        controller.key(0x1e, down: true)
        controller.key(0x1e, down: false)
        #expect(controller.drain() == [])
        #expect(controller.keyboard(0xf6) == [0xfa])
        controller.key(0x1e, down: true)
        #expect(controller.drain() == [0x1c])
        #expect(controller.keyboard(0xff) == [0xfa, 0xaa])
    }
}

@Suite("PS/2 mouse")
struct PS2MouseTests {
    private static func ready(_ kind: UInt8 = 0) -> I8042 {
        var controller = I8042()
        _ = controller.command(0x60, 0x43)
        if kind >= 3 { _ = controller.mouse(0xf3, 200, 0xf3, 100, 0xf3, 80) }
        if kind >= 4 { _ = controller.mouse(0xf3, 200, 0xf3, 200, 0xf3, 80) }
        _ = controller.mouse(0xf4)
        return controller
    }

    @Test("movements add up until they are read, clicks come one by one, and up is positive")
    func packets() {
        var controller = Self.ready()
        controller.move(x: 3, y: 4)
        #expect(controller.drain() == [0x28, 3, 0xfc])
        controller.move(x: -300, y: -1)
        #expect(controller.drain() == [0x18, 0x81, 1, 0x18, 0x81, 0, 0x18, 0xd2, 0])
        controller.apply(.button(.left, down: true))
        controller.apply(.button(.left, down: false))
        controller.apply(.button(.right, down: true))
        controller.apply(.button(.middle, down: true))
        #expect(controller.drain() == [0x09, 0, 0, 0x08, 0, 0, 0x0a, 0, 0, 0x0e, 0, 0])
        controller.apply(.button(.wheelUp, down: true))
        #expect(controller.drain() == [])
    }

    @Test("the wheel and the fourth and fifth button, by the kind that the guest has knocked for")
    func wheel() {
        var controller = Self.ready(3)
        controller.apply(.button(.wheelUp, down: true))
        controller.apply(.button(.wheelUp, down: false))
        #expect(controller.drain() == [0x08, 0, 0, 0xff])
        controller = Self.ready(4)
        controller.apply(.button(.wheelDown, down: true))
        controller.apply(.button(.side, down: true))
        #expect(controller.drain() == [0x08, 0, 0, 0x01, 0x08, 0, 0, 0x10])
    }

    @Test("absolute places become movements between them")
    func absolute() {
        var controller = Self.ready()
        controller.apply(.absolute(x: 0, y: 0))
        #expect(controller.drain() == [])
        controller.apply(.absolute(x: 32 * 10, y: 32 * 20))
        #expect(controller.drain() == [0x28, 10, 0xec])
    }

    @Test("remote, wrap and status; a mouse that does not report keeps still")
    func modes() {
        var controller = I8042()
        _ = controller.command(0x60, 0x43)
        controller.move(x: 1, y: 1)
        #expect(controller.drain() == [])
        #expect(controller.mouse(0xee, 0x12, 0xf4, 0xec) == [0xfa, 0x12, 0xf4, 0xfa])
        #expect(controller.mouse(0xf0) == [0xfa])
        #expect(controller.mouse(0xeb) == [0xfa, 0x28, 1, 0xff])
        #expect(controller.mouse(0xe7, 0xe9) == [0xfa, 0xfa, 0x50, 0x02, 100])
        #expect(controller.mouse(0xea, 0xf4) == [0xfa, 0xfa])
        #expect(controller.mouse(0x55) == [0xfe])
        #expect(controller.mouse(0xfe) == [0xfe])
        #expect(controller.mouse(0xff) == [0xfa, 0xaa, 0])
    }
}

@Suite("i8042 fuzz")
struct ControllerFuzzTests {
    @Test("any bytes at both ports and any events, 300,000 of them: it never traps, and what it has to say stays bounded")
    func anything() {
        var random = SplitMix(state: 8042)
        var controller = I8042()
        var longest = 0
        for step in 0..<300_000 {
            switch random.next() % 12 {
            case 0, 1: _ = controller.takeOutput()
            case 2: controller.advance()
            case 3: controller.writeCommand(UInt8.random(in: 0...255, using: &random))
            case 4: controller.writeData(UInt8.random(in: 0...255, using: &random))
            case 5: controller.writeData(UInt8.random(in: 0xed...255, using: &random))
            case 6:
                controller.writeCommand(0xd4)
                controller.writeData(UInt8.random(in: 0xe6...255, using: &random))
            case 7: controller.apply(.key(UInt16.random(in: 0...0x120, using: &random), down: Bool.random(using: &random)))
            case 8: controller.apply(.relative(x: Int16.random(in: .min ... .max, using: &random), y: Int16.random(in: .min ... .max, using: &random)))
            case 9: controller.apply(.absolute(x: UInt16.random(in: 0 ... .max, using: &random), y: UInt16.random(in: 0 ... .max, using: &random)))
            case 10:
                if let button = InputEvent.Button.allCases.randomElement(using: &random) {
                    controller.apply(.button(button, down: Bool.random(using: &random)))
                }
            default: _ = controller.status
            }
            if step % 1000 == 999 {
                // A movement of at most 2^20 a way, 127 a packet of at most 4 bytes, and the queues.
                longest = max(longest, controller.drain(most: 200_000).count)
            }
        }
        #expect(longest < 100_000)
        controller.writeCommand(0x60)
        controller.writeData(0x43)
        _ = controller.drain(most: 200_000)
        _ = controller.mouse(0xff, 0xff)
        #expect(controller.keyboard(0xff) == [0xfa, 0xaa])
        controller.key(0x1e, down: true)
        #expect(controller.drain() == [0x1e])
    }
}

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
        var number: UInt64 = 0x5eed_0071
        for _ in 0..<2_000 {
            var first = I8042()
            var second = again(&first) { bytes in
                for place in 0..<Archive.length {
                    number = number &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    bytes.storeBytes(of: UInt8(truncatingIfNeeded: number >> 33), toByteOffset: place, as: UInt8.self)
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

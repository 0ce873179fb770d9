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

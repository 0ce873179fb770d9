import Testing

@testable import EmulatorKit
@testable import demux_keyboard

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

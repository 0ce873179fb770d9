import EmulatorKit

/// The keyboard and the mouse of a guest whose QEMU has none, or that has no QEMU: an i8042 with ISA interrupts 1 and 12.
///
/// It has no options. All that it remembers is written to its state region after each access and each event, so that neither a key nor the driver's
/// settings are lost with the process.
@main
struct Keyboard: Emulator {
    static let name = "keyboard"
    static let capabilities = ["input"]
    static let stateLength = Archive.length

    private var controller = I8042()
    private let state: StateRegion
    private let data: Window
    private let command: Window
    /// What the lines were last set to.
    private var keyboardLine = false
    private var mouseLine = false

    init(_ setup: inout Setup) throws(SetupError) {
        data = try setup.claim(ports: 0x60, count: 1, label: "i8042 data")
        command = try setup.claim(ports: 0x64, count: 1, label: "i8042 status and command")
        state = setup.state
        guard !state.isFresh else {
            save()
            return
        }
        var archive = Archive(state, loading: true)
        controller.carry(&archive)
        // The predecessor may have died after it had driven a line, and before that was committed.
        keyboardLine = controller.keyboardLine
        mouseLine = controller.mouseLine
        setup.context.setISAInterrupt(1, asserted: keyboardLine)
        setup.context.setISAInterrupt(12, asserted: mouseLine)
    }

    private mutating func save() {
        guard state.isKept else { return }
        var archive = Archive(state, loading: false)
        controller.carry(&archive)
    }

    mutating func read(_ access: Access, _ context: borrowing Context) -> Answer {
        guard access.size == 1 else { return .value(access.allOnes) }
        guard access.window == data else { return .value(UInt64(controller.status)) }
        let byte = controller.takeOutput()
        drive(context)
        controller.advance()
        drive(context)
        save()
        return .value(UInt64(byte))
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        guard access.size == 1 else { return .done }
        let byte = UInt8(truncatingIfNeeded: value)
        if access.window == data { controller.writeData(byte) } else { controller.writeCommand(byte) }
        drive(context)
        save()
        return .done
    }

    mutating func event(_ event: Event, _ context: borrowing Context) {
        guard case .input(let events) = event else { return }
        for event in events { controller.apply(event) }
        drive(context)
        save()
    }

    /// Sets the interrupt lines that have changed.
    private mutating func drive(_ context: borrowing Context) {
        if controller.keyboardLine != keyboardLine {
            keyboardLine = controller.keyboardLine
            context.setISAInterrupt(1, asserted: keyboardLine)
        }
        if controller.mouseLine != mouseLine {
            mouseLine = controller.mouseLine
            context.setISAInterrupt(12, asserted: mouseLine)
        }
    }
}

extension I8042 {
    /// Carries one event of a viewer's out. A mouse has no horizontal wheel.
    mutating func apply(_ event: InputEvent) {
        switch event {
        case .key(let number, let down): key(number, down: down)
        case .absolute(let x, let y): move(toX: Int32(x), y: Int32(y))
        case .relative(let x, let y): move(x: Int32(x), y: Int32(y))
        case .button(let name, let down):
            switch name {
            case .left: button(0, down: down)
            case .right: button(1, down: down)
            case .middle: button(2, down: down)
            case .side: button(3, down: down)
            case .extra: button(4, down: down)
            case .wheelUp: if down { turn(-1) }
            case .wheelDown: if down { turn(1) }
            case .wheelLeft, .wheelRight: break
            }
        }
    }
}

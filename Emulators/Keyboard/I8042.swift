/// The keyboard controller of a PC with its two devices, as a value: ports 0x60 and 0x64, and two interrupt lines.
///
/// The authorities are the IBM PS/2 technical reference and what SeaBIOS and Linux (drivers/input/serio/i8042.c) send.
struct I8042: Equatable {
    private struct Status: OptionSet {
        let rawValue: UInt8
        static let outputFull = Status(rawValue: 0x01)
        static let selfTested = Status(rawValue: 0x04)
        static let wasCommand = Status(rawValue: 0x08)
        static let unlocked = Status(rawValue: 0x10)
        static let fromMouse = Status(rawValue: 0x20)
    }
    /// The control byte, the first of the controller's memory.
    private struct Control: OptionSet {
        let rawValue: UInt8
        static let keyboardInterrupt = Control(rawValue: 0x01)
        static let mouseInterrupt = Control(rawValue: 0x02)
        static let selfTested = Control(rawValue: 0x04)
        static let keyboardOff = Control(rawValue: 0x10)
        static let mouseOff = Control(rawValue: 0x20)
        static let translates = Control(rawValue: 0x40)
    }
    private enum Source: UInt8 { case controller = 1, controllerAsMouse, keyboard, mouse }

    private(set) var keyboard = PS2Keyboard()
    private(set) var mouse = PS2Mouse()
    private var memory = [UInt8](repeating: 0, count: 32)
    private var control: Control {
        get { Control(rawValue: memory[0]) }
        set { memory[0] = newValue.rawValue }
    }
    private var isSelfTested = false
    private var wasCommand = false
    /// The command at port 0x64 whose argument comes by port 0x60.
    private var command: UInt8?
    /// What the controller itself has to say, before its devices.
    private var replies = ByteQueue(capacity: 16)
    private var mouseReplies = ByteQueue(capacity: 16)
    /// The byte at port 0x60, and whose it is while nobody has read it.
    private var output: UInt8 = 0
    private var source: Source?
    /// Set 2's release prefix has come: the next byte is a release.
    private var isRelease = false
    /// The output port, without what follows from other state: the processor runs, A20 is open.
    private var lines: UInt8 = 3
    /// The last absolute place, to make movements of.
    private var place: (x: Int32, y: Int32)?

    init() { control = [.keyboardInterrupt, .mouseInterrupt] }

    static func == (left: I8042, right: I8042) -> Bool {
        left.keyboard == right.keyboard && left.mouse == right.mouse && left.memory == right.memory && left.status == right.status
            && left.command == right.command && left.output == right.output && left.lines == right.lines
    }

    // MARK: interrupt lines

    /// ISA interrupt 1.
    var keyboardLine: Bool { (source == .keyboard || source == .controller) && control.contains(.keyboardInterrupt) }
    /// ISA interrupt 12.
    var mouseLine: Bool { (source == .mouse || source == .controllerAsMouse) && control.contains(.mouseInterrupt) }

    // MARK: ports

    /// Port 0x64.
    var status: UInt8 {
        var status = Status.unlocked
        if source != nil { status.insert(.outputFull) }
        if source == .mouse || source == .controllerAsMouse { status.insert(.fromMouse) }
        if isSelfTested || control.contains(.selfTested) { status.insert(.selfTested) }
        if wasCommand { status.insert(.wasCommand) }
        return status.rawValue
    }

    /// Port 0x60: takes the byte. What comes next is there after `advance`: between the two the interrupt lines are low, so that
    /// the next byte makes an edge.
    mutating func takeOutput() -> UInt8 {
        source = nil
        return output
    }

    /// Moves the next byte to port 0x60, when that is free and there is one.
    mutating func advance() {
        guard source == nil else { return }
        if let byte = replies.next() {
            put(byte, .controller)
        } else if let byte = mouseReplies.next() {
            put(byte, .controllerAsMouse)
        } else if !control.contains(.keyboardOff), let byte = nextOfKeyboard() {
            put(byte, .keyboard)
        } else if !control.contains(.mouseOff), let byte = mouse.next() {
            put(byte, .mouse)
        }
    }

    private mutating func put(_ byte: UInt8, _ from: Source) {
        output = byte
        source = from
    }

    private mutating func nextOfKeyboard() -> UInt8? {
        // Two bytes at most: a release prefix and what it belongs to.
        while let byte = keyboard.next() {
            guard control.contains(.translates) else {
                isRelease = false
                return byte
            }
            if byte == 0xf0 {
                isRelease = true
                continue
            }
            let translated = ScanCodes.translated(byte)
            defer { isRelease = false }
            return isRelease ? translated | 0x80 : translated
        }
        return nil
    }

    /// Port 0x64.
    mutating func writeCommand(_ byte: UInt8) {
        wasCommand = true
        command = nil
        switch byte {
        case 0x20...0x3f: replies.add([memory[Int(byte & 0x1f)]])
        case 0x60...0x7f, 0xd1...0xd4: command = byte
        case 0xa4: replies.add([0xf1])
        case 0xa7: control.insert(.mouseOff)
        case 0xa8: control.remove(.mouseOff)
        case 0xa9, 0xab: replies.add([0])
        case 0xaa:
            isSelfTested = true
            replies.add([0x55])
        case 0xad: control.insert(.keyboardOff)
        case 0xae: control.remove(.keyboardOff)
        case 0xc0: replies.add([0x80])
        case 0xd0: replies.add([outputPort])
        case 0xdd: lines &= ~2
        case 0xdf: lines |= 2
        // 0xf0 to 0xff pulse lines of the output port, the processor's reset among them: a device model resets no guest.
        default: break
        }
        advance()
    }

    /// Port 0x60.
    mutating func writeData(_ byte: UInt8) {
        wasCommand = false
        let command = command
        self.command = nil
        switch command {
        case .some(let write) where (0x60...0x7f).contains(write): memory[Int(write & 0x1f)] = byte
        case 0xd1: lines = byte & 0x0f | 1
        case 0xd2: replies.add([byte])
        case 0xd3: mouseReplies.add([byte])
        case 0xd4:
            // A device that is spoken to is switched on.
            control.remove(.mouseOff)
            mouse.receive(byte)
        default:
            control.remove(.keyboardOff)
            keyboard.receive(byte)
        }
        advance()
    }

    private var outputPort: UInt8 { lines | (keyboardLine ? 0x10 : 0) | (mouseLine ? 0x20 : 0) }

    // MARK: what outlives the process

    /// Carries all of it to the state region, or back.
    mutating func carry(_ archive: inout Archive) {
        keyboard.carry(&archive)
        mouse.carry(&archive)
        archive.carry(&memory)
        archive.carry(&isSelfTested)
        archive.carry(&wasCommand)
        archive.carry(&command)
        archive.carry(&replies)
        archive.carry(&mouseReplies)
        archive.carry(&output)
        var from = source?.rawValue ?? 0
        archive.carry(&from)
        source = Source(rawValue: from)
        archive.carry(&isRelease)
        archive.carry(&lines)
        var (isPlaced, here) = (place != nil, place ?? (0, 0))
        archive.carry(&isPlaced)
        archive.carry(&here.x)
        archive.carry(&here.y)
        place = isPlaced ? here : nil
    }

    // MARK: what a person does

    /// A key by QEMU's number.
    mutating func key(_ number: UInt16, down: Bool) {
        keyboard.key(number, down: down)
        advance()
    }

    /// A movement, right and down being positive, in the mouse's own steps.
    mutating func move(x: Int32, y: Int32) {
        mouse.move(x: x, y: y == .min ? .max : -y)
        advance()
    }

    /// A place on the screen, 0 to 32767 either way: a mouse can only be moved by as much as the place has changed, 1024 steps the whole way.
    mutating func move(toX x: Int32, y: Int32) {
        let here = (x: x / 32, y: y / 32)
        if let place { move(x: here.x &- place.x, y: here.y &- place.y) }
        place = here
    }

    mutating func button(_ number: UInt8, down: Bool) {
        mouse.button(number, down: down)
        advance()
    }

    /// Turns the wheel; towards the person is positive.
    mutating func turn(_ steps: Int32) {
        mouse.turn(steps)
        advance()
    }
}

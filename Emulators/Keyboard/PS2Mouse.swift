/// A PS/2 mouse with a wheel and five buttons (Microsoft IntelliMouse and IntelliMouse Explorer, by their knocks).
struct PS2Mouse: Equatable {
    private enum Reply {
        static let acknowledge: UInt8 = 0xfa
        static let resend: UInt8 = 0xfe
        static let passed: UInt8 = 0xaa
    }
    /// The kinds, by their identity.
    private enum Kind: UInt8 { case plain = 0, wheel = 3, explorer = 4 }

    private var replies = ByteQueue(capacity: 16)
    /// Packets of clicks. Movements are not queued but added up until the guest takes them.
    private var packets = ByteQueue(capacity: 64)
    private var isReporting = false
    private var isRemote = false
    private var isWrapping = false
    private var scalesTwo = false
    private var resolution: UInt8 = 2
    private var rate: UInt8 = 100
    private var kind = Kind.plain
    /// The last three rates that were set, oldest first.
    private var knock: [UInt8] = [0, 0, 0]
    private var command: UInt8?
    private var last: UInt8 = 0
    /// Left, right, middle, fourth, fifth: bits 0 to 4.
    private var buttons: UInt8 = 0
    private var toldButtons: UInt8 = 0
    /// Not told yet: right, up, and the wheel towards the person are positive.
    private var x: Int32 = 0
    private var y: Int32 = 0
    private var wheel: Int32 = 0
    private static let farthest: Int32 = 1 << 20

    private var hasNews: Bool { isReporting && !isRemote && (x != 0 || y != 0 || wheel != 0 || buttons != toldButtons) }

    var isEmpty: Bool { replies.isEmpty && packets.isEmpty && !hasNews }

    /// The next byte to the controller.
    mutating func next() -> UInt8? {
        if replies.isEmpty && packets.isEmpty && hasNews { packets.add(packet()) }
        guard let byte = replies.next() ?? packets.next() else { return nil }
        last = byte
        return byte
    }

    /// Moves it, right and up being positive.
    mutating func move(x dx: Int32, y dy: Int32) {
        x = Self.sum(x, dx)
        y = Self.sum(y, dy)
    }

    /// Turns the wheel; towards the person is positive.
    mutating func turn(_ steps: Int32) { if kind != .plain { wheel = Self.sum(wheel, steps) } }

    /// Button 0 is the left one, 1 the right one, 2 the middle one.
    mutating func button(_ number: UInt8, down: Bool) {
        guard number < 5 else { return }
        let before = buttons
        if down { buttons |= 1 << number } else { buttons &= ~(1 << number) }
        // A click is told by itself, so that one and its end do not add up to nothing.
        guard buttons != before, isReporting, !isRemote, packets.room >= 8 else { return }
        packets.add(packet())
    }

    private static func sum(_ left: Int32, _ right: Int32) -> Int32 {
        let (sum, over) = left.addingReportingOverflow(right)
        return over ? (right < 0 ? -farthest : farthest) : min(max(sum, -farthest), farthest)
    }

    /// Takes as much of what has happened as fits one packet.
    private mutating func packet() -> [UInt8] {
        let dx = min(max(x, -127), 127)
        let dy = min(max(y, -127), 127)
        x -= dx
        y -= dy
        toldButtons = buttons
        var bytes = [
            8 | buttons & 7 | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0), UInt8(truncatingIfNeeded: dx), UInt8(truncatingIfNeeded: dy),
        ]
        switch kind {
        case .plain: break
        case .wheel:
            let steps = min(max(wheel, -127), 127)
            wheel -= steps
            bytes.append(UInt8(truncatingIfNeeded: steps))
        case .explorer:
            let steps = min(max(wheel, -7), 7)
            wheel -= steps
            bytes.append(UInt8(truncatingIfNeeded: steps) & 0xf | (buttons & 0x18) << 1)
        }
        return bytes
    }

    mutating func carry(_ archive: inout Archive) {
        archive.carry(&replies)
        archive.carry(&packets)
        for flag in [\PS2Mouse.isReporting, \.isRemote, \.isWrapping, \.scalesTwo] { archive.carry(&self[keyPath: flag]) }
        for byte in [\PS2Mouse.resolution, \.rate, \.last, \.buttons, \.toldButtons] { archive.carry(&self[keyPath: byte]) }
        archive.carry(&kind)
        archive.carry(&knock)
        archive.carry(&command)
        for distance in [\PS2Mouse.x, \.y, \.wheel] {
            archive.carry(&self[keyPath: distance])
            self[keyPath: distance] = min(max(self[keyPath: distance], -Self.farthest), Self.farthest)
        }
        buttons &= 0x1f
    }

    /// A byte from the controller.
    mutating func receive(_ byte: UInt8) {
        if isWrapping && byte != 0xec && byte != 0xff {
            replies.add([byte])
            return
        }
        if let command {
            self.command = nil
            switch command {
            case 0xe8: resolution = byte & 3
            default: setRate(byte)
            }
            replies.add([Reply.acknowledge])
            return
        }
        switch byte {
        case 0xe6, 0xe7: scalesTwo = byte == 0xe7
        case 0xe8, 0xf3: command = byte
        case 0xe9:
            // Here the middle and the right button change places.
            let pressed = (buttons & 1) << 2 | (buttons & 4) >> 1 | (buttons & 2) >> 1
            replies.add([
                Reply.acknowledge, pressed | (scalesTwo ? 0x10 : 0) | (isReporting ? 0x20 : 0) | (isRemote ? 0x40 : 0), resolution, rate,
            ])
            return
        case 0xea: isRemote = false
        case 0xeb:
            replies.add([Reply.acknowledge])
            replies.add(packet())
            return
        case 0xec: isWrapping = false
        case 0xee: isWrapping = true
        case 0xf0: isRemote = true
        case 0xf2:
            replies.add([Reply.acknowledge, kind.rawValue])
            return
        case 0xf4: isReporting = true
        case 0xf5:
            isReporting = false
            packets.removeAll()
        case 0xf6: toDefaults()
        case 0xfe:
            replies.add([last])
            return
        case 0xff:
            toDefaults()
            kind = .plain
            replies.removeAll()
            replies.add([Reply.acknowledge, Reply.passed, Kind.plain.rawValue])
            return
        default:
            replies.add([Reply.resend])
            return
        }
        replies.add([Reply.acknowledge])
    }

    private mutating func setRate(_ value: UInt8) {
        rate = value
        knock = [knock[1], knock[2], value]
        switch knock {
        case [200, 100, 80]: kind = .wheel
        case [200, 200, 80]: kind = .explorer
        default: break
        }
    }

    private mutating func toDefaults() {
        isReporting = false
        isRemote = false
        isWrapping = false
        scalesTwo = false
        resolution = 2
        rate = 100
        command = nil
        knock = [0, 0, 0]
        packets.removeAll()
        x = 0
        y = 0
        wheel = 0
        toldButtons = buttons
    }
}

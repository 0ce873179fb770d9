/// A PS/2 keyboard: what it does with the bytes that it is sent, and the bytes that it sends.
///
/// Nothing repeats by itself: a viewer sends each repetition.
struct PS2Keyboard: Equatable {
    private enum Reply {
        static let acknowledge: UInt8 = 0xfa
        static let resend: UInt8 = 0xfe
        static let passed: UInt8 = 0xaa
    }

    /// Answers, which go before keys.
    private var replies = ByteQueue(capacity: 16)
    private var codes = ByteQueue(capacity: 512)
    /// How far keys that go down may fill the queue. What is left is for the releases: every key that is down has at most 6 bytes of it.
    private static let roomForMakes = 64
    /// Keys whose going down was told, by their number.
    private var pressed = Swift.Set<UInt16>()
    private var isScanning = true
    private var set = ScanCodes.Set.second
    /// A command that waits for its argument.
    private var command: UInt8?
    private var last: UInt8 = 0
    /// Scroll lock, num lock and caps lock, bits 0 to 2.
    private(set) var lights: UInt8 = 0

    var isEmpty: Bool { replies.isEmpty && codes.isEmpty }

    /// The next byte to the controller.
    mutating func next() -> UInt8? {
        guard let byte = replies.next() ?? codes.next() else { return nil }
        last = byte
        return byte
    }

    /// A key went down, or up, or down again. One for which there is no room is not told, and neither is its release.
    mutating func key(_ key: UInt16, down: Bool) {
        let bytes = ScanCodes.bytes(key, down: down, in: set)
        guard down else {
            guard pressed.remove(key) != nil, isScanning else { return }
            codes.add(bytes)
            return
        }
        guard isScanning, !bytes.isEmpty, codes.count + bytes.count <= Self.roomForMakes else { return }
        codes.add(bytes)
        if key != ScanCodes.pause { pressed.insert(key) }
    }

    mutating func carry(_ archive: inout Archive) {
        archive.carry(&replies)
        archive.carry(&codes)
        archive.carry(&pressed)
        archive.carry(&isScanning)
        archive.carry(&set)
        archive.carry(&command)
        archive.carry(&last)
        archive.carry(&lights)
    }

    /// A byte from the controller.
    mutating func receive(_ byte: UInt8) {
        if let command {
            self.command = nil
            // A command in place of an argument is a command.
            if byte < 0xed { return argument(byte, of: command) }
        }
        switch byte {
        case 0xed, 0xf0, 0xf3:
            command = byte
            replies.add([Reply.acknowledge])
        case 0xee: replies.add([0xee])
        case 0xf2: replies.add([Reply.acknowledge, 0xab, 0x83])
        case 0xf4:
            isScanning = true
            replies.add([Reply.acknowledge])
        case 0xf5, 0xf6:
            toDefaults()
            isScanning = byte == 0xf6
            replies.add([Reply.acknowledge])
        case 0xf7...0xfd: replies.add([Reply.acknowledge])
        case 0xfe: replies.add([last])
        case 0xff:
            toDefaults()
            isScanning = true
            replies.removeAll()
            replies.add([Reply.acknowledge, Reply.passed])
        default: replies.add([Reply.resend])
        }
    }

    private mutating func argument(_ byte: UInt8, of command: UInt8) {
        switch command {
        case 0xed: lights = byte & 7
        case 0xf0 where byte == 0:
            replies.add([Reply.acknowledge, set.rawValue])
            return
        case 0xf0:
            guard let wanted = ScanCodes.Set(rawValue: byte) else {
                replies.add([Reply.resend])
                return
            }
            set = wanted
            codes.removeAll()
        default: break
        }
        replies.add([Reply.acknowledge])
    }

    private mutating func toDefaults() {
        set = .second
        lights = 0
        command = nil
        codes.removeAll()
        pressed.removeAll()
    }
}

/// What a command ended with: a status code type and a code (NVM Express 1.3, section 4.6.1.2).
struct Status: Equatable {
    let type: UInt16
    let code: UInt16
    /// Whether the same command could succeed another time.
    var mayRetry = false

    init(_ type: UInt16, _ code: UInt16, mayRetry: Bool = false) {
        self.type = type
        self.code = code
        self.mayRetry = mayRetry
    }

    /// The upper half of a completion's last word, without the phase tag.
    var word: UInt16 { code << 1 | type << 9 | (isSuccess || mayRetry ? 0 : 0x8000) }

    var isSuccess: Bool { type == 0 && code == 0 }

    // Generic ones.
    static let success = Status(0, 0x00)
    static let invalidOpcode = Status(0, 0x01)
    static let invalidField = Status(0, 0x02)
    static let dataTransferError = Status(0, 0x04)
    static let internalError = Status(0, 0x06, mayRetry: true)
    static let invalidNamespace = Status(0, 0x0b)
    static let commandSequence = Status(0, 0x0c)
    static let invalidPRPOffset = Status(0, 0x13)
    static let writeProtected = Status(0, 0x20)
    static let outOfRange = Status(0, 0x80)
    static let capacityExceeded = Status(0, 0x81)

    // Of single commands.
    static let invalidCompletionQueue = Status(1, 0x00)
    static let invalidQueueIdentifier = Status(1, 0x01)
    static let invalidQueueSize = Status(1, 0x02)
    static let tooManyEventRequests = Status(1, 0x05)
    static let invalidVector = Status(1, 0x08)
    static let invalidLogPage = Status(1, 0x09)
    static let invalidQueueDeletion = Status(1, 0x0c)
    static let notSaveable = Status(1, 0x0d)

    // Of the medium.
    static let writeFault = Status(2, 0x80)
    static let readError = Status(2, 0x81)
}

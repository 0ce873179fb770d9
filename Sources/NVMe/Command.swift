/// A submission queue entry, copied out of guest memory once.
struct Command {
    static let length = 64

    let opcode: UInt8
    let flags: UInt8
    let identifier: UInt16
    let namespace: UInt32
    let prp1: UInt64
    let prp2: UInt64
    /// Command words 10 to 13.
    let words: (UInt32, UInt32, UInt32, UInt32)

    /// - Parameter bytes: 64 of them.
    init(_ bytes: UnsafeRawPointer) {
        opcode = bytes.load(as: UInt8.self)
        flags = bytes.load(fromByteOffset: 1, as: UInt8.self)
        identifier = bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
        namespace = bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
        prp1 = bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
        prp2 = bytes.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
        func word(_ number: Int) -> UInt32 { bytes.loadUnaligned(fromByteOffset: number * 4, as: UInt32.self) }
        words = (word(10), word(11), word(12), word(13))
    }

    /// Whether it is fused with another one, or its data is not described by PRPs: neither is offered.
    var asksForMore: Bool { flags & 0xc3 != 0 }

    /// The first block of a read or a write.
    var firstBlock: UInt64 { UInt64(words.1) << 32 | UInt64(words.0) }
    /// How many; 1 to 65,536.
    var blocks: UInt64 { UInt64(words.2 & 0xffff) + 1 }
    var forceUnitAccess: Bool { words.2 & 1 << 30 != 0 }
    /// Of Write Zeroes: whether the blocks may be deallocated.
    var deallocates: Bool { words.2 & 1 << 25 != 0 }
}

enum AdminOpcode {
    static let deleteSubmissionQueue: UInt8 = 0x00
    static let createSubmissionQueue: UInt8 = 0x01
    static let getLogPage: UInt8 = 0x02
    static let deleteCompletionQueue: UInt8 = 0x04
    static let createCompletionQueue: UInt8 = 0x05
    static let identify: UInt8 = 0x06
    static let abort: UInt8 = 0x08
    static let setFeatures: UInt8 = 0x09
    static let getFeatures: UInt8 = 0x0a
    static let asyncEventRequest: UInt8 = 0x0c
}

enum IOOpcode {
    static let flush: UInt8 = 0x00
    static let write: UInt8 = 0x01
    static let read: UInt8 = 0x02
    static let writeZeroes: UInt8 = 0x08
}

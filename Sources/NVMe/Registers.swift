/// Offsets in BAR 0 (NVM Express 1.3, section 3.1).
enum Register {
    static let capabilities = 0x00
    static let version = 0x08
    static let maskSet = 0x0c
    static let maskClear = 0x10
    static let configuration = 0x14
    static let status = 0x1c
    static let adminAttributes = 0x24
    static let adminSubmission = 0x28
    static let adminCompletion = 0x30
    /// Two words for each pair of queues: the submission queue's tail, then the completion queue's head.
    static let doorbells = 0x1000
    static let doorbellEnd = doorbells + ControllerState.queueCount * 8

    /// 1024 entries a queue, which lies in one piece; 10 seconds to get ready; the NVM command set; pages of 4 KiB only.
    static let capabilityValue: UInt64 = UInt64(ControllerState.mostEntries - 1) | 1 << 16 | 20 << 24 | 1 << 37
    static let versionValue: UInt32 = 0x0001_0300
}

/// Bits of CC.
enum Configuration {
    static let enable: UInt32 = 1
    static let commandSet: UInt32 = 0x70
    static let pageSize: UInt32 = 0x780
    static let arbitration: UInt32 = 0x3800
    static let shutdown: UInt32 = 0xc000
    static let submissionEntry: UInt32 = 0xf_0000
    static let completionEntry: UInt32 = 0xf0_0000
    static let all = enable | commandSet | pageSize | arbitration | shutdown | submissionEntry | completionEntry
    /// Entries of 64 and 16 bytes, as powers of two: the only ones.
    static let entrySizes: UInt32 = 6 << 16 | 4 << 20
}

/// Bits of CSTS.
enum ControllerStatus {
    static let ready: UInt32 = 1
    static let fatal: UInt32 = 2
    static let shutdown: UInt32 = 0xc
    static let shutdownOccurring: UInt32 = 0x4
    static let shutdownComplete: UInt32 = 0x8
}

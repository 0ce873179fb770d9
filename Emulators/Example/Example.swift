import EmulatorKit

/// A device of four I/O ports: three bytes to keep, and one that counts how often it was read.
@main
struct Example: Emulator {
    static let name = "example"

    private var kept: [UInt8] = [0, 0, 0]
    private var reads: UInt8 = 0

    init(_ setup: inout Setup) throws(SetupError) {
        let base = try setup.port("ports", default: 0x600)
        _ = try setup.claim(ports: base, count: 4, label: "registers")
    }

    mutating func read(_ access: Access) -> UInt64 {
        guard access.size == 1 else { return access.allOnes }
        if access.offset < 3 { return UInt64(kept[access.offset]) }
        reads &+= 1
        return UInt64(reads)
    }

    mutating func write(_ access: Access, _ value: UInt64) {
        guard access.size == 1 else { return }
        if access.offset < 3 { kept[access.offset] = UInt8(truncatingIfNeeded: value) } else { reads = 0 }
    }
}

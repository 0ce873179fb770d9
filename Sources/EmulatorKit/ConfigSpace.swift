/// The 256 bytes of a function's configuration space and which of their bits the guest can change.
struct ConfigSpace: ~Copyable {
    static let length = 256

    /// Offsets in a type-0 header.
    enum Register {
        static let command = 0x04
        static let status = 0x06
        static let bars = 0x10
        static let capabilities = 0x34
        static let rom = 0x30
        static let interruptLine = 0x3c
        static let interruptPin = 0x3d
        /// Where capabilities begin.
        static let device = 0x40
    }

    /// Bits of the command register.
    enum Command {
        static let ports: UInt64 = 0x0001
        static let memory: UInt64 = 0x0002
        static let busMaster: UInt64 = 0x0004
        static let systemError: UInt64 = 0x0100
        static let interruptDisable: UInt64 = 0x0400
    }

    /// Bits of the status register.
    enum Status {
        static let interrupt: UInt64 = 0x0008
        static let capabilities: UInt64 = 0x0010
    }

    private var bytes: UnsafeMutablePointer<UInt8>
    /// Whether the bytes are this value's own, rather than in the state region.
    private var isOwn = true
    private let writable: UnsafeMutablePointer<UInt8>

    init() {
        bytes = .allocate(capacity: Self.length)
        bytes.initialize(repeating: 0, count: Self.length)
        writable = .allocate(capacity: Self.length)
        writable.initialize(repeating: 0, count: Self.length)
    }

    deinit {
        if isOwn { bytes.deallocate() }
        writable.deallocate()
    }

    /// Takes what the guest had written to another one of the same layout: only writable bits.
    mutating func takeOver(_ old: UnsafePointer<UInt8>) {
        for place in 0..<Self.length { bytes[place] = bytes[place] & ~writable[place] | old[place] & writable[place] }
    }

    /// Has the bytes live somewhere else from now on, for as long as this value.
    mutating func move(to place: UnsafeMutablePointer<UInt8>) {
        place.update(from: bytes, count: Self.length)
        if isOwn { bytes.deallocate() }
        (bytes, isOwn) = (place, false)
    }

    /// What the guest reads; bytes beyond the end are all-ones.
    func read(_ offset: Int, size: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<min(max(size, 0), 8) {
            let place = offset &+ index
            let byte: UInt8 = place >= 0 && place < Self.length ? bytes[place] : 0xff
            value |= UInt64(byte) &<< UInt64(truncatingIfNeeded: index &* 8)
        }
        return value
    }

    /// What the guest writes: only writable bits change, bytes beyond the end are dropped.
    mutating func guestWrite(_ offset: Int, size: Int, _ value: UInt64) {
        for index in 0..<min(max(size, 0), 8) {
            let place = offset &+ index
            guard place >= 0 && place < Self.length else { continue }
            let byte = UInt8(truncatingIfNeeded: value &>> UInt64(truncatingIfNeeded: index &* 8))
            bytes[place] = bytes[place] & ~writable[place] | byte & writable[place]
        }
    }

    /// What the device itself writes: every bit.
    mutating func set(_ offset: Int, size: Int, _ value: UInt64) { fill(bytes, offset, size, value) }

    /// Which bits the guest can change.
    mutating func setWritable(_ offset: Int, size: Int, _ mask: UInt64) { fill(writable, offset, size, mask) }

    private func fill(_ target: UnsafeMutablePointer<UInt8>, _ offset: Int, _ size: Int, _ value: UInt64) {
        for index in 0..<min(max(size, 0), 8) {
            let place = offset &+ index
            guard place >= 0 && place < Self.length else { continue }
            target[place] = UInt8(truncatingIfNeeded: value &>> UInt64(truncatingIfNeeded: index &* 8))
        }
    }
}

import Host

/// The guest's side: one vCPU, whose instructions become the requests that Xen makes of them. To be used by one thread at a time.
public struct LocalVCPU: Sendable {
    let host: LocalHost
    let index: Int
    /// Looks at the slot before the thread blocks; 0 to block at once.
    public var spins = 2000

    init(host: LocalHost, index: Int) {
        self.host = host
        self.index = index
    }

    /// Makes one request as it is, without taking it apart as Xen's emulation of an instruction would.
    /// - Returns: what was read; the request's own data for writes and pointers.
    /// - Throws: GuestError when the guest is gone, or goes.
    @discardableResult
    public func perform(_ request: IORequest) throws(GuestError) -> UInt64 {
        try host.perform(request, vcpu: index, spins: spins).value
    }

    /// `in` of 1, 2 or 4 bytes: all-ones when nobody serves all of it.
    public func read(port: UInt16, size: UInt32) throws(GuestError) -> UInt64 {
        try perform(IORequest(kind: .portIO, direction: .read, address: UInt64(port), size: size))
    }

    /// `out` of 1, 2 or 4 bytes.
    public func write(port: UInt16, size: UInt32, value: UInt64) throws(GuestError) {
        try perform(IORequest(kind: .portIO, direction: .write, address: UInt64(port), data: value & AccessSize.allOnes(size), size: size))
    }

    /// A load of 1, 2, 4 or 8 bytes: from RAM, or from whoever serves the address. One that crosses a page becomes several.
    public func readMemory(_ address: GuestAddress, size: UInt32) throws(GuestError) -> UInt64 {
        var value: UInt64 = 0
        try pieces(address, size) { (piece, offset, bytes, isRAM) throws(GuestError) in
            let part: UInt64
            if isRAM {
                part = host.memory.load(piece, size: bytes) ?? AccessSize.allOnes(bytes)
            } else {
                part = try perform(IORequest(kind: .copy, direction: .read, address: piece.rawValue, size: bytes))
            }
            value |= part << (UInt64(offset) * 8)
        }
        return value
    }

    /// A store of 1, 2, 4 or 8 bytes.
    public func writeMemory(_ address: GuestAddress, size: UInt32, value: UInt64) throws(GuestError) {
        try pieces(address, size) { (piece, offset, bytes, isRAM) throws(GuestError) in
            let part = value >> (UInt64(offset) * 8) & AccessSize.allOnes(bytes)
            if isRAM {
                _ = host.memory.store(piece, value: part, size: bytes)
            } else {
                try perform(IORequest(kind: .copy, direction: .write, address: piece.rawValue, data: part, size: bytes))
            }
        }
    }

    /// Takes a load or store apart as Xen does: at the page's end, and there into powers of two, the largest first
    /// (hvmemul_linear_mmio_access, hvmemul_phys_mmio_access).
    private func pieces(
        _ address: GuestAddress, _ size: UInt32, _ body: (GuestAddress, UInt32, UInt32, Bool) throws(GuestError) -> Void
    ) throws(GuestError) {
        guard AccessSize.isValid(size) else { throw .fault("no load or store has \(size) bytes") }
        var done: UInt32 = 0
        while done < size {
            let here = address.advanced(by: Int64(done))
            let inPage = min(size - done, UInt32(4096 - here.pageOffset))
            var piece: UInt32 = 8
            while piece > inPage { piece >>= 1 }
            try body(here, done, piece, isRAM(here))
            done += piece
        }
    }

    /// Whether the page of an address is RAM.
    func isRAM(_ address: GuestAddress) -> Bool { host.memory.contains(address, count: 1) }

    // MARK: PCI configuration by ports 0xcf8 and 0xcfc

    /// Reads a register of a function on segment 0: 1, 2 or 4 bytes, as a program does it.
    public func configRead(_ function: PCIAddress, register: UInt8, size: UInt32) throws(GuestError) -> UInt64 {
        try write(port: 0xcf8, size: 4, value: Self.cf8(function, register))
        return try read(port: 0xcfc + UInt16(register & 3), size: size)
    }

    /// Writes a register of a function on segment 0.
    public func configWrite(_ function: PCIAddress, register: UInt8, size: UInt32, value: UInt64) throws(GuestError) {
        try write(port: 0xcf8, size: 4, value: Self.cf8(function, register))
        try write(port: 0xcfc + UInt16(register & 3), size: size, value: value)
    }

    private static func cf8(_ function: PCIAddress, _ register: UInt8) -> UInt64 {
        0x8000_0000 | (function.requestAddress >> 24 & 0xff_ff00) | UInt64(register & 0xfc)
    }

    // MARK: what Xen sends by itself

    /// Has every enabled server drop what it cached of the guest's address space, and waits for each (INVALIDATE).
    public func invalidate() throws(GuestError) { try host.broadcastInvalidate(vcpu: index) }

    /// Tells every enabled server that has a ring of a changed clock (TIMEOFFSET), in seconds.
    public func timeOffset(_ seconds: Int64) throws(GuestError) { try host.broadcastTimeOffset(seconds) }
}

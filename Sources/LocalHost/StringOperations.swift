import Host

/// String instructions, taken apart as Xen does (hvmemul_rep_ins and its like, hvmemul_do_io_addr, hvmemul_do_io): at the pages of
/// the buffer and of the device's window, at 4096 repetitions, and with a single last element made a plain access.
extension LocalVCPU {
    /// `rep ins`: from a port into a buffer in guest RAM.
    /// - Parameters:
    ///   - size: 1, 2 or 4 bytes an element.
    ///   - buffer: of the first element, which is the highest one when `backwards`.
    public func readString(port: UInt16, size: UInt32, count: UInt32, into buffer: GuestAddress, backwards: Bool = false) throws(GuestError) {
        try repeated(size: size, count: count, backwards: backwards) { (done, left) throws(GuestError) in
            let place = Self.step(buffer, done, size, backwards)
            guard left > 1, let fits = fitting(place, size, left, backwards) else {
                try writeMemory(place, size: size, value: try read(port: port, size: size))
                return 1
            }
            return try host.perform(
                IORequest(
                    kind: .portIO, direction: .read, address: UInt64(port), data: place.rawValue, size: size, count: fits, dataIsPointer: true,
                    backwards: backwards), vcpu: index, spins: spins
            ).count
        }
    }

    /// `rep outs`: from a buffer in guest RAM to a port.
    public func writeString(port: UInt16, size: UInt32, count: UInt32, from buffer: GuestAddress, backwards: Bool = false) throws(GuestError) {
        try repeated(size: size, count: count, backwards: backwards) { (done, left) throws(GuestError) in
            let place = Self.step(buffer, done, size, backwards)
            guard left > 1, let fits = fitting(place, size, left, backwards) else {
                try write(port: port, size: size, value: try readMemory(place, size: size))
                return 1
            }
            return try host.perform(
                IORequest(
                    kind: .portIO, direction: .write, address: UInt64(port), data: place.rawValue, size: size, count: fits, dataIsPointer: true,
                    backwards: backwards), vcpu: index, spins: spins
            ).count
        }
    }

    /// `rep movs` between any two places: RAM or a device's window on either side. Between two windows, every element is a load and a store.
    public func move(from source: GuestAddress, to destination: GuestAddress, size: UInt32, count: UInt32, backwards: Bool = false) throws(GuestError) {
        try repeated(size: size, count: count, backwards: backwards) { (done, left) throws(GuestError) in
            let from = Self.step(source, done, size, backwards)
            let to = Self.step(destination, done, size, backwards)
            let reads = !isRAM(from)
            let buffer = reads ? to : from
            let window = reads ? from : to
            guard left > 1, !isRAM(window), let fits = fitting(buffer, size, left, backwards) else {
                try writeMemory(to, size: size, value: try readMemory(from, size: size))
                return 1
            }
            return try host.perform(
                IORequest(
                    kind: .copy, direction: reads ? .read : .write, address: window.rawValue, data: buffer.rawValue, size: size,
                    count: Self.inWindow(window, size, fits, backwards), dataIsPointer: true, backwards: backwards), vcpu: index, spins: spins
            ).count
        }
    }

    /// `rep stos`: one value over and over.
    public func fill(_ address: GuestAddress, value: UInt64, size: UInt32, count: UInt32, backwards: Bool = false) throws(GuestError) {
        try repeated(size: size, count: count, backwards: backwards) { (done, left) throws(GuestError) in
            let place = Self.step(address, done, size, backwards)
            guard left > 1, !isRAM(place) else {
                try writeMemory(place, size: size, value: value)
                return 1
            }
            return try host.perform(
                IORequest(
                    kind: .copy, direction: .write, address: place.rawValue, data: value & AccessSize.allOnes(size), size: size,
                    count: Self.inWindow(place, size, left, backwards), backwards: backwards), vcpu: index, spins: spins
            ).count
        }
    }

    /// Runs `body` until all repetitions are done; it gets how many are done and how many it may do, and gives how many it did.
    private func repeated(
        size: UInt32, count: UInt32, backwards: Bool, _ body: (_ done: UInt32, _ left: UInt32) throws(GuestError) -> UInt32
    ) throws(GuestError) {
        guard AccessSize.isValid(size) else { throw .fault("no string operation has \(size) bytes") }
        var done: UInt32 = 0
        while done < count { done += max(1, try body(done, min(count - done, 4096))) }
    }

    private static func step(_ address: GuestAddress, _ elements: UInt32, _ size: UInt32, _ backwards: Bool) -> GuestAddress {
        let distance = Int64(elements) * Int64(size)
        return address.advanced(by: backwards ? -distance : distance)
    }

    /// How many elements of a buffer one request takes: those within the page, or the one that crosses its edge. Going down Xen
    /// counts one fewer than would fit of a buffer that ends on an element's last byte; it is modelled because the emulator sees it. Nil when the buffer is not RAM.
    private func fitting(_ buffer: GuestAddress, _ size: UInt32, _ count: UInt32, _ backwards: Bool) -> UInt32? {
        guard isRAM(buffer) else { return nil }
        let offset = UInt32(buffer.pageOffset)
        let fits = backwards ? ((offset + size - 1) & 0xfff) / size : (4096 - offset) / size
        if fits > 0 { return min(count, fits) }
        return isRAM(buffer.advanced(by: backwards ? -4096 : 4096)) ? 1 : nil
    }

    /// How many elements of a device's window one request takes: those within the page.
    private static func inWindow(_ window: GuestAddress, _ size: UInt32, _ count: UInt32, _ backwards: Bool) -> UInt32 {
        guard count > 1 else { return count }
        let offset = UInt32(window.pageOffset)
        let tail = 4096 - offset
        if tail < size { return 1 }
        return min(count, (backwards ? offset + size : tail) / size)
    }
}

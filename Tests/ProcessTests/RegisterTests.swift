import Host
import LocalHost
import Specification
import Testing

/// A place where the register file is: at ports or in memory.
struct Place: CustomTestStringConvertible, Sendable {
    enum Space { case ports, memory }
    let space: Space
    let base: UInt64
    let identity: UInt64
    var testDescription: String { "\(space) \(Hex.string(base))" }

    func read(_ vcpu: LocalVCPU, _ offset: UInt64, _ size: UInt32) throws -> UInt64 {
        switch space {
        case .ports: try vcpu.read(port: UInt16(base + offset), size: size)
        case .memory: try vcpu.readMemory(GuestAddress(base + offset), size: size)
        }
    }

    func write(_ vcpu: LocalVCPU, _ offset: UInt64, _ size: UInt32, _ value: UInt64) throws {
        switch space {
        case .ports: try vcpu.write(port: UInt16(base + offset), size: size, value: value)
        case .memory: try vcpu.writeMemory(GuestAddress(base + offset), size: size, value: value)
        }
    }

    static let scratch: UInt64 = 0x5452_4353
    static let c: UInt64 = 0x5452_4343
    static let fixed = [
        Place(space: .ports, base: 0x500, identity: scratch), Place(space: .memory, base: 0xfed8_0000, identity: scratch),
        Place(space: .ports, base: 0x540, identity: c), Place(space: .memory, base: 0xfed9_0000, identity: c),
    ]
}

/// The register file, as every window shows it.
enum RegisterFile {
    static func check(_ vcpu: LocalVCPU, _ place: Place) throws {
        let sizes: [UInt32] = place.space == .ports ? [1, 2, 4] : [1, 2, 4, 8]
        for size in sizes {
            for index in 0..<(16 / UInt64(size)) {
                let offset = index * UInt64(size)
                let value = (0x0123_4567_89ab_cdef &* (offset + 3)) & AccessSize.allOnes(size)
                try place.write(vcpu, offset, size, value)
                #expect(try place.read(vcpu, offset, size) == value, "memory at \(offset), \(size) bytes of \(place)")
            }
        }
        for offset in UInt64(0)..<4 { try place.write(vcpu, offset, 1, 0x11 * (offset + 1)) }
        #expect(try place.read(vcpu, 0, 4) == 0x4433_2211, "bytes make a little-endian word")
        #expect(try place.read(vcpu, 1, 2) == 0x3322)

        try place.write(vcpu, 0x10, 4, 0)
        for size in [UInt32(1), 2, 4] { #expect(try place.read(vcpu, 0x10, size) == place.identity & AccessSize.allOnes(size)) }

        let before = try place.read(vcpu, 0x14, 4)
        let added: [(UInt32, UInt64)] = [(1, 0xff), (2, 0xfffe), (4, 0xffff_fff0)]
        for (size, value) in added { try place.write(vcpu, 0x14, size, value) }
        #expect(try place.read(vcpu, 0x14, 4) == (before + 0xff + 0xfffe + 0xffff_fff0) & 0xffff_ffff, "SUM wraps at 32 bits")
        #expect(try place.read(vcpu, 0x16, 2) == 0xffff, "SUM at its third byte reads all-ones")

        try place.write(vcpu, 0x18, 4, 0x1ff)
        #expect(try place.read(vcpu, 0x18, 1) == 0xff)
        #expect(try place.read(vcpu, 0x18, 2) == 0x200)
        #expect(try place.read(vcpu, 0x18, 4) == 0x201)
        #expect(try place.read(vcpu, 0x1a, 1) == 0xff)
        #expect(try place.read(vcpu, 0x18, 4) == 0x202, "a read beside COUNTER does not count")

        guard place.space == .memory else { return }
        for offset: UInt64 in [0x100, 0x770, 0xff8] {
            try place.write(vcpu, offset, 8, 0xfeed_f00d_dead_beef)
            #expect(try place.read(vcpu, offset, 8) == 0xfeed_f00d_dead_beef)
            #expect(try place.read(vcpu, offset + 4, 4) == 0xfeed_f00d)
        }
        #expect(try place.read(vcpu, 0x80, 4) == 0xffff_ffff, "between the registers and the memory there is nothing")
    }

    /// String instructions at one place, with the buffer in guest RAM across a page's edge.
    static func checkStrings(_ vcpu: LocalVCPU, _ place: Place, _ memory: LocalMemory) throws {
        let count: UInt32 = 600
        for backwards in [false, true] {
            let buffer: UInt64 = 0x12_0fc0
            let first = GuestAddress(backwards ? buffer + UInt64(count - 1) * 2 : buffer)
            try place.write(vcpu, 0x18, 4, 0)
            if place.space == .ports {
                try vcpu.readString(port: UInt16(place.base + 0x18), size: 2, count: count, into: first, backwards: backwards)
            } else {
                // `rep movs` walks over the window: its memory is filled first.
                for word in 0..<UInt64(count) / 4 {
                    let index = word * 8
                    try vcpu.writeMemory(GuestAddress(place.base + 0x200 + index), size: 8, value: index &* 0x0101_0101_0101_0101)
                }
                let from = GuestAddress(place.base + 0x200 + (backwards ? UInt64(count - 1) * 2 : 0))
                try vcpu.move(from: from, to: first, size: 2, count: count, backwards: backwards)
            }
            for index in 0..<UInt64(count) {
                let at = backwards && place.space == .ports ? UInt64(count) - 1 - index : index
                let wanted = place.space == .ports ? at : ((index * 2 & ~7) &* 0x0101_0101_0101_0101) >> ((index * 2 & 7) * 8) & 0xffff
                let got = memory.load(GuestAddress(buffer + index * 2), size: 2)
                if got != wanted {
                    Issue.record("element \(index) of \(place), backwards \(backwards): \(got.map { Hex.string($0) } ?? "-"), not \(Hex.string(wanted))")
                    break
                }
            }
            // Back again: SUM adds up what it is given; the window's memory is replaced.
            for index in 0..<UInt64(count) { _ = memory.store(GuestAddress(buffer + index * 4), value: index * 7, size: 4) }
            let source = GuestAddress(backwards ? buffer + UInt64(count - 1) * 4 : buffer)
            if place.space == .ports {
                let before = try place.read(vcpu, 0x14, 4)
                try vcpu.writeString(port: UInt16(place.base + 0x14), size: 4, count: count, from: source, backwards: backwards)
                #expect(try place.read(vcpu, 0x14, 4) == before + 7 * UInt64(count) * UInt64(count - 1) / 2 & 0xffff_ffff)
            } else {
                let target = GuestAddress(place.base + 0x400 + (backwards ? UInt64(count - 1) * 4 : 0))
                try vcpu.move(from: source, to: target, size: 4, count: count, backwards: backwards)
                for index in [UInt64(0), 1, 299, 599] { #expect(try place.read(vcpu, 0x400 + index * 4, 4) == index * 7) }
                try vcpu.fill(target, value: 0xa5a5_0001, size: 4, count: count, backwards: backwards)
                for index in [UInt64(0), 1, 299, 599] { #expect(try place.read(vcpu, 0x400 + index * 4, 4) == 0xa5a5_0001) }
            }
        }
    }
}

@Suite("The devices' registers, in their own processes")
struct RegisterTests {
    @Test("every register answers in every size, at ports and in memory, of the Swift device and the C one", arguments: [false, true])
    func registers(throughRelay: Bool) throws {
        try withGuest([Built.scratch(), Built.debug(), Built.cScratch()], plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            for place in Place.fixed { try RegisterFile.check(vcpu, place) }
            #expect(try vcpu.read(port: 0xe9, size: 1) == 0xe9)
            #expect(try vcpu.read(port: 0x402, size: 1) == 0xe9)
            #expect(try vcpu.read(port: 0x700, size: 4) == 0xffff_ffff, "nobody's port")
            #expect(try guest.status.emulators.map(\.state) == ["serving", "serving", "serving"])
        }
    }

    @Test("string instructions carry every element, up and down, across pages", arguments: [false, true])
    func strings(throughRelay: Bool) throws {
        try withGuest([Built.scratch(), Built.cScratch()], plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            for place in Place.fixed { try RegisterFile.checkStrings(try guest.vcpu(), place, guest.host.memory) }
        }
    }

    @Test("the windows of one device show the same registers")
    func sameRegisters() throws {
        try withGuest([Built.scratch(), Built.cScratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            for (ports, memory) in [(Place.fixed[0], Place.fixed[1]), (Place.fixed[2], Place.fixed[3])] {
                try ports.write(vcpu, 4, 4, 0xcafe_0001)
                #expect(try memory.read(vcpu, 4, 4) == 0xcafe_0001)
                try memory.write(vcpu, 0x18, 4, 41)
                #expect(try ports.read(vcpu, 0x18, 4) == 41)
                #expect(try memory.read(vcpu, 0x18, 4) == 42)
            }
        }
    }

    @Test("what the guest prints comes out in the log")
    func prints() throws {
        try withGuest([Built.debug()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            for byte in "all is well\n".utf8 { try guest.vcpu().write(port: 0x402, size: 1, value: UInt64(byte)) }
            try eventually("the line is in the log") { try guest.log.contains { $0.contains("debug: all is well") } }
        }
    }

    @Test("four vCPUs at once each get their own answers", arguments: [false, true])
    func vcpusAtOnce(throughRelay: Bool) throws {
        try withGuest([Built.scratch(), Built.cScratch()], vcpus: 4, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let runs = try (0..<4).map { index in
                let vcpu = try guest.vcpu(index)
                return onThread { () -> String? in
                    for round in 0..<UInt64(300 * thorough) {
                        for place in Place.fixed {
                            let offset = UInt64(index) * 4
                            let value = (round &* 0x9e37_79b1 &+ UInt64(index)) & 0xffff_ffff
                            do {
                                try place.write(vcpu, offset, 4, value)
                                let back = try place.read(vcpu, offset, 4)
                                if back != value { return "vCPU \(index), \(place): \(Hex.string(back)), not \(Hex.string(value))" }
                                try place.write(vcpu, 0x14, 1, 1)
                            } catch { return "\(error)" }
                        }
                    }
                    return nil
                }
            }
            for run in runs { #expect(try run.get("a vCPU") == nil) }
            // SUM was added to by ports and memory of each device, by all four.
            let vcpu = try guest.vcpu()
            for place in [Place.fixed[0], Place.fixed[2]] { #expect(try place.read(vcpu, 0x14, 4) == UInt64(4 * 2 * 300 * thorough)) }
        }
    }
}

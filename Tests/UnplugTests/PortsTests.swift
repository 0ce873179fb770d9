import EmulatorProtocol
import Testing

@testable import Unplug

@Suite("The unplug ports")
struct PortsTests {
    @Test("The order of accesses that Linux makes")
    func linux() {
        var ports = UnplugPorts()
        #expect(ports.read(port: 0x10, size: 2) == 0x49d2)
        #expect(ports.read(port: 0x12, size: 1) == 1)
        #expect(ports.write(port: 0x12, size: 2, value: 3) == .named)
        #expect(ports.write(port: 0x10, size: 4, value: 1) == .named)
        #expect(ports.product == 3 && ports.build == 1)
        #expect(ports.read(port: 0x10, size: 2) == 0x49d2)
        #expect(ports.write(port: 0x10, size: 2, value: 3) == .unplug([.disks, .nics]))
    }

    @Test("The order of the Windows drivers: separate masks, again on each resume")
    func windows() {
        var ports = UnplugPorts()
        for _ in 0..<2 {
            #expect(ports.write(port: 0x12, size: 2, value: 0xffff) == .named)
            #expect(ports.write(port: 0x10, size: 4, value: 0xffff_ffff) == .named)
            #expect(ports.write(port: 0x10, size: 2, value: 1) == .unplug(.disks))
            #expect(ports.write(port: 0x10, size: 2, value: 2) == .unplug(.nics))
        }
    }

    @Test("A blacklisted driver reads the other magic until another one names itself and is let in")
    func blacklisted() {
        var ports = UnplugPorts()
        _ = ports.write(port: 0x12, size: 2, value: 2)
        _ = ports.write(port: 0x10, size: 4, value: 77)
        ports.isBlacklisted = true
        #expect(ports.read(port: 0x10, size: 2) == 0xd249)
        #expect(ports.write(port: 0x12, size: 2, value: 3) == .named)
        #expect(ports.build == nil)
        ports.isBlacklisted = false
        #expect(ports.read(port: 0x10, size: 2) == 0x49d2)
    }

    @Test("The flags hold the ROM lock alone, and say only changes")
    func flags() {
        var ports = UnplugPorts()
        #expect(ports.write(port: 0x10, size: 1, value: 0) == .none)
        #expect(ports.write(port: 0x10, size: 1, value: 0xff) == .lockROM(true))
        #expect(ports.read(port: 0x10, size: 1) == 1)
        #expect(ports.write(port: 0x10, size: 1, value: 3) == .none)
        #expect(ports.write(port: 0x10, size: 1, value: 0xfe) == .lockROM(false))
        #expect(ports.read(port: 0x10, size: 1) == 0)
    }

    @Test("Log bytes become lines: at their end, without a carriage return, or when they are too long")
    func lines() {
        var ports = UnplugPorts()
        func say(_ bytes: [UInt8]) -> [String] {
            bytes.compactMap {
                if case .line(let line) = ports.write(port: 0x12, size: 1, value: UInt32($0) | 0xabc_d00) { line } else { nil }
            }
        }
        #expect(say(Array("one\ntwo\r\n\n\n".utf8)) == ["one", "two"])
        #expect(say([0xe9, 0, 0x1b, 0x0a]) == ["\u{e9}\0\u{1b}"])
        let long = say([UInt8](repeating: 0x78, count: 3 * UnplugPorts.longestLine + 5))
        #expect(long.map(\.utf8.count) == [512, 512, 512])
        #expect(say([0x0a]) == ["xxxxx"])
    }

    @Test("Everything else reads as all-ones and is dropped")
    func others() {
        var ports = UnplugPorts()
        let known: Set<[Int]> = [[0x10, 1], [0x10, 2], [0x10, 4], [0x12, 1], [0x12, 2]]
        for port in UInt16(0x10)...0x1f {
            for size in [1, 2, 4] where !known.contains([Int(port), size]) {
                #expect(ports.write(port: port, size: size, value: 0x1234_5678) == .none)
                #expect(ports.read(port: port, size: size) == (1 << UInt64(size * 8) - 1) & 0xffff_ffff as UInt64)
            }
        }
        #expect(ports.read(port: 0x10, size: 4) == 0xffff_ffff && ports.read(port: 0x12, size: 2) == 0xffff)
        #expect(ports == UnplugPorts())
    }

    @Test("Masks name classes: bit 0 overrides bit 2, and bits without a meaning name none")
    func masks() {
        #expect(UnplugMask(rawValue: 1).classes == [.ideDisk, .scsiDisk, .auxDisk])
        #expect(UnplugMask(rawValue: 5).classes == UnplugMask(rawValue: 1).classes)
        #expect(UnplugMask(rawValue: 4).classes == [.auxDisk])
        #expect(UnplugMask(rawValue: 2).classes == [.nic] && UnplugMask(rawValue: 8).classes == [.nvme])
        #expect(UnplugMask(rawValue: 0xfff0).classes == [])
        for mask in UInt16(0)..<16 { #expect(UnplugMask(UnplugMask(rawValue: mask).classes).classes == UnplugMask(rawValue: mask).classes) }
    }

    @Test("Blacklists are looked for under the product's name and the build in decimal digits")
    func paths() {
        #expect(UnplugProduct.blacklistPath(product: 3, build: 1) == "/mh/driver-blacklist/linux/1")
        #expect(UnplugProduct.blacklistPath(product: 5, build: .max) == "/mh/driver-blacklist/xenserver-windows-v7.2+/4294967295")
        #expect(UnplugProduct.blacklistPath(product: 6, build: 1) == nil)
        for name in UnplugProduct.allNames { #expect(UnplugProduct.number(of: name).flatMap(UnplugProduct.name) == name) }
    }

    @Test("10,000 accesses of garbage, every port and size: the state is one that the protocol allows")
    func garbage() {
        var random = Generator(state: 0x756e_706c_7567)
        var ports = UnplugPorts()
        for _ in 0..<10_000 {
            let port = UInt16(0x10 + random.next() % 16)
            let size = [1, 2, 4, 8, 3, 0][Int(random.next() % 6)]
            let value = UInt32(truncatingIfNeeded: random.next())
            if random.next() & 1 == 0 {
                let read = ports.read(port: port, size: size)
                if port == 0x10, size == 2 { #expect(read == (ports.isBlacklisted ? 0xd249 : 0x49d2)) }
            } else {
                switch ports.write(port: port, size: size, value: value) {
                case .none: break
                case .unplug(let mask): #expect(port == 0x10 && size == 2 && mask.classes.isSubset(of: UnplugClass.allCases))
                case .named: ports.isBlacklisted = random.next() & 1 == 0
                case .lockROM(let locked): #expect(locked == (value & 1 == 1))
                case .line(let line): #expect((1...UnplugPorts.longestLine).contains(line.unicodeScalars.count))
                }
            }
            #expect(ports.flags <= 1)
        }
    }
}

/// The same numbers in every run.
struct Generator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}

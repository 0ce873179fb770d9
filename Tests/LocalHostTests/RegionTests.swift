import Glibc
import Host
import Platform
import Synchronization
import TestTools
import Testing

@testable import LocalHost

@Suite("A region of LocalHost's")
struct RegionTests {
    private final class Mapped {
        let memory: Mapping
        let bitmap: Mapping
        let doorbell: EventFD?
        init(_ host: LocalHost, _ region: HostRegion) throws {
            let bag = try host.regionDescriptors(of: region.number)
            let length = Int(region.length)
            guard let content = bag.take(), let bits = bag.take() else { throw GuestError.fault("a descriptor is missing") }
            memory = try SharedMemory(adopting: content, length: length, what: "region").map(what: "region")
            bitmap = try SharedMemory(adopting: bits, length: 4096, what: "bitmap").map(what: "bitmap")
            if let bell = bag.take() { doorbell = EventFD(adopting: bell) } else { doorbell = nil }
        }
        var hasDoorbell: Bool { doorbell != nil }
        func takeRing() -> Bool { doorbell?.clear() ?? false }
        var word: UInt64 { bitmap.base.load(as: UInt64.self) }
    }

    private func host() throws -> LocalHost { try LocalHost(domain: try #require(DomainID(7)), vcpus: 2, memoryBytes: 16 << 20) }

    @Test("is sealed memory whose dirty pages are told once: all at first, exactly afterwards, and the first write rings")
    func dirty() throws {
        let host = try host()
        let vcpu = try #require(VCPUID(0).flatMap { host.vcpu($0) })
        let region = try host.makeRegion(length: 40 * 4096)
        #expect(region.hasDoorbell && region.gfn == nil)
        let mapped = try Mapped(host, region)
        try host.placeRegion(region.number, at: GFN(0xe0000))
        try vcpu.writeMemory(GuestAddress(0xe000_0000), size: 4, value: 0x1122)
        #expect(mapped.memory.base.load(as: UInt32.self) == 0x1122)
        #expect(!mapped.takeRing())
        try host.collectDirty(region.number)
        #expect(mapped.word == (1 << 40) - 1)
        try host.collectDirty(region.number)
        #expect(mapped.word == 0)
        try vcpu.writeMemory(GuestAddress(0xe000_3ffe), size: 4, value: .max)
        try vcpu.fill(GuestAddress(0xe000_7000), value: 1, size: 1, count: 4097)
        _ = try vcpu.readMemory(GuestAddress(0xe000_9000), size: 8)
        #expect(mapped.takeRing())
        try host.collectDirty(region.number)
        #expect(mapped.word == 0b1_1001_1000)
        #expect(!mapped.takeRing())
        // Moved, it keeps what is in it and what is known of it.
        try vcpu.writeMemory(GuestAddress(0xe000_0000), size: 1, value: 1)
        try host.placeRegion(region.number, at: GFN(0xd0000))
        #expect(try vcpu.readMemory(GuestAddress(0xd000_0000), size: 1) == 1)
        #expect(try vcpu.readMemory(GuestAddress(0xe000_0000), size: 4) == 0xffff_ffff)
        try host.collectDirty(region.number)
        #expect(mapped.word == 1)
    }

    @Test("is refused over RAM, over another one and beyond 48 bits, and stays where it is then")
    func clashes() throws {
        let host = try host()
        let one = try host.makeRegion(length: 0x8000)
        let other = try host.makeRegion(length: 0x2000)
        try host.placeRegion(one.number, at: GFN(0xb8))
        for gfn in [0, 0x9f, 0xbf, 0xb8, 0xb7, 0x100, 1 << 36, (1 << 36) - 1, .max] as [UInt64] {
            do {
                try host.placeRegion(other.number, at: GFN(gfn))
                Issue.record("it was put at \(Hex.string(gfn))")
            } catch {
                #expect(error.reason == .invalid)
            }
        }
        try host.placeRegion(other.number, at: GFN(0xb6))
        try host.placeRegion(one.number, at: GFN(0xb8))
        #expect(host.memory.contains(GuestAddress(0xb6000), count: 0xa000))
        // What an emulator may map of the guest is its RAM, with regions or without.
        #expect(try host.sharedMemory().regions.allSatisfy { $0.address.rawValue + $0.length <= 0xa0000 || $0.address.rawValue >= 0xc0000 })
        try host.removeRegion(one.number)
        #expect(!host.memory.contains(GuestAddress(0xb8000), count: 1))
        #expect(throws: HostError.self) { try host.collectDirty(one.number) }
        #expect(throws: HostError.self) { try host.adoptRegion(length: 4096, at: GFN(1)) }
    }

    @Test("loses no write between two looks, while two vCPUs write")
    func concurrent() throws {
        let host = try host()
        let region = try host.makeRegion(length: 64 * 4096)
        let mapped = try Mapped(host, region)
        try host.placeRegion(region.number, at: GFN(0xe0000))
        try host.collectDirty(region.number)
        let running = Atomic<Int>(2)
        for index in 0..<2 {
            let vcpu = try #require(VCPUID(index).flatMap { host.vcpu($0) })
            try TestThread {
                for round in 1...20_000 as ClosedRange<UInt64> {
                    let page = (round &* 7 &+ UInt64(index) &* 32) & 63
                    _ = try? vcpu.writeMemory(GuestAddress(0xe000_0000 + page * 4096 + UInt64(index) * 8), size: 8, value: round)
                }
                running.subtract(1, ordering: .releasing)
            }.detach()
        }
        // The copy that a display keeps: of every page that is named, taken after it was named.
        var copy = [UInt64](repeating: 0, count: 128)
        func take() throws {
            try host.collectDirty(region.number)
            for place in 0..<128 where mapped.word >> UInt64(place / 2) & 1 != 0 {
                copy[place] = mapped.memory.base.load(fromByteOffset: place / 2 * 4096 + place % 2 * 8, as: UInt64.self)
            }
        }
        while running.load(ordering: .acquiring) > 0 { try take() }
        try take()
        let last = (0..<128).map { mapped.memory.base.load(fromByteOffset: $0 / 2 * 4096 + $0 % 2 * 8, as: UInt64.self) }
        #expect(copy == last)
        #expect(last.contains(20_000))
    }

    /// What a CPU engine is told.
    private final class Engine: GuestAddressSpace {
        let told = Mutex<[String]>([])
        let refuses = Atomic<Bool>(false)
        func map(region: Int, at address: GuestAddress, memory: UnsafeMutableRawBufferPointer) throws(SystemError) {
            if refuses.load(ordering: .relaxed) { throw SystemError("map", "a slot", reason: "there are none left") }
            told.withLock { $0.append("map \(region) \(address) \(memory.count)") }
        }
        func unmap(region: Int) throws(SystemError) { told.withLock { $0.append("unmap \(region)") } }
        func collectDirty(region: Int, into bitmap: UnsafeMutableRawBufferPointer) throws(SystemError) {
            told.withLock { $0.append("dirty \(region) \(bitmap.count)") }
            bitmap[0] |= 0b100
        }
    }

    @Test("is shown to a real CPU as well, which knows what was written without asking")
    func engine() throws {
        let host = try host()
        let engine = Engine()
        host.attach(engine)
        let region = try host.makeRegion(length: 0x10000)
        #expect(!region.hasDoorbell)
        let mapped = try Mapped(host, region)
        #expect(!mapped.hasDoorbell)
        try host.placeRegion(region.number, at: GFN(0xe0000))
        try host.collectDirty(region.number)
        #expect(mapped.word == 0xffff)
        try host.collectDirty(region.number)
        #expect(mapped.word == 0b100)
        engine.refuses.store(true, ordering: .relaxed)
        do {
            try host.placeRegion(region.number, at: GFN(0xd0000))
            Issue.record("it was put there")
        } catch {
            #expect(error.detail.contains("there are none left"))
        }
        #expect(host.memory.contains(GuestAddress(0xe000_0000), count: 0x10000))
        try host.removeRegion(region.number)
        #expect(
            engine.told.withLock { $0 } == [
                "map 1 \(GuestAddress(0xe000_0000)) 65536", "dirty 1 2", "dirty 1 2", "unmap 1",
            ])
    }
}

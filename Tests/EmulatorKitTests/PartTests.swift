import EmulatorProtocol
import Glibc
import Host
import Platform
import SeededNumbers
import TestTools
import Testing

@testable import EmulatorKit

@Suite("The parts of the kit")
struct PartTests {
    @Test("the claim table finds what covers a whole access, and nothing else")
    func claimTable() {
        var table = ClaimTable()
        for (first, last, window) in [(0x500, 0x51f, 1), (0x100, 0x107, 2), (UInt64.max - 15, .max, 3), (0x520, 0x527, 4)] as [(UInt64, UInt64, UInt16)] {
            let inserted = table.insert(first: first, last: last, window: window)
            #expect(inserted)
        }
        func found(_ address: UInt64, _ size: UInt32) -> [UInt64]? { table.find(address, size: size).map { [UInt64($0.window), $0.offset] } }
        #expect(found(0x500, 1) == [1, 0])
        #expect(found(0x51c, 4) == [1, 0x1c])
        #expect(found(0x51d, 4) == nil)
        #expect(found(0x527, 1) == [4, 7])
        #expect(found(0xff, 2) == nil)
        #expect(found(0x528, 1) == nil)
        #expect(found(.max - 7, 8) == [3, 8])
        #expect(found(.max - 6, 8) == nil)
        #expect(found(0, 1) == nil)
        table.remove(first: 0x500, window: 1)
        #expect(found(0x500, 1) == nil)
        #expect(found(0x100, 8) == [2, 0])
    }

    @Test("the claim table agrees with a plain search, and takes 256 entries")
    func claimTableRandom() {
        var random = SplitMix(state: 3)
        var table = ClaimTable()
        var plain: [(UInt64, UInt64, UInt16)] = []
        for window in 0..<256 {
            let first = UInt64(window * 37 % 256) * 64 + random.next() % 16
            let last = first + random.next() % 40
            let inserted = table.insert(first: first, last: last, window: UInt16(window))
            #expect(inserted)
            plain.append((first, last, UInt16(window)))
        }
        let more = table.insert(first: 1 << 40, last: 1 << 40, window: 256)
        #expect(!more)
        for _ in 0..<20_000 {
            let address = random.next() % (256 * 64 + 32)
            let size = [1, 2, 4, 8][Int(random.next() % 4)] as UInt32
            let expected = plain.first { $0.0 <= address && address + UInt64(size) - 1 <= $0.1 }?.2
            let got = table.find(address, size: size)?.window
            #expect(got == expected)
        }
    }

    @Test("a rate limit lets a burst through, then one an interval, and counts the rest")
    func rateLimit() {
        var limit = RateLimit(burst: 3, interval: 100)
        func allowed(_ times: [UInt64]) -> [Bool] {
            var result: [Bool] = []
            for time in times { result.append(limit.allows(at: time)) }
            return result
        }
        #expect(allowed([1000, 1000, 1000, 1000, 1000]) == [true, true, true, false, false])
        #expect(allowed([1099, 1100, 1150]) == [false, true, false])
        let held = limit.takeSuppressed()
        #expect(held == 4)
        #expect(allowed([5000, 5000, 5000, 5000]) == [true, true, true, false])
    }

    @Test("nothing is spun while requests are rare, up to the limit while they come fast, and not after a long silence")
    func spinBudget() {
        var spin = SpinBudget(limit: .microseconds(100))
        #expect(spin.nanoseconds == 0)
        spin.slept(gap: 10_000_000)
        #expect(spin.nanoseconds == 0)
        spin.slept(gap: 20_000)
        #expect(spin.nanoseconds == 40_000)
        for _ in 0..<5 { spin.found() }
        #expect(spin.nanoseconds == 100_000)
        spin.slept(gap: 500_000)
        #expect(spin.nanoseconds == 50_000)
        spin.slept(gap: 1_000_000_000)
        #expect(spin.nanoseconds == 0)
        spin.found()
        #expect(spin.nanoseconds == 0)
        var never = SpinBudget(limit: .zero)
        never.slept(gap: 0)
        #expect(never.nanoseconds == 0)
    }

    @Test("device memory drops what does not lie wholly inside")
    func deviceMemory() {
        var memory = DeviceMemory(length: 10)
        memory.store(2, size: 8, 0x1122_3344_5566_7788)
        memory.store(3, size: 8, 0)
        memory.store(-1, size: 4, 0)
        memory.store(.max, size: 8, 0)
        memory.store(0, size: 3, 0xff)
        let values = [memory.load(2, size: 8), memory.load(0, size: 2), memory.load(9, size: 2), memory.load(-4, size: 4), memory.load(.max, size: 1)]
        #expect(values == [0x1122_3344_5566_7788, 0, 0xffff, 0xffff_ffff, 0xff])
    }

    // MARK: guest memory

    private final class Peer {
        let socket: MessageSocket
        init(_ raw: CInt) { socket = MessageSocket(adopting: OwnedDescriptor(adopting: raw)) }
    }

    private func control() throws -> (ControlConnection, Peer) {
        let (left, right) = try MessageSocket.pair()
        return (try ControlConnection(adopting: OwnedDescriptor(adopting: left)), Peer(right))
    }

    @Test("a grant whose regions lie outside the file, overlap, are empty or too many is refused", arguments: [
        [(0, 0x2001, 0)], [(0, 0x1000, 0x1001)], [(0, 0x1000, .max)], [(.max, 0x1000, 0)], [(0, 0, 0)], [],
        [(0, 0x1000, 0), (0xfff, 0x1000, 0x1000)], Array(repeating: (0, 1, 0), count: 65),
    ] as [[(UInt64, UInt64, UInt64)]])
    func badGrant(regions: [(UInt64, UInt64, UInt64)]) throws {
        let (control, peer) = try control()
        let memory = try SharedMemory(name: "ram", length: 0x2000)
        let grant = MemoryGrant(
            kind: .shared, length: 0x2000, regions: regions.map { .init(address: GuestAddress($0.0), length: $0.1, offset: $0.2) })
        #expect(throws: SetupError.self) { try SharedRAM(grant, descriptor: memory.descriptor.duplicate(), control: control) }
        withExtendedLifetime(peer) {}
    }

    @Test("memory that is not sealed, or has another size, is refused")
    func unsealed() throws {
        let (control, peer) = try control()
        let pipe = try EventFD()
        let memory = try SharedMemory(name: "ram", length: 0x1000)
        let region = MemoryGrant.Region(address: GuestAddress(0), length: 0x1000, offset: 0)
        let wrong = MemoryGrant(kind: .shared, length: 0x2000, regions: [region])
        #expect(throws: SetupError.self) { try SharedRAM(wrong, descriptor: memory.descriptor.duplicate(), control: control) }
        #expect(throws: SetupError.self) { try SharedRAM(wrong, descriptor: pipe.descriptor.duplicate(), control: control) }
        #expect(throws: SetupError.self) { try BounceMemory(MemoryGrant(kind: .bounce, length: .max), descriptor: pipe.descriptor.duplicate(), control: control) }
        withExtendedLifetime(peer) {}
    }

    @Test("a bounce buffer copies piece by piece, keeps what was RAM, and gives all-ones once its coordinator is gone")
    func bounce() throws {
        let (control, peer) = try control()
        let buffer = try SharedMemory(name: "bounce", length: 0x1000)
        let view = try buffer.map(what: "bounce")
        let base = view.base
        let memory = try BounceMemory(MemoryGrant(kind: .bounce, length: 0x1000), descriptor: buffer.descriptor.duplicate(), control: control)
        // The coordinator: every byte of the guest's is the page's number; page 3 is no RAM.
        let raw = peer.socket.descriptor.raw
        let box = SendableBox(raw: raw, base: base)
        let thread = try TestThread {
            let socket = MessageSocket(adopting: OwnedDescriptor(adopting: dup(box.raw)))
            for _ in 0..<3 {
                guard case .message(let bytes, _)? = try? socket.receive(), let packet = try? Packet.decoded(bytes), case .dma(let dma) = packet.body
                else { return }
                memset(box.base, CInt(dma.address.value >> 12 & 0xff), dma.length)
                let refused = dma.address.value >> 12 == 3
                if refused { memset(box.base + 4, 0xff, dma.length - 4) }
                let answer = Packet(refused ? .error(Refusal(.invalid, asked: "dma", message: "not RAM")) : .ok(Reply()), re: packet.id)
                try? socket.send(answer.encoded())
            }
        }
        var bytes = [UInt8](repeating: 0, count: 0x2008)
        let complete = bytes.withUnsafeMutableBytes { memory.read(GuestAddress(0x1000), into: $0) }
        thread.join()
        #expect(!complete)
        #expect(bytes[0] == 1 && bytes[0xfff] == 1 && bytes[0x1000] == 2)
        #expect(Array(bytes[0x2000...]) == [3, 3, 3, 3, 0xff, 0xff, 0xff, 0xff])
        _ = shutdown(raw, CInt(SHUT_RDWR))
        #expect(memory.load(GuestAddress(0x1000), size: 4) == nil)
        #expect(!memory.store(GuestAddress(0x1000), value: 1, size: 4))
    }

    private struct SendableBox: @unchecked Sendable {
        let raw: CInt
        let base: UnsafeMutableRawPointer
    }

    // MARK: the example

    @Test("the example has fewer than 40 lines, and is the one that the README shows")
    func example() throws {
        let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined()
        let example = try #require(text(root + "/Emulators/Example/Example.swift"))
        #expect(example.split(separator: "\n", omittingEmptySubsequences: false).count <= 40)
        guard let readme = text(root + "/README.md"), readme.contains("struct Example") else { return }
        #expect(readme.contains(example))
    }

    private func text(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let bytes = [UInt8](unsafeUninitializedCapacity: 1 << 20) { buffer, count in count = max(0, Glibc.read(descriptor, buffer.baseAddress, buffer.count)) }
        return String(decoding: bytes, as: UTF8.self)
    }
}

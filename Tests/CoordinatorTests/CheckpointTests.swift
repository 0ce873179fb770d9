import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import Platform
import SeededNumbers
import Specification
import Testing

@testable import Coordinator

@Suite("The checkpoint")
struct CheckpointTests {
    /// One with something in every field, made of random numbers.
    private static func sample(_ random: inout SplitMix) -> Checkpoint {
        func word() -> String { String((0..<Int.random(in: 1...12, using: &random)).map { _ in "abcdefgh-\"\\/é\u{1}".randomElement(using: &random) ?? "x" }) }
        func flag() -> Bool { Bool.random(using: &random) }
        let specification = EmulatorSpecification(name: "e\(UInt8.random(in: 0...255, using: &random))", program: "/bin/" + word(), arguments: [word()], options: [word(): word()])
        let claims = (0..<Int.random(in: 0...30, using: &random)).map { index in
            let low = UInt64.random(in: 0...0xffff, using: &random)
            return KeptClaim(
                number: index + 1, owner: [.emulator, .qemu, .coordinator].randomElement(using: &random) ?? .qemu, name: specification.name,
                kind: flag() ? .ports : .memory, place: nil, first: low, last: 0xffff, label: word())
        }
        let emulator = KeptEmulator(
            specification: specification, phase: [.starting, .serving, .paused, .quitting, .ended].randomElement(using: &random) ?? .serving,
            reason: flag() ? word() : nil, fate: flag() ? .parked(word()) : flag() ? .restarting(word()) : nil, isLeaving: flag(), pid: Int32.random(in: 1...99_999, using: &random),
            prefix: "process/1-\(UInt64.random(in: 0...UInt64.max, using: &random))/", mode: flag() ? .direct : .isolated, isSuccessor: flag(),
            isBeingReplaced: flag(), stateVersion: 3, capabilities: [word()], unplugClasses: UnplugClass.allCases,
            lines: [.init(device: 3, pin: 1, isa: nil), .init(device: 0, pin: 0, isa: 4)], populated: [.init(first: UInt64.random(in: 0...1 << 36, using: &random), pages: 3)],
            hasBounce: flag(), hasObservation: flag(), isAbsolute: flag(), reader: flag() ? 4 : nil)
        let holdings = KeptHoldings(
            name: specification.name, server: 5, isOpen: flag(), isClosed: flag(), hasRelay: flag(), state: 4096, isUsed: flag(), stateVersion: 2,
            regions: [.init(label: word(), number: 1, length: 1 << 24, gfn: UInt64.random(in: 0...1 << 36, using: &random), home: nil, hasDoorbell: flag())],
            restarts: 7, replacements: 1)
        return Checkpoint(
            guestName: word(), specification: GuestSpecification(source: word(), emulators: [specification]), restrictedTo: .init(uid: 196_609, gid: 65_534),
            dirtyLogging: flag(), ownServer: 7, servesOwnPorts: flag(), reserved: [6, 5], claims: claims, nextClaim: 99, emulators: [emulator],
            holdings: [holdings],
            unplug: KeptUnplug(classes: [.nic], product: 3, build: UInt32.random(in: 0...UInt32.max, using: &random), isBlacklisted: flag(), isROMLocked: flag()),
            platform: flag() ? (0..<72).map { _ in UInt8.random(in: 0...255, using: &random) } : nil,
            surface: KeptSurface(display: word(), width: 720, height: 400, nextReader: 9, readers: [4], gone: [7]),
            vnc: KeptVNC(
                sockets: [.init(host: "::1", port: 5900), .init(path: "/run/x", device: UInt64.random(in: 0...UInt64.max, using: &random), inode: 12)],
                password: word(), expiry: -5, isWithheld: flag()), owner: word())
    }

    @Test("What was written is read back, whatever is in it")
    func roundTrip() throws {
        var random = SplitMix(state: 1)
        for _ in 0..<200 {
            let one = Self.sample(&random)
            let bytes = ControlCodec.encode(one)
            #expect(try ControlCodec.decode(Checkpoint.self, from: bytes) == one)
        }
    }

    @Test("A claim of each kind is the same claim afterwards")
    func claims() throws {
        let ranges: [IORange] = [
            .ports(try #require(PortRange(first: 0, last: 0xffff))), .memory(try #require(MMIORange(first: GuestAddress(0), last: GuestAddress(.max)))),
            .pci(try #require(PCIAddress(parsing: "0000:00:1f.7"))),
        ]
        for (index, range) in ranges.enumerated() {
            for owner in [ClaimRegistry.Owner.emulator("a"), .qemu, .coordinator] {
                let entry = ClaimRegistry.Entry(number: index + 1, owner: owner, range: range, label: "x")
                #expect(KeptClaim(entry).entry == entry)
            }
        }
    }

    @Test("Bytes that were changed are refused or read, and no claim of them is impossible")
    func fuzz() {
        var random = SplitMix(state: 2)
        let bytes = ControlCodec.encode(Self.sample(&random))
        for _ in 0..<3000 {
            var changed = bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            guard let read = try? ControlCodec.decode(Checkpoint.self, from: changed) else { continue }
            let registry = ClaimRegistry(adopting: read.claims.compactMap(\.entry), nextNumber: read.nextClaim)
            #expect(registry.nextNumber > 0)
        }
    }
}

@Suite("The checkpoint's memory")
struct CheckpointMemoryTests {
    /// What the next coordinator would read.
    private func adopted(_ memory: CheckpointMemory) throws -> [UInt8]? {
        let copy = dup(memory.descriptor)
        try #require(copy >= 0)
        return try CheckpointMemory(adopting: OwnedDescriptor(adopting: copy)).read()
    }

    @Test("There is nothing in it at first, and then what was written last")
    func newest() throws {
        let memory = try CheckpointMemory()
        #expect(try adopted(memory) == nil)
        for round in 1...5 {
            let bytes = [UInt8](repeating: UInt8(round), count: round * 1000)
            #expect(memory.write(bytes))
            #expect(try adopted(memory) == bytes)
        }
    }

    @Test("One that is half written when its writer dies is passed over for the one before")
    func torn() throws {
        let memory = try CheckpointMemory()
        #expect(memory.write([1, 2, 3]))
        #expect(memory.write([4, 5, 6]))
        let raw = memory.descriptor
        // The half of commit 2 begins after the first page: commit 1 is in the other.
        var wrong: UInt8 = 0xff
        #expect(pwrite(raw, &wrong, 1, 4096 + 16) == 1)
        #expect(try adopted(memory) == [1, 2, 3])
    }

    @Test("One that is too long is refused, and the one before stays")
    func tooLong() throws {
        let memory = try CheckpointMemory()
        #expect(memory.write([1]))
        #expect(!memory.write([UInt8](repeating: 0, count: CheckpointMemory.longest + 1)))
        #expect(try adopted(memory) == [1])
    }

    @Test("Memory of another kind is not taken over")
    func another() throws {
        let other = try SharedMemory(name: "other", length: CheckpointMemory.length)
        #expect(throws: SystemError.self) { _ = try CheckpointMemory(adopting: try other.descriptor.duplicate()) }
        let short = try SharedMemory(name: "short", length: 4096)
        #expect(throws: SystemError.self) { _ = try CheckpointMemory(adopting: try short.descriptor.duplicate()) }
    }
}

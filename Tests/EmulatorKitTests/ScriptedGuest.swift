import Host
import SeededNumbers
import Testing

@testable import EmulatorKit

/// A guest whose vCPUs each carry out a list of accesses to an `Accountant`, and which knows what must come of all of them. A value: a copy goes on
/// from where the original was.
struct ScriptedGuest {
    enum Task {
        /// A request, and what the guest's own part of memory holds for it.
        case request(IORequest, buffer: [UInt8])
        /// Entries of the ring.
        case post([BufferedEntry])
    }

    static let vcpus = 4
    /// Each vCPU's part of the guest's memory.
    static let partLength = 0x1c00
    private var tasks: [[Task]]
    private var waiting = [Bool](repeating: false, count: vcpus)
    /// What was read of the sequence, and what the whole must come to.
    private(set) var popped: [UInt64] = []
    private(set) var sum: UInt64 = 0
    private(set) var pops: UInt64 = 0
    private(set) var shortPopped: [UInt64] = []
    private(set) var shortPops: UInt64 = 0
    private(set) var hash: UInt64 = 0
    private(set) var clocks: Int64 = 0
    private(set) var held: UInt64 = 0
    /// Answers that cannot be.
    private(set) var faults: [String] = []

    static func part(_ vcpu: Int) -> UInt64 { FakeCoordinator.ramBase + UInt64(vcpu * partLength) }

    init(length: Int, longest: Int, manner: Accountant.Manner, _ random: inout SplitMix) {
        tasks = []
        for vcpu in 0..<Self.vcpus {
            var list: [Task] = []
            for _ in 0..<length { list.append(make(vcpu, longest, manner, &random)) }
            tasks.append(list)
        }
    }

    private mutating func make(_ vcpu: Int, _ longest: Int, _ manner: Accountant.Manner, _ random: inout SplitMix) -> Task {
        let part = Self.part(vcpu)
        func access(_ kind: IORequest.Kind, _ direction: IORequest.Direction, _ address: UInt64, _ data: UInt64, _ size: UInt32, _ count: Int) -> IORequest {
            IORequest(kind: kind, direction: direction, address: address, data: data, size: size, count: UInt32(count))
        }
        let count = 1 + Int(random.next() % UInt64(longest))
        let value = random.next() & 0xffff
        let backwards = random.next() % 2 == 0
        let size: UInt32 = [1, 2, 4][Int(random.next() % 3)]
        switch random.next() % 12 {
        case 0:
            sum &+= value
            return .request(access(.portIO, .write, Accountant.ports, value, 4, 1), buffer: [])
        case 1:
            pops += 1
            return .request(access(.portIO, .read, Accountant.ports, 0, 4, 1), buffer: [])
        case 2:
            sum &+= value &* UInt64(count)
            return .request(access(.portIO, .write, Accountant.ports, value, 2, count), buffer: [])
        case 3:
            pops += UInt64(count)
            return .request(access(.portIO, .read, Accountant.ports, 0, 4, count), buffer: [])
        case 4, 5:
            let number = min(count, Self.partLength / Int(size))
            let bytes = (0..<number * Int(size)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            for place in stride(from: 0, to: bytes.count, by: Int(size)) {
                sum &+= (0..<Int(size)).reduce(UInt64(0)) { $0 | UInt64(bytes[place + $1]) << UInt64($1 * 8) }
            }
            let start = backwards ? part + UInt64((number - 1) * Int(size)) : part
            var request = access(.portIO, .write, Accountant.ports, start, size, number)
            if random.next() % 2 == 0 {
                (request.type, request.address) = (IORequest.Kind.copy.rawValue, Accountant.memory + 0x8000)
            }
            (request.dataIsPointer, request.backwards) = (true, backwards)
            return .request(request, buffer: bytes)
        case 6, 7:
            let number = min(count, Self.partLength / 4)
            pops += UInt64(number)
            var request = access(.portIO, .read, Accountant.ports, backwards ? part + UInt64((number - 1) * 4) : part, 4, number)
            (request.dataIsPointer, request.backwards) = (true, backwards)
            return .request(request, buffer: [UInt8](repeating: 0xee, count: number * 4))
        case 8:
            // As many as there are numbers.
            let number = min(count, Self.partLength / 2, Int(0xffff - shortPops))
            guard number > 0 else { return .post([]) }
            shortPops += UInt64(number)
            var request = access(.portIO, .read, Accountant.ports + 8, backwards ? part + UInt64((number - 1) * 2) : part, 2, number)
            (request.dataIsPointer, request.backwards) = (true, backwards)
            return .request(request, buffer: [UInt8](repeating: 0xee, count: number * 2))
        case 9:
            held += manner == .held ? value : 1
            return .request(access(.portIO, .write, Accountant.ports + 0xc, value, 4, 1), buffer: [])
        case 10:
            clocks += Int64(value)
            if random.next() % 2 == 0 { return .request(access(.timeOffset, .write, 0, value, 8, 1), buffer: []) }
            return .post([BufferedEntry(type: 7, direction: .write, size: 8, address: 0, data: value)])
        default:
            guard vcpu == 0 else { return .request(access(.invalidate, .write, 0, 0, 0, 0), buffer: []) }
            // One vCPU only posts what is hashed, so that the order is known.
            let entries = (0..<count % 100 + 1).map { _ in
                let size: UInt32 = [1, 2, 4, 8][Int(random.next() % 4)]
                return BufferedEntry(
                    type: 1, direction: .write, size: size, address: Accountant.low + random.next() % 0x1000, data: random.next() & AccessSize.allOnes(size))
            }
            for entry in entries { hash = Accountant.hash(hash, entry.data) }
            return .post(entries)
        }
    }

    var isFinished: Bool { tasks.allSatisfy(\.isEmpty) }

    /// Takes answers, and asks what comes next.
    mutating func act(_ coordinator: FakeCoordinator) {
        guard let ram = coordinator.ram else { return }
        for vcpu in 0..<Self.vcpus {
            if waiting[vcpu] {
                guard let data = coordinator.slots.collect(vcpu) else { continue }
                waiting[vcpu] = false
                if case .request(let request, _) = tasks[vcpu].removeFirst() { take(vcpu, request, data, ram) }
            }
            while case .post(let entries)? = tasks[vcpu].first {
                guard coordinator.ring.map({ ring in entries.count + 8 < Int(BufferedRing.capacity - ring.waiting) / 2 }) == true else { break }
                for entry in entries where coordinator.ring?.post(entry) != true { faults.append("an entry did not fit") }
                tasks[vcpu].removeFirst()
            }
            guard case .request(let request, let buffer)? = tasks[vcpu].first else { continue }
            buffer.withUnsafeBytes { source in
                if let base = source.baseAddress { (ram + vcpu * Self.partLength).copyMemory(from: base, byteCount: source.count) }
            }
            if !coordinator.slots.submit(vcpu, request) { faults.append("slot \(vcpu) is not free") }
            waiting[vcpu] = true
        }
        coordinator.ringKick()
    }

    private mutating func take(_ vcpu: Int, _ request: IORequest, _ data: UInt64, _ ram: UnsafeMutableRawPointer) {
        guard request.kind == .portIO, request.direction == .read else {
            if data != request.data { faults.append("vCPU \(vcpu): the answer to \(request) has other data, \(data)") }
            return
        }
        guard request.dataIsPointer else { return popped.append(data) }
        if data != request.data { faults.append("vCPU \(vcpu): the buffer's address is another one, \(data)") }
        if request.size == 2 {
            for place in 0..<Int(request.count) { shortPopped.append(UInt64(ram.load(fromByteOffset: vcpu * Self.partLength + place * 2, as: UInt16.self))) }
            return
        }
        for place in 0..<Int(request.count) { popped.append(UInt64(ram.load(fromByteOffset: vcpu * Self.partLength + place * 4, as: UInt32.self))) }
    }

    /// What is wrong in the end; empty: nothing.
    func verdict(_ state: [UInt8]) -> [String] {
        func word(_ place: Int) -> UInt64 { state.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: place, as: UInt64.self) } }
        var wrong = faults
        for (what, place, wanted) in [
            ("the sum", Accountant.Place.sum, sum), ("the reads", Accountant.Place.next, pops), ("the posted writes", Accountant.Place.hash, hash),
            ("the short reads", Accountant.Place.short, shortPops), ("the clock", Accountant.Place.clocks, UInt64(bitPattern: clocks)), ("the late ones", Accountant.Place.held, held),
        ] where word(place) != wanted { wrong.append("\(what): \(word(place)) in place of \(wanted)") }
        let possible = Set((0..<pops).map { Accountant.value($0) })
        if shortPopped.sorted() != (0..<shortPops).map({ Accountant.short($0) }).sorted() { wrong.append("of the short numbers some are missing") }
        if Set(popped).count != popped.count { wrong.append("a number was read twice") }
        if let other = popped.first(where: { !possible.contains($0) }) { wrong.append("\(other) was read, which nobody gave") }
        return wrong
    }
}

import Testing

@testable import NVMe

/// 1 MiB of guest memory from address 0 on; nothing anywhere else.
final class TestMemory: ControllerMemory {
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    /// What is done when the state is to be kept as it is.
    var onCommit: () -> Void = {}

    func commitState() { onCommit() }

    private func place(_ address: UInt64, _ count: Int) -> Int? {
        guard address <= UInt64(bytes.count), count <= bytes.count - Int(address) else { return nil }
        return Int(address)
    }

    func read(_ address: UInt64, into destination: UnsafeMutableRawBufferPointer) -> Bool {
        guard let place = place(address, destination.count) else {
            destination.initializeMemory(as: UInt8.self, repeating: 0xff)
            return false
        }
        destination.copyBytes(from: bytes[place..<(place + destination.count)])
        return true
    }

    func write(_ address: UInt64, from source: UnsafeRawBufferPointer) -> Bool {
        guard let place = place(address, source.count) else { return false }
        bytes.replaceSubrange(place..<(place + source.count), with: source)
        return true
    }

    func store<T: FixedWidthInteger>(_ address: Int, _ value: T) {
        for index in 0..<(T.bitWidth / 8) { bytes[address + index] = UInt8(truncatingIfNeeded: value >> T(index * 8)) }
    }

    func load<T: FixedWidthInteger>(_ address: Int, as type: T.Type = T.self) -> T {
        (0..<(T.bitWidth / 8)).reduce(T(0)) { $0 | T(truncatingIfNeeded: bytes[address + $1]) << T($1 * 8) }
    }
}

/// A disk whose jobs end when the test says so, and of which is known what would be left after a loss of power.
final class TestDisk: ControllerDisk {
    var content: [UInt8]
    /// What is on stable storage.
    var stable: [UInt8]
    var waiting: [DiskJob] = []
    var outcome = DiskOutcome.done
    private(set) var kinds: [DiskJob.Kind] = []
    var begun: Int { kinds.count }

    init(blocks: Int) {
        content = [UInt8](repeating: 0, count: blocks * 512)
        stable = content
    }

    func begin(_ job: DiskJob) {
        kinds.append(job.kind)
        waiting.append(job)
    }

    /// Does the oldest job.
    func perform(_ job: DiskJob) -> DiskOutcome {
        guard outcome == .done else { return outcome }
        let range = Int(job.offset)..<(Int(job.offset) + job.length)
        #expect(range.upperBound <= content.count)
        switch job.kind {
        case .read:
            if let buffer = job.buffer { UnsafeMutableRawBufferPointer(start: buffer, count: job.length).copyBytes(from: content[range]) }
        case .write(let durable):
            if let buffer = job.buffer { content.replaceSubrange(range, with: UnsafeRawBufferPointer(start: buffer, count: job.length)) }
            if durable { stable = content }
        case .zero(_, let durable):
            content.replaceSubrange(range, with: repeatElement(0, count: job.length))
            if durable { stable = content }
        case .flush: stable = content
        }
        return .done
    }
}

struct Completion: Equatable {
    var result: UInt32
    var head: Int
    var queue: Int
    var identifier: UInt16
    /// Status code type and status code.
    var status: [UInt16]
    var mayNotRetry: Bool
}

/// A guest's driver, in as many steps as a test needs.
final class Guest {
    let memory: TestMemory
    let disk: TestDisk
    private let stateBytes: UnsafeMutableRawPointer
    private let ownsState: Bool
    var controller: Controller
    /// Whether disk jobs are done as soon as they are begun.
    var disksAtOnce = true
    private var tails = [Int](repeating: 0, count: 16)
    private var heads = [Int](repeating: 0, count: 16)
    private var phases = [UInt16](repeating: 1, count: 16)
    private var sizes = [(submission: Int, completion: Int)](repeating: (16, 16), count: 16)
    private var nextIdentifier: UInt16 = 1

    static let adminSubmission = 0x1000
    static let adminCompletion = 0x2000
    static func submission(_ queue: Int) -> Int { queue == 0 ? adminSubmission : 0x10000 + queue * 0x2000 }
    static func completion(_ queue: Int) -> Int { queue == 0 ? adminCompletion : 0x11000 + queue * 0x2000 }
    /// Where data may be.
    static let data = 0x40000

    init(blocks: Int = 2048, readOnly: Bool = false) {
        memory = TestMemory()
        disk = TestDisk(blocks: blocks)
        stateBytes = .allocate(byteCount: Controller.stateLength, alignment: 4096)
        ownsState = true
        controller = Controller(
            state: stateBytes, fresh: true, geometry: DiskGeometry(blocks: UInt64(blocks), isReadOnly: readOnly),
            identity: ControllerIdentity(vendor: 0x1234, subsystemVendor: 0x1234, serial: "S1"), memory: memory, disk: disk)
    }

    /// The same guest after its controller's process has died: jobs that had not ended are lost.
    func replaceController(readOnly: Bool = false) {
        disk.waiting = []
        controller = Controller(
            state: stateBytes, fresh: false, geometry: DiskGeometry(blocks: UInt64(disk.content.count / 512), isReadOnly: readOnly),
            identity: ControllerIdentity(vendor: 0x1234, subsystemVendor: 0x1234, serial: "S1"), memory: memory, disk: disk)
        controller.recover()
        goOn()
    }

    deinit { stateBytes.deallocate() }

    /// The state's bytes, for tests that spoil it.
    var state: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: stateBytes, count: Controller.stateLength) }

    // The controller itself cannot stand in an expectation.
    var line: Bool { controller.interruptLine }
    var isRemoved: Bool { controller.isRemoved }
    func takeMessages() -> UInt32 { controller.takeMessages() }

    // MARK: registers

    func read(_ offset: Int, size: Int = 4) -> UInt64 { controller.read(offset, size: size) }

    func write(_ offset: Int, _ value: UInt64, size: Int = 4) {
        controller.write(offset, size: size, value)
        goOn()
    }

    /// Has everything done that can be.
    func goOn() {
        var rounds = 0
        while rounds < 10_000 {
            let more = controller.advance()
            let jobs = disksAtOnce ? disk.waiting : []
            if jobs.isEmpty && !more { return }
            disk.waiting.removeFirst(jobs.count)
            for job in jobs { controller.finished(job.number, disk.perform(job)) }
            rounds += 1
        }
        Issue.record("the controller never comes to rest")
    }

    /// Ends the oldest job.
    func finishOne() {
        guard !disk.waiting.isEmpty else { return }
        let job = disk.waiting.removeFirst()
        controller.finished(job.number, disk.perform(job))
        goOn()
    }

    func enable(entries: Int = 16) {
        tails[0] = 0
        heads[0] = 0
        phases[0] = 1
        sizes[0] = (entries, entries)
        for place in Self.adminCompletion..<(Self.adminCompletion + entries * 16) { memory.bytes[place] = 0 }
        write(0x24, UInt64(entries - 1) | UInt64(entries - 1) << 16)
        write(0x28, UInt64(Self.adminSubmission), size: 8)
        write(0x30, UInt64(Self.adminCompletion), size: 8)
        write(0x14, 0x46_0001)
    }

    // MARK: commands

    /// Puts a command into a queue without ringing.
    @discardableResult
    func put(_ queue: Int, _ opcode: UInt8, namespace: UInt32 = 0, prp1: UInt64 = 0, prp2: UInt64 = 0, _ words: [UInt32] = [], flags: UInt8 = 0) -> UInt16 {
        let place = Self.submission(queue) + tails[queue] * 64
        for index in 0..<64 { memory.bytes[place + index] = 0 }
        let identifier = nextIdentifier
        nextIdentifier &+= 1
        memory.bytes[place] = opcode
        memory.bytes[place + 1] = flags
        memory.store(place + 2, identifier)
        memory.store(place + 4, namespace)
        memory.store(place + 24, prp1)
        memory.store(place + 32, prp2)
        for (index, word) in words.enumerated() { memory.store(place + 40 + index * 4, word) }
        tails[queue] = (tails[queue] + 1) % sizes[queue].submission
        return identifier
    }

    func ring(_ queue: Int) { write(0x1000 + queue * 8, UInt64(tails[queue])) }

    /// What has been completed, and (unless it is left) tells the controller that it was taken.
    func take(_ queue: Int, acknowledge: Bool = true) -> [Completion] {
        var found: [Completion] = []
        while true {
            let place = Self.completion(queue) + heads[queue] * 16
            let status: UInt16 = memory.load(place + 14)
            guard status & 1 == phases[queue], found.count < sizes[queue].completion else { break }
            found.append(
                Completion(
                    result: memory.load(place), head: Int(memory.load(place + 8, as: UInt16.self)), queue: Int(memory.load(place + 10, as: UInt16.self)),
                    identifier: memory.load(place + 12), status: [status >> 9 & 7, status >> 1 & 0xff], mayNotRetry: status & 0x8000 != 0))
            heads[queue] += 1
            if heads[queue] == sizes[queue].completion {
                heads[queue] = 0
                phases[queue] ^= 1
            }
        }
        if acknowledge && !found.isEmpty { write(0x1004 + queue * 8, UInt64(heads[queue])) }
        return found
    }

    /// One command from its doorbell to its completion.
    @discardableResult
    func run(
        _ queue: Int, _ opcode: UInt8, namespace: UInt32 = 0, prp1: UInt64 = 0, prp2: UInt64 = 0, _ words: [UInt32] = [], flags: UInt8 = 0
    ) -> Completion? {
        let identifier = put(queue, opcode, namespace: namespace, prp1: prp1, prp2: prp2, words, flags: flags)
        ring(queue)
        let found = take(queue)
        #expect(found.count <= 1)
        if let first = found.first { #expect(first.identifier == identifier) }
        return found.first
    }

    /// Status code type and code of one command.
    func status(
        _ queue: Int, _ opcode: UInt8, namespace: UInt32 = 0, prp1: UInt64 = 0, prp2: UInt64 = 0, _ words: [UInt32] = [], flags: UInt8 = 0
    ) -> [UInt16]? {
        run(queue, opcode, namespace: namespace, prp1: prp1, prp2: prp2, words, flags: flags)?.status
    }

    /// An enabled controller with a pair of queues, 1.
    func start(entries: Int = 16) {
        enable()
        makeQueues(1, entries: entries)
    }

    func makeQueues(_ queue: Int, entries: Int = 16) {
        tails[queue] = 0
        heads[queue] = 0
        phases[queue] = 1
        sizes[queue] = (entries, entries)
        for place in Self.completion(queue)..<(Self.completion(queue) + entries * 16) { memory.bytes[place] = 0 }
        let size = UInt32(entries - 1) << 16 | UInt32(queue)
        #expect(status(0, 0x05, prp1: UInt64(Self.completion(queue)), [size, 3 | UInt32(queue) << 16]) == [0, 0])
        #expect(status(0, 0x01, prp1: UInt64(Self.submission(queue)), [size, 1 | UInt32(queue) << 16]) == [0, 0])
    }

    /// Reads or writes blocks from memory that lies in one piece, at the start of a page.
    func transfer(_ opcode: UInt8, block: UInt64, count: Int, at address: Int = Guest.data, durable: Bool = false, queue: Int = 1) -> [UInt16]? {
        let prp2 = prepareList(address, count * 512)
        return status(
            queue, opcode, namespace: 1, prp1: UInt64(address), prp2: prp2,
            [UInt32(truncatingIfNeeded: block), UInt32(truncatingIfNeeded: block >> 32), UInt32(count - 1) | (durable ? 1 << 30 : 0)])
    }

    /// What goes into PRP2 for so many bytes.
    func prepareList(_ address: Int, _ length: Int) -> UInt64 {
        guard length > 4096 else { return 0 }
        guard length > 8192 else { return UInt64(address + 4096) }
        for (index, page) in stride(from: address + 4096, to: address + length, by: 4096).enumerated() { memory.store(0x8000 + index * 8, UInt64(page)) }
        return 0x8000
    }
}

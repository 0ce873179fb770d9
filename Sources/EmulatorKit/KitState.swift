import CCommit
import EmulatorProtocol
import Glibc
import Host
import Platform

/// The state region as EmulatorKit lays it out: its own part first, then the commit area, in which the device's state is.
///
/// The kit's part, little-endian: 0 magic u64; 8 version u32; 12 whether the predecessor began to serve, u32; 16 zero;
/// 32 the emulator's name, 32 bytes; at 256 a record of 32 bytes for each region being moved (from u64, to u64, pages done u64, under way u64); at
/// 1024 a record of 512 bytes for each PCI function (present u32, vendor and device u32, address u32; at 256 the configuration space); at 5120 the
/// MSI-X table and pending bits of each function, 384 bytes; at 8192 `CommitArea`.
/// What stands before the commit area is written in place: each of its stores may be carried out again. Whatever stands there was written by another
/// process: numbers are checked where they are used.
struct KitState: ~Copyable {
    private static let magic: UInt64 = 0x3130_5449_4b58_4d44  // "DMXKIT01"
    private static let layout: UInt32 = 2
    private static let regions = 256
    private static let regionLength = 32
    private static let functions = 1024
    private static let functionLength = 512
    private static let configuration = 256
    private static let tables = 5120
    private static let tableLength = 384
    /// Where the commit area begins.
    static let length = 8192

    private let memory: StateMemory
    private var base: UnsafeMutableRawPointer { memory.base }
    let device: StateRegion
    let area: CommitArea
    /// Whether a predecessor's records are in it.
    let isRestored: Bool
    /// What the predecessor had committed, for `Core.takeOver`.
    let found: CommitArea.Found?

    /// What `hello` asks for.
    static func wanted(deviceLength: Int) throws(SetupError) -> Int {
        let most = (StateGrant.largest - length - CommitArea.wanted(deviceLength: 0)) / 2 & ~4095
        guard deviceLength >= 0, deviceLength <= most else {
            throw SetupError(
                "ask for", "\(deviceLength) bytes of state", reason: "an emulator can have \(most)",
                remedy: "keep only registers in it: memory of the guest's is a region (Setup.region)")
        }
        return (length + CommitArea.wanted(deviceLength: deviceLength) + 4095) & ~4095
    }

    /// - Parameters:
    ///   - descriptor: what came beside `attach`; nil: the coordinator keeps no state.
    ///   - grant: what `attach` says of it.
    ///   - accepts: the versions that the device goes on from, its own among them.
    init(
        _ descriptor: consuming OwnedDescriptor?, _ grant: StateGrant?, name: String, deviceLength: Int, version: Int = 1, accepts: [Int] = []
    ) throws(SetupError) {
        let total = try Self.wanted(deviceLength: deviceLength)
        let memory: StateMemory
        do { memory = try StateMemory(descriptor, length: total, deviceLength: deviceLength) } catch { throw SetupError(error) }
        let start = memory.base
        let kept = memory.isKept
        var tag = [UInt8](repeating: 0, count: 32)
        for (place, byte) in name.utf8.prefix(32).enumerated() { tag[place] = byte }
        // A predecessor that died before it served has perhaps written half of it: that is worth nothing.
        let known = kept && grant?.fresh == false && start.load(as: UInt64.self) == Self.magic
            && start.load(fromByteOffset: 8, as: UInt32.self) == Self.layout && start.load(fromByteOffset: 12, as: UInt32.self) == 1
            && (0..<32).allSatisfy { start.load(fromByteOffset: 32 + $0, as: UInt8.self) == tag[$0] }
        var area = CommitArea(
            base: start + Self.length, length: total - Self.length, isOn: kept && deviceLength > 0, working: memory.working, deviceLength: deviceLength,
            version: version)
        var found: CommitArea.Found?
        if known {
            found = area.find()
            try Self.check(found, deviceLength: deviceLength, version: version, accepts: accepts)
            // A restored guest has nothing under way: what the saved one had was finished, and its ring was another one.
            if grant?.restored == true {
                found?.entries = []
                found?.posted.count = 0
            }
        } else {
            memset(start, 0, total)
            start.storeBytes(of: Self.magic, as: UInt64.self)
            start.storeBytes(of: Self.layout, toByteOffset: 8, as: UInt32.self)
            for (place, byte) in tag.enumerated() { start.storeBytes(of: byte, toByteOffset: 32 + place, as: UInt8.self) }
        }
        self.memory = memory
        isRestored = known
        self.area = area
        self.found = found
        device = StateRegion(bytes: memory.working, length: deviceLength, isFresh: !known, isKept: kept, version: found?.version ?? version)
    }

    /// Whether the device can go on from what was found.
    private static func check(_ found: CommitArea.Found?, deviceLength: Int, version: Int, accepts: [Int]) throws(SetupError) {
        let what = "the state that its predecessor left"
        guard let found else {
            throw SetupError(
                "go on from", what, reason: "both of its copies are damaged (a wrong checksum)",
                remedy: "detach the emulator and attach it anew: the guest then finds a device that was just switched on")
        }
        guard found.version == version || accepts.contains(found.version) else {
            throw SetupError(
                "go on from", what, reason: "it is of version \(found.version), and this program goes on from \(([version] + accepts).sorted())",
                remedy: "use the program that wrote it")
        }
        guard found.version != version || found.length == deviceLength else {
            throw SetupError(
                "go on from", what, reason: "version \(version) has \(deviceLength) bytes, and there are \(found.length)",
                remedy: "a program that changes the layout has to change its stateVersion")
        }
    }

    /// Notes that the device was set up and serves: what stands here from now on is worth something to a successor.
    /// - Parameter area: the core's.
    func markServing(_ area: inout CommitArea) {
        // After a predecessor nothing is committed before its requests were looked at: what it had journaled would be lost.
        if !isRestored, area.isOn {
            area.write(entries: 0, posted: CommitArea.Posted())
            area.flip()
        }
        // Release order: who finds this finds the half that was written before.
        demux_mark((base + 12).assumingMemoryBound(to: UInt32.self))
    }

    // MARK: PCI functions

    private func record(ofFunction index: Int) -> UnsafeMutableRawPointer { base + Self.functions + min(max(index, 0), Core.mostFunctions - 1) * Self.functionLength }

    /// The configuration space that a predecessor left for the same function at the same place; nil when there is none.
    func configuration(ofFunction index: Int, identity: UInt32, key: UInt32) -> UnsafePointer<UInt8>? {
        let record = record(ofFunction: index)
        guard isRestored, record.load(as: UInt32.self) == 1, record.load(fromByteOffset: 4, as: UInt32.self) == identity,
            record.load(fromByteOffset: 8, as: UInt32.self) == key
        else { return nil }
        return UnsafePointer((record + Self.configuration).assumingMemoryBound(to: UInt8.self))
    }

    /// Makes room for a function's configuration space.
    func place(ofFunction index: Int, identity: UInt32, key: UInt32) -> UnsafeMutablePointer<UInt8> {
        let record = record(ofFunction: index)
        record.storeBytes(of: 1, as: UInt32.self)
        record.storeBytes(of: identity, toByteOffset: 4, as: UInt32.self)
        record.storeBytes(of: key, toByteOffset: 8, as: UInt32.self)
        return (record + Self.configuration).assumingMemoryBound(to: UInt8.self)
    }

    /// Where the MSI-X table of a function is: `MessageTable.length` bytes.
    func placeOfTable(ofFunction index: Int) -> UnsafeMutableRawPointer { base + Self.tables + min(max(index, 0), Core.mostFunctions - 1) * Self.tableLength }

    // MARK: regions under way

    /// A move of a region's memory that may be half done.
    struct Move: Equatable {
        var from: UInt64
        var to: UInt64
        /// Pages that have certainly arrived.
        var done: UInt64
    }

    private func record(ofRegion index: Int) -> UnsafeMutableRawPointer { base + Self.regions + min(max(index, 0), Core.mostRegions - 1) * Self.regionLength }

    /// The move that a predecessor did not finish.
    func move(ofRegion index: Int) -> Move? {
        let record = record(ofRegion: index)
        guard isRestored, record.load(fromByteOffset: 24, as: UInt64.self) == 1 else { return nil }
        return Move(from: record.load(as: UInt64.self), to: record.load(fromByteOffset: 8, as: UInt64.self), done: record.load(fromByteOffset: 16, as: UInt64.self))
    }

    func note(_ move: Move?, ofRegion index: Int) {
        let record = record(ofRegion: index)
        guard let move else { return record.storeBytes(of: 0, toByteOffset: 24, as: UInt64.self) }
        record.storeBytes(of: move.from, as: UInt64.self)
        record.storeBytes(of: move.to, toByteOffset: 8, as: UInt64.self)
        record.storeBytes(of: move.done, toByteOffset: 16, as: UInt64.self)
        record.storeBytes(of: 1, toByteOffset: 24, as: UInt64.self)
    }
}

/// The state region's memory, and the copy that the device writes to.
private final class StateMemory {
    private let mapping: Mapping?
    let base: UnsafeMutableRawPointer
    let working: UnsafeMutableRawPointer
    /// Whether the coordinator keeps it; otherwise it is this process's own.
    let isKept: Bool

    init(_ descriptor: consuming OwnedDescriptor?, length: Int, deviceLength: Int) throws(SystemError) {
        if let descriptor {
            let mapped = try SharedMemory(adopting: descriptor, length: length, what: "the state region").map(what: "the state region")
            base = mapped.base
            mapping = consume mapped
            isKept = true
        } else {
            base = .allocate(byteCount: length, alignment: 4096)
            mapping = nil
            isKept = false
        }
        let copied = max(CommitArea.padded(deviceLength), 32)
        working = .allocate(byteCount: copied, alignment: 4096)
        working.initializeMemory(as: UInt8.self, repeating: 0, count: copied)
    }

    deinit {
        working.deallocate()
        if !isKept { base.deallocate() }
    }
}

import EmulatorProtocol
import Glibc
import Host
import Platform

/// The state region as EmulatorKit lays it out: its own part first, then the device's.
///
/// The kit's part, little-endian: 0 magic u64; 8 version u32; 12 whether the predecessor began to serve, u32; 16 the device's length u64;
/// 32 the emulator's name, 32 bytes; at 256 a record of 32 bytes for each region being moved (from u64, to u64, pages done u64, under way u64); at
/// 1024 a record of 512 bytes for each PCI function (present u32, vendor and device u32, address u32; at 256 the configuration space); at 5120 the
/// MSI-X table and pending bits of each function, 384 bytes.
/// Whatever stands there was written by another process: numbers are checked where they are used.
struct KitState: ~Copyable {
    private static let magic: UInt64 = 0x3130_5449_4b58_4d44  // "DMXKIT01"
    private static let version: UInt32 = 1
    private static let regions = 256
    private static let regionLength = 32
    private static let functions = 1024
    private static let functionLength = 512
    private static let configuration = 256
    private static let tables = 5120
    private static let tableLength = 384
    /// Where the device's part begins.
    static let length = 8192

    private let mapping: Mapping?
    /// In place of a mapping, when the coordinator keeps no state.
    private let own: UnsafeMutableRawPointer?
    private let base: UnsafeMutableRawPointer
    let device: StateRegion
    /// Whether a predecessor's records are in it.
    let isRestored: Bool

    /// What `hello` asks for.
    static func wanted(deviceLength: Int) throws(SetupError) -> Int {
        guard deviceLength >= 0, deviceLength <= StateGrant.largest - length else {
            throw SetupError(
                "ask for", "\(deviceLength) bytes of state", reason: "an emulator can have \(StateGrant.largest - length)",
                remedy: "keep only registers in it: memory of the guest's is a region (Setup.region)")
        }
        return length + (deviceLength + 4095) & ~4095
    }

    /// - Parameters:
    ///   - descriptor: what came beside `attach`; nil: the coordinator keeps no state.
    ///   - fresh: whether the coordinator says that nobody has written to it.
    init(_ descriptor: consuming OwnedDescriptor?, fresh: Bool, name: String, deviceLength: Int) throws(SetupError) {
        let total = try Self.wanted(deviceLength: deviceLength)
        let start: UnsafeMutableRawPointer
        if let descriptor {
            do {
                let mapped = try SharedMemory(adopting: descriptor, length: total, what: "the state region").map(what: "the state region")
                start = mapped.base
                mapping = consume mapped
            } catch {
                throw SetupError(error)
            }
            own = nil
        } else {
            start = .allocate(byteCount: total, alignment: 4096)
            mapping = nil
            own = start
        }
        base = start
        let kept = own == nil
        var tag = [UInt8](repeating: 0, count: 32)
        for (place, byte) in name.utf8.prefix(32).enumerated() { tag[place] = byte }
        // A predecessor that died before it served has perhaps written half of it: that is worth nothing.
        let known = kept && !fresh && start.load(as: UInt64.self) == Self.magic && start.load(fromByteOffset: 8, as: UInt32.self) == Self.version
            && start.load(fromByteOffset: 12, as: UInt32.self) == 1 && start.load(fromByteOffset: 16, as: UInt64.self) == UInt64(deviceLength)
            && (0..<32).allSatisfy { start.load(fromByteOffset: 32 + $0, as: UInt8.self) == tag[$0] }
        isRestored = known
        if !known {
            memset(start, 0, total)
            start.storeBytes(of: Self.magic, as: UInt64.self)
            start.storeBytes(of: Self.version, toByteOffset: 8, as: UInt32.self)
            start.storeBytes(of: UInt64(deviceLength), toByteOffset: 16, as: UInt64.self)
            for (place, byte) in tag.enumerated() { start.storeBytes(of: byte, toByteOffset: 32 + place, as: UInt8.self) }
        }
        device = StateRegion(bytes: start + Self.length, length: deviceLength, isFresh: !known, isKept: kept)
    }

    deinit { own?.deallocate() }

    /// Notes that the device was set up and serves: what stands here from now on is worth something to a successor.
    func markServing() { base.storeBytes(of: 1, toByteOffset: 12, as: UInt32.self) }

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

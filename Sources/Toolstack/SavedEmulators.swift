import EmulatorProtocol
import Unplug

/// What our emulators put before QEMU's record in a saved guest (Protocols/saved-state.md): bytes from and to values, nothing else.
public struct SavedEmulators: Equatable, Sendable {
    /// One thing that one emulator left.
    public struct Record: Equatable, Sendable {
        public enum Content: Equatable, Sendable {
            /// The bytes of its state region.
            case state([UInt8])
            /// A region of memory that the guest has as RAM. What is in it travels with the guest's memory; this says where it is.
            case region(Region)
            /// What the guest has unplugged: the coordinator's own, under the name "demux".
            case unplug(SavedUnplug)
            /// The platform device in QEMU's place: the coordinator's own, too.
            case platform(SavedPlatform)
        }
        /// The emulator's name.
        public var emulator: String
        public var content: Content

        public init(emulator: String, _ content: Content) {
            self.emulator = emulator
            self.content = content
        }
    }

    /// Where a region is.
    public struct Region: Equatable, Sendable {
        /// Which one of its emulator's it is.
        public var label: String
        /// Bytes.
        public var length: UInt64
        /// The guest frame where it lies: its pages exist already when the guest is restored. Nil: the guest has it nowhere.
        public var gfn: UInt64?

        public init(label: String, length: UInt64, gfn: UInt64?) {
            self.label = label
            self.length = length
            self.gfn = gfn
        }
    }

    public var records: [Record]

    public init(_ records: [Record] = []) { self.records = records }

    // MARK: limits

    /// Records in all: 64 emulators with a state and a few regions each.
    public static let mostRecords = 1024
    /// Bytes after the head.
    public static let longestBody = 80 << 20
    static let headLength = 32
    static let version: UInt32 = 1
    static let magic = Array("DMXSAVE1".utf8)
    private static let recordHead = 16
    private static let regionLength = 24
    private static let longestName = 32
    private static let longestLabel = 64
    /// Kinds from here on may be passed over by who does not know them.
    private static let firstOptionalKind: UInt32 = 0x8000_0000
    private static let stateKind: UInt32 = 1
    private static let regionKind: UInt32 = 2
    private static let unplugKind: UInt32 = 3
    private static let platformKind: UInt32 = 4
    /// The name under which the coordinator's own records stand.
    public static let coordinator = "demux"

    /// The head: what is to be known before the body is read.
    struct Head: Equatable {
        var bodyLength: Int
        var records: Int
        var bodyChecksum: UInt32
    }

    // MARK: writing

    /// As bytes, head first.
    /// - Throws: SavedEmulatorsError when something is larger than the format allows.
    public func encoded() throws(SavedEmulatorsError) -> [UInt8] {
        guard records.count <= Self.mostRecords else { throw SavedEmulatorsError("there are \(records.count) records, more than \(Self.mostRecords)") }
        var body: [UInt8] = []
        for record in records {
            let name = Array(record.emulator.utf8)
            var label: [UInt8] = []
            let kind: UInt32
            let content: [UInt8]
            switch record.content {
            case .state(let bytes):
                kind = Self.stateKind
                content = bytes
            case .region(let region):
                kind = Self.regionKind
                label = Array(region.label.utf8)
                var bytes: [UInt8] = []
                bytes.append(little: region.length)
                bytes.append(little: region.gfn ?? 0)
                bytes.append(little: UInt64(region.gfn == nil ? 0 : 1))
                content = bytes
            case .unplug(let unplugged):
                kind = Self.unplugKind
                content = unplugged.encoded
            case .platform(let platform):
                kind = Self.platformKind
                content = platform.bytes
            }
            guard (1...Self.longestName).contains(name.count), label.count <= Self.longestLabel else {
                throw SavedEmulatorsError("the name '\(record.emulator.prefix(40))' or a label of it is too long")
            }
            guard body.count + content.count + 128 <= Self.longestBody else { throw SavedEmulatorsError("it is longer than \(Self.longestBody) bytes") }
            body.append(little: kind)
            body.append(little: UInt16(truncatingIfNeeded: name.count))
            body.append(little: UInt16(truncatingIfNeeded: label.count))
            body.append(little: UInt64(content.count))
            for part in [name, label, content] { body += part }
            body += [UInt8](repeating: 0, count: Self.padding(name.count + label.count + content.count))
        }
        var head = Self.magic
        head.append(little: Self.version)
        head.append(little: UInt32(truncatingIfNeeded: records.count))
        head.append(little: UInt64(body.count))
        head.append(little: Checksum.crc32(body))
        head.append(little: Checksum.crc32(head))
        return head + body
    }

    // MARK: reading

    /// Reads a head of `headLength` bytes.
    static func head(_ bytes: [UInt8]) throws(SavedEmulatorsError) -> Head {
        var reader = Reader(bytes[...])
        guard reader.take(8).map(Array.init) == magic else { throw SavedEmulatorsError("it begins neither as QEMU's record nor as Demux's") }
        guard let version = reader.number(UInt32.self), let records = reader.number(UInt32.self), let length = reader.number(UInt64.self),
            let body = reader.number(UInt32.self), let own = reader.number(UInt32.self)
        else { throw SavedEmulatorsError("it ends in the middle of its head") }
        guard own == Checksum.crc32(bytes.prefix(headLength - 4)) else { throw SavedEmulatorsError("its head is damaged") }
        guard version == Self.version else { throw SavedEmulatorsError("it is of version \(version), and this Demux reads \(Self.version)") }
        guard records <= mostRecords, length <= UInt64(longestBody) else {
            throw SavedEmulatorsError("it claims \(records) records in \(length) bytes, more than there can be")
        }
        return Head(bodyLength: Int(length), records: Int(records), bodyChecksum: body)
    }

    /// Reads the body that belongs to a head.
    init(body: [UInt8], head: Head) throws(SavedEmulatorsError) {
        guard body.count == head.bodyLength else { throw SavedEmulatorsError("it ends after \(body.count) of \(head.bodyLength) bytes") }
        guard Checksum.crc32(body) == head.bodyChecksum else { throw SavedEmulatorsError("its records are damaged") }
        records = []
        var reader = Reader(body[...])
        for _ in 0..<head.records {
            guard let kind = reader.number(UInt32.self), let nameLength = reader.number(UInt16.self), let labelLength = reader.number(UInt16.self),
                let length = reader.number(UInt64.self), let contentLength = Int(exactly: length),
                let name = reader.take(Int(nameLength)), let label = reader.take(Int(labelLength)), let content = reader.take(contentLength),
                reader.take(Self.padding(Int(nameLength) + Int(labelLength) + contentLength)) != nil
            else { throw SavedEmulatorsError("a record is longer than the rest") }
            guard (1...Self.longestName).contains(name.count), label.count <= Self.longestLabel else { throw SavedEmulatorsError("a record's name is too long") }
            let emulator = String(decoding: name, as: UTF8.self)
            switch kind {
            case Self.stateKind: records.append(Record(emulator: emulator, .state(Array(content))))
            case Self.regionKind:
                var fields = Reader(content)
                guard content.count == Self.regionLength, let bytes = fields.number(UInt64.self), let gfn = fields.number(UInt64.self),
                    let flags = fields.number(UInt64.self), flags <= 1
                else { throw SavedEmulatorsError("a region of '\(emulator)' cannot be read") }
                records.append(
                    Record(
                        emulator: emulator,
                        .region(Region(label: String(decoding: label, as: UTF8.self), length: bytes, gfn: flags == 1 ? gfn : nil))))
            case Self.unplugKind:
                var fields = Reader(content)
                guard content.count == SavedUnplug.length, let classes = fields.number(UInt32.self), let flags = fields.number(UInt32.self),
                    let product = fields.number(UInt32.self), let build = fields.number(UInt32.self),
                    let unplugged = SavedUnplug(classes: classes, flags: flags, product: product, build: build)
                else { throw SavedEmulatorsError("what the guest has unplugged cannot be read") }
                records.append(Record(emulator: emulator, .unplug(unplugged)))
            case Self.platformKind:
                guard let platform = SavedPlatform(bytes: Array(content)) else { throw SavedEmulatorsError("the platform device cannot be read, or is none") }
                records.append(Record(emulator: emulator, .platform(platform)))
            case Self.firstOptionalKind...: continue
            default: throw SavedEmulatorsError("a record of '\(emulator)' is of kind \(kind), which this Demux does not know")
            }
        }
        guard reader.isAtEnd else { throw SavedEmulatorsError("there is more behind its last record") }
    }

    /// Reads bytes that hold it from their first one on; nil when they are not Demux's at all.
    /// - Returns: the value, and how many bytes it takes.
    public static func decoded(_ bytes: [UInt8]) throws(SavedEmulatorsError) -> (state: SavedEmulators, length: Int)? {
        guard bytes.starts(with: magic) else { return nil }
        let head = try head(Array(bytes.prefix(headLength)))
        let rest = bytes.dropFirst(headLength).prefix(head.bodyLength)
        return (try SavedEmulators(body: Array(rest), head: head), headLength + head.bodyLength)
    }

    private static func padding(_ length: Int) -> Int { (8 - length % 8) % 8 }

    /// Takes numbers and runs of bytes, and nothing beyond the end.
    private struct Reader {
        private var rest: ArraySlice<UInt8>
        init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

        var isAtEnd: Bool { rest.isEmpty }

        mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
            guard count >= 0, count <= rest.count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return rest.prefix(count)
        }

        mutating func number<Number: FixedWidthInteger>(_: Number.Type) -> Number? {
            take(MemoryLayout<Number>.size)?.reversed().reduce(Number(0)) { $0 << 8 | Number(truncatingIfNeeded: $1) }
        }
    }
}

/// Why a saved state cannot be written or read.
public struct SavedEmulatorsError: Error, Equatable, CustomStringConvertible {
    public let reason: String
    init(_ reason: String) { self.reason = reason }
    public var description: String { "could not use the saved state of Demux's emulators: \(reason)" }
}

extension [UInt8] {
    fileprivate mutating func append(little number: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
    }
}

/// CRC-32 as in IEEE 802.3 and zlib: reflected, polynomial 0xedb88320.
enum Checksum {
    private static let table: [UInt32] = (0..<256).map { first in
        (0..<8).reduce(UInt32(first)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xedb8_8320 : value >> 1 }
    }

    static func crc32(_ bytes: some Sequence<UInt8>) -> UInt32 {
        ~bytes.reduce(~UInt32(0)) { value, byte in table[Int((value ^ UInt32(byte)) & 0xff)] ^ value >> 8 }
    }
}

/// How it stands in a record.
extension SavedUnplug {
    static let length = 16

    var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(little: UnplugClass.allCases.enumerated().reduce(UInt32(0)) { $0 | (classes.contains($1.element) ? 1 << UInt32($1.offset) : 0) })
        let flags: [Bool] = [product != nil, build != nil, isBlacklisted, isROMLocked]
        bytes.append(little: flags.enumerated().reduce(UInt32(0)) { $0 | ($1.element ? 1 << UInt32($1.offset) : 0) })
        bytes.append(little: UInt32(product ?? 0))
        bytes.append(little: build ?? 0)
        return bytes
    }

    /// nil for bits and numbers without a meaning.
    init?(classes bits: UInt32, flags: UInt32, product: UInt32, build: UInt32) {
        guard bits < 1 << UInt32(UnplugClass.allCases.count), flags < 16, let product = UInt16(exactly: product) else { return nil }
        self.init(
            classes: Set(UnplugClass.allCases.enumerated().filter { bits >> UInt32($0.offset) & 1 != 0 }.map(\.element)),
            product: flags & 1 != 0 ? product : nil, build: flags & 2 != 0 ? build : nil, isBlacklisted: flags & 4 != 0, isROMLocked: flags & 8 != 0)
    }
}

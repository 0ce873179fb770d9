import CIoreq
import Glibc
import Platform

/// The memory that a checkpoint is written to, so that a death between any two instructions leaves the one before or the new one.
///
/// A page that says which half holds the newest, and two halves: each a length, a checksum, and the bytes. Only what is written takes memory.
final class CheckpointMemory {
    /// The longest checkpoint, in bytes.
    static let longest = (4 << 20) - halfHeader
    static let length = 4096 + 2 * (4 << 20)
    private static let halfHeader = 16
    private static let magic: UInt64 = 0x3154_504b_4d44_0001

    private let memory: MappedMemory

    /// Makes an empty one.
    init() throws(SystemError) {
        memory = try MappedMemory(name: "demux-checkpoint", length: Self.length, what: "the checkpoint")
        demux_word_store(word(0), Self.magic)
    }

    /// Takes over a predecessor's.
    init(adopting descriptor: consuming OwnedDescriptor) throws(SystemError) {
        memory = try MappedMemory(adopting: descriptor, length: Self.length, what: "the predecessor's checkpoint")
        guard demux_word_load(word(0)) == Self.magic else {
            throw SystemError("take over", "the predecessor's checkpoint", reason: "another version has written it", remedy: "destroy the guest and start it anew")
        }
    }

    var descriptor: CInt { memory.descriptor }

    private func word(_ index: Int) -> UnsafeMutablePointer<UInt64> {
        // Sound: the first page is mapped, and the index below 512 everywhere here.
        (memory.base + index * 8).assumingMemoryBound(to: UInt64.self)
    }

    private func half(_ number: UInt64) -> UnsafeMutableRawPointer { memory.base + 4096 + Int(number & 1) * (4 << 20) }

    /// - Returns: false when it is too long; then the one before stays.
    func write(_ bytes: [UInt8]) -> Bool {
        guard !bytes.isEmpty, bytes.count <= Self.longest else { return false }
        let next = demux_word_load(word(1)) &+ 1
        let half = half(next)
        bytes.withUnsafeBytes { source in
            if let base = source.baseAddress { memcpy(half + Self.halfHeader, base, source.count) }
        }
        half.storeBytes(of: UInt64(bytes.count), as: UInt64.self)
        half.storeBytes(of: Self.checksum(UnsafeRawBufferPointer(start: half + Self.halfHeader, count: bytes.count), next), toByteOffset: 8, as: UInt64.self)
        demux_word_store(word(1), next)
        return true
    }

    /// The newest that is whole; nil when there is none.
    func read() -> [UInt8]? {
        let number = demux_word_load(word(1))
        guard number > 0 else { return nil }
        return read(number) ?? (number > 1 ? read(number &- 1) : nil)
    }

    private func read(_ number: UInt64) -> [UInt8]? {
        let half = half(number)
        let count = half.load(as: UInt64.self)
        guard count > 0, count <= UInt64(Self.longest) else { return nil }
        let bytes = UnsafeRawBufferPointer(start: half + Self.halfHeader, count: Int(count))
        guard Self.checksum(bytes, number) == half.load(fromByteOffset: 8, as: UInt64.self) else { return nil }
        return [UInt8](bytes)
    }

    /// FNV-1a over the commit's number and the bytes.
    private static func checksum(_ bytes: UnsafeRawBufferPointer, _ number: UInt64) -> UInt64 {
        var sum: UInt64 = 0xcbf2_9ce4_8422_2325 ^ number
        for byte in bytes { sum = (sum ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return sum
    }
}

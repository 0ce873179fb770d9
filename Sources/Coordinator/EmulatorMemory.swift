import Glibc
import Host
import Platform

/// The page in which an emulator counts.
final class CounterMemory {
    private let memory: MappedMemory
    var page: CounterPage { CounterPage(page: memory.base) }

    init(name: String) throws(SystemError) {
        memory = try MappedMemory(name: "demux-counters-\(name)", length: CounterPage.length, what: "the counters of \(name)")
        page.initialize()
    }

    /// Takes over a predecessor's.
    init(adopting descriptor: consuming OwnedDescriptor) throws(SystemError) {
        memory = try MappedMemory(adopting: descriptor, length: CounterPage.length, what: "an emulator's counters")
    }

    var descriptor: CInt { memory.descriptor }

    func duplicate() throws(SystemError) -> OwnedDescriptor { try memory.duplicate() }
}

/// The memory in which an emulator keeps its registers.
final class StateMemory {
    private let memory: MappedMemory
    /// Whether an emulator has served with it, or it was restored.
    var isUsed = false

    var length: Int { memory.length }

    var descriptor: CInt { memory.descriptor }

    /// Takes over a predecessor's.
    init(adopting descriptor: consuming OwnedDescriptor, length: Int, isUsed: Bool) throws(SystemError) {
        memory = try MappedMemory(adopting: descriptor, length: length, what: "an emulator's state")
        self.isUsed = isUsed
    }

    init(length: Int) throws(SystemError) {
        memory = try MappedMemory(name: "demux-state", length: length, what: "an emulator's state")
    }

    func duplicate() throws(SystemError) -> OwnedDescriptor { try memory.duplicate() }

    /// A copy of what is in it now.
    var bytes: [UInt8] { [UInt8](UnsafeRawBufferPointer(start: memory.base, count: memory.length)) }

    func clear() { memset(memory.base, 0, memory.length) }

    /// - Parameter bytes: exactly as many as there are.
    func fill(_ bytes: [UInt8]) {
        guard bytes.count == memory.length else { return }
        // Sound: as many bytes as the mapping has.
        bytes.withUnsafeBytes { source in
            if let base = source.baseAddress { memcpy(memory.base, base, source.count) }
        }
        isUsed = true
    }
}

import Glibc
import Host
import Platform
import Testing

/// An emulator's observation memory, and somebody who reads it.
final class Memory {
    let bytes: UnsafeMutableRawPointer
    let page: ObservationPage
    let reader: ObservationReader
    private let mapping: Mapping
    let descriptor: OwnedDescriptor

    init() throws {
        let memory = try SharedMemory(name: "observe", length: ObservationPage.length)
        mapping = try memory.map(what: "observe")
        bytes = mapping.base
        page = ObservationPage(base: mapping.base)
        reader = ObservationReader(try memory.descriptor.duplicate())
        descriptor = try memory.descriptor.duplicate()
        page.initialize()
        page.calibrate()
        page.setWindow(1, .ports(try #require(PortRange(first: 0x500, last: 0x51f))))
    }

    /// Pages that are really there.
    var pages: Int {
        var status = stat()
        fstat(descriptor.raw, &status)
        return Int(status.st_blocks) * 512 / 4096
    }

    func trace(_ number: UInt64) {
        let request = IORequest(kind: .portIO, direction: number % 2 == 0 ? .read : .write, address: number & 0xffff, data: number, size: 4)
        page.trace(request, value: number, slot: UInt8(number % 4), block: 1, begun: page.now(), duration: number, late: false)
    }
}

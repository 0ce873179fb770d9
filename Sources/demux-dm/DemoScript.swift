import Glibc
import Host
import LocalHost

/// The demo's accesses on one vCPU: ports and MMIO of every size, string instructions, and the guest's early output. Each value
/// that is written is read back and compared.
///
/// It expects what Tests/Demo/demo.yaml starts: the Swift Scratch device, the C device and Debug, at the places they choose.
struct DemoScript {
    private let vcpu: LocalVCPU
    private let index: Int
    private let isSilent: Bool
    /// Requests made. A string instruction whose buffer and window lie within one page each is one request, as on Xen.
    private(set) var accesses = 0
    /// Values compared.
    private(set) var checked = 0

    private struct Device {
        let name: StaticString
        let ports: UInt16
        let window: UInt64
        let identity: UInt64
    }
    private static let devices = [
        Device(name: "Scratch", ports: 0x500, window: 0xfed8_0000, identity: 0x5452_4353),
        Device(name: "the C device", ports: 0x540, window: 0xfed9_0000, identity: 0x5452_4343),
    ]
    private enum Place {
        static let identity: UInt16 = 0x10
        /// Each of the first two vCPUs has a debug port to itself, so that their lines stay whole without a lock; the others are silent.
        static let debug: [UInt16] = [0xe9, 0x402]
        /// Each vCPU's share of the 16 bytes at the ports; only the first two have one.
        static let portShare = 8
        /// Each vCPU's share of a window's memory, from 0x100 on; only the first 30 have one.
        static let windowMemory: UInt64 = 0x100
        static let windowShare = 128
        static let windowShares = 30
        /// The vCPU's own two pages of RAM.
        static func buffer(_ index: Int) -> GuestAddress { GuestAddress(0x10_0000 + UInt64(index) * 0x2000) }
    }

    private struct Wrong: Error, CustomStringConvertible {
        let description: String
    }

    /// - Parameter isSilent: it prints nothing: the firmware of another vCPU prints to both debug ports.
    init(vcpu: LocalVCPU, index: Int, isSilent: Bool = false) {
        self.vcpu = vcpu
        self.index = index
        self.isSilent = isSilent
    }

    /// Runs until told to stop; gives what was wrong, nil when nothing was.
    mutating func run(until stop: () -> Bool) -> String? {
        do {
            try say("guest: vCPU \(index) is up\n")
            var round: UInt64 = 0
            while !stop() {
                round &+= 1
                for device in Self.devices {
                    try ports(of: device, round)
                    try window(of: device, round)
                    try strings(of: device, round)
                }
                if round % 250 == 0 { try say("guest: vCPU \(index): \(checked) values checked, every one right\n") }
                // So that the table shows a guest with some work to do, and not one that takes the whole machine.
                usleep(2000)
            }
            try say("guest: vCPU \(index) ends: \(checked) values checked, every one right\n")
        } catch {
            return "\(error)"
        }
        return nil
    }

    // MARK: what is checked

    private mutating func ports(of device: Device, _ round: UInt64) throws {
        try compare(read(port: device.ports + Place.identity, size: 4), device.identity, "\(device.name)'s identity")
        guard index < 16 / Place.portShare else { return }
        for size in [UInt32(4), 2, 1] {
            let port = device.ports + UInt16(index * Place.portShare) + UInt16(size)
            let value = round &* 0x9e37_79b9 & AccessSize.allOnes(size)
            try write(port: port & ~UInt16(size - 1), size: size, value)
            try compare(read(port: port & ~UInt16(size - 1), size: size), value, "\(device.name)'s port \(Hex.string(port))")
        }
    }

    private mutating func window(of device: Device, _ round: UInt64) throws {
        guard index < Place.windowShares else { return }
        let address = GuestAddress(device.window + Place.windowMemory + UInt64(index * Place.windowShare))
        for size in [UInt32(8), 4, 2, 1] {
            let value = round &* 0x9e37_79b9_7f4a_7c15 & AccessSize.allOnes(size)
            accesses += 2
            try vcpu.writeMemory(address, size: size, value: value)
            try compare(vcpu.readMemory(address, size: size), value, "\(device.name)'s window at \(address)")
        }
    }

    /// `rep insl` of the identity, and `rep movsl` into the window and back.
    private mutating func strings(of device: Device, _ round: UInt64) throws {
        let buffer = Place.buffer(index)
        let count: UInt32 = 16
        accesses += 1
        try vcpu.readString(port: device.ports + Place.identity, size: 4, count: count, into: buffer)
        for element in 0..<Int64(count) {
            try compare(vcpu.readMemory(buffer.advanced(by: element * 4), size: 4), device.identity, "\(device.name)'s identity, by rep insl,")
        }
        guard index < Place.windowShares else { return }
        let back = buffer.advanced(by: 0x1000)
        let address = GuestAddress(device.window + Place.windowMemory + UInt64(index * Place.windowShare + 64))
        for element in 0..<Int64(count) { try vcpu.writeMemory(buffer.advanced(by: element * 4), size: 4, value: round &+ UInt64(element)) }
        accesses += 2
        try vcpu.move(from: buffer, to: address, size: 4, count: count)
        try vcpu.move(from: address, to: back, size: 4, count: count)
        for element in 0..<Int64(count) {
            try compare(
                vcpu.readMemory(back.advanced(by: element * 4), size: 4), (round &+ UInt64(element)) & 0xffff_ffff, "\(device.name)'s window, by rep movsl,")
        }
    }

    /// What firmware prints while there is no other way: a byte at a time to one of Debug's ports.
    private mutating func say(_ text: String) throws {
        guard !isSilent, Place.debug.indices.contains(index) else { return }
        let port = Place.debug[index]
        for byte in text.utf8 { try write(port: port, size: 1, UInt64(byte)) }
        try compare(read(port: port, size: 1), 0xe9, "Debug's port \(Hex.string(port))")
    }

    // MARK: accesses

    private mutating func read(port: UInt16, size: UInt32) throws -> UInt64 {
        accesses += 1
        return try vcpu.read(port: port, size: size)
    }

    private mutating func write(port: UInt16, size: UInt32, _ value: UInt64) throws {
        accesses += 1
        try vcpu.write(port: port, size: size, value: value)
    }

    private mutating func compare(_ got: UInt64, _ wanted: UInt64, _ what: @autoclosure () -> String) throws {
        checked += 1
        guard got == wanted else { throw Wrong(description: "\(what()) gave \(Hex.string(got)), not \(Hex.string(wanted))") }
    }
}

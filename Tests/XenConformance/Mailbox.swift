import Glibc
import Host

/// Drives one vCPU of the rig's agent through its mailbox in guest memory (Tests/XenRig/guest/mailbox.h).
struct Mailbox {
    /// The agent's opcodes.
    enum Opcode: UInt64 {
        case portRead = 1, portWrite, repIns, repOuts, memoryRead, memoryWrite, repMovsOut, repMovsIn, repStos, pciRead, pciWrite, nop
        case repMovsMemory
    }

    static let first: UInt64 = 0x20000
    static let length: UInt64 = 128
    private static let magic: UInt64 = 0x5855_4d44
    /// RAM that nothing else uses, for string operations.
    static let buffers: UInt64 = 0x30000

    let memory: any GuestMemory
    let vcpu: Int

    private func at(_ offset: UInt64) -> GuestAddress { GuestAddress(Self.first + UInt64(vcpu) * Self.length + offset) }
    private func field(_ offset: UInt64, size: UInt32 = 4) -> UInt64 { memory.load(at(offset), size: size) ?? 0 }
    private func setField(_ offset: UInt64, _ value: UInt64, size: UInt32 = 4) { _ = memory.store(at(offset), value: value, size: size) }

    /// Whether the agent runs on this vCPU.
    var isUp: Bool { field(0x00) == Self.magic }
    /// Whether the last command is done.
    var isDone: Bool { field(0x04) == field(0x08) }
    /// What the last read gave, as it was read: the upper bits beyond its size are 0.
    var value: UInt64 { field(0x18, size: 8) }
    var wasRefused: Bool { field(0x30) != 0 }

    /// Hands a command to the vCPU and returns at once. The one before must be done.
    func submit(
        _ opcode: Opcode, address: UInt64 = 0, value: UInt64 = 0, size: UInt32 = 4, count: UInt32 = 1, buffer: UInt64 = Mailbox.buffers,
        down: Bool = false
    ) {
        setField(0x0c, opcode.rawValue)
        setField(0x10, address, size: 8)
        setField(0x18, value, size: 8)
        setField(0x20, UInt64(size))
        setField(0x24, UInt64(count))
        setField(0x28, buffer)
        setField(0x2c, down ? 1 : 0)
        setField(0x30, 0)
        // The agent's processor sees the stores in this order (x86), and the compiler cannot look through `setField`.
        setField(0x04, (field(0x04) &+ 1) & 0xffff_ffff)
    }

    /// Waits until the command is done; false when it was not in time, which only guards against hanging.
    func wait(seconds: Int = 20) -> Bool {
        let end = ContinuousClock.now + .seconds(seconds)
        while !isDone {
            if ContinuousClock.now > end { return false }
            usleep(200)
        }
        return true
    }
}

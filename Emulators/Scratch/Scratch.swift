import EmulatorKit
import XenHost

/// The example of a whole device, and the one that the tests' guest programs exercise: the same registers and memory at I/O
/// ports, in an MMIO window and behind the two BARs of a PCI function.
///
/// Options: `ports` and `mmio` move the two fixed windows (0x500, 0xfed80000); `pci` is a place such as "00:06.0", or
/// "no" for a device without a PCI function.
///
/// Whatever it remembers is in its state region, laid out as the MMIO window is.
@main
struct Scratch: Emulator, ~Copyable {
    static let name = "scratch"
    static let stateLength = Layout.window
    static func main() { run(direct: XenDirect.self) }

    private var registers: Registers
    /// An MMIO window's bytes, of which those from 0x100 on are memory.
    private var memory: DeviceMemory
    private var function: PCIFunction?

    private enum Layout {
        static let registers = 32
        static let memory = 0x100
        static let window = 4096
    }

    init(_ setup: inout Setup) throws(SetupError) {
        let ports = try setup.port("ports", default: 0x500)
        let base = try setup.number("mmio", default: 0xfed8_0000)
        let slot = setup.option("pci")
        _ = try setup.claim(ports: ports, count: Layout.registers, label: "registers")
        _ = try setup.claim(memory: base, length: UInt64(Layout.window), label: "registers and memory")
        guard slot != "no" else {
            registers = Registers(setup.state)
            memory = setup.state.memory()
            return
        }
        var description = PCIDescription(
            vendor: 0x1234, device: 0x5c7a, classCode: 0xff_0000, subsystemVendor: 0x1234, subsystem: 0x0001, label: "scratch")
        description.bars = [0: .ports(Layout.registers), 1: .memory(Layout.window)]
        description.interruptPin = .a
        description.messageInterrupts = .init(wide: true)
        let function = try setup.add(description, slot: slot)
        registers = Registers(setup.state)
        memory = setup.state.memory()
        self.function = function
        // A successor's line is low until it says otherwise.
        if registers.isAsserted { setup.context.setInterrupt(function, asserted: true) }
    }

    mutating func read(_ access: Access, _ context: borrowing Context) -> Answer {
        if access.offset < Layout.registers { return .value(registers.read(access)) }
        return .value(access.offset < Layout.memory ? access.allOnes : memory.load(access.offset, size: access.size))
    }

    mutating func write(_ access: Access, _ value: UInt64, _ context: borrowing Context) -> Answer {
        if access.offset >= Layout.memory {
            memory.store(access.offset, size: access.size, value)
        } else if access.offset < Layout.registers, let request = registers.write(access, value), let function {
            switch request {
            case .assert: context.setInterrupt(function, asserted: true)
            case .deassert: context.setInterrupt(function, asserted: false)
            case .message: context.sendMessage(function)
            }
        }
        return .done
    }
}

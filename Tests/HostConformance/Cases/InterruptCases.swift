import Glibc
import Host

/// What a host takes and refuses of interrupts (xen/arch/x86/hvm/dm.c, irq.c, vmsi.c). Whether they arrive is another matter.
enum InterruptCases {
    static let all: [ConformanceCase] = [
        ConformanceCase("INTx lines exist for devices 0 to 31 and pins 0 to 3") { context in
            let host = context.host
            for pin in 0..<4 as Range<UInt8> {
                try host.setINTx(device: context.environment.pciDevice, pin: pin, asserted: true)
                try host.setINTx(device: context.environment.pciDevice, pin: pin, asserted: false)
            }
            try host.setINTx(device: 31, pin: 3, asserted: false)
            try context.refused("device 32", .invalid) { () throws(HostError) in try host.setINTx(device: 32, pin: 0, asserted: true) }
            try context.refused("pin 4", .invalid) { () throws(HostError) in try host.setINTx(device: 0, pin: 4, asserted: true) }
        },
        ConformanceCase("ISA lines exist from 0 to 15") { context in
            let host = context.host
            try host.setISAInterrupt(15, asserted: false)
            try context.refused("line 16", .invalid) { () throws(HostError) in try host.setISAInterrupt(16, asserted: true) }
        },
        ConformanceCase("a message needs a vector, and fixed or lowest-priority delivery") { context in
            let host = context.host
            // To a local APIC that no vCPU has: taken, and nobody is disturbed.
            try host.injectMSI(address: 0xfee0_0000 | 0xfe << 12, data: 0x41)
            try context.refused("delivery as ExtINT", .invalid) { () throws(HostError) in try host.injectMSI(address: 0xfeef_e000, data: 0x741) }
            try context.refused("no vector, no pirq", .failed(ERANGE)) { () throws(HostError) in try host.injectMSI(address: 0xfee0_0000, data: 0) }
        },
    ]
}

import Host

/// Configuration cycles by ports 0xcf8 and 0xcfc (arch_ioreq_server_get_type_addr, hvm_access_cf8).
enum PCICases {
    static let all: [ConformanceCase] = [
        ConformanceCase("an access to CFC with the enable bit becomes PCI_CONFIG with the function and register, at every offset and size") { context in
            let address = try context.pci(function: 3)
            let server = try context.server([.pci(address)])
            for offset in 0..<4 as Range<UInt64> {
                for size in [1, 2, 4] as [UInt32] {
                    server.requests = []
                    let cf8 = context.cf8(function: 3, register: 0x40 + offset)
                    let read = try context.access(GuestAccess(.pciRead, cf8, size: size), serving: [server]) { _, _, _ in 0x8765_4321 }
                    try context.expect("a read of \(size) bytes at +\(offset)", read, 0x8765_4321 & AccessSize.allOnes(size))
                    _ = try context.access(GuestAccess(.pciWrite, cf8, value: 0x1234_5678, size: size), serving: [server])
                    let place = address.requestAddress | 0x40 | offset
                    try context.expect(
                        "the requests", server.asked,
                        [
                            IORequest(kind: .pciConfig, direction: .read, address: place, size: size),
                            IORequest(kind: .pciConfig, direction: .write, address: place, data: 0x1234_5678 & AccessSize.allOnes(size), size: size),
                        ])
                }
            }
        },
        ConformanceCase("a configuration cycle goes to the one function it names") { context in
            let first = try context.server([.pci(try context.pci(function: 0))])
            let second = try context.server([.pci(try context.pci(function: 1))])
            for (function, owner) in [(0, first), (1, second)] as [(UInt8, TestServer)] {
                let access = GuestAccess(.pciRead, context.cf8(function: function, register: 0xfc), size: 4)
                let read = try context.access(access, serving: [first, second]) { server, _, _ in server === owner ? 1 : 2 }
                try context.expect("function \(function)", read, 1)
            }
            let other = try context.access(GuestAccess(.pciRead, context.cf8(function: 2, register: 0), size: 4), serving: [first, second])
            try context.expect("function 2", other, 0xffff_ffff)
        },
        ConformanceCase("a 4-byte write to CF8 is passed on as a port write too, and a read of it as a port read") { context in
            let server = try context.server([.ports(try configPorts())])
            let cf8 = context.cf8(register: 0x10)
            _ = try context.access(GuestAccess(.portWrite, 0xcf8, value: cf8, size: 4), serving: [server])
            let read = try context.access(GuestAccess(.portRead, 0xcf8, size: 4), serving: [server]) { _, _, _ in 0x1234_5678 }
            try context.expect("what a read gives", read, 0x1234_5678)
            try context.expect(
                "the requests", server.asked,
                [
                    IORequest(kind: .portIO, direction: .write, address: 0xcf8, data: cf8, size: 4),
                    IORequest(kind: .portIO, direction: .read, address: 0xcf8, size: 4),
                ])
        },
        ConformanceCase("without the enable bit CFC is a port like any other") { context in
            let ports = try context.server([.ports(try configPorts())])
            let function = try context.server([.pci(try context.pci())])
            let cf8 = context.cf8(register: 0x10) & 0x7fff_ffff
            for offset in 0..<4 as Range<UInt64> {
                ports.requests = []
                _ = try context.access(GuestAccess(.pciRead, cf8 + offset, size: 1), serving: [ports, function])
                try context.expect(
                    "the requests", ports.asked,
                    [
                        IORequest(kind: .portIO, direction: .write, address: 0xcf8, data: cf8, size: 4),
                        IORequest(kind: .portIO, direction: .read, address: 0xcfc + offset, size: 1),
                    ])
            }
            try context.expect("requests for the function", function.asked, [])
        },
        ConformanceCase("with the enable bit CFC is no port: nobody's function reads as all-ones, whoever has the ports") { context in
            let server = try context.server([.ports(try configPorts())])
            let read = try context.access(GuestAccess(.pciRead, context.cf8(register: 0), size: 4), serving: [server])
            try context.expect("a read", read, 0xffff_ffff)
            try context.expect("requests", server.asked.filter { $0.address != 0xcf8 }, [])
        },
        ConformanceCase("only a write of all four bytes changes what CF8 selects") { context in
            let server = try context.server([.pci(try context.pci())])
            let mine = context.cf8(register: 0x20)
            _ = try context.access(GuestAccess(.portWrite, 0xcf8, value: mine, size: 4), serving: [server])
            for (port, size) in [(0xcf8, 1), (0xcf8, 2), (0xcfa, 2), (0xcfb, 1)] as [(UInt64, UInt32)] {
                _ = try context.access(GuestAccess(.portWrite, port, value: 0, size: size), serving: [server])
                let read = try context.access(GuestAccess(.portRead, 0xcfc, size: 2), serving: [server]) { _, _, _ in 0x1234 }
                try context.expect("a read after a write of \(size) bytes to \(Hex.string(port))", read, 0x1234)
            }
            _ = try context.access(GuestAccess(.portWrite, 0xcf8, value: 0, size: 4), serving: [server])
            let read = try context.access(GuestAccess(.portRead, 0xcfc, size: 2), serving: [server]) { _, _, _ in 0x1234 }
            try context.expect("a read after CF8 was cleared reaches the function", read == 0x1234, false)
        },
        ConformanceCase("bits 27 to 24 of CF8 are no part of the register") { context in
            let server = try context.server([.pci(try context.pci())])
            _ = try context.access(GuestAccess(.pciRead, context.cf8(register: 0x10) | 0xf00_0000, size: 4), serving: [server])
            try context.expect("the address", server.asked.first?.address ?? 0, try context.pci().requestAddress | 0x10)
        },
        ConformanceCase("CF8 is one for all vCPUs", vcpus: 2) { context in
            let server = try context.server([.pci(try context.pci())])
            _ = try context.access(GuestAccess(.portWrite, 0xcf8, value: context.cf8(register: 0x30), size: 4), on: 0, serving: [server])
            let read = try context.access(GuestAccess(.portRead, 0xcfe, size: 2), on: 1, serving: [server]) { _, _, _ in 0xabcd }
            try context.expect("the other vCPU's read", read, 0xabcd)
            try context.expect("who asked", server.requests.map(\.vcpu), [1])
            try context.expect("the register", server.asked.first?.address ?? 0, try context.pci().requestAddress | 0x32)
        },
        ConformanceCase("string writes to CF8 come one by one, and each is latched") { context in
            let server = try context.server([.ports(try configPorts()), .pci(try context.pci())])
            let values = [0x10, 0x20, 0x30].map { context.cf8(register: $0) }
            try context.fill(context.buffer(0), values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } })
            _ = try context.access(GuestAccess(.repOuts, 0xcf8, size: 4, count: 3, buffer: context.buffer(0)), serving: [server])
            try context.expect(
                "the requests", server.asked,
                [
                    IORequest(kind: .portIO, direction: .write, address: 0xcf8, data: context.buffer(0), size: 4, dataIsPointer: true),
                    IORequest(kind: .portIO, direction: .write, address: 0xcf8, data: context.buffer(4), size: 4, dataIsPointer: true),
                    IORequest(kind: .portIO, direction: .write, address: 0xcf8, data: values[2], size: 4),
                ])
            server.requests = []
            _ = try context.access(GuestAccess(.portRead, 0xcfc, size: 1), serving: [server])
            try context.expect("the register that is selected then", server.asked.first?.address ?? 0, try context.pci().requestAddress | 0x30)
        },
    ]

    private static func configPorts() throws(ConformanceFailure) -> PortRange {
        guard let range = PortRange(first: 0xcf8, count: 8) else { throw ConformanceFailure("ports cf8-cff", expected: "a range", found: "none") }
        return range
    }
}

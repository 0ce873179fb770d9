import Host

/// Single loads and stores.
enum MemoryCases {
    static let all: [ConformanceCase] = [
        ConformanceCase("a load or store comes with its address, size and value, aligned or not") { context in
            let server = try context.server([try context.mmio(0, 0x1000)])
            for size in [1, 2, 4, 8] as [UInt32] {
                let mask = AccessSize.allOnes(size)
                for offset in [0, 0x11, 0x800] {
                    server.requests = []
                    let read = try context.access(GuestAccess(.memoryRead, context.memory(offset), size: size), serving: [server]) { _, _, _ in
                        0x8877_6655_4433_2211
                    }
                    try context.expect("a load of \(size) bytes at +\(Hex.string(offset))", read, 0x8877_6655_4433_2211 & mask)
                    let store = GuestAccess(.memoryWrite, context.memory(offset), value: 0xfedc_ba98_7654_3210, size: size)
                    _ = try context.access(store, serving: [server])
                    try context.expect(
                        "the requests", server.asked,
                        [
                            IORequest(kind: .copy, direction: .read, address: context.memory(offset), size: size),
                            IORequest(kind: .copy, direction: .write, address: context.memory(offset), data: 0xfedc_ba98_7654_3210 & mask, size: size),
                        ])
                }
            }
        },
        ConformanceCase("a load or store across a page's end comes in powers of two on either side") { context in
            let server = try context.server([try context.mmio(0, 0x2000)])
            for (offset, size, parts) in [
                (0xffe, 4, [(0xffe, 2), (0x1000, 2)]), (0xfff, 2, [(0xfff, 1), (0x1000, 1)]), (0xfff, 4, [(0xfff, 1), (0x1000, 2), (0x1002, 1)]),
                (0xffb, 8, [(0xffb, 4), (0xfff, 1), (0x1000, 2), (0x1002, 1)]),
            ] as [(Int, UInt32, [(Int, UInt32)])] {
                server.requests = []
                // Every byte answers with its own address's low byte, so that the parts must be put together rightly.
                let read = try context.access(GuestAccess(.memoryRead, context.memory(offset), size: size), serving: [server]) { _, _, request in
                    (0..<UInt64(request.size)).reduce(0) { $0 | ((request.address + $1) & 0xff) << ($1 * 8) }
                }
                let expected = (0..<UInt64(size)).reduce(UInt64(0)) { $0 | ((context.memory(offset) + $1) & 0xff) << ($1 * 8) }
                try context.expect("a load of \(size) bytes at +\(Hex.string(offset))", read, expected)
                try context.expect(
                    "the loads", server.asked, parts.map { IORequest(kind: .copy, direction: .read, address: context.memory($0.0), size: $0.1) })
                server.requests = []
                let value: UInt64 = 0x8877_6655_4433_2211
                _ = try context.access(GuestAccess(.memoryWrite, context.memory(offset), value: value, size: size), serving: [server])
                try context.expect(
                    "the stores", server.asked,
                    parts.map { part in
                        IORequest(
                            kind: .copy, direction: .write, address: context.memory(part.0),
                            data: value >> UInt64((part.0 - offset) * 8) & AccessSize.allOnes(part.1), size: part.1)
                    })
            }
        },
        ConformanceCase("a load partly outside the range, but within its page, is nobody's") { context in
            let server = try context.server([try context.mmio(0x100, 0x10)])
            for (offset, size) in [(0xfe, 4), (0x10e, 4), (0x10c, 8), (0xff, 2)] as [(Int, UInt32)] {
                let read = try context.access(GuestAccess(.memoryRead, context.memory(offset), size: size), serving: [server])
                try context.expect("a load of \(size) bytes at +\(Hex.string(offset))", read, AccessSize.allOnes(size))
            }
            try context.expect("requests", server.asked, [])
        },
        ConformanceCase("a range over the guest's RAM is never asked for") { context in
            guard let range = MMIORange(first: GuestAddress(context.buffer(0)), length: 0x1000) else { return }
            let server = try context.server([.memory(range)])
            try context.fill(context.buffer(0), ConformanceContext.pattern(64))
            let read = try context.access(GuestAccess(.memoryRead, context.buffer(8), size: 4), serving: [server])
            try context.expect("a load", read, ConformanceContext.value(ConformanceContext.pattern(64)[8..<12]))
            _ = try context.access(GuestAccess(.memoryWrite, context.buffer(16), value: 0xa5a5_5a5a, size: 4), serving: [server])
            try context.expect("what is stored", ConformanceContext.value(try context.bytes(context.buffer(16), 4)), 0xa5a5_5a5a)
            try context.expect("requests", server.asked, [])
        },
    ]
}

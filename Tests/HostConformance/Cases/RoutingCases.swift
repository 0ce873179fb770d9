import Host

/// Which server an access reaches.
enum RoutingCases {
    static let all: [ConformanceCase] = [
        ConformanceCase("of two servers for the same ports, addresses or PCI function, the one with the higher id answers") { context in
            let ranges = [try context.ports(0, 8), try context.mmio(0, 0x1000), .pci(try context.pci())]
            let low = try context.server(ranges)
            let high = try context.server(ranges)
            try context.expect("the second id is higher", high.id > low.id, true)
            for access in try probes(context) {
                try context.expect("who answers \(access.operation)", try who(context, access, [low, high]), high.id)
            }
        },
        ConformanceCase("precedence follows the id, not the order in which servers were enabled or given their ranges") { context in
            let low = try context.server([], enabled: false)
            let high = try context.server([], enabled: false)
            let ranges = [try context.ports(0, 8), try context.mmio(0, 0x1000), .pci(try context.pci())]
            for server in [high, low] {
                try context.enable(server)
                for range in ranges { try context.host.map(range, to: server.id) }
            }
            for access in try probes(context) {
                try context.expect("who answers \(access.operation)", try who(context, access, [low, high]), high.id)
            }
        },
        ConformanceCase("a disabled server is passed by") { context in
            let ranges = [try context.ports(0, 8), try context.mmio(0, 0x1000), .pci(try context.pci())]
            let low = try context.server(ranges)
            let high = try context.server(ranges, enabled: false)
            for access in try probes(context) {
                try context.expect("who answers \(access.operation)", try who(context, access, [low, high]), low.id)
            }
            try context.enable(high)
            for access in try probes(context) {
                try context.expect("who answers \(access.operation) then", try who(context, access, [low, high]), high.id)
            }
        },
        ConformanceCase("a server that is made in a lower one's place takes its place in the order too") { context in
            let range = [try context.ports(0, 8)]
            let first = try context.server(range)
            let second = try context.server(range)
            try context.retire(first)
            let third = try context.server(range)
            try context.expect("the id of the first is used again", third.id, first.id)
            let probe = GuestAccess(.portRead, context.port(0), size: 1)
            try context.expect("who answers", try who(context, probe, [second, third]), second.id)
        },
        ConformanceCase("ports that nobody claims read as all-ones, and writes to them vanish") { context in
            for size in [1, 2, 4] as [UInt32] {
                let read = try context.access(GuestAccess(.portRead, context.port(0x40), size: size), serving: [])
                try context.expect("a read of \(size) bytes", read, AccessSize.allOnes(size))
                _ = try context.access(GuestAccess(.portWrite, context.port(0x40), value: 0x1234_5678, size: size), serving: [])
            }
        },
        ConformanceCase("addresses that nobody claims read as all-ones, and writes to them vanish") { context in
            for size in [1, 2, 4, 8] as [UInt32] {
                let read = try context.access(GuestAccess(.memoryRead, context.memory(0x8000), size: size), serving: [])
                try context.expect("a read of \(size) bytes", read, AccessSize.allOnes(size))
                let write = GuestAccess(.memoryWrite, context.memory(0x8000), value: 0x1122_3344_5566_7788, size: size)
                _ = try context.access(write, serving: [])
            }
        },
        ConformanceCase("a PCI function that nobody claims reads as all-ones") { context in
            for size in [1, 2, 4] as [UInt32] {
                let read = try context.access(GuestAccess(.pciRead, context.cf8(register: 0), size: size), serving: [])
                try context.expect("a read of \(size) bytes", read, AccessSize.allOnes(size))
            }
        },
        ConformanceCase("a port access partly outside the range is nobody's") { context in
            let server = try context.server([try context.ports(0x10, 4)])
            for (offset, size) in [(0xe, 4), (0xf, 2), (0x12, 4), (0x13, 2), (0x11, 4)] as [(Int, UInt32)] {
                let read = try context.access(GuestAccess(.portRead, context.port(offset), size: size), serving: [server]) { _, _, _ in 0x11 }
                try context.expect("+\(Hex.string(offset)) of \(size) bytes", read, AccessSize.allOnes(size))
            }
            try context.expect("requests", server.requests.count, 0)
        },
        ConformanceCase("two ranges that touch serve an access across both") { context in
            let server = try context.server([try context.ports(0x10, 4), try context.ports(0x14, 4)])
            let read = try context.access(GuestAccess(.portRead, context.port(0x12), size: 4), serving: [server]) { _, _, _ in 0x1234_5678 }
            try context.expect("a read across", read, 0x1234_5678)
            try context.expect("the request", server.asked, [IORequest(kind: .portIO, direction: .read, address: context.port(0x12), size: 4)])
        },
        ConformanceCase("two servers whose ranges touch do not serve an access across both") { context in
            let first = try context.server([try context.ports(0x10, 4)])
            let second = try context.server([try context.ports(0x14, 4)])
            let access = GuestAccess(.portRead, context.port(0x12), size: 4)
            try context.expect("a read across", try context.access(access, serving: [first, second]), 0xffff_ffff)
            try context.expect("requests", first.requests.count + second.requests.count, 0)
        },
        ConformanceCase("an access goes to a lower server when the higher one has only a part of it") { context in
            let low = try context.server([try context.ports(0x10, 8)])
            let high = try context.server([try context.ports(0x12, 2)])
            let wide = GuestAccess(.portRead, context.port(0x10), size: 4)
            try context.expect("who answers the wide one", try who(context, wide, [low, high]), low.id)
            let narrow = GuestAccess(.portRead, context.port(0x12), size: 2)
            try context.expect("who answers the narrow one", try who(context, narrow, [low, high]), high.id)
        },
    ]

    /// One read of each kind.
    private static func probes(_ context: ConformanceContext) throws -> [GuestAccess] {
        [
            GuestAccess(.portRead, context.port(4), size: 1), GuestAccess(.memoryRead, context.memory(0x20), size: 4),
            GuestAccess(.pciRead, context.cf8(register: 0), size: 4),
        ]
    }

    /// Which of the servers answers an access: each gives its id.
    private static func who(_ context: ConformanceContext, _ access: GuestAccess, _ servers: [TestServer]) throws -> ServerID? {
        let read = try context.access(access, serving: servers) { server, _, _ in UInt64(server.id.rawValue) }
        return ServerID(read)
    }
}

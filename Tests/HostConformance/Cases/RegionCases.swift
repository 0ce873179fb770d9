import Host

/// Memory of devices that the guest uses as RAM.
enum RegionCases {
    static let all: [ConformanceCase] = [
        ConformanceCase("a region over claimed addresses takes the accesses, and they are requests again when it goes") { context in
            try shown(context, at: context.memory(0), claim: try context.mmio(0, 0x4000))
        },
        ConformanceCase("a region over part of the legacy window does so as well") { context in
            try shown(context, at: context.environment.window, claim: try context.window(0, 0x4000))
        },
        ConformanceCase("a region without whole pages is refused, and so is one that there is not") { context in
            let host = try regions(context)
            for length in [0, 1, 4095, 4097, .max] as [UInt64] {
                try context.refused("a region of \(length) bytes", .invalid) { () throws(HostError) in _ = try host.makeRegion(length: length) }
            }
            try context.refused("moving region 9999", .invalid) { () throws(HostError) in try host.placeRegion(9999, at: nil) }
            try context.refused("removing region 9999", .invalid) { () throws(HostError) in try host.removeRegion(9999) }
            try context.refused("region 9999's descriptors", .invalid) { () throws(HostError) in _ = try host.regionDescriptors(of: 9999) }
        },
    ]

    private static func regions(_ context: ConformanceContext) throws(ConformanceFailure) -> any RegionHost {
        guard let host = context.host as? any RegionHost else {
            throw ConformanceFailure("the host", expected: "to make regions", found: "one that makes none")
        }
        return host
    }

    private static func shown(_ context: ConformanceContext, at first: UInt64, claim: IORange) throws {
        let host = try regions(context)
        let server = try context.server([claim])
        var region = try host.makeRegion(length: 0x4000)
        defer { try? host.removeRegion(region.number) }
        try context.expect("its length", region.length, 0x4000)
        let answer: (TestServer, Int, IORequest) -> UInt64 = { _, _, _ in 0x5a5a_5a5a }

        func read(_ offset: UInt64, _ size: UInt32 = 4) throws(ConformanceFailure) -> UInt64 {
            try context.access(GuestAccess(.memoryRead, first + offset, size: size), serving: [server], answer)
        }
        func requests(_ what: String, _ count: Int) throws(ConformanceFailure) {
            try context.expect("\(what): requests", server.requests.count, count)
            server.requests = []
        }
        try context.expect("a load before", try read(0x1000), 0x5a5a_5a5a)
        try requests("before", 1)

        try context.driver.place(&region, at: GFN(first >> 12), on: host)
        for (offset, size) in [(0, 1), (0x1002, 2), (0x2004, 4), (0x3ff8, 8), (0x1ffe, 4)] as [(UInt64, UInt32)] {
            let value = 0x8877_6655_4433_2211 & AccessSize.allOnes(size)
            _ = try context.access(GuestAccess(.memoryWrite, first + offset, value: value, size: size), serving: [server], answer)
            try context.expect("\(size) bytes at +\(Hex.string(offset))", try read(offset, size), value)
            context.driver.memory.invalidate()
            try context.expect("the same in its memory", ConformanceContext.value(try context.bytes(first + offset, Int(size))), value)
        }
        try context.fill(context.buffer(0), ConformanceContext.pattern(0x1000))
        _ = try context.access(
            GuestAccess(.repMovsOut, first + 0x800, size: 4, count: 0x400, buffer: context.buffer(0)), serving: [server], answer)
        _ = try context.access(
            GuestAccess(.repMovsBetween, first + 0x800, value: first + 0x2000, size: 4, count: 0x400), serving: [server], answer)
        try context.expect("what was moved", try context.bytes(first + 0x2000, 0x1000), ConformanceContext.pattern(0x1000))
        try requests("while it is there", 0)

        try context.driver.place(&region, at: nil, on: host)
        try context.expect("a load after", try read(0x2000), 0x5a5a_5a5a)
        try requests("after", 1)

        try context.driver.place(&region, at: GFN(first >> 12), on: host)
        context.driver.memory.invalidate()
        try context.expect("what is in it when it is back", try context.bytes(first + 0x2000, 0x1000), ConformanceContext.pattern(0x1000))
        try context.driver.place(&region, at: nil, on: host)
    }
}

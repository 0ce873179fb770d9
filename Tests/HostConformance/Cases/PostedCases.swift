import Host

/// The ring of posted writes: single writes to the legacy VGA window (ioreq_send_buffered, stdvga_mem_write).
enum PostedCases {
    static let all: [ConformanceCase] = [
        ConformanceCase("a single write to the VGA window is posted, in every size, and does not wait for the emulator") { context in
            let server = try context.server([try context.window(0, 0x4000)], ring: true)
            var expected: [BufferedEntry] = []
            for (index, size) in ([1, 2, 4, 8] as [UInt32]).enumerated() {
                let place = address(context, 0x101 + index * 16)
                let value = 0x8877_6655_4433_2211 &+ UInt64(index)
                _ = try context.access(GuestAccess(.memoryWrite, place, value: value, size: size), serving: [])
                expected.append(entry(place, value & AccessSize.allOnes(size), size))
            }
            server.drain()
            try context.expect("the entries", server.posted, expected)
            try context.expect("the ring is empty", server.channel.ring?.waiting ?? 1, 0)
            try context.expect("requests", server.asked, [])
        },
        ConformanceCase("reads and repeated writes of the VGA window are not posted, and find what was posted before them in the ring") { context in
            let server = try context.server([try context.window(0, 0x4000)], ring: true)
            let place = address(context, 0x200)
            for value in 1...3 as ClosedRange<UInt64> {
                _ = try context.access(GuestAccess(.memoryWrite, place, value: value, size: 1), serving: [])
            }
            try context.start(GuestAccess(.memoryRead, place, size: 1))
            try context.waitForRequest(of: 0, in: server)
            try context.expect("waiting in the ring when a read comes", server.channel.ring?.waiting ?? 0, 3)
            let read = try context.finish([0], serving: [server]) { server, _, _ in server.posted.last?.data ?? 0 }
            try context.expect("the read, answered after draining", read, [3])
            _ = try context.access(GuestAccess(.memoryWrite, place, value: 4, size: 2), serving: [])
            _ = try context.access(GuestAccess(.repStos, place, value: 5, size: 2, count: 4), serving: [server])
            try context.fill(context.buffer(0), ConformanceContext.pattern(16))
            _ = try context.access(GuestAccess(.repMovsOut, place, size: 4, count: 2, buffer: context.buffer(0)), serving: [server])
            try context.expect(
                "the requests", server.asked,
                [
                    IORequest(kind: .copy, direction: .read, address: place, size: 1),
                    IORequest(kind: .copy, direction: .write, address: place, data: 5, size: 2, count: 4),
                    IORequest(kind: .copy, direction: .write, address: place, data: context.buffer(0), size: 4, count: 2, dataIsPointer: true),
                ])
            try context.expect("what was posted before each", server.requests.map(\.after), [3, 4, 4])
        },
        ConformanceCase("a string write of one element to the VGA window is posted with its value") { context in
            let server = try context.server([try context.window(0, 0x4000)], ring: true)
            let place = address(context, 0x300)
            try context.fill(context.buffer(0), ConformanceContext.pattern(8))
            _ = try context.access(GuestAccess(.repMovsOut, place, size: 4, count: 1, buffer: context.buffer(0)), serving: [server])
            _ = try context.access(GuestAccess(.repStos, place + 4, value: 0x77, size: 1, count: 1), serving: [server])
            let expected = [entry(place, ConformanceContext.value(ConformanceContext.pattern(8)[..<4]), 4), entry(place + 4, 0x77, 1)]
            try context.expect("the entries", server.posted, expected)
            try context.expect("requests", server.asked, [])
        },
        ConformanceCase("a single write across a page's end within the VGA window is posted in parts") { context in
            let server = try context.server([try context.window(0, 0x4000)], ring: true)
            let place = address(context, 0xffe)
            _ = try context.access(GuestAccess(.memoryWrite, place, value: 0x4433_2211, size: 4), serving: [])
            server.drain()
            try context.expect("the entries", server.posted, [entry(place, 0x2211, 2), entry(place + 2, 0x4433, 2)])
        },
        ConformanceCase("a server without a ring gets writes to the VGA window in its slot") { context in
            let server = try context.server([try context.window(0, 0x4000)])
            let place = address(context, 0x400)
            _ = try context.access(GuestAccess(.memoryWrite, place, value: 0x12, size: 1), serving: [server])
            try context.expect("the request", server.asked, [IORequest(kind: .copy, direction: .write, address: place, data: 0x12, size: 1)])
        },
        ConformanceCase("the ring of a lower server is not used when a higher one without a ring has the window") { context in
            let low = try context.server([try context.window(0, 0x4000)], ring: true)
            let high = try context.server([try context.window(0, 0x4000)])
            _ = try context.access(GuestAccess(.memoryWrite, address(context, 0x10), value: 1, size: 1), serving: [low, high])
            try context.expect("the lower one's entries", low.posted.count, 0)
            try context.expect("the higher one's requests", high.asked.count, 1)
        },
        ConformanceCase("writes elsewhere are not posted, ring or not") { context in
            let server = try context.server([try context.mmio(0, 0x1000), try context.ports(0, 4)], ring: true)
            _ = try context.access(GuestAccess(.memoryWrite, context.memory(0), value: 1, size: 4), serving: [server])
            _ = try context.access(GuestAccess(.portWrite, context.port(0), value: 1, size: 1), serving: [server])
            try context.expect("entries", server.posted.count, 0)
            try context.expect("requests", server.asked.count, 2)
        },
        ConformanceCase("a full ring falls back to the slot, and nothing is lost or reordered") { context in
            let server = try context.server([try context.window(0, 0x4000)], ring: true)
            let place = address(context, 0)
            let capacity = Int(BufferedRing.capacity)
            func write(_ value: UInt64, size: UInt32 = 4) -> GuestAccess { GuestAccess(.memoryWrite, place, value: value, size: size) }
            for value in 0..<(capacity - 1) { _ = try context.access(write(UInt64(value)), serving: []) }
            try context.expect("waiting", server.channel.ring?.waiting ?? 0, BufferedRing.capacity - 1)
            // Eight bytes take two places: there is only one.
            try context.start(write(0x1_0000_0000, size: 8))
            try context.waitForRequest(of: 0, in: server)
            context.answer(0, in: server, try context.take(0, from: server).data)
            _ = try context.finish([0], serving: []) { _, _, _ in 0 }
            _ = try context.access(write(UInt64(capacity - 1)), serving: [])
            try context.expect("waiting when it is full", server.channel.ring?.waiting ?? 0, BufferedRing.capacity)
            try context.start(write(0xffff))
            let request = try context.take(0, from: server)
            try context.expect("the write that does not fit", request, IORequest(kind: .copy, direction: .write, address: place, data: 0xffff, size: 4))
            server.drain()
            context.answer(0, in: server, 0)
            _ = try context.finish([0], serving: []) { _, _, _ in 0 }
            try context.expect("the entries", server.posted, (0..<capacity).map { entry(place, UInt64($0), 4) })
            // Past the end: the pointers have been rewound or have wrapped by now.
            server.posted = []
            for value in 0..<20 as Range<UInt64> { _ = try context.access(write(value, size: 8), serving: []) }
            server.drain()
            try context.expect("the entries then", server.posted, (0..<20).map { entry(place, $0, 8) })
        },
    ]

    private static func address(_ context: ConformanceContext, _ offset: Int) -> UInt64 { context.environment.window + UInt64(offset) }

    private static func entry(_ address: UInt64, _ data: UInt64, _ size: UInt32) -> BufferedEntry {
        BufferedEntry(type: IORequest.Kind.copy.rawValue, direction: .write, size: size, address: address, data: data)
    }
}

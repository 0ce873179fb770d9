import Host

/// String instructions: what Xen makes one request of, and where it takes them apart.
enum StringCases {
    /// One way of making a string access: where it begins, and the requests that come of it.
    struct Shape {
        var size: UInt32 = 4
        var count: UInt32
        /// Offset of the first element in the buffers, and of the first element in the window.
        var buffer = 0x100
        var window = 0x100
        var backwards = false
        /// Elements of each request; one with `true` comes as a plain access without a buffer.
        var parts: [(count: UInt32, plain: Bool)]
    }

    /// Shapes in which only the buffer is near a page's edge: all a port access has.
    static let bufferShapes: [Shape] = [
        Shape(count: 5, parts: [(5, false)]),
        Shape(size: 1, count: 100, parts: [(100, false)]),
        Shape(size: 2, count: 7, parts: [(7, false)]),
        Shape(count: 1, parts: [(1, true)]),
        Shape(count: 2, parts: [(2, false)]),
        Shape(count: 5, buffer: 0x200, backwards: true, parts: [(5, false)]),
        Shape(size: 2, count: 3, buffer: 0x203, backwards: true, parts: [(3, false)]),
        Shape(size: 1, count: 9, buffer: 0x200, backwards: true, parts: [(9, false)]),
        // The buffer crosses a page's end between two elements …
        Shape(count: 10, buffer: 0xff0, parts: [(4, false), (6, false)]),
        Shape(count: 3, buffer: 0xff8, parts: [(2, false), (1, true)]),
        // … or within one, which then comes alone.
        Shape(count: 4, buffer: 0xff6, parts: [(2, false), (1, false), (1, true)]),
        Shape(count: 3, buffer: 0xffe, parts: [(1, false), (2, false)]),
        // Going down: an element at a page's very start comes alone too.
        Shape(count: 5, buffer: 0x1004, backwards: true, parts: [(1, false), (1, false), (3, false)]),
    ]

    static let all: [ConformanceCase] = [
        ConformanceCase("`rep ins` is one request for the elements of a page, with the buffer's address, up or down") { context in
            let server = try context.server([try context.ports(0, 16)])
            for shape in bufferShapes { try input(context, server, shape, GuestAccess.Operation.repIns, context.port(4), kind: .portIO) }
        },
        ConformanceCase("`rep outs` is one request for the elements of a page, with the buffer's address, up or down") { context in
            let server = try context.server([try context.ports(0, 16)])
            for shape in bufferShapes { try output(context, server, shape, GuestAccess.Operation.repOuts, context.port(4), kind: .portIO) }
        },
        ConformanceCase("a long `rep outs` is one request a page, and going down one more for each page's first element") { context in
            let server = try context.server([try context.ports(0, 16)])
            let up = Shape(count: 3000, buffer: 0x1000, parts: [(1024, false), (1024, false), (952, false)])
            let down = Shape(
                count: 3000, buffer: 0x4000, backwards: true, parts: [(1, false), (1023, false), (1, false), (1023, false), (1, false), (951, false)])
            for shape in [up, down] { try output(context, server, shape, .repOuts, context.port(4), kind: .portIO) }
        },
        ConformanceCase("a string instruction with a count of 0 asks nobody") { context in
            let server = try context.server([try context.ports(0, 16), try context.mmio(0, 0x1000)])
            for operation in [.repIns, .repOuts] as [GuestAccess.Operation] {
                _ = try context.access(GuestAccess(operation, context.port(4), size: 4, count: 0, buffer: context.buffer(0)), serving: [server])
            }
            for operation in [.repMovsIn, .repMovsOut, .repStos] as [GuestAccess.Operation] {
                _ = try context.access(GuestAccess(operation, context.memory(4), size: 4, count: 0, buffer: context.buffer(0)), serving: [server])
            }
            try context.expect("requests", server.asked, [])
        },
        ConformanceCase("`rep movs` from a window to RAM is one request for the elements of both sides' pages, up or down") { context in
            let server = try context.server([try context.mmio(0, 0x4000)])
            for shape in windowShapes { try input(context, server, shape, .repMovsIn, context.memory(shape.window), kind: .copy) }
        },
        ConformanceCase("`rep movs` from RAM to a window is one request for the elements of both sides' pages, up or down") { context in
            let server = try context.server([try context.mmio(0, 0x4000)])
            for shape in windowShapes { try output(context, server, shape, .repMovsOut, context.memory(shape.window), kind: .copy) }
        },
        ConformanceCase("`rep stos` to a window is one request for the elements of a page, with the value, up or down") { context in
            let server = try context.server([try context.mmio(0, 0x4000)])
            for (size, count, window, backwards, parts) in [
                (4, 6, 0x100, false, [6]), (1, 3, 0x100, false, [3]), (2, 2, 0x100, false, [2]), (4, 1, 0x100, false, [1]), (4, 6, 0x200, true, [6]),
                (4, 6, 0xff0, false, [4, 2]), (4, 6, 0x1008, true, [3, 3]), (4, 1024, 0, false, [1024]), (4, 1026, 0x800, false, [512, 514]),
            ] as [(UInt32, UInt32, Int, Bool, [UInt32])] {
                server.requests = []
                let value: UInt64 = 0x8765_4321
                let access = GuestAccess(.repStos, context.memory(window), value: value, size: size, count: count, backwards: backwards)
                _ = try context.access(access, serving: [server])
                var done: UInt32 = 0
                var expected: [IORequest] = []
                for part in parts {
                    let distance = UInt64(done) * UInt64(size)
                    expected.append(
                        IORequest(
                            kind: .copy, direction: .write, address: backwards ? context.memory(window) - distance : context.memory(window) + distance,
                            data: value & AccessSize.allOnes(size), size: size, count: part, backwards: backwards && part > 1))
                    done += part
                }
                try context.expect("\(count) of \(size) bytes at +\(Hex.string(window))", server.asked, expected)
            }
        },
        ConformanceCase("`rep movs` between two windows is a load and a store for each element") { context in
            let server = try context.server([try context.mmio(0, 0x2000)])
            let access = GuestAccess(.repMovsBetween, context.memory(0x100), value: context.memory(0x1100), size: 4, count: 3)
            _ = try context.access(access, serving: [server]) { _, _, request in request.address & 0xfff }
            let expected = (0..<3).flatMap { index -> [IORequest] in
                let offset = 0x100 + index * 4
                return [
                    IORequest(kind: .copy, direction: .read, address: context.memory(offset), size: 4),
                    IORequest(kind: .copy, direction: .write, address: context.memory(0x1000 + offset), data: context.memory(offset) & 0xfff, size: 4),
                ]
            }
            try context.expect("the requests", server.asked, expected)
        },
        ConformanceCase("a repetition that leaves the range is nobody's, from its first element on") { context in
            let server = try context.server([try context.mmio(0x100, 0x20)])
            for (offset, count, backwards) in [(0x118, 4, false), (0x108, 4, true), (0xf8, 4, false)] as [(Int, UInt32, Bool)] {
                let access = GuestAccess(.repStos, context.memory(offset), value: 1, size: 4, count: count, backwards: backwards)
                _ = try context.access(access, serving: [server])
            }
            try context.expect("requests", server.asked, [])
            let inside = GuestAccess(.repStos, context.memory(0x10c), value: 1, size: 4, count: 4, backwards: true)
            _ = try context.access(inside, serving: [server])
            try context.expect("requests within", server.requests.count, 1)
        },
        ConformanceCase("a string read that nobody serves fills the buffer with ones, and a string write vanishes") { context in
            for (operation, address) in [(.repIns, context.port(0x40)), (.repMovsIn, context.memory(0x8000))] as [(GuestAccess.Operation, UInt64)] {
                let before = ConformanceContext.pattern(64)
                try context.fill(context.buffer(0), before)
                _ = try context.access(GuestAccess(operation, address, size: 4, count: 6, buffer: context.buffer(8)), serving: [])
                let after = before[..<8] + [UInt8](repeating: 0xff, count: 24) + before[32...]
                try context.expect("the buffer after \(operation)", try context.bytes(context.buffer(0), 64), Array(after))
            }
            _ = try context.access(GuestAccess(.repOuts, context.port(0x40), size: 2, count: 6, buffer: context.buffer(8)), serving: [])
            _ = try context.access(GuestAccess(.repMovsOut, context.memory(0x8000), size: 2, count: 6, buffer: context.buffer(8)), serving: [])
        },
    ]

    /// Shapes for a window too. (There the count that fits the window's page is taken after the one that fits the buffer's.)
    static let windowShapes: [Shape] =
        bufferShapes + [
            Shape(count: 4, window: 0xff8, parts: [(2, false), (2, false)]),
            Shape(count: 3, window: 0xff8, parts: [(2, false), (1, true)]),
            Shape(count: 4, buffer: 0xff4, window: 0xff8, parts: [(2, false), (1, false), (1, true)]),
            Shape(count: 6, buffer: 0x200, window: 0x1004, backwards: true, parts: [(2, false), (4, false)]),
            Shape(size: 1, count: 3, window: 0xffe, parts: [(2, false), (1, true)]),
        ]

    /// The requests that a shape should come as.
    private static func expected(
        _ context: ConformanceContext, _ shape: Shape, _ direction: IORequest.Direction, _ address: UInt64, kind: IORequest.Kind, plain: (UInt32) -> UInt64
    ) -> [IORequest] {
        var done: UInt32 = 0
        return shape.parts.map { part in
            let distance = UInt64(done) * UInt64(shape.size)
            let buffer = shape.backwards ? context.buffer(shape.buffer) - distance : context.buffer(shape.buffer) + distance
            let place = kind == .portIO ? address : shape.backwards ? address - distance : address + distance
            let data = part.plain ? plain(done) : buffer
            done += part.count
            return IORequest(
                kind: kind, direction: direction, address: place, data: data, size: shape.size, count: part.count, dataIsPointer: !part.plain,
                backwards: shape.backwards && !part.plain)
        }
    }

    /// Where an element of a shape lies in the buffers, as an offset.
    private static func offset(_ shape: Shape, _ element: UInt32) -> Int {
        shape.buffer + Int(element) * Int(shape.size) * (shape.backwards ? -1 : 1)
    }

    private static func input(
        _ context: ConformanceContext, _ server: TestServer, _ shape: Shape, _ operation: GuestAccess.Operation, _ address: UInt64, kind: IORequest.Kind
    ) throws {
        server.requests = []
        let background = [UInt8](repeating: 0xcc, count: 0x2000)
        try context.fill(context.buffer(0), background)
        var served: UInt32 = 0
        func next() -> UInt64 {
            served += 1
            return (UInt64(served) &* 0x0101_0101 &+ 0x8040_2010) & AccessSize.allOnes(shape.size)
        }
        let access = GuestAccess(
            operation, address, size: shape.size, count: shape.count, buffer: context.buffer(shape.buffer), backwards: shape.backwards)
        _ = try context.access(access, serving: [server]) { _, _, request in
            guard request.dataIsPointer else { return next() }
            // As an emulator does it: an element of the buffer after the other.
            for index in 0..<UInt64(min(request.count, 0x1000)) {
                let distance = index * UInt64(request.size)
                _ = context.driver.memory.store(
                    GuestAddress(request.backwards ? request.data &- distance : request.data &+ distance), value: next(), size: request.size)
            }
            return 0
        }
        try context.expect("\(operation) of \(shape)", server.asked, expected(context, shape, .read, address, kind: kind) { _ in 0 })
        var wanted = background
        for element in 0..<shape.count {
            let value = (UInt64(element + 1) &* 0x0101_0101 &+ 0x8040_2010) & AccessSize.allOnes(shape.size)
            for byte in 0..<Int(shape.size) { wanted[offset(shape, element) + byte] = UInt8(truncatingIfNeeded: value >> UInt64(byte * 8)) }
        }
        guard try context.bytes(context.buffer(0), 0x2000) == wanted else {
            throw ConformanceFailure("the buffer after \(operation) of \(shape)", expected: "the values in order", found: "something else")
        }
    }

    private static func output(
        _ context: ConformanceContext, _ server: TestServer, _ shape: Shape, _ operation: GuestAccess.Operation, _ address: UInt64, kind: IORequest.Kind
    ) throws {
        server.requests = []
        let bytes = ConformanceContext.pattern(shape.count > 1000 ? 0x5000 : 0x2000, seed: 0x31)
        try context.fill(context.buffer(0), bytes)
        func element(_ number: UInt32) -> UInt64 {
            let first = offset(shape, number)
            return ConformanceContext.value(bytes[first..<(first + Int(shape.size))])
        }
        let access = GuestAccess(
            operation, address, size: shape.size, count: shape.count, buffer: context.buffer(shape.buffer), backwards: shape.backwards)
        _ = try context.access(access, serving: [server])
        try context.expect("\(operation) of \(shape)", server.asked, expected(context, shape, .write, address, kind: kind, plain: element))
    }
}

import Host

/// Single port accesses.
enum PortCases {
    static let all: [ConformanceCase] = [
        ConformanceCase("a port access comes with its port, size and value") { context in
            let server = try context.server([try context.ports(0, 16)])
            for size in [1, 2, 4] as [UInt32] {
                let mask = AccessSize.allOnes(size)
                for offset in [0, 5, 10] {
                    server.requests = []
                    let read = try context.access(GuestAccess(.portRead, context.port(offset), size: size), serving: [server]) { _, _, _ in 0x8765_4321 }
                    try context.expect("a read of \(size) bytes at +\(offset)", read, 0x8765_4321 & mask)
                    _ = try context.access(GuestAccess(.portWrite, context.port(offset), value: 0x89ab_cdef, size: size), serving: [server])
                    try context.expect(
                        "the requests", server.asked,
                        [
                            IORequest(kind: .portIO, direction: .read, address: context.port(offset), size: size),
                            IORequest(kind: .portIO, direction: .write, address: context.port(offset), data: 0x89ab_cdef & mask, size: size),
                        ])
                }
            }
        },
        ConformanceCase("of an answer only the bytes of the access count") { context in
            let server = try context.server([try context.ports(0, 8)])
            for size in [1, 2, 4] as [UInt32] {
                let access = GuestAccess(.portRead, context.port(0), size: size)
                let read = try context.access(access, serving: [server]) { _, _, _ in 0xffff_ffff_0000_0000 }
                try context.expect("a read of \(size) bytes", read, 0)
            }
        },
        ConformanceCase("a port write blocks the vCPU until it is answered") { context in
            let server = try context.server([try context.ports(0, 8)])
            try context.start(GuestAccess(.portWrite, context.port(0), value: 0x5a, size: 1))
            let request = try context.take(0, from: server)
            try context.expect("the value", request.data, 0x5a)
            try context.expectWaiting(0, "an `out` that is not answered")
            context.answer(0, in: server, 0)
            _ = try context.finish([0], serving: []) { _, _, _ in 0 }
        },
        ConformanceCase("a port read blocks the vCPU until it is answered") { context in
            let server = try context.server([try context.ports(0, 8)])
            try context.start(GuestAccess(.portRead, context.port(0), size: 2))
            _ = try context.take(0, from: server)
            try context.expectWaiting(0, "an `in` that is not answered")
            context.answer(0, in: server, 0xbeef)
            try context.expect("the value", try context.finish([0], serving: []) { _, _, _ in 0 }, [0xbeef])
        },
    ]
}

import Glibc
import Host

/// The ranges of a server: rangesets, in which neighbours become one (xen/common/rangeset.c).
enum RangeCases {
    static let all: [ConformanceCase] = [
        ConformanceCase("an overlap is refused within one server, of every kind of range") { context in
            let id = try context.createBare()
            for (have, clash) in [
                (try context.ports(0, 8), try context.ports(7, 4)), (try context.ports(0x20, 8), try context.ports(0x18, 9)),
                (try context.mmio(0, 0x1000), try context.mmio(0xfff, 2)),
                (.pci(try context.pci()), .pci(try context.pci())),
            ] {
                try context.host.map(have, to: id)
                try context.refused("\(clash) over \(have)", .rangeOverlap) { () throws(HostError) in try context.host.map(clash, to: id) }
            }
        },
        ConformanceCase("an overlap across servers is allowed") { context in
            let first = try context.createBare()
            let second = try context.createBare()
            for range in [try context.ports(0, 8), try context.mmio(0, 0x1000), .pci(try context.pci())] {
                try context.host.map(range, to: first)
                try context.host.map(range, to: second)
            }
        },
        ConformanceCase("the 257th separate range of a kind is refused, and every kind has its own 256") { context in
            let id = try context.createBare()
            // Two apart, so that none becomes one with its neighbour. Never enabled: the addresses may be anybody's.
            func port(_ index: Int) throws(ConformanceFailure) -> IORange {
                guard let range = PortRange(first: UInt16(0x1000 + index * 2), count: 1) else {
                    throw ConformanceFailure("a port", expected: "a range", found: "none")
                }
                return .ports(range)
            }
            for index in 0..<256 { try context.host.map(try port(index), to: id) }
            let next = try port(256)
            try context.refused("the 257th", .tooManyRanges) { () throws(HostError) in try context.host.map(next, to: id) }
            try context.host.unmap(try port(100), from: id)
            try context.host.map(next, to: id)
            for index in 0..<256 { try context.host.map(try context.mmio(index * 2, 1), to: id) }
            let memory = try context.mmio(512, 1)
            try context.refused("the 257th of memory", .tooManyRanges) { () throws(HostError) in try context.host.map(memory, to: id) }
        },
        ConformanceCase("a range directly above another one becomes part of it, even in a full set") { context in
            let id = try context.createBare()
            for index in 0..<256 { try context.host.map(try context.mmio(index * 4, 1), to: id) }
            try context.host.map(try context.mmio(255 * 4 + 1, 8), to: id)
            let apart = try context.mmio(0x1000, 1)
            try context.refused("one apart", .tooManyRanges) { () throws(HostError) in try context.host.map(apart, to: id) }
            // Filling the gap between two joins them, which makes room for one more.
            try context.host.map(try context.mmio(1, 3), to: id)
            try context.host.map(apart, to: id)
        },
        ConformanceCase("what is not mapped in full cannot be unmapped") { context in
            let id = try context.createBare()
            let range = try context.ports(0x10, 8)
            try context.host.map(range, to: id)
            for (first, count) in [(0x10, 9), (0xf, 9), (0x20, 1), (0xf, 1), (0x18, 1), (0, 0x40)] {
                let wrong = try context.ports(first, count)
                try context.refused("unmap \(wrong)", .noSuchRange) { () throws(HostError) in try context.host.unmap(wrong, from: id) }
            }
            try context.host.unmap(range, from: id)
            try context.refused("unmap it twice", .noSuchRange) { () throws(HostError) in try context.host.unmap(range, from: id) }
        },
        ConformanceCase("a part of a range can be unmapped, and the rest stays served") { context in
            let server = try context.server([try context.ports(0x10, 8)])
            try context.host.unmap(try context.ports(0x12, 2), from: server.id)
            for (offset, served) in [(0x11, true), (0x12, false), (0x13, false), (0x14, true), (0x17, true)] {
                let read = try context.access(GuestAccess(.portRead, context.port(offset), size: 1), serving: [server]) { _, _, _ in 1 }
                try context.expect("port +\(Hex.string(offset))", read, served ? 1 : 0xff)
            }
            let hole = try context.ports(0x10, 8)
            try context.refused("unmap the whole", .noSuchRange) { () throws(HostError) in try context.host.unmap(hole, from: server.id) }
            try context.host.map(try context.ports(0x12, 2), to: server.id)
            try context.host.unmap(hole, from: server.id)
        },
        ConformanceCase("cutting a hole into a range of a full set is refused") { context in
            let id = try context.createBare()
            for index in 0..<255 { try context.host.map(try context.mmio(index * 2, 1), to: id) }
            try context.host.map(try context.mmio(0x1000, 16), to: id)
            let middle = try context.mmio(0x1004, 4)
            try context.refused("a hole", .failed(ENOMEM)) { () throws(HostError) in try context.host.unmap(middle, from: id) }
            try context.host.unmap(try context.mmio(0x1000, 16), from: id)
        },
    ]
}

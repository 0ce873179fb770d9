import Host

/// Making, enabling and destroying servers.
enum ServerCases {
    static let all: [ConformanceCase] = [
        ConformanceCase("ids are handed out lowest first, and a freed one comes back first") { context in
            let ids = try takeAll(context)
            try context.expect("the order of the ids", ids, ids.sorted())
            try context.expect("at least three ids are free", ids.count >= 3, true)
            for id in [ids[1], ids[0]] { try context.destroyBare(id) }
            try context.expect("the first id after freeing two", try context.createBare(), ids[0])
            try context.expect("the second id after freeing two", try context.createBare(), ids[1])
        },
        ConformanceCase("a domain has no more than eight servers") { context in
            let ids = try takeAll(context)
            try context.expect("the highest id", ids.last?.rawValue ?? 0, UInt16(ServerID.limit - 1))
            try context.refused("one more", .noFreeServer) { () throws(HostError) in _ = try context.createBare() }
        },
        ConformanceCase("a server that was destroyed refuses everything") { context in
            let id = try context.createBare()
            try context.destroyBare(id)
            let range = try context.ports(0, 4)
            try context.refused("map", .noSuchServer) { () throws(HostError) in try context.host.map(range, to: id) }
            try context.refused("unmap", .noSuchServer) { () throws(HostError) in try context.host.unmap(range, from: id) }
            try context.refused("enable", .noSuchServer) { () throws(HostError) in try context.host.setServer(id, enabled: true) }
            try context.refused("open its channel", .noSuchServer) { () throws(HostError) in _ = try context.host.openChannel(id) }
            try context.refused("destroy", .noSuchServer) { () throws(HostError) in try context.host.destroyServer(id) }
        },
        ConformanceCase("enabling or disabling twice changes nothing") { context in
            let server = try context.server([try context.ports(0, 4)])
            try context.host.setServer(server.id, enabled: true)
            let read = try context.access(GuestAccess(.portRead, context.port(0), size: 1), serving: [server]) { _, _, _ in 0x5a }
            try context.expect("a read of the server", read, 0x5a)
            try context.host.setServer(server.id, enabled: false)
            try context.host.setServer(server.id, enabled: false)
            let unserved = try context.access(GuestAccess(.portRead, context.port(0), size: 1), serving: [server]) { _, _, _ in 0x5a }
            try context.expect("a read of the disabled server", unserved, 0xff)
        },
    ]

    /// Creates servers until the host refuses.
    private static func takeAll(_ context: ConformanceContext) throws -> [ServerID] {
        var ids: [ServerID] = []
        while ids.count <= ServerID.limit {
            do throws(HostError) { ids.append(try context.createBare(ring: ids.count % 2 == 0)) } catch {
                guard error.reason == .noFreeServer else { throw error }
                break
            }
        }
        return ids
    }
}

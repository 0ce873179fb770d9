import Host
import Platform

/// A guest whose QEMU has died.
extension Coordinator {
    /// Says so wherever a person looks, and answers in QEMU's place, so that no vCPU waits for ever: reads get all-ones, writes are dropped.
    /// Our emulators serve on.
    public func guestIsBroken(_ reason: String) {
        if broken == nil {
            broken = reason
            logBook.note(.critical, "the guest is broken: \(reason); its emulators serve on, 'xl destroy \(context.host.domain.rawValue)' ends it")
        }
        context.parkStrangers()
    }
}

extension GuestContext {
    /// Serves every server that is nobody's of ours any more, as one that is parked.
    func parkStrangers() {
        let ours = Set(reserved + (own.map { [$0] } ?? []) + allHoldings.compactMap { $0.holdings.server?.id })
        for number in 0..<UInt16(ServerID.limit) {
            guard let server = ServerID(number), !ours.contains(server), !strangers.contains(where: { $0.id == server }) else { continue }
            // Most numbers are no server's.
            guard let parked = try? ParkedServer(loop: loop, host: host, server: server) else { continue }
            strangers.append((server, parked))
            logBook.note(.warning, "\(server) was QEMU's: the coordinator answers in its place")
        }
    }
}

import Glibc
import Host
import Platform
import XenHost

/// What a coordinator lives through when its guest is destroyed under it: it learns of it from xenstore, every request is
/// refused with the same reason, and once it has let go the domain is gone. Run beside the guest, before `xl destroy`.
enum DeathWatch {
    /// - Returns: the exit status.
    static func run(_ domain: DomainID) -> CInt {
        let tap = Tap()
        tap.attempt("the guest's death") { try watch(domain, tap) }
        tap.plan()
        return tap.failed == 0 ? 0 : 1
    }

    private static func watch(_ domain: DomainID, _ tap: Tap) throws {
        let host = try XenHost(domain: domain)
        let store = try XenStore()
        let control = try XenControl()
        let server = try host.createServer(ring: true)
        try host.setServer(server, enabled: true)
        var channel: (any SharedChannel)? = try host.openChannel(server)
        try channel?.bind()
        var memory: (any GuestMemory)? = try host.guestMemory()
        tap.check("its memory is mapped", memory?.load(GuestAddress(Mailbox.buffers), size: 4) != nil)
        try store.watch(XenStore.releaseDomain, token: "release")
        tap.note("WATCHING")
        var fired = 0
        let end = ContinuousClock.now + .seconds(120)
        // It fires once when it is set.
        while store.isAlive(domain) || fired < 2, ContinuousClock.now < end {
            var entry = pollfd(fd: store.descriptor, events: Int16(POLLIN), revents: 0)
            _ = poll(&entry, 1, 1000)
            while let event = try store.nextEvent() { if event.token == "release" { fired += 1 } }
        }
        tap.check("@releaseDomain fires, and xenstore says that the guest is not alive", fired > 1 && !store.isAlive(domain), "fired \(fired)")
        // The toolstack is still at work, and our mappings keep the domain.
        var info = try control.info(domain)
        while info?.dying == false, ContinuousClock.now < end {
            usleep(50_000)
            info = try control.info(domain)
        }
        tap.check("while its memory is mapped it stays, dying", info?.dying == true && info?.ended == true, "\(String(describing: info))")
        usleep(500_000)
        tap.note("while it is dying: \(host.refusal { () throws(HostError) in _ = try host.vcpuCount() }), \(host.refusal { () throws(HostError) in try host.setServer(server, enabled: false) })")
        tap.note("while it is dying: \(host.refusal { () throws(HostError) in _ = try host.createServer(ring: true) })")
        tap.note("while it is dying: \(host.refusal { () throws(HostError) in try host.setINTx(device: 1, pin: 0, asserted: true) })")
        _ = channel?.acknowledge()
        channel?.notify(0)
        tap.check("its pages can still be looked at", channel?.slots.state(0) == IORequest.State.none)
        _ = memory?.load(GuestAddress(Mailbox.buffers), size: 4)
        _ = memory?.load(GuestAddress(0x10_0000), size: 4)

        memory?.invalidate()
        memory = nil
        host.release()
        tap.note("memory and the host's own pages are let go of; a channel is held: \(String(describing: try control.info(domain)?.pages)) pages")
        channel = nil
        try gone(domain, tap, host, control)
    }

    private static func gone(_ domain: DomainID, _ tap: Tap, _ host: XenHost, _ control: borrowing XenControl) throws {
        let end = ContinuousClock.now + .seconds(60)
        while try control.info(domain) != nil, ContinuousClock.now < end { usleep(100_000) }
        let left = try control.info(domain)
        tap.check("once everything is let go of, the domain is gone", left == nil, "\(String(describing: left))")
        for (what, body) in [
            ("vCPUs", { () throws(HostError) in _ = try host.vcpuCount() }),
            ("create", { () throws(HostError) in _ = try host.createServer(ring: true) }),
            ("map", { () throws(HostError) in try host.map(.ports(PortRange(only: 0x700)), to: ServerID(0) ?? .zero) }),
            ("channel", { () throws(HostError) in _ = try host.channel(.zero) }),
            ("INTx", { () throws(HostError) in try host.setINTx(device: 1, pin: 0, asserted: true) }),
            ("MSI", { () throws(HostError) in try host.injectMSI(address: 0xfee0_0000, data: 0x41) }),
            ("answer", { () throws(HostError) in try host.answerPending(of: .zero) }),
        ] as [(String, () throws(HostError) -> Void)] {
            let refusal = host.refusal(body)
            tap.check("afterwards: \(what) says that there is no such domain", refusal.hasPrefix("noSuchDomain"), refusal)
        }
        let memory = try host.guestMemory()
        tap.check("afterwards: its memory is no memory", memory.load(GuestAddress(Mailbox.buffers), size: 4) == nil)
        tap.check("afterwards: nothing can be populated", (try? control.populate(domain, first: GFN(0x14_0000), pages: 1)) == nil)
    }
}

extension XenHost {
    /// The reason and the words with which a request is refused.
    func refusal(_ body: () throws(HostError) -> Void) -> String {
        do throws(HostError) { try body() } catch { return "\(error.reason): \(error)" }
        return "(not refused)"
    }
}

extension ServerID {
    /// The first one: QEMU's, in a guest that xl made.
    static var zero: ServerID { ServerID(0) ?? .zero }
}

import Glibc
import Host
import Platform
import XenHost

/// What only Xen has: its refusals, channels across processes, the restriction of direct emulators, rescue, xenstore and libxenctrl.
/// (What both hosts have is in HostConformance.)
struct XenCases {
    let tap: Tap
    let host: XenHost
    let memory: any GuestMemory
    let mailboxes: [Mailbox]

    /// Ports that nobody else has: 0x700 and up.
    func ports(_ first: UInt16, _ count: Int) -> IORange { .ports(PortRange(first: first, count: count) ?? PortRange(only: first)) }

    func run() {
        tap.attempt("refusals") { try refusals() }
        tap.attempt("the channel") { try channel() }
        tap.attempt("the restricted emulator") { try restricted() }
        tap.attempt("a dead emulator") { try dead() }
        tap.attempt("a hung emulator") { try hung() }
        tap.attempt("taking a server away") { try retired() }
        tap.attempt("guest memory") { try guestMemory() }
        tap.attempt("xenstore") { try store() }
        tap.attempt("libxenctrl") { try control() }
        tap.attempt("interrupts") { try interrupts() }
    }

    /// The reason for which `body` is refused; nil when it is not.
    func reason(_ body: () throws(HostError) -> Void) -> HostError.Reason? {
        do throws(HostError) { try body() } catch {
            tap.note("refused: \(error)")
            return error.reason
        }
        return nil
    }

    func refusals() throws {
        guard let missing = DomainID(0x7000) else { return }
        tap.equal("a domain that does not exist", reason { () throws(HostError) in _ = try XenHost(domain: missing) }, .noSuchDomain)
        var servers: [ServerID] = []
        var last: HostError.Reason?
        while servers.count < 9 {
            do throws(HostError) { servers.append(try host.createServer(ring: true)) } catch {
                tap.note("refused after \(servers): \(error)")
                last = error.reason
                break
            }
        }
        tap.equal("one server too many", last, .noFreeServer)
        for server in servers.dropFirst() { try host.destroyServer(server) }
        guard let server = servers.first, let gone = servers.last else { return }
        tap.equal("a destroyed server: map", reason { () throws(HostError) in try host.map(ports(0x700, 4), to: gone) }, .noSuchServer)
        tap.equal("a destroyed server: unmap", reason { () throws(HostError) in try host.unmap(ports(0x700, 4), from: gone) }, .noSuchServer)
        tap.equal("a destroyed server: enable", reason { () throws(HostError) in try host.setServer(gone, enabled: true) }, .noSuchServer)
        tap.equal("a destroyed server: channel", reason { () throws(HostError) in _ = try host.channel(gone) }, .noSuchServer)
        tap.equal("a destroyed server: destroy", reason { () throws(HostError) in try host.destroyServer(gone) }, .noSuchServer)

        try host.map(ports(0x700, 8), to: server)
        tap.equal("an overlap in one server", reason { () throws(HostError) in try host.map(ports(0x704, 8), to: server) }, .rangeOverlap)
        tap.equal("the same range again", reason { () throws(HostError) in try host.map(ports(0x700, 8), to: server) }, .rangeOverlap)
        tap.equal("unmapping what is not there", reason { () throws(HostError) in try host.unmap(ports(0x710, 1), from: server) }, .noSuchRange)
        tap.equal("unmapping more than is there", reason { () throws(HostError) in try host.unmap(ports(0x700, 9), from: server) }, .noSuchRange)
        tap.equal("unmapping a part", reason { () throws(HostError) in try host.unmap(ports(0x702, 2), from: server) }, nil)
        tap.equal("mapping the part again", reason { () throws(HostError) in try host.map(ports(0x702, 2), to: server) }, nil)
        tap.equal("unmapping the whole", reason { () throws(HostError) in try host.unmap(ports(0x700, 8), from: server) }, nil)
        var mapped = 0
        var full: HostError.Reason?
        while mapped < 300 {
            do throws(HostError) {
                try host.map(ports(0x1000 + UInt16(mapped) * 2, 1), to: server)
                mapped += 1
            } catch {
                tap.note("refused: \(error)")
                full = error.reason
                break
            }
        }
        tap.equal("as many ranges as fit", mapped, 256)
        tap.equal("one range too many", full, .tooManyRanges)
        tap.equal("one range that joins two others is not too many", reason { () throws(HostError) in try host.map(ports(0x1001, 1), to: server) }, nil)
        tap.equal(
            "a range of another kind still fits",
            reason { () throws(HostError) in try host.map(.memory(MMIORange(first: GuestAddress(0xfed8_0000), length: 0x1000) ?? .all), to: server) }, nil)
        try host.destroyServer(server)
    }

    func channel() throws {
        let server = try host.createServer(ring: true)
        defer { try? host.retire(server) }
        var channel = try host.channel(server)
        tap.check("the ring is found", channel.ring != nil)
        tap.equal("a channel is not bound before the server is enabled", reason { () throws(HostError) in try channel.bind() }, .invalid)
        try host.map(ports(0x700, 16), to: server)
        try host.map(.memory(MMIORange(first: GuestAddress(0xfed8_0000), length: 0x1000) ?? .all), to: server)
        try host.setServer(server, enabled: true)
        try channel.bind()
        var observer = try host.channel(server)
        tap.equal("a second bind is refused while the owner lives", reason { () throws(HostError) in try observer.bind() }, .invalid)
        tap.check("the first acknowledge names every slot, or the ring", channel.acknowledge() && (channel.named == nil || channel.named?.contains(0) == true))
        while channel.acknowledge() {}
        tap.equal("a spurious look names nothing", channel.named, VCPUSet())

        for mailbox in mailboxes {
            mailbox.submit(.portRead, address: 0x704, size: 2)
            // Look before serving: exactly this vCPU is named, and an observer sees the request.
            let came = poll(channel.waitDescriptor)
            tap.check("vCPU \(mailbox.vcpu): its request is notified", came && channel.acknowledge())
            var wanted = VCPUSet()
            wanted.insert(mailbox.vcpu)
            tap.equal("vCPU \(mailbox.vcpu): only its slot is named", channel.named, wanted)
            tap.equal("vCPU \(mailbox.vcpu): an observer sees the request", observer.slots.state(mailbox.vcpu), .ready)
            var seen: [IORequest] = []
            let done = Serving.serve(&channel, until: { mailbox.isDone }) { _, request in
                seen.append(request)
                return 0xbeef
            }
            tap.check("vCPU \(mailbox.vcpu): its read is answered", done && mailbox.value == 0xbeef, "done \(done), value \(Hex.string(mailbox.value))")
            tap.equal("vCPU \(mailbox.vcpu): the request", seen, [IORequest(kind: .portIO, direction: .read, address: 0x704, data: seen.first?.data ?? 0, size: 2)])
        }

        let first = try host.channel(.zero)
        tap.check("QEMU's server can be observed beside QEMU, its ring too", first.ring != nil && first.slots.remotePort(0) != 0)

        // Both at once.
        for mailbox in mailboxes { mailbox.submit(.memoryRead, address: 0xfed8_0010 + UInt64(mailbox.vcpu) * 4, size: 4) }
        let both = Serving.serve(&channel, until: { mailboxes.allSatisfy { $0.isDone } }) { _, request in request.address & 0xff }
        tap.check("all vCPUs at once", both && mailboxes.allSatisfy { $0.value == 0x10 + UInt64($0.vcpu) * 4 }, "\(mailboxes.map { Hex.string($0.value) })")
    }

    private func poll(_ descriptor: CInt, milliseconds: CInt = 10000) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&entry, 1, milliseconds) == 1
    }

    func guestMemory() throws {
        let bytes = (0..<9000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 3) }
        let place = GuestAddress(Mailbox.buffers + 0xf81)
        tap.check("a write across three pages", bytes.withUnsafeBytes { memory.write(place, from: $0) })
        memory.invalidate()
        var back = [UInt8](repeating: 0, count: bytes.count)
        tap.check("is read back after an invalidate", back.withUnsafeMutableBytes { memory.read(place, into: $0) } && back == bytes)
        let mailbox = mailboxes[0]
        var answer = [UInt8](repeating: 0, count: 16)
        for address in [0xfee0_0000, 0xffff_ffff_ffff_fff8, 0x1_0000_0000_0000, 0xffff_f000, 0x7fff_ffff_f000, 1 << 47] as [UInt64] {
            let whole = answer.withUnsafeMutableBytes { memory.read(GuestAddress(address), into: $0) }
            tap.check("\(Hex.string(address)) is not RAM", !whole && answer.prefix(8).allSatisfy { $0 == 0xff }, "whole \(whole), \(answer)")
            tap.check("\(Hex.string(address)) is not written", !bytes.withUnsafeBytes { memory.write(GuestAddress(address), from: UnsafeRawBufferPointer(rebasing: $0[..<16])) })
        }
        (memory as? XenGuestMemory)?.dirtyLogging = true
        tap.check("a write while dirty logging is on", memory.store(place, value: 5, size: 8))
        (memory as? XenGuestMemory)?.dirtyLogging = false
        mailbox.submit(.nop)
        tap.check("the agent still answers", mailbox.wait())
    }

    func interrupts() throws {
        tap.equal("INTx", reason { () throws(HostError) in
            try host.setINTx(device: 0x1e, pin: 0, asserted: true)
            try host.setINTx(device: 0x1e, pin: 0, asserted: false)
        }, nil)
        tap.equal("INTx of device 32", reason { () throws(HostError) in try host.setINTx(device: 32, pin: 0, asserted: true) }, .invalid)
        tap.equal("INTx pin 4", reason { () throws(HostError) in try host.setINTx(device: 1, pin: 4, asserted: true) }, .invalid)
        tap.equal("an ISA line", reason { () throws(HostError) in
            try host.setISAInterrupt(7, asserted: true)
            try host.setISAInterrupt(7, asserted: false)
        }, nil)
        tap.equal("ISA line 16", reason { () throws(HostError) in try host.setISAInterrupt(16, asserted: true) }, .invalid)
        // To an APIC that nobody has: the agent ends no interrupt but its timer's, and would sleep for ever after another.
        tap.equal("an MSI", reason { () throws(HostError) in try host.injectMSI(address: 0xfeef_e000, data: 0x41) }, nil)
        tap.equal("an MSI with an upper address half", reason { () throws(HostError) in try host.injectMSI(address: 0x1_feef_e000, data: 0x41) }, nil)
    }
}

extension MMIORange {
    /// Stands in where a range is known to be a valid one.
    static var all: MMIORange { MMIORange(first: GuestAddress(0), last: GuestAddress(.max)) ?? .all }
}
extension PortRange {
    /// A single port.
    init(only port: UInt16) { self = PortRange(first: port, last: port) ?? PortRange(only: port) }
}

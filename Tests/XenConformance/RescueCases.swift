import Glibc
import Host
import Platform
import XenHost

/// Emulators in processes of their own: restricted, hung, killed.
extension XenCases {
    /// A direct emulator in a process of its own, serving a server that was made for it.
    final class Emulator {
        let server: ServerID
        private let socket: MessageSocket
        let process: ChildProcess

        init(_ host: XenHost, mode: DirectChild.Mode, range: IORange, uid: UInt32 = 990) throws {
            server = try host.createServer(ring: true)
            let (ours, theirs) = try MessageSocket.pair()
            socket = MessageSocket(adopting: OwnedDescriptor(adopting: ours))
            let end = OwnedDescriptor(adopting: theirs)
            process = try ChildProcess(
                program: "/proc/self/exe",
                arguments: ["--direct", "\(host.domain.rawValue)", "\(server.rawValue)", "\(host.vcpuCount())", mode.rawValue, "\(uid)", "\(uid)"],
                inherited: [.init(ours: end.raw, theirs: 3)])
            try host.map(range, to: server)
        }

        func hear() -> String {
            if case .message(let bytes, _) = try? socket.receive() { return String(decoding: bytes, as: UTF8.self) }
            return "(gone)"
        }

        func tell() { try? socket.send([0x67]) }

        func end() {
            process.signal(SIGKILL)
            _ = process.wait(limit: .seconds(20))
        }
    }

    func restricted() throws {
        let emulator = try Emulator(host, mode: .rights, range: ports(0x720, 4))
        defer { emulator.end() }
        tap.equal("a direct emulator attaches, restricts itself and drops root", emulator.hear(), "attached")
        try host.setServer(emulator.server, enabled: true)
        emulator.tell()
        var line = emulator.hear()
        while line.hasPrefix("ok ") || line.hasPrefix("not ok ") {
            tap.check("restricted: \(line.split(separator: " ", maxSplits: line.hasPrefix("ok") ? 1 : 2).last ?? "")", line.hasPrefix("ok "))
            line = emulator.hear()
        }
        tap.equal("restricted: it binds its channel", line, "bound")
        mailboxes[1].submit(.portRead, address: 0x720, size: 4)
        tap.check("restricted: it serves", mailboxes[1].wait() && mailboxes[1].value == DirectChild.answer, Hex.string(mailboxes[1].value))
        emulator.tell()
        let last = emulator.hear()
        tap.check("restricted: it ends in order", last.hasPrefix("served "), last)
        _ = emulator.process.wait(limit: .seconds(20))
        try host.retire(emulator.server)
    }

    func dead() throws {
        let emulator = try Emulator(host, mode: .hang, range: ports(0x720, 4))
        _ = emulator.hear()
        try host.setServer(emulator.server, enabled: true)
        emulator.tell()
        tap.equal("the emulator that will die is bound", emulator.hear(), "bound")
        mailboxes[0].submit(.portRead, address: 0x720, size: 2)
        tap.equal("it takes a request", emulator.hear(), "taken")
        emulator.end()
        usleep(50_000)
        tap.check("the vCPU waits after its death", !mailboxes[0].isDone)
        tap.equal("the coordinator answers for the dead one", try host.answerPending(of: emulator.server), 1)
        tap.check("and the guest reads all-ones", mailboxes[0].wait() && mailboxes[0].value == 0xffff, Hex.string(mailboxes[0].value))

        // One that died between its answer and the notification.
        mailboxes[0].submit(.portRead, address: 0x722, size: 1)
        usleep(50_000)
        let observer = try host.channel(emulator.server)
        tap.check("a request is answered and nobody is told", observer.slots.take(0) != nil && observer.slots.complete(0, data: 0x33))
        usleep(50_000)
        tap.check("so the vCPU still waits", !mailboxes[0].isDone)
        tap.equal("the coordinator tells it", try host.answerPending(of: emulator.server), 1)
        tap.check("and the guest reads that answer", mailboxes[0].wait() && mailboxes[0].value == 0x33, Hex.string(mailboxes[0].value))

        // A request that the next one finds READY, with no event to come.
        mailboxes[0].submit(.portRead, address: 0x721, size: 1)
        usleep(50_000)
        tap.check("the next access waits too", !mailboxes[0].isDone)
        var channel = try host.channel(emulator.server)
        try channel.bind()
        let done = Serving.serve(&channel, until: { mailboxes[0].isDone }) { _, _ in 0x77 }
        tap.check("a successor finds it and answers it", done && mailboxes[0].value == 0x77, Hex.string(mailboxes[0].value))
        try host.retire(emulator.server)
    }

    func hung() throws {
        let emulator = try Emulator(host, mode: .hang, range: ports(0x720, 4))
        defer { emulator.end() }
        _ = emulator.hear()
        try host.setServer(emulator.server, enabled: true)
        emulator.tell()
        _ = emulator.hear()
        mailboxes[1].submit(.portRead, address: 0x720, size: 4)
        tap.equal("the hung emulator takes a request", emulator.hear(), "taken")
        tap.equal("the coordinator answers for the living one", try host.answerPending(of: emulator.server), 1)
        tap.check("and the guest reads all-ones", mailboxes[1].wait() && mailboxes[1].value == 0xffff_ffff, Hex.string(mailboxes[1].value))
        mailboxes[1].submit(.portRead, address: 0x720, size: 4)
        tap.equal("it takes another", emulator.hear(), "taken")
        tap.equal("its server is taken away with the request in flight", reason { () throws(HostError) in try host.retire(emulator.server) }, nil)
        tap.check("and the guest reads all-ones again", mailboxes[1].wait() && mailboxes[1].value == 0xffff_ffff, Hex.string(mailboxes[1].value))
    }

    func retired() throws {
        let server = try host.createServer(ring: false)
        try host.map(ports(0x720, 4), to: server)
        try host.setServer(server, enabled: true)
        let observer = try host.channel(server)
        tap.check("a server without a ring has none", observer.ring == nil)
        for mailbox in mailboxes { mailbox.submit(.portRead, address: 0x720, size: 1) }
        usleep(200_000)
        tap.check("every vCPU waits for a server that nobody serves", mailboxes.allSatisfy { !$0.isDone })
        try host.retire(server)
        tap.check("taking it away answers them all", mailboxes.allSatisfy { $0.wait() && $0.value == 0xff }, "\(mailboxes.map { Hex.string($0.value) })")
        tap.equal("its number is free again", try host.createServer(ring: true), server)
        try host.destroyServer(server)
    }
}

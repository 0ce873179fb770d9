import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Platform
import Specification
import TestTools
import Testing

@testable import Coordinator

@Suite("The exporter, its sockets and its settings")
struct ExporterTests {
    @Test("it gets its settings as text, and becomes nobody when the coordinator is root")
    func settings() throws {
        var vnc = Built.exporter()
        (vnc.keymap, vnc.share, vnc.clients, vnc.viewOnly, vnc.tls) = ("de", .forceShared, 3, true, .certificate(certificate: "/c", key: "/k", authority: nil))
        (vnc.websocket, vnc.origins) = (true, ["https://a", "http://b:1"])
        try withGuest([], vnc: vnc) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(
                try guest.view("options")
                    == "clients=3 clipboard=no handshake-seconds=10 keymap=de name=test origins=https://a http://b:1 password-required=no share=force-shared tls=x509 "
                    + "tls-certificate=/c tls-key=/k view-only=yes websocket=yes")
            #expect(try guest.view("uid") == (geteuid() == 0 ? "65534 65534" : "\(getuid()) \(getgid())"))
            let information = try #require(try guest.onLoop { $0.vncInformation })
            #expect(information.authentication == "vencrypt+x509+none" && information.listeners.isEmpty)
        }
    }

    @Test("a guest that is renamed has its new name at once, and the next exporter shows it")
    func renamed() throws {
        try withGuest([], vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.status.name == "test")
            try guest.onLoop { $0.rename("Bär \"2\"") }
            #expect(try guest.status.name == "Bär \"2\"")
            try guest.crash("vnc")
            try eventually("the next one shows it") { try guest.view("options").contains("name=Bär \"2\" ") }
        }
    }

    @Test("it is refused everything that is not an exporter's")
    func hostile() throws {
        try withGuest([], display: Built.screen(), vnc: Built.exporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.view("hostile") == "17 of 17")
            #expect(try guest.emulator("vnc").claims.isEmpty)
        }
    }

    @Test("of a view-only guest's exporter nothing reaches the guest, whatever it says")
    func viewOnly() throws {
        var vnc = Built.exporter()
        vnc.viewOnly = true
        try withGuest([], display: Built.screen("input"), vnc: vnc) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let before = try guest.screen(24)
            _ = try guest.view("key 5 down")
            _ = try guest.view("hint 800 600")
            try eventually("both are refused") { try guest.log.count { $0.contains("has 'view-only' under 'vnc'") } == 2 }
            #expect(try guest.screen(24) == before)
        }
    }

    @Test("a program that is no exporter is told so, and one that is none but an exporter as an emulator too")
    func wrongPlace() throws {
        try withGuest([], vnc: VNCSpecification(program: Built.program("demux-scratch"), readyWithinMilliseconds: 60_000)) { (guest: Guest) throws in
            #expect(try guest.start().joined().contains("name an exporter as 'program' under 'vnc'"))
        }
        try withGuest([Built.test("exporter")]) { (guest: Guest) throws in
            #expect(try guest.start().joined().contains("an exporter belongs under 'vnc' in the specification"))
        }
    }

    @Test("viewers and what it has done are shown, with what could move a cursor made harmless")
    func status() throws {
        try withGuest([], vnc: Built.exporter(listen: [.tcp(host: "localhost", first: 0, last: 0)])) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.view("status") == "ok")
            try eventually("it is known") { try guest.status.vnc?.clients.count == 1 }
            let status = try #require(try guest.status.vnc)
            #expect(status.clients.first?.service == "1\\x1b[2J" && status.statistics == ["updates": 7])
            #expect(status.addresses.contains { $0.hasPrefix("127.0.0.1:") } && status.authentication == "none" && !status.isClosed)
        }
    }

    @Test("a command that it refuses changes nothing, one that it dies of is kept for its successor")
    func commands() throws {
        var vnc = Built.exporter()
        vnc.passwordRequired = true
        try withGuest([], vnc: vnc) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.status.vnc?.isClosed == true, "nobody is let in until a password is set")
            #expect(try guest.view("password") == "none never")
            #expect(try guest.command { $0.setVNCPassword("good", $1) } == nil)
            #expect(try guest.status.vnc?.isClosed == false)
            #expect(try guest.command { $0.setVNCPassword("bad", $1) }?.contains("not that one") == true)
            #expect(try guest.command { $0.setVNCPassword(String(repeating: "x", count: 300), $1) } != nil)
            #expect(try guest.command { $0.expireVNCPassword(at: "soon", $1) } != nil)
            #expect(try guest.view("password") == "good never")
            #expect(try guest.command { $0.setVNCPassword("lethal", $1) } == nil)
            try eventually("the next one has it") { try guest.view("password") == "lethal never" }
            #expect(try guest.command { $0.expireVNCPassword(at: "now", $1) } == nil)
            #expect(try guest.status.vnc?.isClosed == true)
            try guest.crash("vnc")
            try eventually("the next one is not told what has expired") { try guest.view("password") == "none never" }
            #expect(try guest.command { $0.expireVNCPassword(at: "never", $1) } == nil)
            try eventually("and is when it is good again") { try guest.view("password") == "lethal never" }
            #expect(try guest.command { $0.disconnectVNC($1) } == nil)
        }
        try withGuest([]) { (guest: Guest) throws in
            #expect(try guest.command { $0.setVNCPassword("x", $1) }?.contains("no VNC server of ours") == true)
        }
    }

    @Test("a port that is taken is passed over; when all are, the guest does not start and the ports are named")
    func ports() throws {
        let taken = try TCPListener.listen(host: "127.0.0.1", ports: 0...0)
        let port = try #require(taken.first?.port)
        try #require(port < 65_000)
        try withGuest([], vnc: Built.exporter(listen: [.tcp(host: "127.0.0.1", first: port, last: port + 50)])) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let found = try #require(try guest.onLoop { $0.vncInformation }?.service).flatMap { UInt16($0) }
            #expect((port + 1...port + 50).contains(try #require(found)))
        }
        try withGuest([Built.scratch()], vnc: Built.exporter(listen: [.tcp(host: "127.0.0.1", first: port, last: port)])) { (guest: Guest) throws in
            let reasons = try guest.start()
            #expect(reasons.count == 1 && reasons.joined().contains("127.0.0.1, port \(port)") && reasons.joined().contains("in use"))
        }
    }

    @Test("a UNIX socket that a dead process left is replaced, a living one and a file are not, and ours goes with the guest")
    func paths() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/vnc"
        func start() throws -> [String] {
            var found: [String] = []
            try withGuest([], vnc: Built.exporter(listen: [.unix(path: path)])) { (guest: Guest) throws in
                found = try guest.start()
                guard found.isEmpty else { return }
                var status = stat()
                #expect(lstat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
                #expect(try Guest.view("uid", on: UnixSocket.connectStream(path)) != "")
                #expect(try guest.status.vnc?.addresses == ["unix:" + path])
            }
            return found
        }
        #expect(try start() == [])
        #expect(access(path, F_OK) != 0, "it is removed at the end")
        do { _ = try UnixSocket.listen(.stream, path: path) }
        #expect(try start() == [], "nobody listens there any more")
        let living = try UnixSocket.listen(.stream, path: path)
        #expect(try start().joined().contains("another process listens there"))
        #expect(access(path, F_OK) == 0)
        withExtendedLifetime(living) {}
        #expect(unlink(path) == 0)
        try folder.write("precious", to: "vnc")
        #expect(try start().joined().contains("something that is no socket"))
        #expect(access(path, F_OK) == 0)
    }
}

@Suite("What is saved and restored")
struct SavingTests {
    @Test("states and device memory are read while all stand still, and given to those who start later")
    func saveAndRestore() throws {
        let first = Keeping()
        var states: [SavedState] = []
        var regions: [SavedRegion] = []
        try withGuest([], display: Built.screen("region"), wrapped: first.wrap) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.setScreen(8, 0x5a5a)
            let paused = Promise<[String]?>()
            try guest.onLoop { $0.pauseEmulators { paused.fulfil($0) } }
            #expect(try paused.get("the pause") == nil)
            #expect(try guest.emulator("display").state == "paused")
            (states, regions) = try guest.onLoop { ($0.states, $0.regions) }
            let resumed = Promise<[String]?>()
            try guest.onLoop { $0.resumeEmulators { resumed.fulfil($0) } }
            #expect(try resumed.get("the end of the pause") == nil)
            #expect(try guest.screen(8) == 0x5a5a)
        }
        #expect(states.map(\.emulator) == ["display"] && states.first?.bytes.count == 4096)
        #expect(regions == [SavedRegion(emulator: "display", label: "video memory", length: 65_536, gfn: GFN(0xf_0000))])

        let second = Keeping()
        func preset(_ coordinator: Coordinator) {
            for state in states { #expect(throws: Never.self) { try coordinator.preset(state) } }
            for region in regions { #expect(throws: Never.self) { try coordinator.preset(region) } }
            #expect(throws: Refusal.self) { try coordinator.preset(SavedState(emulator: "nobody", bytes: [1])) }
            #expect(throws: Refusal.self) { try coordinator.preset(SavedState(emulator: "display", bytes: [UInt8](repeating: 0, count: 2 << 20))) }
        }
        try withGuest([], display: Built.screen("region"), wrapped: second.wrap, before: preset) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.screen(36) == 0 && guest.screen(8) == 0x5a5a)
            #expect(try #require(second.keeper).kept.map(\.isAdopted) == [true], "it is not populated twice")
        }
    }

    @Test("an isolated emulator gets no device memory where it could not map it")
    func noRegionBehindARelay() throws {
        try withGuest([], plain: true, display: Built.screen("region")) { (guest: Guest) throws in
            #expect(try guest.start().joined().contains("only a direct emulator can map device memory"))
        }
    }

    @Test("a saved state of another length is refused, and the guest does not start with half of it")
    func otherLength() throws {
        try withGuest([], display: Built.screen(), before: { try? $0.preset(SavedState(emulator: "display", bytes: [1, 2, 3])) }) { (guest: Guest) throws in
            #expect(try guest.start().joined().contains("the saved guest's has 3 bytes"))
        }
    }

    @Test("a dying guest's memory is let go without asking the host for anything")
    func dying() throws {
        let host = Keeping()
        try withGuest([], display: Built.screen("region"), vnc: Built.exporter(), wrapped: host.wrap) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.onLoop { $0.guestIsGone() }
            #expect(try guest.onLoop { $0.regions }.isEmpty)
            #expect(try #require(host.keeper).kept.count == 1, "the host was asked for nothing")
            try eventually("they end, and nobody comes in their place") { try guest.status.emulators.allSatisfy { $0.state.hasPrefix("ended") } }
        }
    }
}

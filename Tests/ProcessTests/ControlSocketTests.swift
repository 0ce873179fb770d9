import ControlProtocol
import Coordinator
import Glibc
import Host
import LocalHost
import Logging
import Platform
import Specification
import TestTools
import Testing

@Suite("The control socket")
struct ControlSocketTests {
    @Test("the socket is its owner's alone, in a folder of its owner's alone")
    func modes() throws {
        try withGuest([]) { (guest: Guest) throws in
            var status = stat()
            #expect(stat(guest.folder.path + "/7/control.sock", &status) == 0)
            #expect(status.st_mode & 0o7777 == 0o600 && status.st_mode & S_IFMT == S_IFSOCK)
            #expect(stat(guest.folder.path + "/7", &status) == 0)
            #expect(status.st_mode & 0o7777 == 0o700)
        }
    }

    @Test("a request that is none is refused in words, and the connection goes on")
    func garbage() throws {
        try withGuest([]) { (guest: Guest) throws in
            let connection = try ControlConnection(guest.folder.path + "/7/control.sock")
            for text in ["nonsense", "{}", "{\"logs\":{\"lines\":\"many\"}}", "[[[[", "\u{0}"] {
                try connection.socket.send(Array(text.utf8))
                guard case .failed(let reason) = try connection.receive() else {
                    Issue.record("it was taken")
                    return
                }
                #expect(reason.contains("could not read a control message"))
            }
            #expect(try connection.ask(.logs(lines: Int.min)) == .lines([]))
        }
    }

    @Test("a command that asks without ever reading holds nobody up")
    func neverReads() throws {
        try withGuest([Built.scratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let mute = try ControlConnection(guest.folder.path + "/7/control.sock")
            try mute.socket.descriptor.setNonBlocking(true)
            for _ in 0..<5000 { try? mute.socket.send(ControlCodec.encode(ControlRequest.status)) }
            guard case .status = try guest.ask(.status) else {
                Issue.record("no status")
                return
            }
        }
    }

    @Test("more connections than there is room for are closed, and room comes back")
    func manyConnections() throws {
        try withGuest([]) { (guest: Guest) throws in
            let path = guest.folder.path + "/7/control.sock"
            do {
                let held = try (0..<32).map { _ in try ControlConnection(path) }
                for connection in held { #expect(try connection.ask(.logs(lines: 0)) == .lines([])) }
                let late = try ControlConnection(path)
                #expect(throws: (any Error).self) { try late.ask(.status) }
            }
            try eventually("there is room again") { (try? guest.ask(.logs(lines: 0))) == .lines([]) }
        }
    }

    @Test("thousands of random packets later the control socket still answers")
    func fuzz() throws {
        try withGuest([Built.scratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let path = guest.folder.path + "/7/control.sock"
            var state: UInt64 = 42
            func random(_ limit: Int) -> Int {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return Int(state >> 33) % limit
            }
            let valid = [ControlRequest.status, .logs(lines: 5), .detach(name: "nobody"), .stop, .attach(Built.test("exit"))].map { ControlCodec.encode($0) }
            var connection = try ControlConnection(path)
            for _ in 0..<2000 * thorough {
                var bytes = valid[random(4)]
                switch random(5) {
                case 0: bytes[random(bytes.count)] = UInt8(random(256))
                case 1: bytes.removeLast(random(bytes.count - 1))
                case 2: bytes = (0..<(1 + random(300))).map { _ in UInt8(random(256)) }
                case 3: bytes = Array(repeating: 0x5b, count: 1 + random(5000))
                default: break
                }
                if random(50) == 0 { connection = try ControlConnection(path) }
                try connection.socket.send(bytes)
                _ = try connection.receive()
            }
            // An attach of what cannot be: names, programs, times.
            for (name, program, time) in [("", "/bin/true", 10), ("a b", "/bin/true", 10), ("ok", "", -5), ("ok", "relative", Int.max), ("ok", "/", 0)] {
                var emulator = Built.test("exit", readyWithin: time)
                (emulator.name, emulator.program) = (name, program)
                guard case .failed = try guest.attach(emulator) else {
                    Issue.record("'\(name)' with '\(program)' was attached")
                    return
                }
            }
            #expect(try guest.vcpu().read(port: 0x510, size: 4) == Place.scratch)
        }
    }

    @Test("two coordinators of one domain: the second does not take the socket")
    func second() throws {
        try withGuest([]) { (guest: Guest) throws in
            let error = try guest.onLoop { first -> String in
                do {
                    let second = try Guest.secondCoordinator(of: first)
                    try second.openControl()
                    return "it opened"
                } catch { return "\(error)" }
            }
            #expect(error.contains("has a coordinator already"))
            #expect(try guest.ask(.logs(lines: 0)) == .lines([]))
        }
    }

    @Test("a start that fails at its sockets leaves neither them nor the folder")
    func failedStart() throws {
        let folder = try TemporaryFolder()
        let domain = try #require(DomainID(7))
        // Room for the folder's path, and for no socket's in it.
        let directory = folder.path + "/" + String(repeating: "x", count: 100 - folder.path.utf8.count)
        let coordinator = try Coordinator(
            loop: EventLoop(), host: LocalHost(domain: domain), specification: GuestSpecification(source: "test"),
            settings: .init(guestName: "test", hostKind: "local", directory: directory), logger: Logger(label: "test"))
        let error = #expect(throws: SystemError.self) { try coordinator.openControl() }
        #expect(error?.description.contains("a socket's has at most 107") == true)
        #expect(access(directory, F_OK) != 0, "the folder is left")
    }
}

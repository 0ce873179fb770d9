import ControlProtocol
import Host
import Testing

@testable import demux

@Suite("Tables")
struct TableTests {
    @Test("columns are as wide as their widest cell, numbers stand to the right, and no line ends in a space")
    func alignment() {
        var table = Table([.init("NAME"), .init("COUNT", .right), .init("WHAT")])
        table.add(["a", "1", "x"])
        table.add(["longer-name", "1234567", ""])
        #expect(table.lines() == [
            "NAME           COUNT  WHAT",
            "a                  1  x",
            "longer-name  1234567",
        ])
    }

    @Test("a table without rows is its title, set off on a terminal only")
    func empty() {
        let table = Table([.init("A"), .init("B")])
        #expect(table.lines() == ["A  B"])
        #expect(table.lines(style: .terminal) == ["\u{1b}[1mA  B\u{1b}[0m"])
    }

    @Test("rows with too few or too many cells fit themselves to the columns")
    func ragged() {
        var table = Table([.init("A"), .init("B")])
        table.add([])
        table.add(["1"])
        table.add(["1", "2", "3"])
        #expect(table.lines() == ["A  B", "", "1", "1  2"])
    }

    @Test("what comes from an emulator cannot move the cursor")
    func control() {
        var table = Table([.init("A")])
        table.add(["\u{1b}[2Jevil\r\n\u{9b}1\u{202e}\u{7f}"])
        #expect(table.lines()[1] == "\\x1b[2Jevil\\x0d\\x0a\\x9b1\\x202e\\x7f")
    }

    @Test("letters of several scalars count as one")
    func wide() {
        var table = Table([.init("A"), .init("B")])
        table.add(["e\u{301}", "x"])
        table.add(["ab", "y"])
        #expect(table.lines() == ["A   B", "e\u{301}   x", "ab  y"])
    }
}

@Suite("The status as a person sees it")
struct StatusViewTests {
    static let status = GuestStatus(
        domain: 7, name: "web", host: "xen", coordinatorPID: 100, specification: "/etc/demux/demux.yaml", vcpus: 2,
        qemu: QEMUStatus(
            pid: 101, program: "/usr/libexec/xen-qemu-system-i386", state: "running", slots: [.init(address: "0000:00:03.0", what: "e1000")],
            confirmed: true),
        emulators: [
            EmulatorStatus(
                name: "scratch", program: "/usr/libexec/demux/demux-scratch", pid: 102, state: "serving", mode: "direct", server: 7,
                claims: [.init(range: "ports 0x500-0x51f", label: "registers")],
                counters: ["requests": 12, "portReads": 5, "portWrites": 7, "malformed": 1]),
            EmulatorStatus(
                name: "debug", program: "/usr/libexec/demux/demux-debug", pid: 0, state: "ended: exited with status 1", mode: "isolated",
                server: nil, claims: [], counters: [:]),
        ],
        interpositions: [Interposition(emulator: "scratch", range: "ports 0x10-0x1f", over: "DMA controller")])

    @Test("the screen, its readers, the VNC server and its viewers are shown, and restarts when there were any")
    func screen() {
        var status = GuestStatus(domain: 7, name: "", host: "local", coordinatorPID: 1, specification: "x", vcpus: 1)
        status.display = DisplayStatus(
            emulator: "display", width: 1024, height: 768, frames: 12, isBlank: true, readers: [.init(number: 1, name: "vnc", viewers: 2, maxRate: 60)])
        status.vnc = ExporterStatus(
            emulator: "vnc", addresses: ["127.0.0.1:5900", "unix:/x"], authentication: "vnc", isClosed: true,
            clients: [.init(host: "::1", service: "1\u{1b}", family: "ipv6", websocket: true, security: "vnc", shared: false)], statistics: ["updates": 3, "bytes": 4])
        #expect(
            StatusView(status).lines().dropFirst(3) == [
                "no emulators beside QEMU", "",
                "display 1024x768, switched off, emulator 'display', 12 updates",
                "READER  WHO  VIEWERS  AT MOST",
                "     1  vnc        2     60/s", "",
                "VNC at 127.0.0.1:5900, unix:/x, security vnc, nobody is let in: there is no password that is good now",
                "bytes 4, updates 3",
                "VIEWER  SERVICE  FAMILY  SECURITY  WEBSOCKET  SHARED",
                "::1     1\\x1b    ipv6    vnc       yes        no",
            ])
        status.display = DisplayStatus(emulator: nil)
        status.vnc = ExporterStatus(emulator: "vnc", addresses: [], authentication: "none")
        status.emulators = [EmulatorStatus(name: "a", program: "/a", pid: 3, state: "serving", mode: "isolated", server: 6, claims: [], counters: [:], restarts: 2)]
        #expect(
            StatusView(status).lines().dropFirst(3) == [
                "EMULATOR  PID  STATE    RESTARTS  MODE      SERVER  REQUESTS  PORTS R/W  MMIO R/W  CONFIG R/W",
                "a           3  serving         2  isolated       6         0        0/0       0/0         0/0", "",
                "display not looked at yet, its emulator was taken away, 0 updates, nobody reads it", "",
                "VNC at no address, security none", "no viewers",
            ])
    }

    @Test("every part has its table, and a counter of trouble its column when there is trouble")
    func lines() {
        #expect(StatusView(Self.status).lines() == [
            "domain 7 'web' on xen, 2 vCPUs, coordinator pid 100",
            "specification /etc/demux/demux.yaml",
            "QEMU /usr/libexec/xen-qemu-system-i386, pid 101, running",
            "",
            "EMULATOR  PID  STATE                        MODE      SERVER  REQUESTS  PORTS R/W  MMIO R/W  CONFIG R/W  MALFORMED",
            "scratch   102  serving                      direct         7        12        5/7       0/0         0/0          1",
            "debug       -  ended: exited with status 1  isolated       -         0        0/0       0/0         0/0          0",
            "",
            "CLAIM              EMULATOR  WHAT",
            "ports 0x500-0x51f  scratch   registers",
            "",
            "QEMU'S SLOT   WHAT",
            "0000:00:03.0  e1000",
            "",
            "INTERPOSITION    EMULATOR  OVER QEMU'S",
            "ports 0x10-0x1f  scratch   DMA controller",
        ])
    }

    @Test("what was unplugged is shown, with who obeyed and whom the guest waits for")
    func unplugged() {
        var status = GuestStatus(domain: 1, name: "", host: "local", coordinatorPID: 5, specification: "a.yaml", vcpus: 1)
        status.unplug = UnplugStatus(
            classes: ["ide-disk", "nic"], product: "linux", build: 1,
            entries: [.init(who: "QEMU", devices: ["ide0-hd0", "nic0"]), .init(who: "emulator 'x'", devices: [], trouble: "its cache\u{1b}")],
            waitingFor: ["emulator 'x'"], isHeld: true, requests: 3, failures: 1)
        #expect(StatusView(status).lines().suffix(5) == [
            "unplugged ide-disk, nic; the guest's driver is linux build 1; 3 requests, 1 not obeyed", "the guest's write is held until these obey: emulator 'x'",
            "UNPLUGGED FROM  REMOVED         TROUBLE", "QEMU            ide0-hd0, nic0  -", "emulator 'x'    -               " + Table.clean("its cache\u{1b}"),
        ])
    }

    @Test("a bare guest is a few lines")
    func bare() {
        let status = GuestStatus(domain: 1, name: "", host: "local", coordinatorPID: 5, specification: "a.yaml", vcpus: 1)
        #expect(StatusView(status).lines() == [
            "domain 1 on local, 1 vCPU, coordinator pid 5", "specification a.yaml", "", "no emulators beside QEMU",
        ])
    }

    @Test("with an earlier status there is a rate, except for a process that was not there")
    func rate() throws {
        var later = Self.status
        later.emulators[0].counters["requests"] = 112
        later.emulators[1].pid = 9
        let lines = StatusView(later, earlier: (Self.status, 2)).lines()
        #expect(lines.contains { $0.hasPrefix("scratch   102") && $0.contains("    112          50  ") }, "\(lines)")
        #expect(lines.contains { $0.hasPrefix("debug       9") && $0.contains("     0           -  ") }, "\(lines)")
        // A counter that went back belongs to another process with the same number.
        later.emulators[0].counters["requests"] = 1
        #expect(StatusView(later, earlier: (Self.status, 2)).lines().contains { $0.contains("     1           -  ") })
    }
}

@Suite("Following a log")
struct LogTailTests {
    @Test("only what is new comes out, although old lines fall off")
    func advance() {
        var tail = LogTail(["a", "b", "c"])
        func next(_ lines: [String]) -> [String] { tail.advance(to: lines).new }
        #expect(next(["a", "b", "c"]) == [])
        #expect(next(["a", "b", "c", "d"]) == ["d"])
        #expect(next(["c", "d", "e", "e"]) == ["e", "e"])
        #expect(next(["e", "e", "e"]) == ["e"])
        let (new, missed) = tail.advance(to: ["x", "y"])
        #expect(new == ["x", "y"])
        #expect(missed)
    }

    @Test("a log that was empty misses nothing")
    func fromNothing() {
        var tail = LogTail([])
        let (new, missed) = tail.advance(to: ["a"])
        #expect(new == ["a"])
        #expect(!missed)
    }
}

@Suite("Naming a guest")
struct GuestReferenceTests {
    @Test("digits are a domain, other text is a name, and numbers that Xen reserves are neither")
    func references() {
        #expect(GuestReference(argument: "7") == .domain(7))
        #expect(GuestReference(argument: "32751") == .domain(32751))
        #expect(GuestReference(argument: "web") == .name("web"))
        #expect(GuestReference(argument: "7a") == .name("7a"))
        for bad in ["", "32752", "65536", "99999999999999999999"] { #expect(GuestReference(argument: bad) == nil) }
    }
}

import ControlProtocol
import Glibc
import Host
import Platform
import TestTools
import Testing

/// A `demux` that was started and goes on, with what it has printed so far.
final class RunningCommand {
    let process: ChildProcess
    private let output: OwnedDescriptor

    init(_ program: String, _ arguments: [String], base: String) throws {
        var template = Array("\(base)/output-XXXXXX".utf8CString)
        let raw = mkstemp(&template)
        try #require(raw >= 0)
        _ = fcntl(raw, F_SETFD, FD_CLOEXEC)
        output = OwnedDescriptor(adopting: raw)
        let null = OwnedDescriptor(adopting: open("/dev/null", O_RDWR | O_CLOEXEC))
        process = try ChildProcess(
            program: program, arguments: arguments, environment: ["DEMUX_RUN_DIR": base + "/run", "PATH": "/usr/bin:/bin"],
            inherited: [.init(ours: null.raw, theirs: 0), .init(ours: output.raw, theirs: 1), .init(ours: output.raw, theirs: 2)])
    }

    deinit { process.signal(SIGKILL) }

    /// What stands in the environment of each command of a test, and of all that they start.
    static func folder(base: String) -> String { "DEMUX_RUN_DIR=\(base)/run" }

    /// Both its output and its errors.
    var text: String {
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let length = pread(output.raw, &bytes, bytes.count, 0)
        return String(decoding: bytes.prefix(max(0, length)), as: UTF8.self)
    }

    func end() throws -> ChildProcess.Exit { try #require(process.wait(limit: patience), "hangs: \(process.program): \(text)") }
}

@Suite("The built programs together: demux, demux-dm and emulators")
struct CommandTests {
    let folder: TemporaryFolder
    var base: String { folder.path }
    var socket: String { base + "/run/9/control.sock" }

    init() throws { folder = try TemporaryFolder() }

    /// Runs a command to its end.
    func demux(_ arguments: String...) throws -> (status: ChildProcess.Exit, text: String) {
        let command = try RunningCommand(Built.program("demux"), arguments, base: base)
        return (try command.end(), command.text)
    }

    /// Whatever has become of a test, nothing of it runs on: coordinators end in order, and with them their emulators; what is left then is killed.
    private func endAll(_ runs: [RunningCommand]) {
        for run in runs where run.process.poll() == nil { run.process.signal(SIGTERM) }
        for run in runs { _ = run.process.wait(limit: .seconds(30)) }
        Leftovers.end(startedWith: RunningCommand.folder(base: base))
    }

    func specification(_ more: String = "", program: String = "idle") throws -> String {
        try folder.write(
            """
            demux: 1
            local: {vcpus: 2, memory: 8M, program: \(program)}
            emulators:
            - {name: scratch, program: demux-scratch, ready-within: 60s}
            - {name: debug, program: demux-debug, ready-within: 60s}
            - {name: c, program: demux-c-scratch, ready-within: 60s}
            \(more)
            """, to: "guest.yaml")
    }

    /// A guest as domain 9 for the time of a test.
    func withGuest(program: String = "idle", _ body: (RunningCommand) throws -> Void) throws {
        try withGuest(file: specification(program: program), body)
    }

    func withGuest(_ specification: String, _ body: (RunningCommand) throws -> Void) throws {
        try withGuest(file: folder.write(specification, to: "guest.yaml"), body)
    }

    func withGuest(file: String, _ body: (RunningCommand) throws -> Void) throws {
        let run = try RunningCommand(Built.program("demux"), ["run", file, "--domid", "9"], base: base)
        defer { endAll([run]) }
        try eventually("the guest runs: \(run.text)") {
            try #require(run.process.poll() == nil, "it ended: \(run.text)")
            return run.text.contains("emulators serve it")
        }
        let pids = try status().emulators.map(\.pid)
        try body(run)
        if run.process.poll() == nil { run.process.signal(SIGTERM) }
        #expect(try run.end() == .status(0), "\(run.text)")
        #expect(pids.allSatisfy { kill($0, 0) != 0 }, "emulators are left")
        // The watchdog, too: it ends when nobody is watched any more, and the coordinator does not wait for it.
        try eventually("no files are left") { TemporaryFolder.names(in: base + "/run") == [] }
    }

    func status() throws -> GuestStatus {
        guard case .status(let status) = try ControlConnection(socket).ask(.status) else { throw ControlConnection.Closed() }
        return status
    }

    /// Waits until the host's watchdog has the coordinator's connection, which is one descriptor more from then on.
    func watched() throws {
        try eventually("the watchdog is told of the guest") { try UnixSockets.connected(to: base + "/run/watchdog.sock") > 0 }
    }

    @Test("a guest is listed, shown, logged, changed and stopped")
    func life() throws {
        try withGuest { (run: RunningCommand) throws in
            let list = try demux("list")
            #expect(list.status == .status(0) && list.text.contains("local-9") && list.text.contains("scratch, debug, c"))
            let shown = try demux("status", "9")
            #expect(shown.text.contains("0x500-0x51f") && shown.text.contains("serving"))
            let json = try demux("status", "9", "--json")
            #expect(json.text.contains("\"emulators\"") && json.text.contains("\"coordinatorPID\":\(run.process.pid)"))
            #expect(try demux("logs", "9").text.contains("emulator 'debug' serves"))

            let taken = try demux("detach", "9", "c")
            #expect(taken.status == .status(0) && taken.text.contains("emulator 'c' was detached"))
            #expect(try status().emulators.map(\.name) == ["scratch", "debug"])
            let again = try demux("attach", "9", "--name", "c2", "--program", "demux-c-scratch", "--ready-within", "60s")
            #expect(again.status == .status(0) && again.text.contains("emulator 'c2' serves"))
            let clash = try demux("attach", "9", "--name", "c3", "--program", "demux-c-scratch", "--ready-within", "60s")
            #expect(clash.status == .status(1) && clash.text.contains("emulator 'c2'"))
            #expect(try demux("detach", "9", "nobody").text.contains("has no emulator 'nobody'; it has: scratch, debug, c2"))

            let stopped = try demux("stop", "9")
            #expect(stopped.status == .status(0) && stopped.text.contains("domain 9 has stopped"))
            #expect(try demux("status", "9").status == .status(1))
        }
    }

    @Test("an emulator that came and went leaves no descriptor behind in the coordinator")
    func noDescriptorIsLeft() throws {
        try withGuest { (run: RunningCommand) throws in
            func comeAndGo() throws {
                let control = try ControlConnection(socket)
                #expect(try control.ask(.detach(name: "c")) == .done("emulator 'c' was detached"))
                #expect(try control.ask(.attach(Built.cScratch())) == .done("emulator 'c' serves"))
            }
            func open() -> Int { TemporaryFolder.names(in: "/proc/\(run.process.pid)/fd").count }
            try watched()
            try comeAndGo()
            let before = open()
            for _ in 0..<5 { try comeAndGo() }
            // The coordinator may not have closed the last connection yet.
            try eventually("no more are open than before: \(open()), not \(before)") { open() <= before }
        }
    }

    @Test(
        "a display and an exporter that are killed leave no descriptor behind in the coordinator; screenshots and viewers see the same",
        .enabled(if: access("/usr/share/seabios/vgabios-stdvga.bin", R_OK) == 0, "the package seabios is not installed"))
    func displayKilled() throws {
        let specification = """
            demux: 1
            local: {vcpus: 1, memory: 8M, program: display-demo, engine: script}
            display: {program: demux-display, ready-within: 60s}
            vnc: {program: demux-vnc, listen: "127.0.0.1:0-99", ready-within: 60s}
            emulators:
            - {name: keyboard, program: demux-keyboard, ready-within: 60s}
            - {name: debug, program: demux-debug, ready-within: 60s}
            """
        try withGuest(specification) { (run: RunningCommand) throws in
            func open() -> Int { TemporaryFolder.names(in: "/proc/\(run.process.pid)/fd").count }
            func pid(_ name: String) throws -> pid_t? { try status().emulators.first { $0.name == name && $0.state == "serving" }?.pid }
            func killOnce(_ name: String) throws {
                let before = try #require(try pid(name))
                #expect(kill(before, SIGKILL) == 0)
                try eventually("another \(name)") { try pid(name).map { $0 != before } ?? false }
            }
            func screenshot() throws {
                let shot = try demux("screenshot", "9", base + "/shot.png", "--wait", "60")
                #expect(shot.status == .status(0), "\(shot.text)")
            }
            // The script, as firmware would, takes a display for gone that does not answer while it is looked for.
            try eventually("the guest draws: \(run.text)") { run.text.contains("guest: the picture is drawn") }
            try screenshot()
            for name in ["display", "vnc"] { try killOnce(name) }
            try screenshot()
            try watched()
            let before = open()
            for _ in 0..<3 { for name in ["display", "vnc"] { try killOnce(name) } }
            try screenshot()
            try eventually("no more are open than before: \(open()), not \(before)") { open() <= before }
            #expect(try demux("display", "9", "--mode", "1280x720").status == .status(0))
            #expect(try demux("status", "9").text.contains(" when last looked at, emulator 'display'"))
        }
    }

    @Test("SIGTERM ends a busy guest in order, without a wrong value", arguments: [SIGTERM, SIGINT])
    func signals(number: CInt) throws {
        try withGuest(program: "demo") { (run: RunningCommand) throws in
            try eventually("the guest works") { try status().emulators.allSatisfy { ($0.counters["requests"] ?? 0) > 20 } }
            run.process.signal(number)
            #expect(try run.end() == .status(0), "\(run.text)")
            #expect(!run.text.contains("not 0x"), "\(run.text)")
        }
    }

    @Test("a second run of the same domain is refused, and the first goes on")
    func second() throws {
        try withGuest { (run: RunningCommand) throws in
            let second = try demux("run", base + "/guest.yaml", "--domid", "9")
            #expect(second.status == .status(1) && second.text.contains("domain 9 runs already"))
            #expect(try status().emulators.count == 3)
        }
    }

    @Test("of two runs of one domain at the same time exactly one gets it")
    func race() throws {
        let file = try specification()
        let runs = try (0..<2).map { _ in try RunningCommand(Built.program("demux"), ["run", file, "--domid", "9"], base: base) }
        defer { endAll(runs) }
        try eventually("one runs and one is refused") {
            runs.contains { $0.text.contains("emulators serve it") } && runs.contains { $0.process.poll() == .status(1) }
        }
        for run in runs where run.process.poll() == nil { run.process.signal(SIGTERM) }
        let ends = try runs.map { try $0.end() }
        #expect(ends.contains(.status(0)) && ends.contains(.status(1)))
    }

    @Test("an emulator that dies is shown as ended, and the rest of the guest goes on")
    func deadEmulator() throws {
        try withGuest { (run: RunningCommand) throws in
            let victim = try #require(try status().emulators.first { $0.name == "c" }?.pid)
            #expect(kill(victim, SIGKILL) == 0)
            try eventually("its end is shown") { try demux("status", "9").text.contains("killed by signal 9") }
            #expect(try demux("list").text.contains("running"))
        }
    }

    @Test("an emulator gets its socket and nothing else of the coordinator's")
    func descriptors() throws {
        let script = try folder.write("#!/bin/sh\nls /proc/$$/fd > \(base)/descriptors\n", to: "spy", mode: 0o755)
        let file = try folder.write("demux: 1\nemulators: [{name: spy, program: \(script)}]\n", to: "spy.yaml")
        #expect(try demux("run", file, "--domid", "9").status == .status(1))
        let raw = try Files.open(base + "/descriptors")
        let numbers = String(decoding: try Files.readAll(raw.raw, limit: 4096, what: "the list"), as: UTF8.self).split(separator: "\n").compactMap { Int($0) }
        // 10 and above are the shell's own script.
        #expect(numbers.filter { $0 < 10 } == [0, 1, 2, 3])
    }

    @Test("check says that a good specification is good, and what is claimed")
    func good() throws {
        let result = try demux("check", specification())
        #expect(result.status == .status(0), "\(result.text)")
        #expect(result.text.contains("good: 3 emulators") && result.text.contains("c: ports 0x540-0x55f"))
    }

    @Test(
        "check says why a specification is not good",
        arguments: [
            ("- {name: x, program: /nowhere/at-all}", "there is no program"), ("- {name: x, program: demux-test-emulator, arguments: [exit, \"5\"]}", "exited with status 5"),
            ("- {name: x, program: demux-test-emulator, arguments: [never-ready], ready-within: 6s}", "never ready within 6000 ms"),
            ("- {name: x, program: demux-test-emulator, arguments: [silent], ready-within: 1500ms}", "never said hello within 1500 ms"),
            ("- {name: x, program: demux-scratch, options: {ports: 0x520, pci: \"no\"}}", "' has MMIO 0xfed80000-0xfed80fff"),
            ("- {name: x, program: demux-example, options: {ports: 0x70}}", "QEMU has ports 0x70-0x71 (RTC)"),
            ("- {name: x, program: demux-debug, colour: red}", "guest.yaml:7"), ("- {name: x, program: demux-debug, ready-within: 1 parsec}", "guest.yaml:7"),
        ])
    func bad(entry: String, reason: String) throws {
        let result = try demux("check", specification(entry))
        #expect(result.status != .status(0))
        #expect(result.text.contains(reason), "\(result.text)")
    }

    @Test(
        "another user who gets at the socket all the same is not answered",
        .enabled(if: geteuid() == 0 && access("/usr/bin/setpriv", X_OK) == 0, "only root can become another user, with setpriv, to try"))
    func otherUser() throws {
        try withGuest { (run: RunningCommand) throws in
            // The doors are opened wide, so that only the check of the peer's credentials is left.
            for path in [base, base + "/run", base + "/run/9"] { #expect(chmod(path, 0o755) == 0) }
            #expect(chmod(socket, 0o666) == 0)
            // A program of its own, where another user can reach it.
            let copy = base + "/demux"
            #expect(try RunningCommand("/bin/cp", [Built.program("demux"), copy], base: base).end() == .status(0))
            let refused = try RunningCommand(
                "/usr/bin/setpriv", ["--reuid", "65534", "--regid", "65534", "--clear-groups", copy, "status", "9"], base: base)
            #expect(try refused.end() == .status(1))
            #expect(refused.text.contains("it answers root and the user who started the guest"), "\(refused.text)")
            #expect(try demux("status", "9").status == .status(0))
        }
    }

    @Test("no process of a guest has the specification, or anything of the command's input")
    func input() throws {
        try withGuest { (run: RunningCommand) throws in
            func link(_ pid: pid_t, _ number: String) -> String {
                var target = [CChar](repeating: 0, count: 4096)
                let length = readlink("/proc/\(pid)/fd/\(number)", &target, target.count)
                return String(decoding: target.prefix(max(length, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            }
            let emulators = try status().emulators.map(\.pid)
            for pid in emulators + [run.process.pid] {
                #expect(link(pid, "0") == "/dev/null")
                let all = TemporaryFolder.names(in: "/proc/\(pid)/fd").map { link(pid, $0) }
                #expect(!all.contains { $0.contains("specification") }, "\(all)")
            }
            for pid in emulators { #expect(link(pid, "1").hasPrefix("pipe:") && link(pid, "1") == link(pid, "2")) }
        }
    }

    @Test("emulators end with a coordinator that is killed, whether they look or not, and the guest can be run again")
    func coordinatorKilled() throws {
        let file = try specification(
            """
            - {name: deaf, program: demux-test-emulator, arguments: [deaf], ready-within: 60s}
            """)
        for _ in 0..<2 {
            let run = try RunningCommand(Built.program("demux"), ["run", file, "--domid", "9"], base: base)
            defer { endAll([run]) }
            try eventually("the guest runs: \(run.text)") {
                try #require(run.process.poll() == nil, "it ended: \(run.text)")
                return run.text.contains("emulators serve it")
            }
            let pids = try status().emulators.map(\.pid)
            #expect(pids.count == 4)
            run.process.signal(SIGKILL)
            #expect(try run.end() == .signal(SIGKILL))
            try eventually("all have ended") { pids.allSatisfy { kill($0, 0) != 0 } }
        }
    }
}

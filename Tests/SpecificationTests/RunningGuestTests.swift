import ControlProtocol
import Glibc
import Platform
import Specification
import TestTools
import Testing

@testable import demux

@Suite("The demux command and guests that run")
struct RunningGuestTests {
    let folder: TemporaryFolder
    let command: Command

    init() throws {
        folder = try TemporaryFolder()
        command = try Command(base: folder.path)
    }

    @Test("an absent guest, a dead coordinator and one that hangs up are told apart")
    func unreachable() throws {
        for verb in ["status", "logs", "stop"] {
            let result = try command.run(verb, "5")
            #expect(result.status == .status(1))
            #expect(result.errors.hasPrefix("demux: no guest of Demux runs as domain 5: there is no \(folder.path)/5/control.sock; 'demux list' shows"))
        }
        #expect(try command.run("status", "web").errors.contains("no running guest is called 'web'"))
        try FakeCoordinator(domain: 5, base: folder.path) { _ in .silence }.end()
        #expect(try command.run("status", "5").errors.contains("the coordinator of domain 5 is gone"))
        let rude = try FakeCoordinator(domain: 6, base: folder.path) { _ in .hangUp }
        #expect(try command.run("status", "6").errors.contains("closed the connection without an answer"))
        rude.end()
        let odd = try FakeCoordinator(domain: 7, base: folder.path) { _ in .bytes(Array("{}".utf8)) }
        #expect(try command.run("status", "7").errors.contains("could not read a control message"))
        odd.end()
        let confused = try FakeCoordinator(domain: 8, base: folder.path) { _ in .reply(.lines([])) }
        #expect(try command.run("status", "8").errors.contains("gave an answer to something else"))
        confused.end()
    }

    @Test("a coordinator that does not answer is given up, with its pid")
    func silent() throws {
        let silent = try FakeCoordinator(domain: 5, base: folder.path) { _ in .silence }
        let socket = try ControlSocket.connect(domain: 5, base: folder.path, limit: .seconds(10))
        try ControlSocket.send(.status, on: socket)
        #expect(throws: Unreachable.noAnswer(pid: getpid(), seconds: 0)) { try ControlSocket.receive(on: socket, limit: .milliseconds(20)) }
        #expect(
            Unreachable.noAnswer(pid: 12, seconds: 10).message(domain: 5, base: "/run/demux").hasPrefix(
                "the coordinator of domain 5 (pid 12) did not answer within 10 s; it may be stopped or overloaded"))
        silent.end()
    }

    @Test("a socket that may not be used says who may")
    func permission() {
        let message = Unreachable.notPermitted.message(domain: 5, base: "/run/demux")
        #expect(message.contains("no permission to ask the coordinator of domain 5"))
        #expect(message.hasSuffix("run it as root, or as the user who started the guest"))
    }

    @Test("status prints tables, or the status itself as JSON, by number or by name")
    func status() throws {
        let guest = try FakeCoordinator(domain: 7, base: folder.path) { _ in .reply(.status(StatusViewTests.status)) }
        let expected = StatusView(StatusViewTests.status).lines().joined(separator: "\n") + "\n"
        #expect(try command.run("status", "7").output == expected)
        #expect(try command.run("status", "web").output == expected)
        #expect(try command.run("status", "7", "--run-dir", folder.path).output == expected)
        let json = try command.run("status", "7", "--json").output
        #expect(try ControlCodec.decode(GuestStatus.self, from: Array(json.utf8)) == StatusViewTests.status)
        #expect(guest.asked.count >= 4)
        guest.end()
    }

    @Test("status --watch on a pipe prints again, and ends with the guest")
    func watch() throws {
        let counted = Countdown(2)
        let socket = RunDirectory.controlSocket(domain: 7, base: folder.path)
        let guest = try FakeCoordinator(domain: 7, base: folder.path) { _ in
            if counted.take() { return .reply(.status(StatusViewTests.status)) }
            unlink(socket)
            return .hangUp
        }
        let result = try command.run("status", "7", "--watch")
        #expect(result.status == .status(0))
        #expect(result.output.contains("PER SECOND"))
        #expect(result.output.split(separator: "\n").filter { $0.hasSuffix("coordinator pid 100") }.count == 2)
        #expect(result.errors == "the guest has ended\n")
        guest.end()
    }

    @Test("list shows those that run, those that are gone and those that hang, and waits for nobody long")
    func list() throws {
        #expect(try command.run("list").errors == "no guests run (looked in \(folder.path))\n")
        #expect(try command.run("list", "--json").output == "[]\n")
        let guest = try FakeCoordinator(domain: 7, base: folder.path) { _ in .reply(.status(StatusViewTests.status)) }
        try FakeCoordinator(domain: 3, base: folder.path) { _ in .silence }.end()
        let silent = try FakeCoordinator(domain: 12, base: folder.path) { _ in .silence }
        try folder.makeFolder("4")
        try folder.makeFolder("07")
        try folder.makeFolder("other")
        let result = try command.run("list")
        #expect(result.status == .status(0))
        let pid = "\(getpid())"
        #expect(result.output.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") } == [
            "DOMAIN NAME HOST PID STATE EMULATORS",
            "3 - - - gone (stale socket) -",
            "7 web xen 100 running scratch, debug (ended: exited with status 1)",
            "12 - - \(pid) does not answer -",
        ])
        let json = try command.run("list", "--json").output
        for part in ["\"state\":\"gone\"", "\"state\":\"running\"", "\"state\":\"no-answer\"", "\"domain\":12"] { #expect(json.contains(part)) }
        guest.end()
        silent.end()
    }

    @Test("logs prints the lines asked for, and follows until the guest ends")
    func logs() throws {
        let counted = Countdown(3)
        let socket = RunDirectory.controlSocket(domain: 7, base: folder.path)
        let guest = try FakeCoordinator(domain: 7, base: folder.path) { request in
            guard case .logs(let lines) = request else { return .hangUp }
            guard lines > 3 else { return .reply(.lines(["two", "three\u{1b}[1m"])) }
            switch counted.next() {
            case 3: return .reply(.lines(["one", "two", "three"]))
            case 2: return .reply(.lines(["two", "three", "four"]))
            default:
                unlink(socket)
                return .hangUp
            }
        }
        #expect(try command.run("logs", "7", "-n", "2").output == "two\nthree\\x1b[1m\n")
        #expect(guest.asked == [.logs(lines: 2)])
        let follow = try command.run("logs", "7", "-n", "2", "-f")
        #expect(follow.output == "two\nthree\nfour\n")
        #expect(follow.errors == "the guest has ended\n")
        #expect(follow.status == .status(0))
        guest.end()
    }

    @Test("attach sends what the file or the options say, checked")
    func attach() throws {
        let guest = try FakeCoordinator(domain: 7, base: folder.path) { request in
            guard case .attach(let emulator) = request else { return .hangUp }
            return emulator.name == "taken" ? .reply(.failed("this guest has it already")) : .reply(.done("emulator '\(emulator.name)' serves"))
        }
        let file = try folder.write("demux: 1\nemulators: [{name: a, program: /bin/sh}, {name: b, program: /bin/sh, ready-within: 1s}]\n", to: "spec.yaml")
        #expect(try command.run("attach", "7", file, "--name", "b").output == "emulator 'b' serves\n")
        let options = try command.run("attach", "7", "--name", "c", "--program", "/bin/sh", "--option", "ports=0x1=2", "--pci-slot", "5")
        #expect(options.output == "emulator 'c' serves\n")
        #expect(guest.asked == [
            .attach(EmulatorSpecification(name: "b", program: "/bin/sh", readyWithinMilliseconds: 1000)),
            .attach(EmulatorSpecification(name: "c", program: "/bin/sh", options: ["ports": "0x1=2"], pciSlot: "5")),
        ])
        let refused = try command.run("attach", "7", "--name", "taken", "--program", "/bin/sh")
        #expect(refused.status == .status(1))
        #expect(refused.errors == "demux: this guest has it already\n")
        let wrong = try command.run("attach", "7", "--name", "d", "--program", "sh/x", "--mode", "fast")
        #expect(wrong.status == .status(1))
        #expect(wrong.errors.contains("the command line: 'mode' cannot be 'fast'"))
        #expect(wrong.errors.contains("the command line: 'program' is 'sh/x', which is a relative path"))
        #expect(guest.asked.count == 3)
        guest.end()
    }

    @Test("unplug sends the classes, and refuses words that are none before anybody is asked")
    func unplug() throws {
        let folder = try TemporaryFolder()
        let command = try Command(base: folder.path)
        let coordinator = try FakeCoordinator(domain: 7, base: folder.path) { _ in .reply(.done("would go:\n  QEMU: nic0")) }
        let result = try command.run("unplug", "7", "--classes", "nic,ide-disk", "--dry-run")
        #expect(result.status == .status(0) && result.output == "would go:\n  QEMU: nic0\n")
        #expect(coordinator.asked == [.unplug(classes: ["nic", "ide-disk"], dryRun: true)])
        #expect(try command.run("unplug", "7", "--classes", "nic,floppy").errors.contains("'floppy' is no class of devices"))
        #expect(coordinator.asked.count == 1)
    }

    @Test("detach and stop say what was done, or why not")
    func changes() throws {
        let guest = try FakeCoordinator(domain: 7, base: folder.path) { request in
            switch request {
            case .detach(let name) where name == "a": .reply(.done("emulator 'a' was detached"))
            case .detach: .reply(.failed("this guest has no such emulator"))
            default: .reply(.failed("this guest's life is the toolstack's"))
            }
        }
        #expect(try command.run("detach", "7", "a").output == "emulator 'a' was detached\n")
        let refused = try command.run("detach", "7", "b")
        #expect(refused.status == .status(1))
        #expect(refused.errors == "demux: this guest has no such emulator\n")
        #expect(try command.run("stop", "7").errors == "demux: this guest's life is the toolstack's\n")
        guest.end()
    }

    @Test("replace asks for what was said and nothing else, in the specification's words")
    func replaces() throws {
        let guest = try FakeCoordinator(domain: 7, base: folder.path) { request in
            guard case .replace("a", let change) = request, change.program == "/bin/sh" else { return .reply(.failed("asked for something else: \(request)")) }
            return .reply(.done("\(change.arguments ?? ["-"]) \(change.options ?? ["-": "-"]) \(change.successorWithinMilliseconds ?? -1)"))
        }
        #expect(try command.run("replace", "7", "a", "--program", "/bin/sh").output == "[\"-\"] [\"-\": \"-\"] -1\n")
        let all = try command.run(
            "replace", "7", "a", "--program", "/bin/sh", "--argument", "-c", "--option", "ports=0x500", "--successor-within", "1s")
        #expect(all.output == "[\"-c\"] [\"ports\": \"0x500\"] 1000\n")
        #expect(try command.run("replace", "7", "a", "--program", "/nowhere/at-all").errors.contains("/nowhere/at-all"))
        #expect(try command.run("replace", "7", "a", "--program", "/bin/sh", "--successor-within", "2m").errors.contains("'successor-within' cannot be '2m'"))
        guest.end()
    }

    @Test("stop waits until the coordinator's process has ended")
    func stop() throws {
        // A process of its own, in the language that every Debian has: it answers `stop`, goes on for a while, and ends.
        let guest = try folder.makeFolder("7")
        let script = """
            use Socket;
            socket(my $listener, AF_UNIX, SOCK_SEQPACKET, 0) or die;
            bind($listener, sockaddr_un("$ARGV[0]/control.sock")) && listen($listener, 1) or die;
            accept(my $peer, $listener) or die;
            recv($peer, my $request, 65536, 0);
            send($peer, '{"done":{"_0":"stopping"}}', 0);
            select(undef, undef, undef, 0.5);
            open(my $mark, ">", "$ARGV[0]/ended") or die;
            """
        let coordinator = try ChildProcess(program: "/usr/bin/perl", arguments: ["-e", script, guest])
        _ = Waiting.until { access("\(guest)/control.sock", F_OK) == 0 || coordinator.poll() != nil }
        // Bound is not yet listening.
        var result = try command.run("stop", "7")
        while result.errors.contains("is gone") && coordinator.poll() == nil { result = try command.run("stop", "7") }
        #expect(access("\(guest)/ended", F_OK) == 0)
        #expect(result.errors == "")
        #expect(result.output == "domain 7 has stopped\n")
        #expect(result.status == .status(0))
        #expect(coordinator.wait(limit: .seconds(60)) == .status(0))
    }
}

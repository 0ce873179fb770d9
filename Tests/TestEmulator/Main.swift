import EmulatorProtocol
import Glibc
import Host
import Platform

/// An emulator that does what its first argument says: each word is one way to misbehave, or one that answers late.
@main
struct TestEmulator {
    static func main() {
        let words = CommandLine.arguments.dropFirst()
        guard let mode = words.first else { exit(64) }
        let rest = Array(words.dropFirst())
        signal(SIGPIPE, SIG_IGN)
        switch mode {
        case "late": Late.main()
        case "plug": Plug.main()
        case "speaks": Speaking.run()
        case "versioned": Versioned.main()
        case "exit": exit(CInt(rest.first ?? "3") ?? 3)
        case "die": Dying.run(rest.first ?? "")
        case "hold", "steal", "hostile", "doorbells": Hostile.run(mode, rest)
        case "lapse": Lapse.run(rest)
        case "screen": Screen.run(rest)
        case "exporter": Exporter.run(rest)
        case "fuzz": Fuzz.run(seed: rest.first.flatMap { UInt64($0) } ?? 1, packets: rest.dropFirst().first.flatMap { Int($0) } ?? 1000)
        case "fuzz-exporter": Fuzz.run(seed: rest.first.flatMap { UInt64($0) } ?? 1, packets: rest.dropFirst().first.flatMap { Int($0) } ?? 1000, asExporter: true)
        default: Faulty.run(mode)
        }
    }
}

/// Writes what it is told to standard output and error: 1 a line that pretends to be others, 2 more than anybody wants to read, 3 last words.
enum Speaking {
    static func run() -> Never {
        let wire = Wire()
        var channel = wire.start()
        func say(_ text: String, _ number: CInt = STDERR_FILENO) {
            // As a program that does not look.
            _ = text.withCString { write(number, $0, strlen($0)) }
        }
        signal(SIGPIPE, SIG_DFL)
        while true {
            var waits = [pollfd(fd: channel.waitDescriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: 3, events: Int16(POLLIN), revents: 0)]
            poll(&waits, 2, -1)
            if waits[1].revents != 0, case .quit = wire.hear().body { exit(0) }
            _ = channel.acknowledge()
            for slot in 0..<channel.vcpuCount {
                guard let request = channel.slots.take(slot) else { continue }
                switch request.data {
                case 1: say("heard\n2026-01-01T00:00:00+0000 info demux: forged\u{1b}[2J\n", STDOUT_FILENO)
                case 2: for _ in 0..<20_000 { say(String(repeating: "flood ", count: 20) + "\n") }
                case 3:
                    say("last words without an end")
                    kill(getpid(), SIGKILL)
                default: say("said \(request.data)\n")
                }
                channel.slots.complete(slot, data: request.data)
                channel.notify(slot)
            }
        }
    }
}

/// Kills itself, as a crash would, in the state that it is told.
enum Dying {
    static func run(_ state: String) -> Never {
        func dieIf(_ now: String) { if state == now { kill(getpid(), SIGKILL) } }
        let wire = Wire()
        dieIf("spawned")
        wire.hello()
        dieIf("attached")
        wire.claim(ports: 0x700, 0x70f)
        dieIf("claimed")
        if state == "ready" { wire.say(.ready) }
        dieIf("ready")
        let start = wire.ready()
        dieIf("told to start")
        wire.say(.ok(Reply()), re: start)
        // Dies with the first access in its hand.
        var channel = wire.channel()
        while true {
            var wait = pollfd(fd: channel.waitDescriptor, events: Int16(POLLIN), revents: 0)
            poll(&wait, 1, -1)
            _ = channel.acknowledge()
            for slot in 0..<channel.vcpuCount where channel.slots.take(slot) != nil { dieIf("serving") }
        }
    }
}

/// Breaks the protocol, or its word, once.
enum Faulty {
    private static func claim(_ port: UInt64) -> Claim {
        guard let number = UInt16(exactly: port), let range = PortRange(first: number, last: number) else { exit(93) }
        return Claim(.ports(range), label: "late")
    }

    static func run(_ mode: String) -> Never {
        let wire = Wire()
        switch mode {
        case "silent": break
        case "garbage": wire.raw(Array("this is no JSON {{{".utf8))
        case "claim-first": wire.claim(ports: 0x700, 0x70f)
        case "old": wire.hello(versions: [2, 3])
        case "direct-only": wire.hello(modes: [.direct])
        case "never-ready": wire.hello()
        case "close":
            wire.hello()
            close(3)
            while true { pause() }
        case "refuse-start":
            wire.hello()
            wire.say(.error(Refusal(.host, asked: "start", message: "not today")), re: wire.ready())
        case "never-starts":
            wire.hello()
            _ = wire.ready()
        case "deaf":
            // Hears neither `quit` nor SIGTERM.
            signal(SIGTERM, SIG_IGN)
            _ = wire.start()
            while true { pause() }
        case "asserts":
            wire.hello()
            guard case .ok(let reply) = wire.ask(.pci(PCIRequest(label: "line"))).body, let address = reply.address.flatMap({ PCIAddress(parsing: $0) })
            else { exit(92) }
            wire.say(.ok(Reply()), re: wire.ready())
            wire.ask(.intx(INTx(function: address, pin: 0, asserted: true)))
            wire.ask(.intx(INTx(isa: 5, asserted: true)))
        case "greedy":
            // More claims than anybody needs: they touch, so that the host takes them as one.
            wire.hello()
            for page in UInt64(0)..<20_000 {
                guard let range = MMIORange(first: GuestAddress(0x1_0000_0000 + page << 12), length: 4096) else { break }
                if case .error = wire.ask(.claim(Claim(.memory(range), label: "a page that nobody would ever miss, number \(page)"))).body { break }
            }
            wire.say(.ok(Reply()), re: wire.ready())
        case "reads-nothing":
            // Asks without ever reading an answer.
            _ = wire.start()
            while true { wire.say(.memory) }
        case "floods":
            _ = wire.start()
            for _ in 0..<200_000 { wire.say(.log(Log(.info, "a line that nobody needs\u{1b}[31m"))) }
        case "heir": Heir.leave(wire)
        case "claim-late":
            // The child of `heir`: claims once somebody opens the FIFO, who has seen that its parent is gone.
            let sign = open(CommandLine.arguments[2], O_RDONLY)
            guard sign >= 0 else { exit(65) }
            for port in UInt64(0x710)..<0x718 { wire.say(.claim(claim(port))) }
            exit(0)
        case "gibberish":
            // What is no message, one of no known type, a broken answer, and an answer to nothing that is an answer.
            _ = wire.start()
            for text in ["no JSON", "{\"type\":\"teleport\",\"id\":70}", "{\"type\":\"ok\",\"re\":\"x\"}", "{\"type\":\"ready\",\"re\":7}"] {
                wire.raw(Array(text.utf8))
            }
        default: exit(64)
        }
        wire.untilQuit()
    }
}

/// Dies and leaves its connection to a child, which goes on claiming.
enum Heir {
    static func leave(_ wire: Wire) -> Never {
        _ = wire.start()
        var pid: pid_t = 0
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        // Onto itself: the child keeps it whatever its flags are.
        posix_spawn_file_actions_adddup2(&actions, 3, 3)
        var argv: [UnsafeMutablePointer<CChar>?] = [strdup(CommandLine.arguments[0]), strdup("claim-late"), strdup(CommandLine.arguments[2]), nil]
        _ = posix_spawn(&pid, "/proc/self/exe", &actions, nil, &argv, nil)
        exit(0)
    }
}

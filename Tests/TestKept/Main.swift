import Glibc
import Keeping
import Platform

/// What the keeper's tests have it run: the first argument says what it does. It says what it sees on standard output, a line each.
@main
struct Main {
    static func main() throws {
        let arguments = CommandLine.arguments.dropFirst()
        guard let link = try KeeperLink.inherited() else { exit(9) }
        say("begin \(link.predecessors) \(link.untaken.joined(separator: ","))")
        switch arguments.first {
        case "count": try count(link)
        case "die":
            link.ready()
            kill(getpid(), SIGKILL)
        case "fail": exit(3)
        case "orphan": try orphan(link)
        case "writer": try writer(link)
        default: exit(9)
        }
    }

    private static func say(_ text: String) {
        let bytes = Array((text + "\n").utf8)
        _ = write(STDOUT_FILENO, bytes, bytes.count)
    }

    /// Counts its own lives in memory that outlives it, and waits for a signal.
    private static func count(_ link: KeeperLink) throws {
        let signals = try SignalDescriptor([SIGTERM, SIGHUP])
        let memory: SharedMemory
        if let kept = link.take("memory")?.take() {
            memory = try SharedMemory(adopting: kept, length: 4096, what: "the count")
        } else {
            memory = try SharedMemory(name: "count", length: 4096)
        }
        let mapping = try memory.map(what: "the count")
        let lives = mapping.base.load(as: UInt64.self) + 1
        mapping.base.storeBytes(of: lives, as: UInt64.self)
        link.keep([memory.descriptor.raw, memory.descriptor.raw], as: "memory")
        link.keep([memory.descriptor.raw], as: "more/one")
        link.drop("more/")
        if CommandLine.arguments.count > 2, let number = CInt(CommandLine.arguments[2]) {
            // A descriptor that was inherited from before the keeper.
            say("inherited \(fcntl(number, F_GETFD) >= 0)")
        }
        link.ready()
        say("life \(lives) pid \(getpid())")
        var entry = pollfd(fd: signals.descriptor.raw, events: Int16(POLLIN), revents: 0)
        while true {
            _ = poll(&entry, 1, -1)
            guard let number = signals.next() else { continue }
            say("signal \(number)")
            exit(number == SIGHUP ? 7 : 0)
        }
    }

    /// Starts a child that writes more than a pipe holds, and dies.
    private static func writer(_ link: KeeperLink) throws {
        let ends = try Files.pipe()
        let reading = OwnedDescriptor(adopting: ends.read)
        try reading.setNonBlocking(true)
        _ = try ChildProcess(
            program: "/bin/sh", arguments: ["-c", "i=0; while [ $i -lt 4000 ]; do echo \"line $i that nobody reads\"; i=$((i+1)); done"],
            inherited: [.init(ours: ends.write, theirs: STDOUT_FILENO), .init(ours: ends.write, theirs: STDERR_FILENO)])
        link.keep([reading.raw], as: "process/1/" + KeeperNames.outputPart)
        link.ready()
        kill(getpid(), SIGKILL)
    }

    /// Starts a child, dies, and is told by the keeper how the child ended.
    private static func orphan(_ link: KeeperLink) throws {
        guard link.predecessors > 0 else {
            let child = try ChildProcess(program: "/bin/sh", arguments: ["-c", "read line; exit 5"], inherited: [.init(ours: STDIN_FILENO, theirs: 0)])
            link.keep([child.descriptor], as: "child/\(child.pid)")
            link.ready()
            kill(getpid(), SIGKILL)
            return
        }
        guard let name = link.untaken.first, let pid = pid_t(name.dropFirst(6)), let handle = link.take(name)?.take() else { exit(9) }
        let child = ChildProcess(adopting: handle, pid: pid, program: "sh", ask: { link.exit(of: $0) })
        say("alive \(child.poll() == nil)")
        child.signal(SIGTERM)
        let exit = child.wait(limit: .seconds(60))
        say("child \(exit.map { "\($0)" } ?? "runs")")
        // Asked twice, nobody knows any more.
        say("again \(link.exit(of: pid).map { "\($0)" } ?? "not known")")
        Glibc.exit(0)
    }
}

import CLinux
import Glibc

/// A process that we started: told apart from any later one with its number by a pidfd.
///
/// It is never tied to the parent's death (PDEATHSIG fires when the thread that spawned it exits).
public final class ChildProcess {
    /// How it ended.
    public enum Exit: Equatable, Sendable, CustomStringConvertible {
        case status(CInt)
        case signal(CInt)
        /// It ended while nobody looked: whoever started it is gone, and with it what it knew.
        case unknown

        public var description: String {
            switch self {
            case .status(0): "exited in order"
            case .status(let code): "exited with status \(code)"
            case .signal(let number): "was killed by signal \(number) (\(String(cString: strsignal(number))))"
            case .unknown: "ended while nobody looked"
            }
        }
    }

    /// A descriptor that the child gets under a number of its own.
    public struct Inherited: Sendable {
        public let ours: CInt
        public let theirs: CInt
        public init(ours: CInt, theirs: CInt) {
            self.ours = ours
            self.theirs = theirs
        }
    }

    public let program: String
    public let pid: pid_t
    private let handle: OwnedDescriptor
    public private(set) var exit: Exit?
    /// Asks whoever is its parent how it ended; nil: we are.
    private let ask: ((pid_t) -> Exit?)?

    /// Readable once the process has ended.
    public var exitDescriptor: CInt { handle.raw }

    /// Starts a program. `arguments` does not hold the program's own name. Besides 0, 1 and 2 the child gets only the
    /// descriptors in `inherited`; every other one must be close-on-exec.
    /// - Parameter blocked: signals that it starts with blocked, so that one that comes too early waits for it.
    /// - Throws: SystemError when the program cannot be started.
    public init(
        program: String, arguments: [String], environment: [String: String]? = nil, inherited: [Inherited] = [], blocked: [CInt] = []
    ) throws(SystemError) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // The parent blocks signals for its signalfd; a child must start with none blocked that it does not expect, and the default actions.
        var none = sigset_t()
        sigemptyset(&none)
        for number in blocked { sigaddset(&none, number) }
        posix_spawnattr_setsigmask(&attributes, &none)
        var defaults = sigset_t()
        sigemptyset(&defaults)
        for number in [SIGPIPE, SIGHUP, SIGTERM, SIGINT] { sigaddset(&defaults, number) }
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        for pair in inherited {
            // Equal numbers: dup2 in the child clears close-on-exec (glibc does so since 2.29).
            posix_spawn_file_actions_adddup2(&actions, pair.ours, pair.theirs)
        }

        var argv: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
        argv.append(nil)
        defer { for pointer in argv { free(pointer) } }
        var pid: pid_t = 0
        let result: CInt
        if let environment {
            var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup("\($0.key)=\($0.value)") }
            envp.append(nil)
            defer { for pointer in envp { free(pointer) } }
            result = posix_spawn(&pid, program, &actions, &attributes, argv, envp)
        } else {
            result = posix_spawn(&pid, program, &actions, &attributes, argv, demux_environment())
        }
        guard result == 0 else {
            throw SystemError("start", program, code: result, remedy: "it must exist and be executable by uid \(geteuid()); a script's interpreter, too")
        }
        let raw = demux_pidfd_open(pid)
        guard raw >= 0 else {
            let code = errno
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
            throw SystemError("follow", "\(program) (pid \(pid))", code: code)
        }
        self.program = program
        self.pid = pid
        handle = OwnedDescriptor(adopting: raw)
        ask = nil
    }

    /// Takes over a process that a predecessor of ours started and somebody else is the parent of now.
    /// - Parameters:
    ///   - handle: its pidfd.
    ///   - ask: asks its parent how it ended; called once it has.
    public init(adopting handle: consuming OwnedDescriptor, pid: pid_t, program: String, ask: @escaping (pid_t) -> Exit?) {
        self.program = program
        self.pid = pid
        self.handle = handle
        self.ask = ask
    }

    /// Its pidfd, for somebody who is to hold it as well.
    public var descriptor: CInt { handle.raw }

    /// Looks whether it has ended, without waiting; reaps it when it has.
    @discardableResult
    public func poll() -> Exit? {
        if exit == nil, let ask {
            var descriptor = pollfd(fd: handle.raw, events: Int16(POLLIN), revents: 0)
            if Glibc.poll(&descriptor, 1, 0) > 0 { exit = ask(pid) ?? .unknown }
        } else if exit == nil {
            var status: CInt = 0
            if demux_wait_pidfd(handle.raw, &status) == 0 {
                exit = status >= 256 ? .signal(status - 256) : .status(status)
            }
        }
        return exit
    }

    /// Waits until it has ended, at most `limit`; nil when it still runs.
    public func wait(limit: Duration) -> Exit? {
        let end = EventLoop.now() &+ limit.clampedNanoseconds
        while poll() == nil {
            let now = EventLoop.now()
            if now >= end { return nil }
            var descriptor = pollfd(fd: handle.raw, events: Int16(POLLIN), revents: 0)
            _ = Glibc.poll(&descriptor, 1, CInt(clamping: (end - now) / 1_000_000 + 1))
        }
        return exit
    }

    /// Sends a signal; one that has ended is left alone.
    public func signal(_ number: CInt) {
        guard exit == nil else { return }
        _ = demux_pidfd_send_signal(handle.raw, number)
    }
}

extension ChildProcess {
    /// This process's environment, as a new program would inherit it.
    public static func currentEnvironment() -> [String: String] {
        var result: [String: String] = [:]
        guard var entry = demux_environment() else { return result }
        while let text = entry.pointee {
            let parts = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if parts.count == 2 { result[String(parts[0])] = String(parts[1]) }
            entry += 1
        }
        return result
    }
}

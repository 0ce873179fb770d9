import CLinux
import Glibc

/// A process that we started: told apart from any later one with its number by a pidfd.
///
/// It outlives its parent unless it is told not to.
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

    /// What a program's standard input is.
    public enum Input: Sendable {
        /// /dev/null: nothing of this process's own input is the program's.
        case null
        /// This process's own.
        case inherited
    }

    /// Starts a program. `arguments` does not hold the program's own name. Besides 0, 1 and 2 the child gets only the
    /// descriptors in `inherited`; every other one must be close-on-exec.
    /// - Parameters:
    ///   - blocked: signals that it starts with blocked, so that one that comes too early waits for it.
    ///   - endsWithThread: kills it when the calling thread ends, however that comes about; not when the program changes its user meanwhile.
    /// - Throws: SystemError when the program cannot be started.
    public init(
        program: String, arguments: [String], environment: [String: String]? = nil, input: Input = .null, inherited: [Inherited] = [], blocked: [CInt] = [],
        endsWithThread: Bool = false
    ) throws(SystemError) {
        let argv: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        let envp: [UnsafeMutablePointer<CChar>?] = (environment ?? Self.currentEnvironment()).map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        let flags = (input == .null ? DEMUX_SPAWN_NULL_INPUT : 0) | (endsWithThread ? DEMUX_SPAWN_ENDS_WITH_THREAD : 0)
        let pid = demux_spawn(
            program, argv, envp, inherited.map(\.ours), inherited.map(\.theirs), CInt(clamping: inherited.count), blocked, CInt(clamping: blocked.count),
            CInt(flags))
        guard pid > 0 else {
            throw SystemError("start", program, code: -pid, remedy: "it must exist and be executable by uid \(geteuid()); a script's interpreter, too")
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

import Glibc
import Keeping
import Platform
import SeededNumbers
import TestTools
import Testing

/// A keeper as a real process, and what its child says.
private final class Kept {
    let process: ChildProcess
    private let output: OwnedDescriptor
    private var text = ""

    private static var folder: String {
        guard let tests = realpath("/proc/self/exe", nil) else { return "" }
        defer { free(tests) }
        let path = String(cString: tests)
        return path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
    }

    init(_ arguments: [String], most: Int = 25, inherited: [ChildProcess.Inherited] = []) throws {
        let (readEnd, writeEnd) = try Files.pipe()
        output = OwnedDescriptor(adopting: readEnd)
        let theirs = OwnedDescriptor(adopting: writeEnd)
        process = try ChildProcess(
            program: Self.folder + "/demux-keeper", arguments: ["--most", "\(most)", "--", Self.folder + "/demux-test-kept"] + arguments,
            inherited: [.init(ours: theirs.raw, theirs: STDOUT_FILENO)] + inherited)
    }

    deinit { process.signal(SIGKILL) }

    /// The next line; nil at the end, or when none comes for a very long time.
    func line() throws -> String? {
        while true {
            if let end = text.firstIndex(of: "\n") {
                defer { text = String(text[text.index(after: end)...]) }
                return String(text[..<end])
            }
            var entry = pollfd(fd: output.raw, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, 90_000) > 0 else { return nil }
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = read(output.raw, &bytes, bytes.count)
            guard count > 0 else { return nil }
            text += String(decoding: bytes[..<count], as: UTF8.self)
        }
    }

    /// The process id in a line like "life 1 pid 17".
    func life(_ number: Int) throws -> pid_t {
        let words = try #require(try line()).split(separator: " ")
        try #require(words.count == 4 && words[1] == "\(number)", "\(words)")
        return try #require(pid_t(words[3]))
    }

    func end() -> ChildProcess.Exit? { process.wait(limit: .seconds(90)) }
}

@Suite("The keeper")
struct KeeperTests {
    @Test("A program that is killed is started again, finds what it had given, and not what it had dropped")
    func restarts() throws {
        let kept = try Kept(["count"])
        #expect(try kept.line() == "begin 0 ")
        var pid = try kept.life(1)
        for life in 2...6 {
            #expect(kill(pid, SIGKILL) == 0)
            #expect(try kept.line() == "begin \(life - 1) memory")
            pid = try kept.life(life)
        }
        kept.process.signal(SIGTERM)
        #expect(try kept.line() == "signal 15")
        #expect(kept.end() == .status(0))
    }

    @Test("A signal is handed on, and the program's own status is the keeper's")
    func status() throws {
        let kept = try Kept(["count"])
        _ = try kept.line()
        _ = try kept.life(1)
        kept.process.signal(SIGHUP)
        #expect(try kept.line() == "signal 1")
        #expect(kept.end() == .status(7))
    }

    @Test("A program told to end that is killed instead has a successor, which is told the same")
    func toldAndKilled() throws {
        let kept = try Kept(["count"])
        _ = try kept.line()
        let pid = try kept.life(1)
        #expect(kill(pid, SIGSTOP) == 0)
        kept.process.signal(SIGTERM)
        // It has been handed on when it waits for the stopped program to take it.
        #expect(Waiting.until { isPending(SIGTERM, pid) })
        #expect(kill(pid, SIGKILL) == 0)
        #expect(try kept.line() == "begin 1 memory")
        _ = try kept.life(2)
        #expect(try kept.line() == "signal 15")
        #expect(kept.end() == .status(0))
    }

    /// Whether a signal to a process has not been taken yet.
    private func isPending(_ number: CInt, _ pid: pid_t) -> Bool {
        guard let file = try? Files.open("/proc/\(pid)/status"), let bytes = try? Files.readAll(file.raw, limit: 1 << 16, what: "a process's state") else { return false }
        let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("ShdPnd:") }
        let mask = (line?.split(separator: "\t").last).flatMap { UInt64($0, radix: 16) } ?? 0
        return mask >> UInt64(number - 1) & 1 == 1
    }

    @Test("A program that fails before it was ready is not started again")
    func failsAtStart() throws {
        let kept = try Kept(["fail"])
        _ = try kept.line()
        #expect(kept.end() == .status(3))
        #expect(try kept.line() == nil)
    }

    @Test("One that dies again and again is given up, and a signal then ends the keeper")
    func givesUp() throws {
        let kept = try Kept(["die"], most: 3)
        for life in 0...3 { #expect(try kept.line() == "begin \(life) ") }
        // The reporter has no socket to the keeper, and says nothing.
        kept.process.signal(SIGTERM)
        #expect(kept.end() == .status(1))
        #expect(try kept.line() == nil)
    }

    @Test("What a program writes while there is no coordinator is read, so that it does not wait for one that never comes")
    func unheard() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/log"
        let log = OwnedDescriptor(adopting: open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600))
        let kept = try Kept(["writer"], most: 0, inherited: [.init(ours: log.raw, theirs: STDERR_FILENO)])
        // It ends when the last of its children has, which has then written all of it.
        #expect(kept.end() == .status(1))
        let file = try Files.open(path)
        let lines = String(decoding: try Files.readAll(file.raw, limit: 1 << 20, what: "the log"), as: UTF8.self).split(separator: "\n")
        #expect(lines.contains { $0.hasSuffix("a program says: line 0 that nobody reads") })
        #expect(lines.count < 600, "and not without end")
    }

    @Test("An orphan's end is told to the successor, once")
    func orphans() throws {
        let (readEnd, writeEnd) = try Files.pipe()
        let input = OwnedDescriptor(adopting: readEnd)
        let hold = OwnedDescriptor(adopting: writeEnd)
        let kept = try Kept(["orphan"], inherited: [.init(ours: input.raw, theirs: STDIN_FILENO)])
        #expect(try kept.line() == "begin 0 ")
        #expect(try kept.line()?.hasPrefix("begin 1 child/") == true)
        #expect(try kept.line() == "alive true")
        #expect(try kept.line()?.hasPrefix("child was killed by signal 15") == true)
        #expect(try kept.line() == "again not known")
        #expect(kept.end() == .status(0))
        _ = hold.raw
    }

    @Test("The first program gets what the keeper inherited, under the same number; its successors do not")
    func inherited() throws {
        let (readEnd, writeEnd) = try Files.pipe()
        let ours = OwnedDescriptor(adopting: readEnd)
        let other = OwnedDescriptor(adopting: writeEnd)
        let kept = try Kept(["count", "77"], inherited: [.init(ours: ours.raw, theirs: 77)])
        _ = try kept.line()
        #expect(try kept.line() == "inherited true")
        let pid = try kept.life(1)
        #expect(kill(pid, SIGKILL) == 0)
        _ = try kept.line()
        #expect(try kept.line() == "inherited false")
        _ = try kept.life(2)
        kept.process.signal(SIGTERM)
        #expect(kept.end() == nil || kept.end() == .status(0))
        _ = other.raw
    }
}

@Suite("What a coordinator and its keeper say")
struct KeeperMessageTests {
    @Test(
        "Every message is read as it was written",
        arguments: [
            KeeperMessage.keep("process/12-3/socket"), .drop("process/12-3/"), .ready, .ask(pid: 4711), .held("checkpoint"), .begin(predecessors: 19),
            .status(pid: 4711, status: -1), .status(pid: 4711, status: 265),
        ])
    func roundTrip(_ message: KeeperMessage) { #expect(KeeperMessage(message.bytes) == message) }

    @Test("What is no message is none")
    func others() {
        var random = SplitMix(state: 96)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...24, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            guard let message = KeeperMessage(bytes), let again = KeeperMessage(message.bytes) else { continue }
            #expect(again == message)
        }
        for text in ["", "k", "x", "a", "aone", "s1", "s1 2 3", "b-", "r1"] { #expect(KeeperMessage(Array(text.utf8)) == nil) }
    }
}


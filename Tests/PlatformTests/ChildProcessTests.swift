import Glibc
import Platform
import TestTools
import Testing

@Suite("Programs that are started")
struct ChildProcessTests {
    /// What a shell's command says.
    private func output(of script: String, input: ChildProcess.Input = .null, more: [ChildProcess.Inherited] = []) throws -> String {
        let (readEnd, writeEnd) = try Files.pipe()
        let reading = OwnedDescriptor(adopting: readEnd)
        var writing = Optional(OwnedDescriptor(adopting: writeEnd))
        let process = try ChildProcess(
            program: "/bin/sh", arguments: ["-c", script], input: input, inherited: [.init(ours: writeEnd, theirs: STDOUT_FILENO)] + more)
        writing = nil
        _ = consume writing
        let bytes = try Files.readAll(reading.raw, limit: 1 << 16, what: "what the shell says")
        #expect(process.wait(limit: .seconds(90)) == .status(0))
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test("their standard input is empty, unless this process's own is asked for")
    func input() throws {
        #expect(try output(of: "readlink /proc/$$/fd/0") == "/dev/null\n")
        let own = try output(of: "readlink /proc/\(getpid())/fd/0")
        #expect(try output(of: "readlink /proc/$$/fd/0", input: .inherited) == own)
    }

    @Test("descriptors that trade their numbers do not overwrite each other")
    func crossing() throws {
        let folder = try TemporaryFolder()
        let paths = ["first", "second"].map { folder.path + "/" + $0 }
        for path in paths { try folder.write("", to: String(path.split(separator: "/").last ?? "")) }
        // Whatever numbers these have: each is to have the other's.
        let first = try Files.open(paths[0])
        let second = try Files.open(paths[1])
        let found = try output(
            of: "readlink /proc/$$/fd/\(first.raw) /proc/$$/fd/\(second.raw)",
            more: [.init(ours: first.raw, theirs: second.raw), .init(ours: second.raw, theirs: first.raw)])
        #expect(found == paths[1] + "\n" + paths[0] + "\n")
    }

    @Test("a program gets a hundred descriptors, under the numbers that they have here")
    func many() throws {
        let folder = try TemporaryFolder()
        try folder.write("", to: "file")
        var files: [DescriptorBag] = []
        for _ in 0..<100 {
            let bag = DescriptorBag()
            bag.add(try Files.open(folder.path + "/file"))
            files.append(bag)
        }
        let numbers = files.compactMap(\.raw.first)
        let found = try output(
            of: "readlink " + numbers.map { "/proc/$$/fd/\($0)" }.joined(separator: " "), more: numbers.map { .init(ours: $0, theirs: $0) })
        #expect(found == String(repeating: folder.path + "/file\n", count: 100))
    }

    @Test("one that cannot be executed is an error at once, with the reason", arguments: [("/nowhere/at-all", ENOENT), ("/etc/passwd", EACCES)])
    func missing(path: String, code: CInt) {
        let error = #expect(throws: SystemError.self) { try ChildProcess(program: path, arguments: []) }
        #expect(error?.code == code)
    }

    @Test("one that is tied to the thread that started it ends with it")
    func tied() throws {
        let process = Started()
        let thread = try TestThread { process.child = try? ChildProcess(program: "/bin/sleep", arguments: ["1000"], endsWithThread: true) }
        thread.join()
        let child = try #require(process.child)
        defer { child.signal(SIGKILL) }
        #expect(child.wait(limit: .seconds(90)) == .signal(SIGKILL))
    }

    private final class Started: @unchecked Sendable {
        // Sendable: one thread writes it, and is over before the other reads it.
        var child: ChildProcess?
    }
}

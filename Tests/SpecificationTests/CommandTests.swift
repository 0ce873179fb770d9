import ControlProtocol
import Glibc
import Platform
import Specification
import TestTools
import Testing

@testable import demux

/// The built `demux`, which lies beside the tests.
struct Command {
    struct Result {
        let status: ChildProcess.Exit?
        let output: String
        let errors: String
    }

    var program: String
    var environment: [String: String]

    init(base: String, program: String? = nil) throws {
        let tests = try #require(realpath("/proc/self/exe", nil))
        defer { free(tests) }
        let folder = String(cString: tests).split(separator: "/").dropLast().joined(separator: "/")
        self.program = program ?? "/\(folder)/demux"
        environment = ["DEMUX_RUN_DIR": base, "PATH": "/usr/bin:/bin"]
    }

    /// Runs it to its end; the limit only keeps a hanging one from hanging the tests.
    func run(_ arguments: String...) throws -> Result { try run(arguments) }

    /// Runs a shell's line; `$0` is the command.
    func shell(_ line: String) throws -> Result {
        var shell = self
        shell.program = "/bin/sh"
        return try shell.run(["-c", line, program])
    }

    /// - Parameter broken: the standard output is a pipe that nobody reads.
    func run(_ arguments: [String], broken: Bool = false) throws -> Result {
        let folder = try TemporaryFolder()
        func file(_ name: String) throws -> OwnedDescriptor {
            let raw = open("\(folder.path)/\(name)", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
            try #require(raw >= 0)
            return OwnedDescriptor(adopting: raw)
        }
        let output = try file("output")
        let errors = try file("errors")
        let ends = try Files.pipe()
        close(ends.read)
        defer { close(ends.write) }
        let child = try ChildProcess(
            program: program, arguments: arguments, environment: environment,
            inherited: [.init(ours: broken ? ends.write : output.raw, theirs: 1), .init(ours: errors.raw, theirs: 2)])
        let status = child.wait(limit: .seconds(120))
        if status == nil { child.signal(SIGKILL) }
        return Result(status: status, output: Self.text(output.raw), errors: Self.text(errors.raw))
    }

    private static func text(_ raw: CInt) -> String {
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while true {
            let got = pread(raw, &piece, piece.count, off_t(bytes.count))
            guard got > 0 else { return String(decoding: bytes, as: UTF8.self) }
            bytes += piece.prefix(got)
        }
    }
}

@Suite("The demux command: its words, specifications, and the programs that it becomes")
struct CommandTests {
    let folder: TemporaryFolder
    let command: Command

    init() throws {
        folder = try TemporaryFolder()
        command = try Command(base: folder.path)
    }

    // MARK: - The command line

    @Test("--help names every subcommand and goes to the standard output")
    func help() throws {
        let result = try command.run("--help")
        #expect(result.status == .status(0))
        for name in ["list", "status", "logs", "check", "run", "attach", "detach", "replace", "stop", "screenshot", "display", "web", "spec"] { #expect(result.output.contains("  \(name) ")) }
        #expect(result.errors.isEmpty)
    }

    @Test(
        "a mistake on the command line is a usage error",
        arguments: [
            ["sttus"], ["status"], ["status", "40000"], ["status", "1", "--jsn"], ["logs", "1", "-n", "-1"], ["logs", "1", "-n", "x"], ["detach", "1"], ["replace", "1", "a"], ["replace", "1", "--program", "x"],
            ["attach", "1"], ["attach", "1", "--name", "a"], ["attach", "1", "f.yaml", "--program", "sh"],
            ["attach", "1", "--name", "a", "--program", "sh", "--option", "x"], ["run"], ["run", "f.yaml", "--domid", "0"], ["check"],
        ])
    func usage(arguments: [String]) throws {
        let result = try command.run(arguments)
        #expect(result.status == .status(64))
        #expect(result.errors.hasPrefix("Error: "))
        #expect(result.output.isEmpty)
    }

    // MARK: - Specifications

    @Test("spec prints one line of JSON that the coordinator can decode")
    func spec() throws {
        let file = try folder.write("demux: 1\nlocal: {memory: 1G}\nemulators: [{name: a, program: /bin/sh, options: {ports: 0x500}}]\n", to: "good.yaml")
        let result = try command.run("spec", file)
        #expect(result.status == .status(0))
        #expect(result.output.hasSuffix("}\n"))
        #expect(result.output.filter { $0 == "\n" }.count == 1)
        let guest = try ControlCodec.decode(GuestSpecification.self, from: Array(result.output.utf8))
        #expect(guest.source == file)
        #expect(guest.local.memoryMiB == 1024)
        #expect(guest.emulators == [EmulatorSpecification(name: "a", program: "/bin/sh", options: ["ports": "0x500"])])
    }

    @Test("spec looks a guest's file up by its name")
    func specByName() throws {
        var command = command
        command.environment["DEMUX_CONFIG_DIR"] = folder.path
        let missing = try command.run("spec", "--name", "web")
        #expect(missing.status == .status(1))
        #expect(missing.errors.contains("there is no specification for the guest 'web'"))
        try folder.makeFolder("guests")
        try folder.write("demux: 1\nlocal: {vcpus: 7}\n", to: "guests/web.yaml")
        #expect(try command.run("spec", "--name", "web").output.contains("\"vcpus\":7"))
    }

    @Test("a guest's name is taken as it is, and leads to no file outside of its folder", arguments: ["-x", "--help", "two words", "\"q\" 'a'", "Bär", "$HOME", "a;b|c"])
    func specByOddName(name: String) throws {
        var command = command
        command.environment["DEMUX_CONFIG_DIR"] = folder.path
        try folder.makeFolder("guests")
        try folder.write("demux: 1\nlocal: {vcpus: 7}\n", to: "guests/\(name).yaml")
        // As demux-dm gives it.
        #expect(try command.run("spec", "--name=" + name).output.contains("\"vcpus\":7"))
        try folder.write("demux: 1\nlocal: {vcpus: 3}\n", to: "demux.yaml")
        for outside in ["../guests/" + name, "../demux", "..", ".", ""] {
            #expect(try command.run("spec", "--name=" + outside).output.contains("\"vcpus\":3"))
        }
    }

    @Test("what is wrong in a file goes to the standard error, one issue a line, and nothing to the output")
    func badSpecification() throws {
        let file = try folder.write("demux: 1\nlocal: {vcpus: 0}\nemulators: [{nam: a}]\n", to: "bad.yaml")
        for verb in ["spec", "check", "run"] {
            let result = try command.run(verb, file)
            #expect(result.status == .status(1))
            #expect(result.output.isEmpty)
            let lines = result.errors.split(separator: "\n")
            #expect(lines.count == 4)
            #expect(lines.first == "\(file):2:16: 'vcpus' cannot be '0'; a number from 1 to 128")
        }
    }

    // MARK: - The coordinator's start

    /// A copy of the command with a stand-in for `demux-dm` beside it, which prints what it was given.
    func installed(coordinator: String?) throws -> Command {
        let bin = try folder.makeFolder("bin")
        let copy = "\(bin)/demux"
        // By other processes: a file that this one has open for writing, or a child of another test's until it
        // executes, cannot be executed.
        #expect(try command.shell("cp \"$0\" \(copy)").status == .status(0))
        if let coordinator {
            let text = try folder.write(coordinator, to: "coordinator", mode: 0o755)
            #expect(try command.shell("cp \(text) \(bin)/demux-dm").status == .status(0))
        }
        var result = command
        result.program = copy
        return result
    }

    static let printing = "#!/bin/sh\necho \"$@\"\necho \"$DEMUX_RUN_DIR\"\ncat\necho problem >&2\nexit 3\n"

    @Test("check and run become the coordinator: its input is the specification, its output and status are passed on")
    func becoming() throws {
        let command = try installed(coordinator: Self.printing)
        let file = try folder.write("demux: 1\nlocal: {vcpus: 3}\n", to: "good.yaml")
        let json = try command.run("spec", file).output
        let check = try command.run("check", file)
        #expect(check.status == .status(3))
        #expect(check.output == "--check --spec-json -\n\(folder.path)\n" + json.dropLast())
        #expect(check.errors == "problem\n")
        // Domain 1 has a folder without a socket, as one that is just starting has; 2 a stale socket.
        try folder.makeFolder("1")
        try FakeCoordinator(domain: 2, base: folder.path) { _ in .silence }.end()
        let run = try command.run("run", file)
        #expect(run.output == "--local --domid 2 --spec-json -\n\(folder.path)\n" + json.dropLast())
        #expect(try command.run("run", file, "--domid", "9", "--run-dir", "/nonexistent").output.hasPrefix("--local --domid 9 --spec-json -\n/nonexistent\n"))
        #expect(try command.run("check", "--read-only", file).output.hasSuffix(": well formed; 0 emulators\n"))
    }

    @Test("web becomes the page's server, with what the command line says")
    func web() throws {
        let command = try installed(coordinator: nil)
        #expect(try command.run("web").errors.contains("could not start the page's server: there is no \(folder.path)/bin/demux-web or"))
        try folder.write(Self.printing, to: "bin/demux-web", mode: 0o755)
        let plain = try command.run("web")
        #expect(plain.status == .status(3))
        #expect(plain.output == "--run-dir \(folder.path) --listen 127.0.0.1:6080\n\(folder.path)\n")
        let full = try command.run("web", "--listen", "[::1]:80", "--host", "xen1", "--host", "xen1.example", "--run-dir", "/elsewhere")
        #expect(full.output.hasPrefix("--run-dir /elsewhere --listen [::1]:80 --host xen1 --host xen1.example\n"))
    }

    @Test("run does not take a domain that runs")
    func taken() throws {
        let command = try installed(coordinator: Self.printing)
        let file = try folder.write("demux: 1\n", to: "good.yaml")
        let running = try FakeCoordinator(domain: 1, base: folder.path) { _ in .silence }
        #expect(try command.run("run", file).output.hasPrefix("--local --domid 2 "))
        let result = try command.run("run", file, "--domid", "1")
        #expect(result.status == .status(1))
        #expect(result.errors.contains("domain 1 runs already"))
        running.end()
    }

    @Test("without a coordinator beside it, check says what to install")
    func noCoordinator() throws {
        let command = try installed(coordinator: nil)
        let result = try command.run("check", try folder.write("demux: 1\n", to: "good.yaml"))
        #expect(result.status == .status(1))
        #expect(result.errors.contains("there is no \(folder.path)/bin/demux-dm or \(folder.path)/libexec/demux/demux-dm; install it"))
    }
}

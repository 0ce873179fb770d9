import Glibc
import Platform
import TestTools
import Testing

/// The command with a full disk, without a reader, and without descriptors.
extension CommandTests {
    private func specification() throws -> String { try folder.write("demux: 1\n", to: "good.yaml") }

    private static let printed = ["--help", "list --json", "list --help", "metrics", "check --read-only", "spec", "spec --name a"]

    /// A command of those above; a specification is its last word where it needs one.
    private func words(_ command: String) throws -> String {
        let file = try specification()
        return switch command {
        case "check --read-only", "spec": "\(command) \(file)"
        case "spec --name a": "spec \(file) --name a"
        default: command
        }
    }

    @Test("what cannot be written because there is no room ends the command with 1 and the reason", arguments: printed)
    func full(printed: String) throws {
        let result = try command.shell("\"$0\" \(words(printed)) > /dev/full")
        #expect(result.status == .status(1))
        #expect(result.errors == "demux: could not write the standard output: No space left on device\n")
    }

    @Test("what cannot be written because there is no standard output ends the command with 1 and the reason", arguments: printed)
    func closed(printed: String) throws {
        let result = try command.shell("\"$0\" \(words(printed)) >&-")
        #expect(result.status == .status(1))
        #expect(result.errors == "demux: could not write the standard output: Bad file descriptor\n")
    }

    @Test("a reader that has gone away ends the command quietly")
    func broken() throws {
        let result = try command.run(["list", "--json"], broken: true)
        #expect(result.status == .signal(SIGPIPE))
        #expect(result.errors.isEmpty)
    }

    @Test("so it does when whoever starts the command ignores SIGPIPE")
    func brokenWithoutSignal() throws {
        var shell = command
        shell.program = "/bin/sh"
        let result = try shell.run(["-c", "trap '' PIPE; exec \"$0\" list --json", command.program], broken: true)
        #expect(result.status == .signal(SIGPIPE))
        #expect(result.errors.isEmpty)
    }

    @Test("check and run hand the specification over, whichever of the three descriptors they were started without", arguments: ["<&-", "<&- 2>&-", "2>&-"])
    func missing(closing: String) throws {
        let command = try installed(coordinator: Self.printing)
        let file = try specification()
        let json = try command.run("spec", file).output
        for verb in ["check", "run"] {
            let result = try command.shell("exec \"$0\" \(verb) \(file) \(closing)")
            #expect(result.status == .status(3))
            #expect(result.output.hasSuffix("\n\(folder.path)\n" + json.dropLast()))
        }
    }

    @Test("no file that a program opens gets the number of a standard descriptor that is missing")
    func filled() throws {
        // The coordinator's stand-in is asked what it was started with.
        let command = try installed(coordinator: "#!/bin/sh\nfor n in 0 1 2; do readlink /proc/$$/fd/$n; done > \(folder.path)/seen\n")
        _ = try command.shell("exec \"$0\" check \(specification()) <&- >&- 2>&-")
        let file = try Files.open("\(folder.path)/seen")
        let seen = try Files.readAll(file.raw, limit: 4096, what: "what was seen")
        let lines = String(decoding: seen, as: UTF8.self).split(separator: "\n")
        #expect(lines.first?.contains("memfd:demux-specification") == true)
        #expect(lines.last == "/dev/null")
    }

    // MARK: - What is no file

    @Test("a FIFO, a device and a socket are refused as a specification at once", .timeLimit(.minutes(15)))
    func noFile() throws {
        let fifo = "\(folder.path)/fifo"
        try #require(mkfifo(fifo, 0o600) == 0)
        for file in [fifo, "/dev/null", "/dev/tty"] where access(file, F_OK) == 0 {
            let result = try command.run("check", "--read-only", file)
            #expect(result.status == .status(1))
            #expect(result.output.isEmpty)
            #expect(file == "/dev/tty" || result.errors.contains("\(file): it is a pipe, a socket or a device, and a specification is a file"), "\(result.errors)")
        }
    }

    @Test("the standard input is read as a specification when it is named", arguments: ["-", "/dev/stdin", "/dev/fd/0"])
    func standardInput(name: String) throws {
        let result = try command.shell("printf 'demux: 1\\n' | \"$0\" check --read-only \(name)")
        #expect(result.output == "\(name): well formed; 0 emulators\n")
        #expect(result.status == .status(0))
    }

    // MARK: - Where guests' sockets cannot be

    @Test("a run directory whose path is too long for a socket is named as that, and no number as taken", arguments: ["", "--domid 3"])
    func longRunDirectory(number: String) throws {
        let command = try installed(coordinator: Self.printing)
        let long = try folder.makeFolder(String(repeating: "l", count: 100))
        let result = try command.shell("\"$0\" run \(specification()) --run-dir \(long) \(number)")
        #expect(result.status == .status(1))
        #expect(result.errors.contains("a socket's has at most 107"), "\(result.errors)")
        #expect(!result.errors.contains("runs already"))
    }

    @Test("a run directory that is a file is named as that", arguments: ["run", "list", "metrics", "status nobody", "status 3"])
    func fileAsRunDirectory(verb: String) throws {
        let command = verb == "run" ? try installed(coordinator: Self.printing) : command
        let file = try specification()
        let result = try command.shell("\"$0\" \(verb) \(verb == "run" ? file : "") --run-dir \(file)")
        #expect(result.status == .status(1))
        #expect(result.errors.contains("Not a directory"), "\(result.errors)")
    }

    @Test("a run directory that another user may not enter is named as that", .enabled(if: geteuid() == 0), arguments: ["run", "run --domid 3", "list", "metrics", "status nobody"])
    func foreignRunDirectory(verb: String) throws {
        let command = try installed(coordinator: Self.printing)
        let closed = try folder.makeFolder("closed")
        try #require(chmod(closed, 0o700) == 0 && chmod(folder.path, 0o755) == 0)
        let file = try specification()
        let words = verb.split(separator: " ").map(String.init)
        let all = ([words[0]] + (words[0] == "run" ? [file] : []) + words.dropFirst()).joined(separator: " ")
        let result = try command.shell("exec setpriv --reuid 65533 --clear-groups \"$0\" \(all) --run-dir \(closed)")
        #expect(result.status == .status(1))
        #expect(result.errors.contains("Permission denied"), "\(result.errors)")
        #expect(result.errors.contains("uid 65533"), "\(result.errors)")
        #expect(!result.errors.contains("taken") && !result.errors.contains("runs already"))
    }

    @Test("a domain's folder that is another user's is named as that", .enabled(if: geteuid() == 0))
    func foreignDomain() throws {
        let command = try installed(coordinator: Self.printing)
        let base = try folder.makeFolder("base")
        try #require(mkdir("\(base)/3", 0o700) == 0 && chmod(folder.path, 0o755) == 0 && chmod(base, 0o777) == 0)
        let line = "exec setpriv --reuid 65533 --clear-groups \"$0\" run \(try specification()) --run-dir \(base) --domid 3"
        let result = try command.shell(line)
        #expect(result.status == .status(1))
        #expect(result.errors.contains("domain 3 is another user's (uid 0)"), "\(result.errors)")
    }

    // MARK: - Installation

    @Test("make install-protocols installs every header and document of Protocols")
    func protocols() throws {
        let root = String(#filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined())
        let result = try command.shell("make -s -C \(root) install-protocols DESTDIR=\(folder.path) PREFIX=/usr 2>&1 && "
            + "for file in \(root)/Protocols/*.h \(root)/Protocols/*.md; do name=${file##*/}; cmp $file \(folder.path)/usr/include/$name 2>/dev/null "
            + "|| cmp $file \(folder.path)/usr/share/doc/demux/$name || echo $name is missing; done")
        #expect(result.status == .status(0))
        #expect(result.output == "")
    }
}

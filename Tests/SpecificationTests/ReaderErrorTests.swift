import Glibc
import SpecificationFile
import TestTools
import Testing

/// A text with one mistake, and where and how it is reported.
struct Mistake: CustomTestStringConvertible, Sendable {
    let text: String
    let place: String
    let message: String
    var testDescription: String { message }

    init(_ text: String, _ place: String, _ message: String) {
        self.text = text
        self.place = place
        self.message = message
    }

    /// A mistake in an emulator's field; the place is that of the third line.
    static func field(_ field: String, _ column: Int, _ message: String) -> Mistake {
        Mistake("demux: 1\nemulators:\n- {name: a, program: sh, \(field)}\n", "3:\(column)", message)
    }

    /// A mistake in the exporter's field; the place is that of the second line.
    static func exporter(_ field: String, _ column: Int, _ message: String) -> Mistake {
        Mistake("demux: 1\nvnc: {program: sh, \(field)}\n", "2:\(column)", message)
    }
}

@Suite("What is wrong in a specification is reported with its place")
struct ReaderErrorTests {
    static let document: [Mistake] = [
        Mistake("", "1:1", "the file is empty"),
        Mistake("# nothing\n", "1:1", "the file is empty"),
        Mistake("qemu: /bin/true\n", "1:1", "the key 'demux', the version of the format, is missing"),
        Mistake("demux: 2\n", "1:8", "'demux' cannot be '2'"),
        Mistake("demux: one\n", "1:8", "'demux' cannot be 'one'"),
        Mistake("demux:\n", "1:7", "'demux' has no value"),
        Mistake("demux: [1]\n", "1:8", "'demux' cannot be a list"),
        Mistake("demux: !!int 1\n", "1:8", "'demux' has the YAML tag 'tag:yaml.org,2002:int'"),
        Mistake("- demux: 1\n", "1:1", "a specification is a mapping, not a list"),
        Mistake("hello\n", "1:1", "a specification is a mapping, not 'hello'"),
        Mistake("demux: 1\nemulator: []\n", "2:1", "a specification has no key 'emulator'; did you mean 'emulators'?"),
        Mistake("demux: 1\nfruit: []\n", "2:1", "a specification has no key 'fruit'; its keys are 'demux', 'qemu', 'local', 'display', 'vnc', 'unplug' and 'emulators'"),
        Mistake("demux: 1\n? [a]\n: b\n", "2:3", "a list cannot be a key of a specification"),
        Mistake("demux: 1\n!!str demux: 1\n", "1:1", "is given"),
        Mistake("demux: 1\ndemux: 1\n", "1:1", "the key 'demux' is given more than once"),
        Mistake("demux: 1\n---\ndemux: 1\n", "2:1", "this is not valid YAML: expected a single document in the stream but found another document"),
        Mistake("demux: 1\nlocal: [\n", "3:1", "this is not valid YAML: while parsing a flow node that begins at line 3: did not find expected node content"),
        Mistake("demux: 1\n\tlocal: 2\n", "2:1", "this is not valid YAML"),
        Mistake("demux: *x\n", "1:8", "this is not valid YAML: found undefined alias"),
        Mistake("demux: 1\r\nqemu: \u{7}\r\n", "2:7", "this is not valid YAML: control characters are not allowed"),
        Mistake("demux: 1\nqemu: bin/qemu\n", "2:7", "'qemu' is 'bin/qemu', which is no absolute path"),
        Mistake("demux: 1\nqemu: qemu\n", "2:7", "'qemu' is 'qemu', which is no absolute path"),
        Mistake("demux: 1\nqemu: /nonexistent/qemu\n", "2:7", "there is no program '/nonexistent/qemu'"),
        Mistake("demux: 1\nqemu: /etc/passwd\n", "2:7", "the program '/etc/passwd' cannot be executed"),
        Mistake("demux: 1\nlocal: 2\n", "2:8", "'local' is a mapping, not '2'"),
        Mistake("demux: 1\nlocal:\n", "2:7", "'local' is a mapping, not nothing"),
        Mistake("demux: 1\nlocal: {cpus: 2}\n", "2:9", "'local' has no key 'cpus'; did you mean 'vcpus'?"),
        Mistake("demux: 1\nlocal: {vcpus: 0}\n", "2:16", "'vcpus' cannot be '0'; a number from 1 to 128"),
        Mistake("demux: 1\nlocal: {vcpus: 129}\n", "2:16", "'vcpus' cannot be '129'"),
        Mistake("demux: 1\nlocal: {vcpus: +1}\n", "2:16", "'vcpus' cannot be '+1'"),
        Mistake("demux: 1\nlocal: {vcpus: 99999999999999999999}\n", "2:16", "'vcpus' cannot be '99999999999999999999'"),
        Mistake("demux: 1\nlocal:\n  memory: 64\n", "3:11", "'memory' cannot be '64'; a size from 1M to 4096M"),
        Mistake("demux: 1\nlocal:\n  memory: 0M\n", "3:11", "'memory' cannot be '0M'"),
        Mistake("demux: 1\nlocal:\n  memory: 5G\n", "3:11", "'memory' cannot be '5G'"),
        Mistake("demux: 1\nlocal:\n  memory: 9007199254740993G\n", "3:11", "'memory' cannot be '9007199254740993G'"),
        Mistake("demux: 1\nlocal:\n  memory: M\n", "3:11", "'memory' cannot be 'M'"),
        Mistake("demux: 1\nlocal:\n  memory: -1M\n", "3:11", "'memory' cannot be '-1M'"),
        Mistake("demux: 1\nlocal:\n  program: game\n", "3:12", "'program' cannot be 'game'; one of 'idle', 'demo' and 'display-demo'"),
        Mistake("demux: 1\nlocal: {engine: fast}\n", "2:17", "'engine' cannot be 'fast'; one of 'auto', 'kvm' and 'script'"),
        Mistake("demux: 1\nlocal: {firmware: guest.rom}\n", "2:19", "'firmware' cannot be 'guest.rom'; an absolute path"),
        Mistake("demux: 1\nlocal: {engine: kvm}\n", "2:8", "'engine' is 'kvm', and there is no 'firmware' for it to run"),
        Mistake("demux: 1\nemulators: scratch\n", "2:12", "'emulators' is a list, not 'scratch'"),
        Mistake("demux: 1\nemulators: {name: a}\n", "2:12", "'emulators' is a list, not a mapping"),
        Mistake("demux: 1\nemulators: [\(String(repeating: "a, ", count: 65))]\n", "2:12", "there are 65 emulators; a guest can have 64"),
        Mistake("demux: 1\nemulators: [scratch]\n", "2:13", "an emulator is a mapping, not 'scratch'"),
        Mistake("demux: 1\nemulators:\n- program: sh\n", "3:3", "an emulator without 'name'"),
        Mistake("demux: 1\nemulators:\n- name: a\n", "3:3", "an emulator without 'program'"),
        Mistake("demux: 1\nemulators:\n- {name: a, program: sh}\n- {name: a, program: sh}\n", "4:10", "the name 'a' is already taken by the emulator at line 3"),
        Mistake(
            "demux: 1\nemulators:\n- {name: a, program: sh, pci-slot: 5}\n- {name: b, program: sh, pci-slot: 00:05.0}\n", "4:36",
            "the PCI slot 0000:00:05.0 is already given to the emulator 'a'"),
        Mistake("demux: 1\nemulators:\n- {name: a, program: ./sh}\n", "3:22", "'program' is './sh', which is a relative path"),
        Mistake("demux: 1\nemulators:\n- {name: a, program: no-such-program}\n", "3:22", "there is no program 'no-such-program' (looked for /bin/no-such-program); install it"),
        Mistake("demux: 1\nemulators:\n- {name: a, program: /etc/passwd}\n", "3:22", "the program '/etc/passwd' cannot be executed"),
        Mistake("demux: 1\nemulators:\n- {name: a, program: }\n", "3:22", "'program' has no value"),
        Mistake("demux: 1\nemulators:\n- {name: a b, program: sh}\n", "3:10", "'name' cannot be 'a b'; 1 to 32 letters"),
        Mistake("demux: 1\nemulators:\n- {name: \"\", program: sh}\n", "3:10", "'name' cannot be ''"),
        Mistake("demux: 1\nemulators:\n- {name: é, program: sh}\n", "3:10", "'name' cannot be 'é'"),
        Mistake("demux: 1\nemulators:\n- {name: \(String(repeating: "a", count: 33)), program: sh}\n", "3:10", "'name' cannot be"),
    ]

    static let emulator: [Mistake] = [
        .field("modes: direct", 26, "an emulator has no key 'modes'; did you mean 'mode'?"),
        .field("pci_slot: 5", 26, "an emulator has no key 'pci_slot'; did you mean 'pci-slot'?"),
        .field("mode: fast", 32, "'mode' cannot be 'fast'; 'direct' or 'isolated'"),
        .field("arguments: -x", 37, "'arguments' is a list, not '-x'"),
        .field("arguments: [[a]]", 38, "an entry of 'arguments' cannot be a list"),
        .field("arguments: [a, {b: c}]", 41, "an entry of 'arguments' cannot be a mapping"),
        .field("arguments: [\"a\\0b\"]", 38, "an entry of 'arguments' holds a NUL character"),
        .field("arguments: [\(String(repeating: "a, ", count: 257))]", 37, "there are 257 arguments; at most 256"),
        .field("options: [a]", 35, "'options' is a mapping, not a list"),
        .field("options: {a: [1]}", 39, "the option 'a' cannot be a list"),
        .field("options: {a: {b: 1}}", 39, "the option 'a' cannot be a mapping"),
        .field("options: {[a]: 1}", 36, "the name of an option cannot be a list"),
        .field("options: {a: 1, a: 2}", 36, "the key 'a' is given more than once"),
        .field("options: {on: 2, \"on\": 2}", 36, "the key 'on' is given more than once"),
        .field("options: {!!int 2: 1, 2: 1}", 48, "the option '2' is given twice"),
        .field("options: {\"\": 2}", 36, "the name of an option is empty"),
        .field("options: {a: !!float 2}", 39, "the option 'a' has the YAML tag 'tag:yaml.org,2002:float'"),
        .field("options: {a: \(String(repeating: "x", count: 9000))}", 35, "the options have 9001 bytes; at most 8192"),
        .field("pci-slot: 00:20.0", 36, "'pci-slot' cannot be '00:20.0'; a place on the guest's bus 0"),
        .field("pci-slot: 00:05.8", 36, "'pci-slot' cannot be '00:05.8'"),
        .field("pci-slot: 01:05.0", 36, "'pci-slot' cannot be '01:05.0'"),
        .field("pci-slot: 1:00:05.0", 36, "'pci-slot' cannot be '1:00:05.0'"),
        .field("pci-slot: +5", 36, "'pci-slot' cannot be '+5'"),
        .field("pci-slot: five", 36, "'pci-slot' cannot be 'five'"),
        .field("interpose: ports 0x10", 37, "'interpose' is a list, not 'ports 0x10'"),
        .field("interpose: [0x10-0x1f]", 38, "'interpose' cannot have '0x10-0x1f'; a list of ranges such as"),
        .field("interpose: [ports 0x1f-0x10]", 38, "'interpose' cannot have 'ports 0x1f-0x10'"),
        .field("interpose: [ports 0x10-0x10000]", 38, "'interpose' cannot have 'ports 0x10-0x10000'"),
        .field("interpose: [mmio 0x0-0x1ffffffffffffffff]", 38, "'interpose' cannot have"),
        .field("interpose: [ports 0x10, irq 5]", 50, "'interpose' cannot have 'irq 5'"),
        .field("interpose: [\"pci 01:03.0\"]", 38, "'interpose' cannot have 'pci 01:03.0'; a PCI function is on the guest's bus 0"),
        .field("ready-within: 5", 40, "'ready-within' cannot be '5'; a time from 1ms to 60s"),
        .field("ready-within: 0s", 40, "'ready-within' cannot be '0s'"),
        .field("ready-within: 61s", 40, "'ready-within' cannot be '61s'"),
        .field("ready-within: 9223372036854775807s", 40, "'ready-within' cannot be"),
        .field("successor-within: 61s", 44, "'successor-within' cannot be '61s'; a time from 0ms to 60s"),
        .field("restart-delay: -1s", 41, "'restart-delay' cannot be '-1s'"),
        .field("restart-limit: 100001", 41, "'restart-limit' cannot be '100001'; a number from 0 to 100000"),
        .field("ready-within: 5m", 40, "'ready-within' cannot be '5m'"),
        .field("user: no-such-user", 32, "'user' cannot be 'no-such-user'; a user of this machine"),
        .field("user: 4294967295", 32, "'user' cannot be '4294967295'"),
        .field("user: -1", 32, "'user' cannot be '-1'"),
        .field("group: no-such-group", 33, "'group' cannot be 'no-such-group'"),
        .field("user: [0]", 32, "'user' cannot be a list"),
    ]

    static let screen: [Mistake] = [
        Mistake("demux: 1\ndisplay: maybe\n", "2:10", "'display' is a mapping, not 'maybe'"),
        Mistake("demux: 1\ndisplay: {program: sh, memory: 12M}\n", "2:32", "'memory' cannot be '12M'; a power of two from 1M to 64M"),
        Mistake("demux: 1\ndisplay: {program: sh, memory: 128M}\n", "2:32", "'memory' cannot be '128M'"),
        Mistake("demux: 1\ndisplay: {program: sh, mode: 1024}\n", "2:30", "'mode' cannot be '1024'; a size from 64x64 to 8192x8192"),
        Mistake("demux: 1\ndisplay: {program: sh, mode: 1024x9000}\n", "2:30", "'mode' cannot be '1024x9000'"),
        Mistake("demux: 1\ndisplay: {program: sh, modes: 1}\n", "2:24", "'display' has no key 'modes'; did you mean 'mode'?"),
        Mistake("demux: 1\ndisplay: yes\n", "2:10", "there is no program 'demux-display' (looked for /bin/demux-display)"),
        Mistake("demux: 1\ndisplay: {program: sh}\nemulators: [{name: display, program: sh}]\n", "3:20", "the name 'display' is already taken by the emulator at line 2"),
        Mistake("demux: 1\nvnc: {program: sh}\nemulators: [{name: vnc, program: sh}]\n", "3:20", "the name 'vnc' is already taken"),
        Mistake(
            "demux: 1\ndisplay: {program: sh, pci-slot: 3}\nemulators: [{name: a, program: sh, pci-slot: 3}]\n", "3:46",
            "the PCI slot 0000:00:03.0 is already given to the emulator 'display'"),
        .exporter("listen: [localhost]", 29, "'listen' cannot have 'localhost'; a list such as"),
        .exporter("listen: [\"127.0.0.1:99-0\"]", 29, "'listen' cannot have '127.0.0.1:99-0'"),
        .exporter("listen: [\"127.0.0.1:60000\"]", 29, "'listen' cannot have '127.0.0.1:60000'"),
        .exporter("listen: [\"::1:0\"]", 29, "'listen' cannot have '::1:0'"),
        .exporter("listen: [\"unix:vnc.sock\"]", 29, "'listen' cannot have 'unix:vnc.sock'"),
        .exporter("listen: [\":0\", \":0\"]", 35, "'listen' has ':0' twice"),
        .exporter("listen: [\":0\", \":1\", \":2\", \":3\", \":4\", \":5\", \":6\", \":7\", \":8\"]", 28, "there are 9 places to listen at; at most 8"),
        .exporter("password: ninebytes", 30, "'password' cannot be 'ninebytes'; 1 to 8 bytes"),
        .exporter("password-file: secret", 35, "'password-file' cannot be 'secret'; an absolute path"),
        .exporter("password-file: /nonexistent", 35, "could not read '/nonexistent': No such file or directory"),
        .exporter("password-file: /dev/null", 35, "the first line of '/dev/null' is no password"),
        .exporter("password: x, password-file: /dev/null", 48, "'password' and 'password-file' are both given"),
        .exporter("password: x, password-required: no", 52, "a password is given and not required"),
        .exporter("tls: yes", 25, "'tls' cannot be 'yes'; 'no', 'anonymous', or a mapping"),
        .exporter("tls: {certificate: /bin/sh, key: /bin/sh, ca: /bin/sh, crl: /bin/sh}", 75, "'tls' has no key 'crl'"),
        .exporter("share: all", 27, "'share' cannot be 'all'; one of 'ignore', 'allow-exclusive' and 'force-shared'"),
        .exporter("keymap: ../de", 28, "'keymap' cannot be '../de'"),
        .exporter("websocket: maybe", 31, "'websocket' cannot be 'maybe'; 'yes' or 'no'"),
        .exporter("origins: [\"https://a\"]", 29, "'origins' without WebSockets; 'websocket: yes' beside it"),
        .exporter("websocket: yes, origins: [a.example]", 46, "'origins' cannot have 'a.example'; a list such as"),
        .exporter("websocket: yes, origins: [\"null\"]", 46, "'origins' cannot have 'null'"),
        .exporter("websocket: yes, origins: [\"https://a/path\"]", 46, "'origins' cannot have 'https://a/path'"),
        .exporter("websocket: yes, origins: all", 45, "'origins' is a list, not 'all'"),
        .exporter("clients: 0", 29, "'clients' cannot be '0'; a number from 1 to 64"),
        .exporter("restart: always", 29, "'restart' cannot be 'always'; one of 'on-failure' and 'never'"),
        .field("mode: exporter", 32, "'mode' cannot be 'exporter'; 'direct' or 'isolated'"),
        .field("when-hung: kill", 37, "'when-hung' cannot be 'kill'; one of 'restart' and 'report'"),
        .field("hung-after: 10ms", 38, "'hung-after' cannot be '10ms'; a time from 1s to 3600s"),
        .field("restart: 1", 35, "'restart' cannot be '1'"),
    ]

    @Test("in the display and the exporter", arguments: screen)
    func inScreen(mistake: Mistake) {
        let messages = issues(mistake.text).map(\.description)
        #expect(messages.contains { $0.hasPrefix("guest.yaml:\(mistake.place): ") && $0.contains(mistake.message) }, "\(messages)")
    }

    @Test("in the document", arguments: document)
    func inDocument(mistake: Mistake) { check(mistake) }

    @Test("in an emulator", arguments: emulator)
    func inEmulator(mistake: Mistake) { check(mistake) }

    private func check(_ mistake: Mistake) {
        let found = issues(mistake.text)
        let messages = found.map(\.description)
        #expect(messages.contains { $0.hasPrefix("guest.yaml:\(mistake.place): ") && $0.contains(mistake.message) }, "\(messages)")
        #expect(found.count == 1 || mistake.text.contains("a, a, a, "), "\(messages)")
    }

    @Test("several mistakes are reported together, in the file's order")
    func several() {
        let found = issues("demux: 2\nlocal: {vcpus: x, memory: y}\nemulators:\n- {name: a b, program: /nonexistent, pci-slot: z}\n- 5\nfruit: 1\n")
        #expect(found.map { "\($0.line ?? 0):\($0.column ?? 0)" } == ["1:8", "2:16", "2:27", "4:10", "4:24", "4:48", "5:3", "6:1"])
        #expect(SpecificationErrors(found).description.split(separator: "\n").count == 8)
    }

    @Test("a file that is missing, no file, not text or too long is reported by its name")
    func files() throws {
        let folder = try TemporaryFolder()
        func message(_ file: String) -> String {
            do {
                _ = try SpecificationReader().guest(file: file)
                return "nothing"
            } catch {
                return error.description
            }
        }
        #expect(message("/nonexistent.yaml") == "/nonexistent.yaml: could not read the file: No such file or directory; check the path")
        #expect(message(folder.path) == "\(folder.path): could not read the file: Is a directory; name a file")
        let long = try folder.write("demux: 1\n" + String(repeating: "#", count: 70_000), to: "long.yaml")
        #expect(message(long).contains("more than 65536 bytes"))
        let bad: [UInt8] = Array("demux: 1\nqemu: ".utf8) + [0xff, 0x0a]
        #expect(throws: SpecificationErrors([SpecificationIssue(
            file: "x", line: 2, column: 7, problem: "this is not UTF-8 text", allowed: "a specification is YAML in UTF-8")])
        ) { try SpecificationReader().guest(text: bad, file: "x") }
    }

    @Test("neither deep nesting nor many aliases can exhaust anything")
    func hostile() {
        for open in ["[", "{a: ", "- ", "? ", "{? "] {
            let found = issues("demux: 1\nlocal: \n " + String(repeating: open, count: 20_000 / open.count))
            #expect(!found.isEmpty)
        }
        var bomb = "demux: 1\na: &a0 [x, x]\n"
        for level in 1...40 { bomb += "b\(level): &a\(level) [*a\(level - 1), *a\(level - 1)]\n" }
        #expect(issues(bomb + "? *a40\n: 1\n").first?.problem == "more than 32 words begin with '*', as YAML's aliases do")
    }
}

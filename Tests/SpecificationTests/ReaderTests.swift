import EmulatorProtocol
import Glibc
import Host
import Specification
import SpecificationFile
import TestTools
import Testing

/// Reads text with the programs that every Debian has.
func read(_ text: String) throws(SpecificationErrors) -> GuestSpecification {
    try SpecificationReader(programs: ProgramFinder(directories: ["/bin"])).guest(text: Array(text.utf8), file: "guest.yaml")
}

/// What is wrong with a text; empty when nothing is.
func issues(_ text: String) -> [SpecificationIssue] {
    do {
        _ = try read(text)
        return []
    } catch {
        return error.issues
    }
}

@Suite("Reading a specification")
struct ReaderTests {
    @Test("the smallest specification has the defaults")
    func smallest() throws {
        let guest = try read("demux: 1\n")
        #expect(guest == GuestSpecification(source: "guest.yaml"))
    }

    @Test("what happens when the guest unplugs is read, and nonsense in it is refused")
    func unplug() throws {
        let guest = try read("demux: 1\nunplug: {deadline: 1500ms, on-failure: crash-guest, blacklist: [linux/1, gplpv-windows/*]}\n")
        #expect(guest.unplug == UnplugSpecification(
            deadlineMilliseconds: 1500, onFailure: .crashGuest, blacklist: [.init(product: 3, build: 1), .init(product: 2, build: nil)]))
        for (text, problem) in [
            ("deadline: 0s", "'deadline' cannot be '0s'"), ("deadline: 601s", "'deadline' cannot be '601s'"), ("on-failure: panic", "'on-failure' cannot be 'panic'"),
            ("blacklist: [minix/1]", "'minix/1' is no driver's build"), ("blacklist: [linux/4294967296]", "is no driver's build"), ("blacklist: linux/1", "'blacklist' is a list"),
            ("classes: nic", "'unplug' has no key 'classes'"),
        ] {
            let found = issues("demux: 1\nunplug: {\(text)}\n")
            #expect(found.count == 1 && found[0].problem.contains(problem), "\(text): \(found.map(\.problem))")
        }
    }

    @Test("what an emulator is unplugged as is read, nothing at all included, and nonsense in it is refused")
    func unplugAs() throws {
        func list(_ text: String) throws -> [UnplugClass]? {
            try read("demux: 1\nemulators:\n  - {name: disk, program: /bin/true\(text)}\n").emulators.first?.unplugAs
        }
        #expect(try list("") == nil)
        #expect(try list(", unplug-as: [nvme, ide-disk]") == [.nvme, .ideDisk])
        #expect(try list(", unplug-as: []") == [])
        let found = issues("demux: 1\nemulators:\n  - {name: disk, program: /bin/true, unplug-as: [floppy]}\n")
        #expect(found.count == 1 && found[0].problem.contains("'unplug-as' cannot have 'floppy'"), "\(found.map(\.problem))")
    }

    @Test("what happens when an emulator hangs is read, of the display too")
    func hung() throws {
        let guest = try read("demux: 1\ndisplay: {program: sh, hung-after: 8s}\nemulators: [{name: a, program: sh, when-hung: report, hung-after: 1500ms}, {name: b, program: sh}]\n")
        #expect(guest.allEmulators.map(\.hungAfterMilliseconds) == [8000, 1500, 5000])
        let vnc = try #require(try read("demux: 1\nvnc: {program: sh, when-hung: report, hung-after: 9s}\n").vnc)
        #expect(vnc.whenHung == .report && vnc.hungAfterMilliseconds == 9000)
        #expect(try read("demux: 1\nvnc: {program: sh}\n").vnc?.hungAfterMilliseconds == 5000)
        #expect(guest.allEmulators.map(\.whenHung) == [nil, .report, nil])
    }

    @Test("every field arrives, and options arrive exactly as written")
    func full() throws {
        let guest = try read(
            """
            demux: 1
            qemu: /bin/true
            local: {vcpus: 2, memory: 64M, program: display-demo, engine: kvm, firmware: /tmp/guest.rom}
            emulators:
              - name: scratch
                program: sh
                arguments: [--level, 2, "a b"]
                mode: direct
                options: {ports: 0x500, mmio: 0xfed80000, on: yes, ratio: 1.50, octal: 010, empty: , quoted: "007", none: null}
                pci-slot: "00:05.0"
                interpose: ["ports 0x10-0x1f", "mmio 0xa0000-0xbffff", "pci 00:03.0"]
                ready-within: 1500ms
                user: 65534
                group: 7
              - {name: second, program: /bin/true, mode: isolated, pci-slot: 6, ready-within: 2s}
            """)
        #expect(guest.qemu == "/bin/true")
        #expect(guest.local == LocalGuest(vcpus: 2, memoryMiB: 64, program: "display-demo", engine: .kvm, firmware: "/tmp/guest.rom"))
        #expect(
            guest.emulators == [
                EmulatorSpecification(
                    name: "scratch", program: "/bin/sh", arguments: ["--level", "2", "a b"], mode: .direct,
                    options: [
                        "ports": "0x500", "mmio": "0xfed80000", "on": "yes", "ratio": "1.50", "octal": "010", "empty": "", "quoted": "007",
                        "none": "null",
                    ],
                    pciSlot: "00:05.0", interpose: ["ports 0x10-0x1f", "mmio 0xa0000-0xbffff", "pci 00:03.0"],
                    readyWithinMilliseconds: 1500, uid: 65534, gid: 7),
                EmulatorSpecification(name: "second", program: "/bin/true", mode: .isolated, pciSlot: "6", readyWithinMilliseconds: 2000),
            ])
    }

    @Test("a display is an emulator by the name 'display', with its memory and mode as options")
    func display() throws {
        let guest = try read("demux: 1\ndisplay: {program: sh, memory: 16MiB, mode: 1024x768, options: {bios: x}, pci-slot: 3, restart: never}\nemulators: [{name: a, program: sh}]\n")
        #expect(
            guest.display
                == EmulatorSpecification(
                    name: "display", program: "/bin/sh", options: ["memory": "16777216", "mode": "1024x768", "bios": "x"], pciSlot: "3", restart: .never))
        #expect(guest.allEmulators.map(\.name) == ["display", "a"])
        #expect(try read("demux: 1\ndisplay: no\nvnc: no\n") == GuestSpecification(source: "guest.yaml"))
    }

    @Test("the exporter's settings arrive, and its defaults are loopback without a password")
    func exporter() throws {
        #expect(try read("demux: 1\nvnc: {program: sh}\n").vnc == VNCSpecification(program: "/bin/sh", listen: [.tcp(host: "127.0.0.1", first: 5900, last: 5999)]))
        let folder = try TemporaryFolder()
        let secret = try folder.write("geheim\nmore\n", to: "secret")
        let pem = try folder.write("-----BEGIN CERTIFICATE-----\n", to: "a.pem")
        let vnc = try #require(
            try read(
                """
                demux: 1
                vnc:
                  program: sh
                  listen: ["127.0.0.1:0-99", "[::1]:5", ":1", "unix:/run/x.sock"]
                  password-file: \(secret)
                  tls: {certificate: \(pem), key: \(pem)}
                  websocket: yes
                  origins: ["https://Console.example:443", "http://[::1]:6080"]
                  share: force-shared
                  keymap: de
                  clipboard: yes
                  view-only: yes
                  clients: 3
                  name: my guest
                  user: 65534
                """
            ).vnc)
        #expect(
            vnc
                == VNCSpecification(
                    program: "/bin/sh",
                    listen: [
                        .tcp(host: "127.0.0.1", first: 5900, last: 5999), .tcp(host: "::1", first: 5905, last: 5905), .tcp(host: "", first: 5901, last: 5901),
                        .unix(path: "/run/x.sock"),
                    ],
                    passwordRequired: true, password: "geheim", tls: .certificate(certificate: pem, key: pem, authority: nil), websocket: true,
                    origins: ["https://console.example", "http://[::1]:6080"],
                    share: .forceShared, keymap: "de", clipboard: true, viewOnly: true, clients: 3, desktopName: "my guest", uid: 65534, gid: 65534))
        #expect(vnc.authentication == "vencrypt+x509+vnc")
        let closed = try #require(try read("demux: 1\nvnc: {program: sh, password-required: yes, tls: anonymous, listen: }\n").vnc)
        #expect(closed.passwordRequired && closed.password == nil && closed.listen.isEmpty && closed.authentication == "vencrypt+tls+vnc")
    }

    @Test("empty lists and mappings may be left without a value")
    func nothing() throws {
        #expect(try read("demux: 1\nemulators:\n").emulators.isEmpty)
        let emulator = try read("demux: 1\nemulators:\n- name: a\n  program: sh\n  arguments:\n  options:\n  interpose:\n").emulators.first
        #expect(emulator == EmulatorSpecification(name: "a", program: "/bin/sh"))
    }

    @Test("memory can be written as MiB and GiB", arguments: [("64M", 64), ("64MiB", 64), ("1G", 1024), ("4GiB", 4096)])
    func memory(text: String, mebibytes: Int) throws {
        #expect(try read("demux: 1\nlocal: {memory: \(text)}\n").local.memoryMiB == mebibytes)
    }

    @Test("a user brings its group along, and an unknown number stands for both")
    func accounts() throws {
        func account(_ text: String) throws -> [UInt32?] {
            let emulator = try read("demux: 1\nemulators: [{name: a, program: sh, \(text)}]\n").emulators[0]
            return [emulator.uid, emulator.gid]
        }
        #expect(try account("user: root") == [0, 0])
        #expect(try account("user: nobody, group: root") == [65534, 0])
        #expect(try account("user: 3000000001") == [3_000_000_001, 3_000_000_001])
        #expect(try account("group: 12") == [nil, 12])
        #expect(try account("mode: direct") == [nil, nil])
    }

    @Test("anchors and aliases can be used")
    func aliases() throws {
        let guest = try read("demux: 1\nemulators:\n- {name: a, program: sh, options: &o {x: 1}}\n- {name: b, program: sh, options: *o}\n")
        #expect(guest.emulators.map(\.options) == [["x": "1"], ["x": "1"]])
    }

    @Test("an emulator can be read alone, or chosen out of a specification")
    func oneEmulator() throws {
        let reader = SpecificationReader(programs: ProgramFinder(directories: ["/bin"]))
        func emulator(_ text: String, _ name: String? = nil) throws -> String {
            try reader.emulator(text: Array(text.utf8), file: "e.yaml", named: name).name
        }
        func failure(_ text: String, _ name: String? = nil) -> String {
            do {
                _ = try reader.emulator(text: Array(text.utf8), file: "e.yaml", named: name)
                return ""
            } catch {
                return error.description
            }
        }
        let two = "demux: 1\nemulators: [{name: a, program: sh}, {name: b, program: sh}]\n"
        #expect(try emulator("name: a\nprogram: sh\n") == "a")
        #expect(try emulator(two, "b") == "b")
        #expect(try emulator("demux: 1\nemulators: [{name: a, program: sh}]\n") == "a")
        #expect(failure(two) == "e.yaml: this specification has 2 emulators and none was chosen; choose one with --name; its emulators are 'a' and 'b'")
        #expect(failure(two, "c") == "e.yaml: there is no emulator 'c' in this specification; its emulators are 'a' and 'b'")
        #expect(failure("demux: 1\n", "c").hasSuffix("it has no emulators"))
        #expect(failure("demux: 1\n").hasSuffix("it needs one"))
        #expect(failure("name: a\nprogram: sh\n", "b").hasPrefix("e.yaml:1:1: the file describes the emulator 'a', not 'b'"))
        #expect(failure("name: a\n") == "e.yaml:1:1: an emulator without 'program'; 'program' is an absolute path, or the name of a program in /bin")
    }

    @Test("fields that come from a command line obey the same rules")
    func fields() throws {
        let reader = SpecificationReader(programs: ProgramFinder(directories: ["/bin"]))
        let emulator = try reader.emulator(
            fields: [
                ("name", .text("a")), ("program", .text("sh")), ("arguments", .list(["-c", "*x"])), ("options", .mapping([("ports", "0x500")])),
            ],
            source: "the command line")
        #expect(emulator == EmulatorSpecification(name: "a", program: "/bin/sh", arguments: ["-c", "*x"], options: ["ports": "0x500"]))
        do {
            _ = try reader.emulator(fields: [("name", .text("a b")), ("program", .text("sh"))], source: "the command line")
            Issue.record("a name with a space was taken")
        } catch {
            #expect(error.description == "the command line: 'name' cannot be 'a b'; 1 to 32 letters (a to z), digits, '-' and '_'")
        }
    }
}

@Suite("Finding programs and specifications")
struct LookupTests {
    @Test("a bare name is looked up in each folder, a path is taken as it is")
    func programs() throws {
        let folder = try TemporaryFolder()
        let first = try folder.makeFolder("first")
        let second = try folder.makeFolder("second")
        let both = try folder.write("", to: "first/both", mode: 0o755)
        try folder.write("", to: "second/both", mode: 0o755)
        let shadowed = try folder.write("", to: "second/shadowed", mode: 0o755)
        let plain = try folder.write("", to: "first/shadowed")
        let data = try folder.write("", to: "first/data")
        let finder = ProgramFinder(directories: [first, second])
        #expect(finder.find("both") == .program(both))
        #expect(finder.find("shadowed") == .program(shadowed))
        #expect(finder.find("data") == .notExecutable(data))
        #expect(finder.find(plain) == .notExecutable(plain))
        #expect(finder.find(first) == .notExecutable(first))
        #expect(finder.find("none") == .missing(["\(first)/none", "\(second)/none"]))
        #expect(finder.find("./both") == .relative)
    }

    @Test("a guest's own file comes before the common one, and a named one before both")
    func specifications() throws {
        let folder = try TemporaryFolder()
        let environment = ["DEMUX_CONFIG_DIR": folder.path]
        func file(_ guest: String?, named: String? = nil) throws(SpecificationErrors) -> String {
            try SpecificationLookup.file(named: named, guest: guest, environment: environment)
        }
        #expect(throws: SpecificationErrors.self) { try file("web") }
        let common = try folder.write("", to: "demux.yaml")
        #expect(try file("web") == common)
        try folder.makeFolder("guests")
        let own = try folder.write("", to: "guests/web.yaml")
        #expect(try file("web") == own)
        #expect(try file("other") == common)
        #expect(try file("../demux") == common)
        #expect(try file(nil) == common)
        #expect(try file("web", named: "x.yaml") == "x.yaml")
        // A link to nowhere is somebody's mistake, not an absence.
        try #require(symlink("/nonexistent", "\(folder.path)/guests/lost.yaml") == 0)
        #expect(try file("lost") == "\(folder.path)/guests/lost.yaml")
        #expect(SpecificationLookup.directory(environment: [:]) == "/etc/demux")
    }
}

import CLinux
import Glibc
import Host
import Platform
import SeededNumbers
import TestTools
import Testing
import Unplug

@testable import Toolstack

@Suite("The saved state of our emulators")
struct SavedEmulatorsTests {
    private static let platform = PlatformDevice(id: 0x0001_5853, classAndRevision: 0xff80_0001, subsystem: 0x0001_5853, interruptPin: 1)
    static let example = SavedEmulators([
        .init(emulator: "display", .state(Array(0..<200))),
        .init(emulator: "display", .region(.init(label: "vram", length: 16 << 20, gfn: 0xf1000))),
        .init(
            emulator: "demux", .unplug(.init(classes: [.nic, .ideDisk, .auxDisk], product: 0xffff, build: nil, isBlacklisted: true, isROMLocked: false))),
        .init(emulator: "demux", .platform(.init(address: PCIAddress(requestAddress: 0x10_0000_0000), device: platform))),
        .init(emulator: "b", .region(.init(label: "", length: 0, gfn: nil))),
        .init(emulator: String(repeating: "n", count: 32), .state([])),
    ])

    private func memory(_ bytes: [UInt8]) throws -> OwnedDescriptor {
        let owned = OwnedDescriptor(adopting: demux_memfd_create("state"))
        #expect(write(owned.raw, bytes, bytes.count) == bytes.count)
        #expect(lseek(owned.raw, 0, SEEK_SET) == 0)
        return owned
    }

    private func contents(_ raw: CInt) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 8 << 20)
        let length = pread(raw, &bytes, bytes.count, 0)
        return Array(bytes.prefix(max(0, length)))
    }

    @Test("What is written is read back, and what follows is left alone")
    func roundTrip() throws {
        let bytes = try Self.example.encoded()
        #expect(bytes.count % 8 == 0)
        let (state, length) = try #require(try SavedEmulators.decoded(bytes + [1, 2, 3]))
        #expect(state == Self.example && length == bytes.count)
        #expect(try SavedEmulators.decoded(Array("QEVM".utf8)) == nil && SavedEmulators.decoded([]) == nil)
        var random = SplitMix(state: 0x5eed_0020)
        for _ in 0..<200 {
            let records = (0..<Int.random(in: 0...8, using: &random)).map { _ -> SavedEmulators.Record in
                let name = String((1...Int.random(in: 1...32, using: &random)).map { _ in "aZ9-_".randomElement(using: &random) ?? "a" })
                if Bool.random(using: &random) {
                    return .init(emulator: name, .state((0..<Int.random(in: 0...999, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }))
                }
                return .init(
                    emulator: name,
                    .region(
                        .init(
                            label: String(repeating: "l", count: Int.random(in: 0...64, using: &random)), length: random.next(),
                            gfn: Bool.random(using: &random) ? random.next() : nil)))
            }
            #expect(try SavedEmulators.decoded(SavedEmulators(records).encoded())?.state == SavedEmulators(records))
        }
    }

    @Test("The bytes are those of Protocols/saved-state.md")
    func layout() throws {
        let bytes = try SavedEmulators([.init(emulator: "display", .state([0xaa, 0xbb]))]).encoded()
        #expect(
            bytes == Array("DMXSAVE1".utf8) + [1, 0, 0, 0, 1, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0] + Array(bytes[24..<32])
                + [1, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0] + Array("display".utf8) + [0xaa, 0xbb] + [UInt8](repeating: 0, count: 7))
        // The check value of CRC-32.
        #expect(Checksum.crc32(Array("123456789".utf8)) == 0xcbf4_3926)
    }

    @Test("Too long a name, label or record is not written")
    func refusedToWrite() {
        #expect(throws: SavedEmulatorsError.self) { try SavedEmulators([.init(emulator: "", .state([]))]).encoded() }
        #expect(throws: SavedEmulatorsError.self) { try SavedEmulators([.init(emulator: String(repeating: "n", count: 33), .state([]))]).encoded() }
        #expect(throws: SavedEmulatorsError.self) {
            try SavedEmulators([.init(emulator: "a", .region(.init(label: String(repeating: "l", count: 65), length: 0, gfn: 0)))]).encoded()
        }
        #expect(throws: SavedEmulatorsError.self) { try SavedEmulators([.init(emulator: "a", .state([UInt8](repeating: 0, count: SavedEmulators.longestBody)))]).encoded() }
        #expect(throws: SavedEmulatorsError.self) { try SavedEmulators((0...1024).map { _ in .init(emulator: "a", .state([])) }).encoded() }
    }

    @Test("Damaged, cut and invented bytes are refused or, without our mark, nobody's; none is a trap")
    func fuzz() throws {
        var random = SplitMix(state: 0x5eed_0021)
        let good = try Self.example.encoded()
        for index in good.indices {
            var bad = good
            bad[index] ^= UInt8(1) << UInt8.random(in: 0...7, using: &random)
            if index < 8 {
                #expect(try SavedEmulators.decoded(bad) == nil)
            } else {
                #expect(throws: SavedEmulatorsError.self) { try SavedEmulators.decoded(bad) }
            }
            if index >= 8 { #expect(throws: SavedEmulatorsError.self) { try SavedEmulators.decoded(Array(good.prefix(index))) } }
        }
        // Past the checksums: bodies whose checksum is right.
        for _ in 0..<20_000 {
            var body = Array(good.dropFirst(SavedEmulators.headLength))
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place = Int.random(in: body.indices, using: &random)
                body[place] = [0, 1, 0x7f, 0x80, 0xff, UInt8.random(in: 0...255, using: &random)].randomElement(using: &random) ?? 0
            }
            if Bool.random(using: &random) { body.removeLast(Int.random(in: 0...body.count, using: &random)) }
            let head = SavedEmulators.Head(bodyLength: body.count, records: Int.random(in: 0...6, using: &random), bodyChecksum: Checksum.crc32(body))
            if let state = try? SavedEmulators(body: body, head: head) { #expect(state.records.count <= 6) }
        }
    }

    @Test("A record of an optional kind is passed over, one of another unknown kind is not")
    func kinds() throws {
        var body: [UInt8] = [5, 0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x61, 0, 0, 0, 0, 0, 0, 0]
        #expect(try SavedEmulators(body: body, head: .init(bodyLength: 24, records: 1, bodyChecksum: Checksum.crc32(body))).records == [])
        body[3] = 0
        #expect(throws: SavedEmulatorsError.self) { try SavedEmulators(body: body, head: .init(bodyLength: 24, records: 1, bodyChecksum: Checksum.crc32(body))) }
    }

    @Test("It is taken off a file, a pipe and a socket, whatever comes in what pieces, and QEMU's record is next", arguments: ["file", "pipe", "socket"])
    func taken(kind: String) throws {
        let qemu = Array("QEVM and more".utf8)
        for ours in [true, false] {
            let bytes = (ours ? try Self.example.encoded() : []) + qemu
            let held = DescriptorBag()
            switch kind {
            case "file": held.add(try memory(bytes))
            case "pipe":
                let ends = try Files.pipe()
                for raw in [ends.read, ends.write] { held.add(OwnedDescriptor(adopting: raw)) }
            default:
                var ends: [CInt] = [-1, -1]
                #expect(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0)
                for raw in ends { held.add(OwnedDescriptor(adopting: raw)) }
                // As somebody may have left it.
                _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
            }
            let reader = try #require(held.raw.first)
            // What a pipe takes at once is more than this.
            if held.raw.count == 2 { #expect(Glibc.write(held.raw[1], bytes, bytes.count) == bytes.count) }
            #expect(try SavedStateFile.read(from: reader) == (ours ? Self.example : nil))
            var rest = [UInt8](repeating: 0, count: 100)
            let length = Glibc.read(reader, &rest, 100)
            #expect(Array(rest.prefix(length)) == qemu)
        }
    }

    @Test("A file that is neither ours nor QEMU's, a damaged and a cut one are refused with what to do")
    func refused() throws {
        for bytes in [Array("Demux!".utf8) + [UInt8](repeating: 0, count: 40), Array(try Self.example.encoded().dropLast()), Array("D".utf8)] {
            let file = try memory(bytes)
            #expect(throws: SystemError.self) { try SavedStateFile.read(from: file.raw) }
        }
        let empty = try memory([])
        #expect(try SavedStateFile.read(from: empty.raw) == nil)
        #expect(throws: SystemError.self) { try SavedStateFile.read(from: -1) }
    }

    // MARK: with a real QEMU

    /// What QEMU does by itself on Xen (accel/xen/xen-all.c).
    private static let asOnXen = ["send-configuration", "store-global-state", "send-section-footer"].flatMap { ["-global", "migration.\($0)=off"] }

    /// libxl's way: the file by add-fd, then xen-save-devices-state to the set. Gives the reply.
    private func save(_ state: SavedEmulators, to file: CInt, failing: Bool = false) throws -> JSONValue {
        let saving = StateSaving { done in done(failing ? .failure(SystemError("pause", "emulator 'display'", reason: "it is gone")) : .success(state)) }
        var troubles: [SystemError] = []
        saving.trouble = { troubles.append($0) }
        let setup = try RealQEMUTests.Setup(more: ["-machine", "pc,accel=tcg", "-m", "16", "-vga", "none", "-device", "e1000"] + Self.asOnXen, decide: { saving.decide($0) ?? .pass })
        let peer = try setup.connect()
        _ = try setup.ask(peer, "qmp_capabilities", id: 1)
        let set = try #require(try setup.ask(peer, "add-fd", id: 2, descriptors: [file])["return"]?["fdset-id"]?.integer)
        let reply = try setup.ask(peer, "xen-save-devices-state", id: 3, arguments: "{\"filename\":\"/dev/fdset/\(set)\",\"live\":false}")
        #expect(try setup.ask(peer, "remove-fd", id: 4, arguments: "{\"fdset-id\":\(set)}")["return"] == [:])
        #expect(troubles.isEmpty != failing)
        return reply
    }

    @Test("A real QEMU's record comes right after our states, and a QEMU that is started from there reads it")
    func real() throws {
        // QEMU takes a descriptor of a set only for exactly the access that it wants.
        let folder = try TemporaryFolder()
        let output = OwnedDescriptor(adopting: open(folder.path + "/state", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
        let file = try Files.open(folder.path + "/state")
        let reply = try save(Self.example, to: output.raw)
        #expect(reply["return"] == [:], "\(reply)")
        let ours = try Self.example.encoded()
        let bytes = contents(file.raw)
        let (head, tail) = (Array(bytes.prefix(ours.count)), Array(bytes.dropFirst(ours.count).prefix(4)))
        #expect(head == ours && tail == Array("QEVM".utf8) && bytes.count > ours.count + 1000)
        // As libxl restores it: another descriptor, at the file's beginning, by its number.
        #expect(try SavedStateFile.read(from: file.raw) == Self.example)
        #expect(lseek(file.raw, 0, SEEK_CUR) == off_t(ours.count))
        try expectIncoming(file.raw)
    }

    @Test("Without states of ours the file is a plain QEMU's, and is restored as such")
    func plain() throws {
        // QEMU takes a descriptor of a set only for exactly the access that it wants.
        let folder = try TemporaryFolder()
        let output = OwnedDescriptor(adopting: open(folder.path + "/state", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
        let file = try Files.open(folder.path + "/state")
        let reply = try save(SavedEmulators(), to: output.raw)
        #expect(reply["return"] == [:], "\(reply)")
        let head = Array(contents(file.raw).prefix(4))
        #expect(head == Array("QEVM".utf8))
        #expect(try SavedStateFile.read(from: file.raw) == nil)
        try expectIncoming(file.raw)
    }

    @Test("States that cannot be had make the save fail, in words that libxl logs, and QEMU is not asked")
    func failing() throws {
        // QEMU takes a descriptor of a set only for exactly the access that it wants.
        let folder = try TemporaryFolder()
        let output = OwnedDescriptor(adopting: open(folder.path + "/state", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
        let file = try Files.open(folder.path + "/state")
        let reply = try save(SavedEmulators(), to: output.raw, failing: true)
        #expect(reply["error"]?["desc"]?.text?.contains("it is gone") == true)
        let length = contents(file.raw).count
        #expect(length == 0)
    }

    @Test("A save to a file that was never handed over fails when there are states, and is QEMU's when there are none")
    func unknownFile() throws {
        for state in [Self.example, SavedEmulators()] {
            let saving = StateSaving { $0(.success(state)) }
            for name in ["/dev/fdset/9", "/tmp/x", "/dev/fdset/x"] {
                let command = try #require(QMPCommand(["execute": "xen-save-devices-state", "arguments": ["filename": .string(name)]], connection: 1))
                guard case .later(let deferral)? = saving.decide(command) else { throw CancellationError() }
                switch deferral.verdict {
                case .answer(let bytes)?: #expect(!state.records.isEmpty && JSONValue(parsing: bytes)?["error"] != nil)
                case .pass?: #expect(state.records.isEmpty)
                default: Issue.record("no verdict")
                }
            }
        }
    }

    /// Starts a QEMU that reads its state from the descriptor's present place, and waits until it stands as restored.
    private func expectIncoming(_ raw: CInt) throws {
        let folder = try TemporaryFolder()
        let loop = try EventLoop()
        let monitors = try PrivateMonitors(folder: folder.path)
        let qemu = try QEMU(
            [
                "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc,accel=tcg", "-m", "16", "-vga", "none", "-device", "e1000"] + Self.asOnXen + ["-S", "-chardev",
                "socket,id=m,\(monitors.demux.part.key ?? "")=\(monitors.demux.part.value),server=on,wait=off", "-mon", "chardev=m,mode=control",
                "-incoming", "fd:\(raw)",
            ], inherited: monitors.inherited + [.init(ours: raw, theirs: raw)])
        let client = QMPClient(loop: loop, path: monitors.demuxPath)
        var status = ""
        var isAsking = false
        try turn(loop, until: "QEMU has read its record") {
            if !isAsking {
                isAsking = true
                client.execute("query-status", deadline: .seconds(60)) { result in
                    isAsking = false
                    if case .success(let reply) = result { status = reply["status"]?.text ?? "" }
                }
            }
            return status == "paused" || status == "prelaunch" || qemu.process.poll() != nil
        }
        #expect(qemu.process.poll() == nil && status != "inmigrate")
    }
}

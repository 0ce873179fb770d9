import EmulatorProtocol
import Glibc
import Platform
import TestTools
import Testing

@testable import Toolstack

@Suite("QEMU unplugs its own devices")
struct QEMUUnplugTests {
    private static func block(_ name: String, removable: Bool) -> JSONValue { ["device": .string(name), "removable": .bool(removable), "qdev": "x"] }
    private static func function(_ slot: Int64, _ code: Int64, _ id: String) -> JSONValue {
        ["bus": 0, "slot": .integer(slot), "function": 0, "class_info": ["class": .integer(code)], "id": ["vendor": 1, "device": 2], "qdev_id": .string(id)]
    }
    private static let drives: JSONValue = [
        block("ide0-hd0", removable: false), block("ide0-hd1", removable: false), block("ide-5632", removable: true), block("scsi0-hd0", removable: false),
        block("xvdb", removable: false),
    ]
    private static let functions: JSONValue = [
        ["devices": [function(1, 0x0101, ""), function(3, 0x0200, "nic0"), function(4, 0x0200, "pci-pt-03_00.0"), function(5, 0x0108, "nvme0"), function(6, 0x0280, "")]]
    ]

    @Test("What a mask removes: CD-ROMs, PV disks and passed-through devices are not in it", arguments: [
        ([.ideDisk], ["ide0-hd0", "ide0-hd1", "scsi0-hd0"]), ([.auxDisk], ["ide0-hd1"]), ([.nic], ["nic0", "0000:00:06.0"]), ([.nvme], ["nvme0"]),
        ([.nic, .scsiDisk], ["ide0-hd0", "ide0-hd1", "scsi0-hd0", "nic0", "0000:00:06.0"]),
    ] as [(Set<UnplugClass>, [String])])
    func candidates(classes: Set<UnplugClass>, wanted: [String]) throws {
        let drives = try #require(QEMUUnplug.Drive.list(from: Self.drives))
        let functions = try #require(PCIFunctionReport.list(from: Self.functions))
        #expect(QEMUUnplug.candidates(classes, drives: drives, functions: functions) == wanted)
    }

    @Test("It asks, writes the mask to QEMU's own port, asks again, and names what has gone or is left", arguments: [false, true])
    func sequence(stays: Bool) throws {
        let folder = try TemporaryFolder()
        let loop = try EventLoop()
        let client = QMPClient(loop: loop, path: folder.path + "/q")
        let listener = try Listener(loop, path: folder.path + "/q")
        var outcome: Result<[String], QEMUUnplug.Trouble>?
        QEMUUnplug(client: client).unplug([.ideDisk, .nic], deadline: .seconds(60)) { outcome = $0 }
        try turn(loop, until: "it has connected") { listener.peers.count == 1 }
        let peer = listener.peers[0]
        try peer.send("{\"QMP\":{}}\r\n")
        var answered = 0
        var commands: [String] = []
        var left: [JSONValue] = [Self.drives, Self.functions, .string("")]
        let remaining: JSONValue = [["devices": [Self.function(1, 0x0101, "")]]]
        left += [stays ? [Self.block("scsi0-hd0", removable: false)] : [Self.block("ide-5632", removable: true)], remaining]
        try turn(loop, until: "it is done") {
            let messages = peer.lines.compactMap { JSONValue(parsing: Array($0.utf8)) }
            while answered < messages.count {
                let message = messages[answered]
                answered += 1
                let id = message["id"] ?? .null
                let name = message["execute"]?.text ?? ""
                let isHello = name == "qmp_capabilities"
                if !isHello { commands.append(message["arguments"]?["command-line"]?.text ?? name) }
                let value: JSONValue = isHello ? [:] : left.isEmpty ? .null : left.removeFirst()
                let reply: JSONValue = ["return": value, "id": id]
                do { try peer.send(String(decoding: reply.encoded(), as: UTF8.self) + "\r\n") } catch { return true }
            }
            return outcome != nil
        }
        #expect(commands == ["query-block", "query-pci", "o/h 0x10 0x3", "query-block", "query-pci"])
        if stays {
            #expect(outcome == .failure(.init(description: "QEMU still has scsi0-hd0, and has removed ide0-hd0, ide0-hd1, nic0, 0000:00:06.0")))
        } else {
            #expect(outcome == .success(["ide0-hd0", "ide0-hd1", "scsi0-hd0", "nic0", "0000:00:06.0"]))
        }
    }

    @Test("QEMU's platform device is known by its vendor and its BARs, and no other device is taken for it")
    func platform() throws {
        func function(_ slot: Int64, vendor: Int64, _ regions: JSONValue) -> JSONValue {
            ["bus": 0, "slot": .integer(slot), "function": 0, "class_info": ["class": 0xff80], "id": ["vendor": .integer(vendor), "device": 1], "qdev_id": "", "regions": regions]
        }
        let own: JSONValue = [
            ["bar": 1, "type": "memory", "address": -1, "size": .integer(16 << 20), "prefetch": true], ["bar": 0, "type": "io", "address": -1, "size": 256],
        ]
        let memory: JSONValue = [["bar": 1, "type": "memory", "address": -1, "size": .integer(16 << 20)]]
        let functions = try #require(
            PCIFunctionReport.list(from: [["devices": [function(1, vendor: 0x8086, own), function(4, vendor: 0x5853, memory), function(2, vendor: 0x5853, own)]]]))
        #expect(QEMUPlatform.find(in: functions)?.address.device == 2)
        #expect(QEMUPlatform.find(in: Array(functions.dropLast())) == nil)
        #expect(QEMUPlatform.value(in: "portl[0x0cfc] = 0xff800001\r\n") == 0xff80_0001)
        #expect(QEMUPlatform.value(in: "unknown command") == nil && QEMUPlatform.value(in: "x = 12") == nil)
    }

    /// A QEMU without Xen has no unplug ports, which is the trouble that is to be found out: its devices stay, and it is said which.
    @Test("A real QEMU's disk and NIC are known by name, its CD-ROM is none, and what stays although it was told is reported")
    func realQEMU() throws {
        try QEMU.require()
        let folder = try TemporaryFolder()
        for name in ["disk", "cd"] {
            let file = try #require(fopen("\(folder.path)/\(name)", "w"))
            ftruncate(fileno(file), 1 << 20)
            fclose(file)
        }
        let loop = try EventLoop()
        let qemu = try QEMU([
            "-machine", "pc", "-S", "-display", "none", "-nodefaults", "-no-user-config", "-device", "e1000,id=nic0", "-drive",
            "file=\(folder.path)/disk,if=ide,index=0,media=disk,format=raw", "-drive", "if=none,readonly=on,id=ide-5632,file=\(folder.path)/cd,format=raw",
            "-device", "ide-cd,id=ide-5632,drive=ide-5632,bus=ide.1,unit=0", "-chardev", "socket,id=q,path=\(folder.path)/q,server=on,wait=off", "-mon",
            "chardev=q,mode=control",
        ], inherited: [])
        defer { withExtendedLifetime(qemu) {} }
        let client = QMPClient(loop: loop, path: folder.path + "/q")
        let unplug = QEMUUnplug(client: client)
        var found: Result<[String], QEMUUnplug.Trouble>?
        unplug.candidates([.ideDisk, .nic], deadline: .seconds(60)) { found = $0 }
        try turn(loop, until: "QEMU has said what it has") { found != nil }
        #expect(found == .success(["ide0-hd0", "nic0"]))
        var outcome: Result<[String], QEMUUnplug.Trouble>?
        unplug.unplug([.ideDisk, .nic], deadline: .seconds(60)) { outcome = $0 }
        try turn(loop, until: "QEMU has been told") { outcome != nil }
        #expect(outcome == .failure(.init(description: "QEMU still has ide0-hd0, nic0")))
    }
}

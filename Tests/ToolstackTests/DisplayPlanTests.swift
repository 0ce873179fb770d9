import Host
import Platform
import TestTools
import Testing

@testable import Toolstack

@Suite("Who shows the screen")
struct DisplayPlanTests {
    /// libxl's ordinary list with some of its options changed: nil takes the option out.
    private func list(_ changes: [String: String?] = [:], graphics: String? = "VGA,vgamem_mb=16", more: [String] = []) -> [String] {
        var result: [String] = []
        var index = 0
        let ordinary = LibxlLists.ordinary
        while index < ordinary.count {
            let option = ordinary[index]
            if let change = changes[option] {
                if let change { result += [option, change] }
                index += 2
            } else if option == "-device", ordinary[index + 1].hasPrefix("VGA") {
                if let graphics { result += ["-device", graphics] }
                index += 2
            } else {
                result.append(option)
                index += 1
            }
        }
        return result + more
    }

    private func plan(_ list: [String], isWanted: Bool = true) throws -> DisplayPlan {
        try DisplayPlan(DeviceModelArguments(list), isWanted: isWanted)
    }

    private func ours(_ list: [String]) throws -> DisplayPlan.OurDisplay {
        guard case .ours(let display) = try plan(list) else { throw SystemError("get", "our display", reason: "\(try plan(list))") }
        return display
    }

    @Test("stdvga with VNC: our display at QEMU's place, with libxl's memory, and an exporter as -vnc says")
    func ordinary() throws {
        let display = try ours(LibxlLists.ordinary)
        #expect(display.memoryMiB == 16 && display.slot.description == "0000:00:03.0")
        let exporter = try #require(display.exporter)
        #expect(exporter.places == [.tcp(host: "127.0.0.1", ports: 5900...5999)])
        #expect(!exporter.needsPassword && exporter.keymap == nil && exporter.sharing == nil && !exporter.webSocket)
        #expect(exporter.places.map(\.description) == ["127.0.0.1:0-99"])
    }

    @Test("QEMU gets the list without its card and its VNC, and the NIC pinned at its own place")
    func rewritten() throws {
        let arguments = try DeviceModelArguments(list(["-vnc": "127.0.0.1:7,password=on"], more: ["-k", "de"]))
        let plan = try DisplayPlan(arguments, isWanted: true)
        var expected = try arguments.rewritten(libxl: .descriptor(8), demux: .descriptor(9))
        func cut(_ option: String, _ start: String) {
            if let place = expected.indices.first(where: { expected[$0] == option && expected[$0 + 1].hasPrefix(start) }) { expected.removeSubrange(place...place + 1) }
        }
        cut("-vnc", "127")
        cut("-k", "de")
        let card = try #require(expected.firstIndex(of: "VGA,vgamem_mb=16"))
        expected.replaceSubrange(card - 1...card, with: ["-vga", "none"])
        let nic = try #require(expected.firstIndex { $0.hasPrefix("e1000,") })
        expected[nic] += ",addr=0x4"
        #expect(try arguments.adapted(to: plan).rewritten(libxl: .descriptor(8), demux: .descriptor(9)) == expected)
        guard case .ours(let display) = plan else { throw CancellationError() }
        #expect(display.exporter?.needsPassword == true && display.exporter?.keymap == "de")
    }

    @Test("Without -display QEMU is told to have none, or it would open a window")
    func noWindow() throws {
        let arguments = try DeviceModelArguments(list().filter { $0 != "-display" && $0 != "none" })
        let rewritten = try arguments.adapted(to: DisplayPlan(arguments, isWanted: true)).rewritten(libxl: .descriptor(8), demux: .descriptor(9))
        let place = try #require(rewritten.firstIndex(of: "-display"))
        #expect(rewritten[place + 1] == "none")
    }

    @Test("vnc=0 is a display without an exporter")
    func withoutVNC() throws {
        #expect(try ours(list(["-vnc": "none"])).exporter == nil)
        #expect(try ours(list(["-vnc": nil])).exporter == nil)
    }

    @Test("vga=\"none\", cirrus, qxl, two cards, SPICE, SDL, another machine and 'display: no': QEMU gets what libxl wrote")
    func kept() throws {
        func isKept(_ list: [String], _ words: String) throws {
            let arguments = try DeviceModelArguments(list)
            let plan = try DisplayPlan(arguments, isWanted: true)
            guard case .qemu(let reason) = plan else {
                Issue.record("\(plan)")
                return
            }
            #expect(reason.contains(words))
            #expect(
                try arguments.adapted(to: plan).rewritten(libxl: .descriptor(8), demux: .descriptor(9))
                    == arguments.rewritten(libxl: .descriptor(8), demux: .descriptor(9)))
        }
        #expect(try plan(list(graphics: nil)) == .none)
        try isKept(list(graphics: "cirrus-vga,vgamem_mb=8"), "cirrus-vga")
        try isKept(list(graphics: "qxl-vga,vram_size_mb=64,ram_size_mb=64"), "qxl-vga")
        try isKept(list(more: ["-device", "secondary-vga"]), "2 graphics cards")
        try isKept(list(more: ["-spice", "port=1,disable-ticketing=on"]), "-spice")
        try isKept(list(["-display": "sdl,gl=on"]), "sdl")
        try isKept(list(["-machine": "q35"]), "q35")
        #expect(try plan(LibxlLists.restricted) == .qemu("its card is cirrus-vga, not the standard VGA"))
        #expect(try plan(LibxlLists.ordinary, isWanted: false) == .qemu("the specification says so"))
    }

    @Test("-vga std is the same card under its older name, and comes before every NIC")
    func vgaStd() throws {
        let given = ["-net", "nic,model=rtl8139", "-vga", "std"]
        let arguments = try DeviceModelArguments(given + list(["-machine": "pc,accel=xen"], graphics: nil))
        let plan = try DisplayPlan(arguments, isWanted: true)
        guard case .ours(let display) = plan else { throw CancellationError() }
        #expect(display.slot.device == 2 && display.memoryMiB == 16)
        let rewritten = try arguments.adapted(to: plan).rewritten(libxl: .descriptor(8), demux: .descriptor(9))
        #expect(rewritten.starts(with: ["-net", "nic,model=rtl8139,addr=0x3", "-vga", "none"]))
        // There xen-platform itself stands behind it, and cannot be pinned.
        let xenfv = try DeviceModelArguments(given + list(graphics: nil))
        #expect {
            try xenfv.adapted(to: DisplayPlan(xenfv, isWanted: true)).rewritten(libxl: .descriptor(8), demux: .descriptor(9))
        } throws: { "\($0)".contains("xen-platform") && "\($0)".contains("0000:00:02.0") }
    }

    @Test(
        "Video memory is what libxl gives, made a power of two; more than it has set aside is refused by the setting's name",
        arguments: [("VGA", 16), ("VGA,vgamem_mb=1", 1), ("VGA,vgamem_mb=24", 32), ("VGA,vgamem_mb=256", 256)])
    func memory(card: String, mebibytes: Int) throws {
        let display = try ours(list(graphics: card))
        #expect(display.memoryMiB == mebibytes)
        #expect(try display.memory(wanted: nil) == mebibytes && display.memory(wanted: 1) == 1)
        #expect {
            try display.memory(wanted: mebibytes * 2)
        } throws: { "\($0)".contains("videoram=\(mebibytes * 2)") }
    }

    @Test(
        "Addresses: IPv6 in brackets, every address, one family, a socket, several, WebSocket",
        arguments: [
            (["[::1]:3,to=99"], "[::1]:3-99"), ([":5"], ":5"), ([":5,ipv6=off"], "0.0.0.0:5"), ([":5,ipv6=on"], "[::]:5"),
            (["unix:/var/run/xen/vnc-7"], "unix:/var/run/xen/vnc-7"), (["0.0.0.0:100,to=99"], "0.0.0.0:100"),
            (["host,,a:1"], "host,a:1"), (["127.0.0.1:1", "unix:/a"], "127.0.0.1:1 unix:/a"), (["127.0.0.1:1,websocket"], "127.0.0.1:1"),
            (["127.0.0.1:1,websocket=5700"], "127.0.0.1:1 127.0.0.1::5700"), (["127.0.0.1:1,websocket=[::1]:5950"], "127.0.0.1:1 [::1]:50"),
            (["vnc=127.0.0.1:2,lossy,share=force-shared"], "127.0.0.1:2"),
        ])
    func addresses(given: [String], text: String) throws {
        let exporter = try #require(try ours(list(["-vnc": nil], more: given.flatMap { ["-vnc", $0] })).exporter)
        #expect(exporter.places.map(\.description).joined(separator: " ") == text)
        #expect(exporter.webSocket == given[0].contains("websocket"))
        #expect(exporter.sharing == (given[0].contains("share") ? .forceShared : nil))
    }

    @Test("Both forms of a wanted password")
    func password() throws {
        #expect(try ours(list(["-vnc": "127.0.0.1:0,to=99,password"])).exporter?.needsPassword == true)
        #expect(try ours(list(["-vnc": "127.0.0.1:0,to=99,password=on"])).exporter?.needsPassword == true)
        #expect(try ours(list(["-vnc": "127.0.0.1:0,to=99,password=off"])).exporter?.needsPassword == false)
    }

    @Test(
        "What the exporter does not do is refused before anybody relies on it",
        arguments: [
            ("::1:0", "brackets"), ("::1", "brackets"), ("127.0.0.1", "vnclisten"), ("127.0.0.1:70000", "vnclisten"), ("unix:relative", "absolute"),
            ("127.0.0.1:0,sasl=on", "sasl"), ("127.0.0.1:0,tls-creds=tls0", "tls-creds"), ("127.0.0.1:0,reverse", "reverse"),
            ("127.0.0.1:0,password-secret=s", "password-secret"), ("127.0.0.1:0,share=maybe", "share=maybe"), ("127.0.0.1:0,websocket=x", "websocket"),
        ])
    func refused(value: String, words: String) throws {
        let arguments = try DeviceModelArguments(list(["-vnc": value]))
        #expect {
            try DisplayPlan(arguments, isWanted: true)
        } throws: { $0 is ArgumentError && "\($0)".contains(words) }
        // QEMU may do it all the same.
        guard case .qemu = try DisplayPlan(arguments, isWanted: false) else { throw CancellationError() }
    }

    @Test("A device that cannot be pinned and would slip into the display's place is refused by name")
    func clash() throws {
        for more in [["-drive", "if=virtio,file=/a"], ["-virtfs", "local,path=/a,mount_tag=t,security_model=none"]] {
            let arguments = try DeviceModelArguments(list(more: more))
            let plan = try DisplayPlan(arguments, isWanted: true)
            #expect {
                try arguments.adapted(to: plan).rewritten(libxl: .descriptor(8), demux: .descriptor(9))
            } throws: { "\($0)".contains(more[1]) && "\($0)".contains("0000:00:03.0, where our display is") }
        }
    }

    @Test("A real QEMU has every device where it had it beside its VGA, and nothing in the VGA's place", arguments: PCISlotTests.guests.indices.filter { $0 != 1 } + [100, 101])
    func confirmed(guest: Int) throws {
        // The plan's guests have xen-platform, in whose place the tests have another device.
        var devices = guest >= 100 ? ["-device", "VGA", "-device", "e1000", "-device", "rtl8139,addr=8", "-device", "AC97"] : PCISlotTests.guests[guest]
        if guest == 101 { devices = ["-vga", "std", "-net", "nic,model=rtl8139", "-net", "nic,model=pcnet", "-device", "e1000"] }
        devices = devices.map { $0.hasPrefix("cirrus-vga") || $0.hasPrefix("qxl-vga") ? "VGA,vgamem_mb=8" : $0 }
        // What cannot be pinned is another test's matter.
        if let drive = devices.firstIndex(where: { $0.hasPrefix("if=virtio") }) { devices.removeSubrange(drive - 1...drive) }
        let head = ["-xen-domid", "1", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-device", "pci-testdev"]
        let monitor = ["-chardev", "socket,id=libxl-cmd,path=/x", "-mon", "chardev=libxl-cmd"]
        let arguments = try DeviceModelArguments(head + monitor + devices)
        let plan = try DisplayPlan(arguments, isWanted: true)
        guard case .ours(let display) = plan else { throw SystemError("plan", "\(guest)", reason: "\(plan)") }

        let before = try Self.places(try arguments.rewritten(libxl: .path("@"), demux: .path("@")))
        let after = try Self.places(try arguments.adapted(to: plan).rewritten(libxl: .path("@"), demux: .path("@")))
        let card = try #require(before.first { $0.classCode == 0x300 })
        #expect(card.address == display.slot)
        #expect(after.filter { $0.address.bus == 0 } == before.filter { $0.address.bus == 0 && $0.address != display.slot })
    }

    /// What a QEMU started with these arguments, its monitors and Xen's number left out, has on its PCI buses.
    private static func places(_ rewritten: [String]) throws -> [PCIFunctionReport] {
        var arguments = rewritten
        for (option, start) in [("-xen-domid", ""), ("-chardev", "socket,id=libxl-cmd"), ("-mon", "chardev=libxl-cmd"), ("-chardev", "socket,id=demux-cmd"), ("-mon", "chardev=demux-cmd")] {
            let place = try #require(arguments.indices.first { arguments[$0] == option && arguments[$0 + 1].hasPrefix(start) })
            arguments.removeSubrange(place...place + 1)
        }
        let folder = try TemporaryFolder()
        let loop = try EventLoop()
        let monitors = try PrivateMonitors(folder: folder.path)
        let qemu = try QEMU(
            arguments + ["-S", "-m", "32", "-accel", "tcg", "-chardev", "socket,id=m,\(monitors.demux.part.key ?? "")=\(monitors.demux.part.value),server=on,wait=off", "-mon", "chardev=m,mode=control"],
            inherited: monitors.inherited)
        let client = QMPClient(loop: loop, path: monitors.demuxPath)
        var answer: Result<[PCIFunctionReport], QMPError>?
        client.queryPCI(deadline: .seconds(60)) { answer = $0 }
        try turn(loop, until: "QEMU has told its PCI functions") { answer != nil || qemu.process.poll() != nil }
        return try #require(answer).get().sorted { $0.address.description < $1.address.description }
    }
}

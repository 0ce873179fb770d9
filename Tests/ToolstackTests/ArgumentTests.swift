import Host
import Platform
import SeededNumbers
import Testing

@testable import Toolstack

@Suite("libxl's arguments")
struct ArgumentTests {
    @Test("An ordinary guest's list is understood")
    func ordinary() throws {
        let arguments = try DeviceModelArguments(LibxlLists.ordinary)
        #expect(arguments.domain == DomainID(1))
        #expect(arguments.guestName == "g")
        #expect(!arguments.isProbe && !arguments.startsPaused)
        #expect(arguments.monitor == .path("/var/run/xen/qmp-libxl-1"))
        #expect(arguments.statisticsMonitor == .path("/var/run/xen/qmp-libxenstat-1"))
        #expect(arguments.machine.type == "xenfv" && arguments.machine.hasPlatformDevice)
        #expect(arguments.memoryMiB == 48)
        #expect(arguments.vcpus == (1, 1))
        #expect(arguments.incoming == nil && arguments.inheritedDescriptors == [])
        #expect(arguments.restriction == nil)
        #expect(arguments.graphics == [.init(device: "VGA", memoryMiB: 16)])
        #expect(arguments.nics == [.init(model: "e1000", id: "nic0", mac: "00:16:3e:11:22:33", interface: "vif1.0-emu", bridge: "xenbr0")])
        #expect(arguments.disks == [.init(file: "/tmp/agent.img", format: "raw", interface: "ide", id: nil, index: 0, isReadOnly: false)])
        #expect(arguments.settings == DemuxSettings())
    }

    @Test("An ordinary guest's list is rewritten word for word but for the monitors")
    func ordinaryRewritten() throws {
        let rewritten = try DeviceModelArguments(LibxlLists.ordinary).rewritten(
            libxl: .descriptor(8), demux: .path("/run/demux/1/qemu-demux.qmp"))
        var expected = LibxlLists.ordinary
        expected[4] = "socket,id=libxl-cmd,fd=8,server=on,wait=off"
        expected.insert(
            contentsOf: [
                "-chardev", "socket,id=demux-cmd,path=/run/demux/1/qemu-demux.qmp,server=on,wait=off", "-mon",
                "chardev=demux-cmd,mode=control",
            ], at: 11)
        #expect(rewritten == expected)
    }

    @Test("A restricted guest's list is understood, its descriptors and its user too")
    func restricted() throws {
        let arguments = try DeviceModelArguments(LibxlLists.restricted)
        #expect(arguments.domain == DomainID(7))
        #expect(arguments.guestName == "-S")
        #expect(arguments.monitor == .descriptor(19))
        #expect(arguments.startsPaused)
        #expect(arguments.incoming == 15 && arguments.inheritedDescriptors == [15])
        #expect(arguments.vcpus == (1, 2))
        #expect(arguments.settings.specification == "/etc/demux/web.yaml")
        #expect(arguments.disks.first?.file == "/srv/a,b.iso" && arguments.disks.first?.isReadOnly == true)
        let restriction = try #require(arguments.restriction)
        #expect(restriction == .init(toDomain: true, user: .ids(uid: 131_079, gid: 131_072), chroot: "/var/run/xen/qemu-root-7"))
        let numbers = try #require(try restriction.user?.resolve())
        #expect(numbers == (131_079, 131_072))
    }

    @Test("A restricted guest's list is rewritten without Demux's settings")
    func restrictedRewritten() throws {
        let rewritten = try DeviceModelArguments(LibxlLists.restricted).rewritten(
            libxl: .path("/run/demux/7/a,b"), demux: .descriptor(21))
        var expected = LibxlLists.restricted
        expected[4] = "socket,id=libxl-cmd,path=/run/demux/7/a,,b,server=on,wait=off"
        expected.removeAll { $0.hasPrefix("--demux-") }
        expected.insert(
            contentsOf: ["-chardev", "socket,id=demux-cmd,fd=21,server=on,wait=off", "-mon", "chardev=demux-cmd,mode=control"], at: 12)
        #expect(rewritten == expected)
    }

    @Test("A probe is told apart and goes on unchanged")
    func probe() throws {
        let arguments = try DeviceModelArguments(LibxlLists.probe)
        #expect(arguments.isProbe && arguments.domain == nil)
        #expect(arguments.unchanged == LibxlLists.probe)
    }

    @Test("Newer libxl's -run-with means the same as -chroot and -runas")
    func runWith() throws {
        let list = ["-xen-domid", "3", "-machine", "pc", "-run-with", "chroot=/var/run/xen/qemu-root-3", "-run-with", "user=xen-qemuuser-shared"]
        #expect(
            try DeviceModelArguments(list).restriction
                == .init(toDomain: false, user: .name("xen-qemuuser-shared"), chroot: "/var/run/xen/qemu-root-3"))
    }

    @Test("A user that does not exist is named in the error")
    func unknownUser() throws {
        #expect {
            try DeviceModelArguments.RunAs.name("no-such-user-here").resolve()
        } throws: { "\($0)".contains("no-such-user-here") && "\($0)".contains("device_model_user") }
    }

    @Test(
        "What cannot be used is refused, with the argument and what to do about it",
        arguments: [
            (["-nodefaults"], "device_model_override"),
            (["-xen-domid", "32768"], "number of a domain"),
            (["-xen-domid", "x"], "number of a domain"),
            (["-xen-domid", "1", "-xen-domid", "2"], "device_model_args"),
            (["-xen-domid", "1", "-daemonize"], "-daemonize"),
            (["-xen-domid", "1", "-chardev", "null,id=demux-cmd"], "demux-cmd"),
            (["-xen-domid", "1", "-chardev", "socket,id=libxl-cmd,host=a,port=1"], "neither a path"),
            (["-xen-domid", "1", "-chardev", "socket,id=libxl-cmd,path=/a", "-chardev", "socket,id=libxl-cmd,path=/b"], "2 of this name"),
            (["-xen-domid", "1", "--demux-colour=red"], "--demux-spec=FILE"),
            (["-xen-domid", "1", "--demux-spec"], "absolute"),
            (["-xen-domid", "1", "--demux-spec=web.yaml"], "absolute"),
            (["-xen-domid", "1", "--demux-qemu=/a", "--demux-qemu=/b"], "twice"),
            (["-xen-domid", "1", "--demux-verbose=1"], "alone"),
        ])
    func refused(list: [String], words: String) {
        #expect {
            try DeviceModelArguments(list)
        } throws: { error in error is ArgumentError && "\(error)".contains(words) }
    }

    @Test("Without libxl's monitor there is nothing to rewrite")
    func noMonitor() throws {
        let arguments = try DeviceModelArguments(["-xen-domid", "1", "-machine", "xenfv"])
        #expect(throws: ArgumentError.self) { try arguments.rewritten(libxl: .descriptor(3), demux: .descriptor(4)) }
    }

    @Test("Settings: emulators by name, an empty list, a QEMU of one's own")
    func settings() throws {
        let settings = try DeviceModelArguments([
            "-xen-domid", "1", "--demux-emulators=scratch,debug", "--demux-qemu=/opt/qemu", "--demux-verbose",
        ]).settings
        #expect(settings.emulators == ["scratch", "debug"] && settings.qemu == "/opt/qemu" && settings.verbose)
        #expect(try DeviceModelArguments(["-xen-domid", "1", "--demux-emulators="]).settings.emulators == [])
    }

    @Test("A value that looks like a setting of ours stays the value it is")
    func valueLikeSetting() throws {
        let arguments = try DeviceModelArguments(["-xen-domid", "1", "-name", "--demux-verbose", "-append", "-S"])
        #expect(arguments.guestName == "--demux-verbose")
        #expect(!arguments.settings.verbose && !arguments.startsPaused)
    }

    @Test("An option list is read and written back in the same words")
    func optionList() {
        for text in ["", "a", "a=b", "a,b=c,,d,e=", "id=x,,,y", "socket,id=libxl-cmd,path=/a,,b,server=on", ",", "a=b=c"] {
            #expect(OptionList(parsing: text).description == text)
        }
        #expect(OptionList(parsing: "x,path=/a,,b")["path"] == "/a,b")
        #expect(OptionList(parsing: "a=1,a=2")["a"] == "2")
    }

    @Test("Rewriting keeps every argument that is not ours, whatever the list")
    func keepsEverything() throws {
        var random = SplitMix(state: 0x5eed_0001)
        let pool: [[String]] = [
            ["-usb"], ["-nodefaults"], ["-serial", "pty"], ["-device", "e1000,addr=5"], ["-device", "{\"driver\":\"e1000\"}"],
            ["-unknown-option"], ["-unknown-option", "with value"], ["--future=1"], ["disk.img"], ["-append", "-x --demux-y"], ["-"], [""],
            ["-name", "a,,b"], ["-chardev", "null,id=other"], ["-mon", "chardev=other"], ["-m", "64"], ["-fw_cfg", "name=opt/x,string=-a"],
            ["-global", "a.b=c"], ["-netdev", "user,id=é"], ["-S"], ["-kernel", "-S"],
        ]
        let ours = ["--demux-spec=/a", "--demux-qemu=/q", "--demux-verbose", "--demux-emulators=x"]
        for _ in 0..<2000 {
            var groups: [[String]] = (0..<Int.random(in: 0...12, using: &random)).map { _ in pool[Int.random(in: 0..<pool.count, using: &random)] }
            // One that takes the next word for its value must not stand before one of ours.
            let monitor = ["-chardev", "socket,id=libxl-cmd,path=/p,server=on,wait=off"]
            groups.insert(monitor, at: Int.random(in: 0...groups.count, using: &random))
            groups.insert(["-xen-domid", "5"], at: Int.random(in: 0...groups.count, using: &random))
            let wanted = groups.flatMap { $0 }.map { $0 == monitor[1] ? "socket,id=libxl-cmd,fd=9,server=on,wait=off" : $0 }
            for setting in ours where Bool.random(using: &random) {
                groups.insert([setting], at: Int.random(in: 0...groups.count, using: &random))
            }
            let rewritten = try DeviceModelArguments(groups.flatMap { $0 }).rewritten(libxl: .descriptor(9), demux: .descriptor(10))
            let added = ["-chardev", "socket,id=demux-cmd,fd=10,server=on,wait=off", "-mon", "chardev=demux-cmd,mode=control"]
            let place = try #require(rewritten.indices.first { rewritten[$0...].starts(with: added) })
            var rest = rewritten
            rest.removeSubrange(place..<place + added.count)
            #expect(rest == wanted)
        }
    }

    @Test("The names in xenstore are those of libxl")
    func xenstore() throws {
        let paths = XenStorePaths(domain: try #require(DomainID(12)))
        #expect(paths.state == "/local/domain/0/device-model/12/state")
        #expect(paths.processID == "/local/domain/12/image/device-model-pid")
        #expect(paths.killUID == "/local/domain/12/image/device-model-kill-uid")
        #expect(paths.monitor() == "/var/run/xen/qmp-libxl-12")
        #expect(paths.serialTerminal(0) == "/local/domain/12/serial/0/tty")
    }
}

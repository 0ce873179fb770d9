import Host
import Platform
import TestTools
import Testing

@testable import Toolstack

@Suite("QEMU's PCI slots")
struct PCISlotTests {
    /// Devices given one after the other, and the places they should get on a machine with xen-platform.
    static let guests: [[String]] = [
        // What libxl gives: stdvga and a NIC.
        ["-usb", "-usbdevice", "tablet", "-device", "VGA,vgamem_mb=16", "-device", "e1000,id=nic0,netdev=net0,mac=00:16:3e:11:22:33", "-netdev", "user,id=net0"],
        // No USB, no graphics, no NIC, no ACPI.
        ["-no-acpi", "-net", "none"],
        // A SCSI disk's controller comes first; then cirrus, sound, three NICs.
        [
            "-device", "lsi53c895a", "-device", "cirrus-vga,vgamem_mb=8", "-device", "intel-hda", "-device", "hda-duplex", "-device",
            "rtl8139,id=nic0,netdev=net0", "-netdev", "user,id=net0", "-device", "rtl8139,id=nic1,netdev=net1", "-netdev", "user,id=net1",
            "-device", "pcnet,id=nic2,netdev=net2", "-netdev", "user,id=net2",
        ],
        // usbversion=2: functions at a place of their own, the highest first.
        [
            "-device", "VGA,vgamem_mb=16", "-device", "ich9-usb-ehci1,id=usb,addr=0x1d.0x7,multifunction=on", "-device",
            "ich9-usb-uhci1,masterbus=usb.0,firstport=0,addr=0x1d.0,multifunction=on", "-device",
            "ich9-usb-uhci2,masterbus=usb.0,firstport=2,addr=0x1d.0x1,multifunction=on", "-device",
            "ich9-usb-uhci3,masterbus=usb.0,firstport=4,addr=0x1d.0x2,multifunction=on", "-device", "e1000",
        ],
        // usbversion=3, AHCI with a disk behind it, virtio-serial for spice, a CD on IDE.
        [
            "-device", "virtio-serial", "-device", "qxl-vga,vram_size_mb=8,ram_size_mb=8", "-device", "nec-usb-xhci,id=usb", "-device", "ahci,id=ahci0",
            "-drive", "if=none,id=ahcidisk-0,file=null-co://,format=raw", "-device", "ide-hd,bus=ahci0.0,unit=0,drive=ahcidisk-0", "-drive",
            "if=none,readonly=on,id=ide-5632", "-device", "ide-cd,id=ide-5632,drive=ide-5632,bus=ide.1,unit=0",
        ],
        // A place in the way of the next one; a bridge, and a device behind it; a disk that makes its own controller.
        [
            "-device", "e1000,addr=4", "-device", "VGA", "-device", "rtl8139", "-device", "pci-bridge,id=b,chassis_nr=1", "-device", "e1000,bus=b,addr=3",
            "-drive", "if=virtio,id=v,file=null-co://,format=raw", "-device", "AC97",
        ],
    ]

    @Test("The plan is what a real QEMU has", arguments: guests.indices)
    func confirmed(guest: Int) throws {
        let devices = Self.guests[guest]
        let head = ["-xen-domid", "1", "-nodefaults", "-no-user-config"]
        let plan = PCISlotPlan(try DeviceModelArguments(head + devices + ["-machine", "xenfv,suppress-vmdesc=on"]))
        #expect(plan.uncertain == [])

        // Without Xen there is no xen-platform device; another one takes its place, made before all others as that one is.
        let folder = try TemporaryFolder()
        let loop = try EventLoop()
        let monitors = try PrivateMonitors(folder: folder.path)
        let qemu = try QEMU(
            [
                "-nodefaults", "-no-user-config", "-display", "none", "-S", "-machine", "pc,accel=tcg", "-m", "32", "-chardev",
                "socket,id=m,\(monitors.demux.part.key ?? "")=\(monitors.demux.part.value),server=on,wait=off", "-mon", "chardev=m,mode=control", "-device", "pci-testdev",
            ] + devices, inherited: monitors.inherited)
        let client = QMPClient(loop: loop, path: monitors.demuxPath)
        var answer: Result<[PCIFunctionReport], QMPError>?
        client.queryPCI(deadline: .seconds(60)) { answer = $0 }
        try turn(loop, until: "QEMU has told its PCI functions") { answer != nil || qemu.process.poll() != nil }
        let found = try #require(answer).get()
        let onBus0 = Set(found.map(\.address).filter { $0.bus == 0 })
        #expect(Set(plan.functions.map(\.address)) == onBus0)
        let (missing, unexpected) = plan.differences(from: found)
        #expect(missing == [] && unexpected == [])
        for function in plan.functions where !function.id.isEmpty {
            #expect(found.first { $0.address == function.address }?.id == function.id)
        }
    }

    @Test("Without xen-platform the devices begin at slot 2")
    func pc() throws {
        let plan = PCISlotPlan(try DeviceModelArguments(LibxlLists.restricted))
        #expect(plan.functions.map(\.address.description) == ["0000:00:00.0", "0000:00:01.0", "0000:00:01.1", "0000:00:01.3", "0000:00:02.0"])
        #expect(plan.slots == [0, 1, 2] && plan.uncertain == [])
    }

    @Test("libxl's ordinary guest: 2 xen-platform, 3 VGA, 4 NIC")
    func ordinary() throws {
        let plan = PCISlotPlan(try DeviceModelArguments(LibxlLists.ordinary))
        #expect(plan.functions.suffix(3).map(\.name) == ["xen-platform", "VGA", "e1000"])
        #expect(plan.functions.suffix(3).map(\.address.device) == [2, 3, 4])
        #expect(plan.functions.last?.id == "nic0")
    }

    @Test("What is not known is said to be so")
    func uncertain() throws {
        let plan = PCISlotPlan(
            try DeviceModelArguments(["-xen-domid", "1", "-machine", "q35", "-device", "future-card", "-device", "{\"driver\":\"e1000\"}", "-device", "e1000,addr=zz"]))
        #expect(plan.uncertain.count == 4)
    }

    @Test("33 cards do not fit, and that is said")
    func full() throws {
        let cards = (0..<31).flatMap { _ in ["-device", "e1000"] }
        let plan = PCISlotPlan(try DeviceModelArguments(["-xen-domid", "1", "-machine", "pc", "-nodefaults"] + cards))
        #expect(plan.slots.count == 32 && plan.uncertain.count == 1)
    }

    @Test("The table of device types agrees with the installed QEMU")
    func table() throws {
        var seen = 0
        for line in try QEMU.output(["-device", "help"]).split(separator: "\n") where line.hasPrefix("name \"") {
            let name = String(line.dropFirst(6).prefix { $0 != "\"" })
            let isPCI = line.contains("bus PCI")
            let kind = PCIDeviceTypes.kind(of: name)
            #expect(isPCI ? kind == .pci : kind != .pci, "\(name) is \(kind)")
            if let alias = line.split(separator: "alias \"").dropFirst().first?.prefix(while: { $0 != "\"" }) {
                #expect((PCIDeviceTypes.kind(of: String(alias)) == .pci) == isPCI, "alias \(alias)")
            }
            seen += 1
        }
        #expect(seen > 100)
    }

    @Test("A reply that is no list of buses is refused")
    func malformed() {
        #expect(PCIFunctionReport.list(from: "no") == nil)
        #expect(PCIFunctionReport.list(from: [["bus": 0]]) == nil)
        #expect(PCIFunctionReport.list(from: [["devices": [["bus": 0, "slot": 32, "function": 0]]]]) == nil)
        #expect(PCIFunctionReport.list(from: [["devices": [["bus": 0, "slot": -1, "function": 0]]]]) == nil)
        #expect(PCIFunctionReport.list(from: []) == [])
    }
}

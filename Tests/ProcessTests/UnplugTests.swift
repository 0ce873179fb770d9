import CLinux
import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Platform
import Specification
import Testing
import Unplug

@testable import Coordinator

extension Built {
    /// Something to unplug (Tests/TestEmulator/Plug.swift).
    static func plug(_ name: String, _ classes: String..., ports: Int = 0x640, manner: String = "obey", restart: RestartPolicy? = nil) -> EmulatorSpecification {
        EmulatorSpecification(
            name: name, program: program("demux-test-emulator"), arguments: ["plug"] + classes,
            options: ["ports": "\(ports)", "unplug": manner], readyWithinMilliseconds: 60_000, restart: restart)
    }
}

extension Guest {
    /// What the coordinator says of unplugging.
    var unplug: UnplugStatus { get throws { try #require(try status.unplug) } }

    /// Writes a mask on a thread of its own, as a vCPU does that may have to wait.
    func unplug(_ mask: UInt64, vcpu index: Int = 0) throws -> Promise<String?> {
        let vcpu = try vcpu(index)
        return onThread {
            do {
                try vcpu.write(port: 0x10, size: 2, value: mask)
                return nil
            } catch { return "\(error)" }
        }
    }

    /// Where the function of an emulator is.
    func function(of name: String) throws -> PCIAddress {
        let claim = try #require(try emulator(name).claims.first { $0.range.hasPrefix("PCI") || $0.range.hasPrefix("pci") })
        return try #require(claim.range.split(separator: " ").last.flatMap { PCIAddress(parsing: $0) })
    }
}

@Suite("PV unplug across emulators")
struct UnplugTests {
    private static let quick = UnplugSpecification(deadlineMilliseconds: 300)

    @Test("The order of Linux: everybody concerned removes their devices before the write completes, others keep theirs", arguments: [false, true])
    func linux(throughRelay: Bool) throws {
        let emulators = [
            Built.plug("disk", "ide-disk"), Built.plug("net", "nic", ports: 0x650), Built.plug("fast", "nvme", ports: 0x660), Built.cScratch(), Built.scratch(),
        ]
        try withGuest(emulators, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            let disk = try guest.function(of: "disk")
            #expect(try guest.status.unplug == nil)
            #expect(try vcpu.configRead(disk, register: 0, size: 4) == 0x1110_1af4)
            try vcpu.configWrite(disk, register: 0x10, size: 4, value: 0xc000)
            try vcpu.configWrite(disk, register: 4, size: 2, value: 1)
            #expect(try vcpu.read(port: 0xc000, size: 1) == 0x42)
            #expect(try vcpu.read(port: 0x548, size: 1) != 0xff, "the C device is there")

            #expect(try vcpu.read(port: 0x10, size: 2) == 0x49d2)
            #expect(try vcpu.read(port: 0x12, size: 1) == 1)
            try vcpu.write(port: 0x12, size: 2, value: 3)
            try vcpu.write(port: 0x10, size: 4, value: 1)
            #expect(try vcpu.read(port: 0x10, size: 2) == 0x49d2)
            try vcpu.write(port: 0x10, size: 2, value: 3)

            #expect(try vcpu.configRead(disk, register: 0, size: 4) == 0xffff_ffff)
            #expect(try vcpu.read(port: 0xc000, size: 1) == 0xff)
            #expect(try vcpu.read(port: 0x640, size: 1) == 0xff && vcpu.read(port: 0x650, size: 1) == 0xff)
            #expect(try vcpu.read(port: 0x548, size: 1) == 0xff)
            #expect(try vcpu.read(port: 0x660, size: 1) == 0x50, "no NVMe was named")
            #expect(try vcpu.read(port: 0x510, size: 4) == Place.scratch)
            let unplug = try guest.unplug
            #expect(unplug.classes == ["ide-disk", "scsi-disk", "nic", "aux-disk"] && unplug.product == "linux" && unplug.build == 1)
            #expect(unplug.entries.map(\.who) == ["emulator 'c'", "emulator 'disk'", "emulator 'net'"])
            #expect(unplug.entries.map(\.devices) == [["c-scratch"], ["disk"], ["net"]] && unplug.failures == 0)
            #expect(try guest.emulator("disk").claims.isEmpty && guest.emulator("c").claims.isEmpty)

            // Again, as Windows does on each resume; then the rest.
            for mask in [UInt64(1), 2, 2, 8] { try vcpu.write(port: 0x10, size: 2, value: mask) }
            #expect(try vcpu.read(port: 0x660, size: 1) == 0xff)
            #expect(try guest.unplug.failures == 0 && guest.unplug.classes.contains("nvme"))
        }
    }

    @Test("Two emulators are asked at the same time, and the write waits for both; other slots and INVALIDATE are served meanwhile")
    func deferred() throws {
        let emulators = [Built.plug("a", "ide-disk", manner: "wait"), Built.plug("b", "nic", ports: 0x650, manner: "wait")]
        try withGuest(emulators, vcpus: 2) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let other = try guest.vcpu(1)
            let write = try guest.unplug(3)
            try eventually("a is asked") { try other.read(port: 0x641, size: 1) == 1 }
            try eventually("b is asked, before a has answered") { try other.read(port: 0x651, size: 1) == 1 }
            try other.invalidate()
            try other.timeOffset(5)
            #expect(try other.read(port: 0x10, size: 2) == 0x49d2)
            for byte in "while it waits\n".utf8 { try other.write(port: 0x12, size: 1, value: UInt64(byte)) }
            #expect(try guest.unplug.waitingFor == ["emulator 'a'", "emulator 'b'"])
            try other.write(port: 0x643, size: 1, value: 0)
            try eventually("a has answered") { try guest.unplug.waitingFor == ["emulator 'b'"] }
            #expect(write.isFulfilled == false)
            try other.write(port: 0x653, size: 1, value: 0)
            #expect(try write.get("the write") == nil)
            #expect(try other.read(port: 0x640, size: 1) == 0xff && other.read(port: 0x650, size: 1) == 0xff)
            #expect(try guest.log.contains { $0.hasSuffix("guest's PV driver: while it waits") })
        }
    }

    @Test("A refusal, a death or silence: under 'complete' the write completes, and it is shown", arguments: ["refuse", "die", "silent"])
    func complete(manner: String) throws {
        let emulators = [Built.plug("a", "ide-disk", manner: manner, restart: .never), Built.plug("b", "ide-disk", ports: 0x650)]
        try withGuest(emulators, unplug: Self.quick) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.unplug(1).get("the write") == nil)
            #expect(try guest.vcpu().read(port: 0x650, size: 1) == 0xff, "who obeys is gone")
            let unplug = try guest.unplug
            #expect(unplug.failures == 1 && unplug.isHeld == false && unplug.entries.last?.devices == ["b"])
            let trouble = try #require(unplug.entries.first?.trouble)
            switch manner {
            case "refuse": #expect(trouble == "its cache cannot be written out")
            case "die": #expect(trouble.contains("killed by signal 9"))
            default: #expect(trouble == "no answer within 300 ms")
            }
        }
    }

    @Test("One that dies during the unplug is no failure when its successor serves in time: it starts without the devices, and the write completes then")
    func successor() throws {
        try withGuest([Built.plug("a", "nic", manner: "die")], unplug: UnplugSpecification(deadlineMilliseconds: 60_000, onFailure: .crashGuest)) {
            (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.unplug(2).get("the write") == nil)
            #expect(try guest.vcpu().read(port: 0x640, size: 1) == 0xff && guest.emulator("a").claims.isEmpty)
            let unplug = try guest.unplug
            #expect(unplug.failures == 0 && unplug.entries.map(\.devices) == [["a"]] && unplug.entries.allSatisfy { $0.trouble == nil })
            try eventually("it serves") { try guest.emulator("a").restarts == 1 && guest.emulator("a").state == "serving" }
        }
    }

    @Test("An emulator that the specification unplugs as something else goes with that, whatever it is itself, and without it stays")
    func unplugAs() throws {
        var disk = Built.plug("disk", "nvme")
        disk.unplugAs = [.ideDisk]
        var never = Built.plug("never", "nic", ports: 0x650)
        never.unplugAs = []
        try withGuest([disk, never]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            try vcpu.write(port: 0x10, size: 2, value: 8)
            #expect(try vcpu.read(port: 0x640, size: 1) == 0x50)
            try vcpu.write(port: 0x10, size: 2, value: 3)
            #expect(try vcpu.read(port: 0x640, size: 1) == 0xff && vcpu.read(port: 0x650, size: 1) == 0x50)
            #expect(try guest.unplug.entries.map(\.who) == ["emulator 'disk'"])
            var nothing = Built.scratch("nothing", ["ports": "0x690", "pci": "no", "mmio": "0xfed90000"])
            nothing.unplugAs = [.nic]
            guard case .failed(let reason) = try guest.attach(nothing) else { return #expect(Bool(false), "it has nothing to unplug") }
            #expect(reason.contains("take 'unplug-as' out of the specification"), "\(reason)")
        }
    }

    @Test("A guest is not saved while something is being unplugged, and not at all while its write is held")
    func savingWaits() throws {
        let hold = UnplugSpecification(deadlineMilliseconds: 60_000, onFailure: .hold)
        try withGuest([Built.plug("a", "nic", manner: "wait"), Built.plug("b", "ide-disk", ports: 0x650, manner: "refuse-once")], vcpus: 2, unplug: hold) {
            (guest: Guest) throws in
            #expect(try guest.start() == [])
            let write = try guest.unplug(2)
            try eventually("a is asked") { try guest.vcpu(1).read(port: 0x641, size: 1) == 1 }
            let saved = Promise<[String]?>()
            try guest.onLoop { $0.pauseEmulators { saved.fulfil($0) } }
            try guest.vcpu(1).write(port: 0x643, size: 1, value: 0)
            #expect(try write.get("the write") == nil)
            #expect(try saved.get("the pause") == nil)
            try guest.onLoop { $0.resumeEmulators { _ in } }

            let held = try guest.unplug(1)
            try eventually("it is held") { try guest.unplug.isHeld }
            let refused = Promise<[String]?>()
            try guest.onLoop { $0.pauseEmulators { refused.fulfil($0) } }
            #expect(try #require(try refused.get("the pause")).first?.contains("the guest's unplug write is held") == true)
            guard case .done = try guest.ask(.unplug(classes: ["ide-disk"], dryRun: false)) else { return #expect(Bool(false), "it was refused") }
            #expect(try held.get("the write") == nil)
        }
    }

    @Test("Under 'crash-guest' the guest crashes instead", arguments: ["refuse", "die", "silent"])
    func crash(manner: String) throws {
        var unplug = Self.quick
        unplug.onFailure = .crashGuest
        try withGuest([Built.plug("a", "nic", manner: manner, restart: .never)], unplug: unplug) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let outcome = try #require(try guest.unplug(2).get("the write"))
            #expect(outcome.contains("not everything could be unplugged: emulator 'a'"), "\(outcome)")
            #expect(guest.host.crashReason != nil)
        }
    }

    @Test("Under 'hold' the write waits until a person asks again, a successor starts without the devices, or who is silent is taken away", arguments: ["refuse-once", "die", "silent"])
    func hold(manner: String) throws {
        var unplug = Self.quick
        unplug.onFailure = .hold
        var emulator = Built.plug("a", "nic", manner: manner)
        if manner == "die" { emulator.restart = .never }
        try withGuest([emulator], vcpus: 2, unplug: unplug) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let write = try guest.unplug(2)
            try eventually("it is held") { try guest.status.unplug?.isHeld == true }
            #expect(write.isFulfilled == false)
            try guest.vcpu(1).invalidate()
            #expect(try guest.unplug.waitingFor == ["emulator 'a'"])
            if manner == "die" {
                #expect(try guest.attach(emulator) == .done("emulator 'a' serves"))
            } else if manner == "silent" {
                guard case .done = try guest.ask(.detach(name: "a")) else { return #expect(Bool(false), "it was not detached") }
            } else {
                guard case .done = try guest.ask(.unplug(classes: ["nic"], dryRun: false)) else { return #expect(Bool(false), "it was refused") }
            }
            #expect(try write.get("the write") == nil)
            #expect(try guest.vcpu().read(port: 0x640, size: 1) == 0xff && guest.unplug.isHeld == false)
        }
    }

    @Test("What is unplugged stays so for an emulator that is killed afterwards, and for one that is attached later")
    func staysUnplugged() throws {
        try withGuest([Built.plug("a", "nic")]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            try vcpu.write(port: 0x10, size: 2, value: 2)
            try guest.crash("a")
            try eventually("its successor serves") { try guest.emulator("a").restarts == 1 && guest.emulator("a").state == "serving" }
            #expect(try vcpu.read(port: 0x640, size: 1) == 0xff && guest.emulator("a").claims.isEmpty)
            #expect(try guest.attach(Built.plug("late", "nic", ports: 0x650)) == .done("emulator 'late' serves"))
            #expect(try vcpu.read(port: 0x650, size: 1) == 0xff)
            #expect(try guest.attach(Built.plug("disk", "ide-disk", ports: 0x660)) == .done("emulator 'disk' serves"))
            #expect(try vcpu.read(port: 0x660, size: 1) == 0x50)
            guard case .failed(let reason) = try guest.attach(Built.plug("stubborn", "nic", ports: 0x670, manner: "refuse")) else {
                return #expect(Bool(false), "it would bring back a NIC")
            }
            #expect(reason.contains("which the guest has unplugged"), "\(reason)")
        }
    }

    @Test("The NVMe disk goes by its own bit only, lets go of its image, and its successor does not bring it back")
    func nvme() throws {
        let image = "/tmp/demux-unplug-\(getpid()).img"
        let file = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        try #require(file >= 0 && ftruncate(file, 1 << 20) == 0)
        defer {
            close(file)
            unlink(image)
        }
        func isLocked() -> Bool {
            let other = open(image, O_RDWR | O_CLOEXEC)
            defer { close(other) }
            return demux_lock_file(other, 1) != 0
        }
        let disk = EmulatorSpecification(
            name: "disk", program: Built.program("demux-nvme"), options: ["image": image, "serial": "S1"], readyWithinMilliseconds: 60_000)
        try withGuest([disk]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let vcpu = try guest.vcpu()
            let function = try guest.function(of: "disk")
            #expect(isLocked())
            try vcpu.configWrite(function, register: 0x10, size: 4, value: 0xf000_0000)
            try vcpu.configWrite(function, register: 4, size: 2, value: 6)
            #expect(try vcpu.readMemory(GuestAddress(0xf000_0008), size: 4) == 0x1_0300)
            // A register is written: what is under way is waited for from now on.
            try vcpu.writeMemory(GuestAddress(0xf000_0014), size: 4, value: 0)
            try vcpu.write(port: 0x10, size: 2, value: 3)
            #expect(try vcpu.configRead(function, register: 0, size: 4) == 0x4e56_1234, "Linux's mask does not name it")
            try vcpu.write(port: 0x10, size: 2, value: 8)
            #expect(try vcpu.configRead(function, register: 0, size: 4) == 0xffff_ffff && vcpu.readMemory(GuestAddress(0xf000_0008), size: 4) == 0xffff_ffff)
            #expect(try guest.unplug.entries.map(\.devices) == [["NVMe disk S1"]] && guest.emulator("disk").claims.isEmpty)
            #expect(!isLocked())
            try guest.crash("disk")
            try eventually("its successor serves") { try guest.emulator("disk").restarts == 1 && guest.emulator("disk").state == "serving" }
            #expect(try vcpu.configRead(function, register: 0, size: 4) == 0xffff_ffff && guest.emulator("disk").claims.isEmpty)
            #expect(!isLocked())
            try vcpu.write(port: 0x10, size: 2, value: 8)
            #expect(try guest.unplug.failures == 0)
        }
    }

    @Test("What a guest has unplugged is saved with it, and the emulators of the restored one start without")
    func savedAndRestored() throws {
        let promise = Promise<SavedUnplug?>()
        try withGuest([Built.plug("a", "nic")]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.onLoop { $0.savedUnplug } == nil)
            let vcpu = try guest.vcpu()
            try vcpu.write(port: 0x12, size: 2, value: 3)
            try vcpu.write(port: 0x10, size: 2, value: 2)
            promise.fulfil(try guest.onLoop { $0.savedUnplug })
        }
        let saved = try #require(try promise.get("the state"))
        #expect(saved == SavedUnplug(classes: [.nic], product: 3, build: nil, isBlacklisted: false, isROMLocked: false))
        try withGuest([Built.plug("a", "nic"), Built.plug("b", "nvme", ports: 0x650)], before: { $0.preset(saved) }) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.vcpu().read(port: 0x640, size: 1) == 0xff && guest.vcpu().read(port: 0x650, size: 1) == 0x50)
            #expect(try guest.unplug.classes == ["nic"] && guest.unplug.product == "linux")
        }
    }

    @Test("A blacklisted build reads the other magic, by the specification's list and by the host's")
    func blacklist() throws {
        let unplug = UnplugSpecification(blacklist: [.init(product: 3, build: 7), .init(product: 2, build: nil)])
        try withGuest([], unplug: unplug) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try guest.onLoop { $0.isBlacklistedByHost = { $0 == 1 && $1 == 99 } }
            let vcpu = try guest.vcpu()
            for (product, build, magic) in [(3, 7, 0xd249), (3, 8, 0x49d2), (2, 8, 0xd249), (1, 99, 0xd249), (1, 98, 0x49d2)] as [(UInt64, UInt64, UInt64)] {
                try vcpu.write(port: 0x12, size: 2, value: product)
                try vcpu.write(port: 0x10, size: 4, value: build)
                #expect(try vcpu.read(port: 0x10, size: 2) == magic, "product \(product) build \(build)")
                #expect(try guest.unplug.isBlacklisted == (magic == 0xd249))
            }
        }
    }

    @Test("By hand: a dry run names what would go, the real one removes it, and nonsense is refused")
    func byHand() throws {
        try withGuest([Built.plug("a", "nic"), Built.plug("b", "nvme", ports: 0x650)]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.ask(.unplug(classes: ["nic"], dryRun: true)) == .done("would go:\n  emulator 'a': its devices of nic"))
            #expect(try guest.vcpu().read(port: 0x640, size: 1) == 0x50 && guest.status.unplug == nil)
            #expect(try guest.ask(.unplug(classes: ["nic"], dryRun: false)) == .done("nic unplugged; 'demux status' shows what has gone"))
            #expect(try guest.vcpu().read(port: 0x640, size: 1) == 0xff && guest.vcpu().read(port: 0x650, size: 1) == 0x50)
            for words in [["cdrom"], [], ["nic", ""]] {
                guard case .failed = try guest.ask(.unplug(classes: words, dryRun: false)) else { return #expect(Bool(false), "\(words)") }
            }
        }
    }

    @Test("10,000 accesses of garbage, every port and size, with data in memory too: nobody dies, and the log stays bounded")
    func garbage() throws {
        try withGuest([Built.plug("a", "nvme", "ide-disk"), Built.plug("b", "nic", ports: 0x650)], vcpus: 2) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let runs = try (0..<2).map { index in
                let vcpu = try guest.vcpu(index)
                return onThread { () -> String? in
                    var state = UInt64(0x9e37_79b9 + index)
                    func next() -> UInt64 {
                        state ^= state << 13
                        state ^= state >> 7
                        state ^= state << 17
                        return state
                    }
                    do {
                        for _ in 0..<5000 {
                            let bits = next()
                            let isRead = bits & 1 == 0
                            let pointer = bits & 0xe == 0xe
                            try vcpu.perform(
                                IORequest(
                                    kind: .portIO, direction: isRead ? .read : .write, address: 0x10 + bits >> 8 % 16, data: pointer ? 0x1000 : next(),
                                    size: [1, 2, 4][Int(bits >> 16 % 3)], count: pointer ? UInt32(bits >> 24 % 64) + 1 : 1, dataIsPointer: pointer,
                                    backwards: pointer && bits & 0x10 != 0))
                        }
                        return nil
                    } catch { return "\(error)" }
                }
            }
            for run in runs { #expect(try run.get("a vCPU") == nil) }
            #expect(try guest.log.count <= 2000)
            let unplug = try guest.unplug
            #expect(unplug.failures == 0 && unplug.waitingFor.isEmpty && unplug.entries.count <= 2)
            #expect(try guest.vcpu().read(port: 0x12, size: 1) == 1)
        }
    }
}

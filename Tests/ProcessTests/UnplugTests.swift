import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Platform
import Specification
import Testing

@testable import Coordinator

extension Built {
    /// Something to unplug (Tests/TestEmulator/Plug.swift).
    static func plug(_ name: String, _ classes: String..., ports: Int = 0x640, manner: String = "obey") -> EmulatorSpecification {
        EmulatorSpecification(
            name: name, program: program("demux-test-emulator"), arguments: ["plug"] + classes,
            options: ["ports": "\(ports)", "unplug": manner], readyWithinMilliseconds: 60_000)
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
        try withGuest([Built.plug("a", "ide-disk", manner: manner), Built.plug("b", "ide-disk", ports: 0x650)], unplug: Self.quick) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.unplug(1).get("the write") == nil)
            #expect(try guest.vcpu().read(port: 0x650, size: 1) == 0xff, "who obeys is gone")
            let unplug = try guest.unplug
            #expect(unplug.failures == 1 && unplug.isHeld == false && unplug.entries.last?.devices == ["b"])
            if manner == "die" {
                try eventually("its successor serves") { try guest.emulator("a").restarts == 1 && guest.emulator("a").state == "serving" }
                #expect(try guest.vcpu().read(port: 0x640, size: 1) == 0xff, "and does not bring back what was unplugged")
                #expect(try guest.emulator("a").claims.isEmpty)
                #expect(try guest.unplug.entries.allSatisfy { $0.trouble == nil })
            } else {
                let trouble = try #require(unplug.entries.first?.trouble)
                #expect(trouble == (manner == "refuse" ? "its cache cannot be written out" : "no answer within 300 ms"))
            }
        }
    }

    @Test("Under 'crash-guest' the guest crashes instead", arguments: ["refuse", "die", "silent"])
    func crash(manner: String) throws {
        var unplug = Self.quick
        unplug.onFailure = .crashGuest
        try withGuest([Built.plug("a", "nic", manner: manner)], unplug: unplug) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let outcome = try #require(try guest.unplug(2).get("the write"))
            #expect(outcome.contains("not everything could be unplugged: emulator 'a'"), "\(outcome)")
            #expect(guest.host.crashReason != nil)
        }
    }

    @Test("Under 'hold' the write waits until a person asks again, or a successor starts without the devices", arguments: ["refuse-once", "die"])
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

import ControlProtocol
import Host
import LocalHost
import Testing

@Suite("Emulators that come and go in a running guest")
struct DetachTests {
    @Test("an emulator is taken away and put back while vCPUs hammer it: none hangs, and only all-ones are read between", arguments: [false, true])
    func underLoad(throughRelay: Bool) throws {
        let place = Place.fixed[1]
        try withGuest([Built.scratch(), Built.debug()], vcpus: 3, plain: throughRelay) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let stop = Flag()
            let runs = try guest.hammer(vcpus: 0..<3, place, until: stop)
            for _ in 0..<5 * thorough {
                let right = stop.rightOnes
                try eventually("it serves") { stop.rightOnes > right + 50 }
                #expect(try guest.ask(.detach(name: "scratch")) == .done("emulator 'scratch' was detached"))
                let ones = stop.allOnes
                try eventually("it is gone") { stop.allOnes > ones + 50 }
                var scratch = Built.scratch()
                if throughRelay { scratch.mode = .isolated }
                #expect(try guest.attach(scratch) == .done("emulator 'scratch' serves"))
            }
            let right = stop.rightOnes
            try eventually("it serves again") { stop.rightOnes > right + 50 }
            stop.raise()
            for run in runs { #expect(try run.get("a vCPU") == nil) }
            try RegisterFile.check(try guest.vcpu(), place)
        }
    }

    @Test("a name that is taken cannot be attached a second time")
    func twice() throws {
        try withGuest([Built.scratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            guard case .failed(let reason) = try guest.attach(Built.scratch()) else {
                Issue.record("it was attached")
                return
            }
            #expect(reason.contains("has an emulator 'scratch' already"))
            #expect(try guest.vcpu().read(port: 0x510, size: 4) == Place.scratch)
        }
    }

    @Test("an attach that fails leaves nothing behind, and the next one succeeds")
    func failedAttach() throws {
        try withGuest([Built.scratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            guard case .failed(let reason) = try guest.attach(Built.scratch("second")) else {
                Issue.record("it was attached")
                return
            }
            #expect(reason.contains("emulator 'scratch' has ports 0x500-0x51f"))
            #expect(try guest.status.emulators.map(\.name) == ["scratch"])
            let elsewhere = Built.scratch("second", ["ports": "0x800", "mmio": "0xfeda0000"])
            #expect(try guest.attach(elsewhere) == .done("emulator 'second' serves"))
            #expect(try guest.vcpu().read(port: 0x810, size: 4) == Place.scratch)
        }
    }

    @Test("an emulator that is taken away while it starts: both who attached and who detached are told")
    func whileStarting() throws {
        try withGuest([]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let attaching = try ControlConnection(guest.folder.path + "/7/control.sock")
            try attaching.socket.send(ControlCodec.encode(ControlRequest.attach(Built.test("never-ready"))))
            try eventually("it starts") { try guest.status.emulators.contains { $0.state == "starting" } }
            #expect(try guest.ask(.detach(name: "test")) == .done("emulator 'test' was detached"))
            guard case .failed(let reason) = try attaching.receive() else {
                Issue.record("it was attached")
                return
            }
            #expect(reason.contains("was detached before it served"))
            #expect(try guest.status.emulators.isEmpty)
        }
    }

    @Test("two who take the same emulator away at once are both answered")
    func detachedTwice() throws {
        try withGuest([Built.test("hold")]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            let path = guest.folder.path + "/7/control.sock"
            let both = try [ControlConnection(path), ControlConnection(path)]
            for one in both { try one.socket.send(ControlCodec.encode(ControlRequest.detach(name: "test"))) }
            for one in both {
                switch try one.receive() {
                case .done: break
                case .failed(let reason): #expect(reason.contains("has no emulator 'test'"))
                default: Issue.record("neither done nor failed")
                }
            }
            #expect(try guest.status.emulators.isEmpty)
        }
    }

    @Test("a server that was given back can be had again, as often as one likes")
    func serversAreGivenBack() throws {
        try withGuest([]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            for _ in 0..<10 * thorough {
                #expect(try guest.attach(Built.cScratch()) == .done("emulator 'c' serves"))
                #expect(try guest.vcpu().read(port: 0x550, size: 4) == Place.c)
                #expect(try guest.ask(.detach(name: "c")) == .done("emulator 'c' was detached"))
                #expect(try guest.vcpu().read(port: 0x550, size: 4) == 0xffff_ffff)
            }
        }
    }

    @Test("an emulator that does not exist cannot be taken away, and those that do are named")
    func unknown() throws {
        try withGuest([Built.scratch()]) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            #expect(try guest.ask(.detach(name: "nobody")) == .failed("this guest has no emulator 'nobody'; it has: scratch"))
        }
    }

    @Test("ending while an emulator is still starting leaves no process")
    func endWhileStarting() throws {
        try withGuest([Built.test("silent"), Built.scratch()]) { (guest: Guest) throws in
            try guest.onLoop { $0.startEmulators { _ in } }
            try eventually("one of them serves") { try guest.status.emulators.contains { $0.state == "serving" } }
        }
    }
}

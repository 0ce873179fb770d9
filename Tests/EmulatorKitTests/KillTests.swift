import EmulatorProtocol
import Glibc
import Host
import Platform
import SeededNumbers
import Testing

@testable import EmulatorKit

/// The real thing: the Scratch program, ended by SIGKILL while the guest writes and reads.
@Suite("A real process that is killed")
struct KillTests {
    /// One guest that goes on across its emulator's deaths.
    private final class Guest {
        let pages: FakeCoordinator.Pages
        let state: FakeCoordinator.SharedBox
        private var coordinator: FakeCoordinator?
        private(set) var child: ChildProcess?
        private var isFresh = true
        /// Requests from now until it is killed, and looks at the clock between the last of them and its end.
        var fuse: (requests: Int, looks: Int)?

        init() throws {
            pages = try FakeCoordinator.Pages(ring: true, memory: true)
            state = try FakeCoordinator.SharedBox(length: try KitState.wanted(deviceLength: 4096))
        }

        func start() throws {
            let coordinator = try FakeCoordinator(vcpus: 2, options: ["pci": "no"], on: pages)
            coordinator.state = (state, isFresh)
            let child = try StartTests.start("demux-scratch", coordinator)
            isFresh = false
            (self.coordinator, self.child) = (coordinator, child)
        }

        /// The answer; nil: the emulator has died over it, which the caller has seen to.
        func ask(_ vcpu: Int, _ request: IORequest, whenDead: () throws -> Void) throws -> UInt64? {
            guard let coordinator, coordinator.slots.submit(vcpu, request) else { return nil }
            coordinator.ringKick()
            burn()
            let end = EventLoop.now() + 30_000_000_000
            var looks = 0
            while EventLoop.now() < end {
                if let data = coordinator.slots.collect(vcpu) { return data }
                looks += 1
                if looks % 64 == 0, child?.poll() != nil { try whenDead() }
            }
            return nil
        }

        private func burn() {
            guard let left = fuse else { return }
            guard left.requests == 0 else { return fuse = (left.requests - 1, left.looks) }
            fuse = nil
            // A part of a microsecond each: it has the request, has not got to it, or has answered.
            for _ in 0..<left.looks { _ = EventLoop.now() }
            child?.signal(SIGKILL)
        }
    }

    @Test("nothing that the guest wrote is lost or done twice")
    func killed() throws {
        let kills = getenv("DEMUX_TEST_FULL") != nil ? 1000 : 40
        var random = SplitMix(state: 0x5eed_0061)
        let guest = try Guest()
        var (done, reads, sum): (Int, UInt64, UInt64) = (0, 0, 0)
        func begin() throws {
            try guest.start()
            if done < kills { guest.fuse = (Int(random.next() % 32), Int(random.next() % 1000)) }
        }
        func again() throws {
            done += 1
            try begin()
        }
        try begin()
        while done < kills || reads < 1000 {
            sum &+= reads & 0xff
            _ = try #require(try guest.ask(0, IORequest(kind: .portIO, direction: .write, address: 0x514, data: reads & 0xff, size: 4), whenDead: again))
            let counter = try #require(try guest.ask(1, IORequest(kind: .portIO, direction: .read, address: 0x518, size: 4), whenDead: again))
            #expect(counter == reads)
            reads += 1
            if reads % 64 == 0 {
                let read = try #require(try guest.ask(0, IORequest(kind: .portIO, direction: .read, address: 0x514, size: 4), whenDead: again))
                #expect(read == sum & 0xffff_ffff)
            }
        }
        guest.child?.signal(SIGKILL)
        _ = guest.child?.wait(limit: .seconds(30))
        #expect(done >= kills)
    }
}

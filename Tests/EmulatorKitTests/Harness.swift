import EmulatorProtocol
import Host
import Platform
import TestTools
import Testing

@testable import EmulatorKit

/// One emulator and its coordinator, turned by hand: a test says what the guest does and sees what came of it, without a thread.
final class Harness<E: Emulator & ~Copyable> {
    let coordinator: FakeCoordinator
    private var loop: ServingLoop<EventFDChannel, E>
    let core: UnsafeMutablePointer<Core>

    /// - Parameters:
    ///   - beforeStart: what happens between `ready` and the start.
    ///   - prepare: what the test does to the device before it serves.
    init(
        _ type: E.Type, _ coordinator: FakeCoordinator, guest: (any DirectGuest)? = nil, beforeStart: (FakeCoordinator) -> Void = { _ in },
        prepare: (inout E) -> Void = { _ in }
    ) throws {
        self.coordinator = coordinator
        let thread = try TestThread { coordinator.serveSetup() }
        let launch = try Launch(socket: OwnedDescriptor(adopting: coordinator.theirs), name: E.name, direct: coordinator.mode == .direct, capabilities: E.capabilities, unplugClasses: E.unplugClasses,
            state: StateWish(length: E.stateLength, version: E.stateVersion, accepts: E.stateAccepts))
        if let guest { launch.setGuest(guest) }
        let channel = try launch.isolatedChannel()
        let core = try launch.makeCore(slots: channel.slots, ring: channel.ring, vcpus: channel.vcpuCount)
        var setup = Setup(core: core)
        var emulator: E
        do { emulator = try E(&setup) } catch {
            // The coordinator's thread waits for more; the closed socket ends it.
            Launch.free(core)
            throw error
        }
        try setup.finish()
        thread.join()
        beforeStart(coordinator)
        prepare(&emulator)
        self.core = core
        loop = ServingLoop(channel: channel, emulator: emulator, core: core)
        let start = try loop.awaitStart()
        try loop.start()
        launch.answer(start ?? 0)
        coordinator.read()
    }

    var isStopped: Bool { core.pointee.isStopped }
    var control: ControlConnection { core.pointee.control }

    deinit { Launch.free(core) }

    var emulator: E {
        _read { yield loop.emulator }
        _modify { yield &loop.emulator }
    }

    /// Turns the loop a few times without sleeping, the coordinator reading in between.
    func turn(_ times: Int = 3) {
        for _ in 0..<times {
            loop.turn(block: false)
            coordinator.read()
        }
    }

    /// Turns the loop once, and nothing else.
    func turnOnce() { loop.turn(block: false) }

    func submit(_ vcpu: Int, _ request: IORequest) {
        #expect(coordinator.slots.submit(vcpu, request))
        coordinator.ringKick()
    }

    /// What the guest gets; nil when it still waits.
    func ask(_ request: IORequest, vcpu: Int = 0) -> UInt64? {
        submit(vcpu, request)
        turn()
        return coordinator.slots.collect(vcpu)
    }

    func read(port: UInt64, size: UInt32 = 1, vcpu: Int = 0) -> UInt64? {
        ask(IORequest(kind: .portIO, direction: .read, address: port, size: size), vcpu: vcpu)
    }

    @discardableResult
    func write(port: UInt64, _ data: UInt64, size: UInt32 = 1, vcpu: Int = 0) -> UInt64? {
        ask(IORequest(kind: .portIO, direction: .write, address: port, data: data, size: size), vcpu: vcpu)
    }

    func read(memory: UInt64, size: UInt32 = 4) -> UInt64? { ask(IORequest(kind: .copy, direction: .read, address: memory, size: size)) }

    @discardableResult
    func write(memory: UInt64, _ data: UInt64, size: UInt32 = 4) -> UInt64? {
        ask(IORequest(kind: .copy, direction: .write, address: memory, data: data, size: size))
    }

    func read(config register: UInt64, size: UInt32 = 4, device: UInt8 = 5) -> UInt64? {
        ask(IORequest(kind: .pciConfig, direction: .read, address: UInt64(device) << 35 | register, size: size))
    }

    @discardableResult
    func write(config register: UInt64, _ data: UInt64, size: UInt32 = 4, device: UInt8 = 5, vcpu: Int = 0) -> UInt64? {
        ask(IORequest(kind: .pciConfig, direction: .write, address: UInt64(device) << 35 | register, data: data, size: size), vcpu: vcpu)
    }
}

import CLinux
import Glibc
import Host
import Platform

/// Serves its slots as nobody should.
enum Hostile {
    /// - Parameter rest: "pointers" to be given the host's own pages on LocalHost, otherwise a relay's.
    static func run(_ mode: String, _ rest: [String]) -> Never {
        let wire = Wire()
        var channel = wire.start(capabilities: rest.contains("pointers") ? ["data-pointer"] : [])
        let control = Control(wire)
        var seed: UInt64 = 0x5eed
        var isSpoilt = false
        while true {
            var waits = [
                pollfd(fd: channel.waitDescriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: 3, events: Int16(POLLIN), revents: 0),
            ]
            poll(&waits, 2, mode == "hostile" || mode == "doorbells" ? 1 : -1)
            if waits[1].revents != 0 { control.look() }
            if mode != "doorbells" { _ = channel.acknowledge() }
            switch mode {
            case "hold": for slot in 0..<channel.vcpuCount { _ = channel.slots.take(slot) }
            case "steal":
                for slot in 0..<channel.vcpuCount where channel.slots.state(slot) == .ready { channel.slots.clear(slot) }
                channel.notify(0)
            case "doorbells":
                for slot in 0..<channel.vcpuCount where channel.slots.take(slot) != nil { channel.slots.complete(slot, data: 0x5a) }
                channel.notify(0)
                // Full once and for all, and empty whenever it can be.
                if !isSpoilt { spoil(wire.doorbells.kick, fill: true) }
                spoil(wire.doorbells.done, fill: false)
                isSpoilt = true
            default:
                // Anything anywhere, and the doorbell all the time.
                for _ in 0..<64 {
                    seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    let slot = Int(seed >> 33) & 127
                    switch seed >> 60 & 3 {
                    case 0: channel.slots.force(slot, rawState: UInt8(truncatingIfNeeded: seed >> 40))
                    case 1: _ = channel.slots.complete(slot, data: seed)
                    case 2: _ = channel.slots.take(slot)
                    default: _ = channel.slots.submit(slot, IORequest(kind: .copy, direction: .read, address: seed, data: ~seed, size: 8, count: .max))
                    }
                    channel.notify(0)
                }
            }
        }
    }

    /// Whoever reads or writes it now without care waits: it is full, or empty, and both sides' O_NONBLOCK is off.
    private static func spoil(_ doorbell: CInt, fill: Bool) {
        // On for as long as it could hold up this process itself.
        _ = demux_set_nonblocking(doorbell, 1)
        _ = EventFD.clear(doorbell)
        var most = UInt64.max - 1
        if fill { _ = write(doorbell, &most, 8) }
        _ = demux_set_nonblocking(doorbell, 0)
    }

    private struct Control {
        let wire: Wire
        init(_ wire: Wire) { self.wire = wire }
        func look() {
            let packet = wire.hear()
            guard case .quit = packet.body else { return }
            wire.say(.ok(.init()), re: packet.id)
            exit(0)
        }
    }
}

import EmulatorProtocol
import Glibc
import Host
import Platform
import Surface

/// A display by hand: what the guest writes to its registers becomes pixels, and what the coordinator tells it can be read back.
///
/// Registers, 4 bytes each from port 0x740 on: 0 the first pixel; 4 the mode (width << 16 | height), for which it asks a surface; 8 a word of
/// its state; 12 the mode hint heard last; 16 readers it knows; 20 viewers they want; 24 the last key; 28 a word of its region; 32 its
/// pid; 36 whether its state was fresh; 40 readers that came or went.
enum Screen {
    private final class Reader {
        let watch: SurfaceReaderWatch
        init(_ watch: consuming SurfaceReaderWatch) { self.watch = watch }
    }

    private static let base = UInt64(0x740)
    nonisolated(unsafe) private static var state: Mapping?

    /// - Parameter words: "region" to have one, "input" to take input, "stateless" to keep nothing, "server" to serve nothing at all.
    static func run(_ words: [String]) -> Never {
        let wire = Wire()
        let stateLength = words.contains("stateless") ? nil : 4096
        wire.say(
            .hello(
                Hello(
                    name: "screen", modes: [.isolated], capabilities: ["surface"] + (words.contains("input") ? ["input", "input-absolute"] : []),
                    state: stateLength)))
        guard case .attach(let attach) = wire.hear().body else { exit(95) }
        guard case .ok = wire.claim(ports: base, base + 47).body else { exit(96) }
        var channel = wire.channel()
        if let grant = attach.state {
            guard let descriptor = wire.bag.take(), let memory = try? SharedMemory(adopting: descriptor, length: grant.length, what: "state"),
                let mapping = try? memory.map(what: "state")
            else { exit(97) }
            state = consume mapping
        }
        var region: Mapping?
        if words.contains("region") {
            let answer = wire.ask(.region(RegionRequest(length: 65_536, label: "video memory")))
            guard case .ok(let reply) = answer.body, let grant = reply.region, let descriptor = wire.descriptors.take(),
                let memory = try? SharedMemory(adopting: descriptor, length: 65_536, what: "region"), let mapping = try? memory.map(what: "region")
            else { exit(98) }
            if grant.gfn == nil { _ = wire.ask(.regionPlace(RegionPlace(region: grant.region, address: 0xf000_0000))) }
            region = consume mapping
        }
        wire.say(.ok(Reply()), re: wire.ready())

        var registers = [UInt32](repeating: 0, count: 12)
        registers[8] = UInt32(getpid())
        registers[9] = attach.state?.fresh == true ? 1 : 0
        var readers: [Int: Reader] = [:]
        var writer = SurfaceHolder()
        while true {
            var waits = [
                pollfd(fd: channel.waitDescriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: 3, events: Int16(POLLIN), revents: 0),
            ]
            poll(&waits, 2, -1)
            while let packet = wire.next() {
                switch packet.body {
                case .quit:
                    wire.say(.ok(Reply()), re: packet.id)
                    exit(0)
                case .surfaceReader(let change):
                    registers[10] &+= 1
                    if change.change == .added, let page = wire.descriptors.take(), let frame = wire.descriptors.take(), let want = wire.descriptors.take(),
                        let watch = try? SurfaceReaderWatch(page, frame: frame, want: want)
                    {
                        readers[change.reader] = Reader(watch)
                    } else {
                        readers[change.reader] = nil
                    }
                    wire.say(.ok(Reply()), re: packet.id)
                case .modeHint(let size): registers[3] = UInt32(truncatingIfNeeded: size.width << 16 | size.height)
                case .input(let input):
                    for case .key(let number, let down) in input.events { registers[6] = UInt32(number) << 1 | (down ? 1 : 0) }
                case .ok where packet.re == writer.asked:
                    if let descriptor = wire.descriptors.take() { writer.take(descriptor) }
                default: if packet.id != nil { wire.say(.ok(Reply()), re: packet.id) }
                }
            }
            _ = channel.acknowledge()
            for slot in 0..<channel.vcpuCount {
                guard let request = channel.slots.take(slot) else { continue }
                let index = Int(truncatingIfNeeded: (request.address &- base) / 4)
                if request.direction == .read {
                    registers[4] = UInt32(readers.count)
                    registers[5] = readers.values.reduce(0) { $0 &+ $1.watch.viewers }
                    if let word = state?.base { registers[2] = word.load(as: UInt32.self) }
                    if let word = region?.base { registers[7] = word.load(as: UInt32.self) }
                    _ = channel.slots.complete(slot, data: registers.indices.contains(index) ? UInt64(registers[index]) : request.allOnes)
                } else {
                    let value = UInt32(truncatingIfNeeded: request.data)
                    switch index {
                    case 0:
                        writer.paint(value)
                        for reader in readers.values { reader.watch.ringFrame() }
                    case 1: writer.ask(wire, width: Int(value >> 16), height: Int(value & 0xffff))
                    case 2: state?.base.storeBytes(of: value, as: UInt32.self)
                    case 7: region?.base.storeBytes(of: value, as: UInt32.self)
                    default: break
                    }
                    _ = channel.slots.complete(slot, data: request.data)
                }
                channel.notify(slot)
            }
        }
    }
}

/// The surface that the display has, and the one that it has asked for.
private struct SurfaceHolder: ~Copyable {
    private var writer: SurfaceWriter?
    private(set) var asked: UInt32?
    private var size = (width: 0, height: 0)
    private var pixel: UInt32 = 0

    mutating func ask(_ wire: Wire, width: Int, height: Int) {
        size = (width, height)
        asked = wire.say(.surface(SurfaceSize(width: width, height: height)))
    }

    mutating func take(_ descriptor: consuming OwnedDescriptor) {
        asked = nil
        writer?.retire()
        writer = try? SurfaceWriter(descriptor, width: size.width, height: size.height)
        paint(pixel)
    }

    mutating func paint(_ value: UInt32) {
        pixel = value
        writer?.pixels.storeBytes(of: value, as: UInt32.self)
        _ = writer?.publish()
    }
}

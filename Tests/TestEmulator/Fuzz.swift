import EmulatorProtocol
import Glibc
import Host

/// Sends packets by a fixed seed: some valid, some with bytes changed, cut or doubled, some of nothing but noise.
enum Fuzz {
    private struct Random {
        var state: UInt64
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state >> 24
        }
        mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
    }

    /// - Parameter asExporter: to be an exporter, which may say less, and says it to the display and to whoever takes keys.
    static func run(seed: UInt64, packets: Int, asExporter: Bool = false) -> Never {
        let wire = Wire()
        var random = Random(state: seed)
        if asExporter {
            wire.hello(modes: [.exporter])
            wire.say(.ok(Reply()), re: wire.ready())
        } else {
            _ = wire.start(capabilities: seed % 2 == 0 ? ["surface", "input"] : [])
        }
        for _ in 0..<packets {
            var bytes = Packet(message(&random), id: random.below(4) == 0 ? nil : UInt32(random.below(100_000)), re: random.below(8) == 0 ? UInt32(random.below(40)) : nil).encoded()
            switch random.below(6) {
            case 0: bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
            case 1: bytes.removeLast(random.below(bytes.count - 1))
            case 2: bytes = Array(String(repeating: ["[", "{\"a\":", "\"\\u0000"][random.below(3)], count: 1 + random.below(3000)).utf8)
            case 3: bytes = (0..<(1 + random.below(200))).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            default: break
            }
            wire.raw(bytes)
            drain(wire)
        }
        if asExporter { wire.say(.vncStatus(VNCStatus(statistics: ["done": 1]))) } else { wire.count(.malformed) }
        wire.untilQuit()
    }

    /// Reads what has come, so that the coordinator is not held up by a full buffer.
    private static func drain(_ wire: Wire) {
        var wait = pollfd(fd: 3, events: Int16(POLLIN), revents: 0)
        while poll(&wait, 1, 0) == 1 {
            let packet = wire.hear()
            if case .quit = packet.body { exit(0) }
        }
    }

    private static func message(_ random: inout Random) -> Message {
        let number = random.next() << UInt64(random.below(32))
        let range: IORange? = random.below(2) == 0
            ? PortRange(first: UInt16(truncatingIfNeeded: number), count: 1 + random.below(64)).map(IORange.ports)
            : MMIORange(first: GuestAddress(0x1_0000_0000 + number & 0xff_ffff_f000), length: 4096).map(IORange.memory)
        let side = random.below(3) == 0 ? Int(truncatingIfNeeded: number) : random.below(9000) - 10
        switch random.below(24) {
        case 0: return .hello(Hello(name: "x", modes: [.isolated]))
        case 1, 2, 3: return range.map { .claim(Claim($0, label: String(repeating: "\u{7}é", count: random.below(90)))) } ?? .ready
        case 4, 5: return .unclaim(Unclaim(claim: random.below(400) - 5))
        case 6: return .pci(PCIRequest(slot: random.below(2) == 0 ? nil : "00:\(random.below(40)).\(random.below(9))", label: "f"))
        case 7: return .ready
        case 8: return .intx(INTx(isa: UInt8(random.below(20)), asserted: random.below(2) == 0))
        case 9: return .msi(MSI(address: number, data: UInt32(truncatingIfNeeded: number)))
        case 10: return .memory
        case 11: return .dma(DMA(.read, address: GuestAddress(number), length: random.below(1 << 20) - 10, offset: Int(truncatingIfNeeded: number)))
        case 12: return .modified(Modified(gfn: GFN(number), count: -1))
        case 13: return .log(Log(.guest, String(repeating: "\u{1b}", count: random.below(200))))
        case 14: return .quit
        case 15: return .surface(SurfaceSize(width: side, height: random.below(2000)))
        case 16: return .region(RegionRequest(length: number & ~0xfff, label: String(repeating: "r\u{0}", count: random.below(6))))
        case 17: return .regionPlace(RegionPlace(region: random.below(12) - 2, address: random.below(2) == 0 ? nil : number))
        case 18: return .regionDirty(RegionDirty(region: random.below(12) - 2))
        case 19: return .modeHint(SurfaceSize(width: side, height: side))
        case 20:
            return .input(
                Input((0..<random.below(80)).map { index in
                    [.key(UInt16(truncatingIfNeeded: number), down: index & 1 == 0), .relative(x: .min, y: .max), .button(.wheelUp, down: true)][index % 3]
                }))
        case 21: return .inputMode(InputMode(absolute: random.below(2) == 0))
        case 22:
            return .vncStatus(
                VNCStatus(
                    clients: (0..<random.below(90)).map { _ in
                        .init(host: String(repeating: "\u{1b}", count: random.below(300)), service: "", family: "", websocket: true, security: "", shared: false)
                    },
                    statistics: Dictionary((0..<random.below(100)).map { ("s\($0)", number) }, uniquingKeysWith: { $1 })))
        default: return .vcpu(VCPUChange(vcpu: random.below(1000) - 5, change: .gone))
        }
    }
}

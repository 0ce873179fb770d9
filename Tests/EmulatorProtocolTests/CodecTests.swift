import Host
import SeededNumbers
import Testing

@testable import EmulatorProtocol

@Suite("The codec")
struct CodecTests {
    @Test("A claim survives the way through JSON")
    func claimRoundTrip() throws {
        let range = try #require(PortRange(first: 0x500, count: 32))
        let packet = Packet(.claim(Claim(.ports(range), label: "registers")), id: 7)
        let back = try Packet.decoded(packet.encoded())
        #expect(back == packet)
        guard case .claim(let claim) = back.body else { return #expect(Bool(false), "not a claim") }
        #expect(claim.range == .ports(range))
    }

    @Test("All 64 bits of an MSI address survive")
    func wideMSI() throws {
        let packet = Packet(.msi(MSI(address: 0xffff_ffff_fee0_0001, data: 0x4021)))
        #expect(try Packet.decoded(packet.encoded()) == packet)
    }

    @Test(
        "What a display and its viewers say survives the way through JSON",
        arguments: [
            Message.input(
                Input([
                    .key(0x9c, down: true), .absolute(x: 32767, y: 0), .relative(x: -3, y: 7), .button(.wheelUp, down: false),
                ])),
            .surface(SurfaceSize(width: 1024, height: 768)), .surfaceReader(SurfaceReaderChange(reader: 2, change: .gone)),
            .vnc(VNCCommand(.expirePassword, at: "+30")), .inputMode(InputMode(absolute: true)),
            .region(RegionRequest(length: 16 << 20, label: "video memory")), .regionPlace(RegionPlace(region: 1, address: nil)),
            .ok(Reply(region: RegionGrant(region: 1, gfn: 0xf1000, doorbell: false, adopted: true))),
        ])
    func displayMessages(_ message: Message) throws {
        #expect(try Packet.decoded(Packet(message, id: 3).encoded()) == Packet(message, id: 3))
    }

    @Test("A missing field is named")
    func missingField() {
        #expect(throws: MalformedPacket(reason: "'last' is missing", id: 3, unsupported: false)) {
            try Packet.decoded(Array(#"{"type":"claim","id":3,"space":"pio","first":"0x1","label":""}"#.utf8))
        }
    }

    @Test("A reserved type is refused as unsupported, with the request's number")
    func reservedType() {
        do {
            _ = try Packet.decoded(Array(#"{"type":"state-commit","id":9}"#.utf8))
            #expect(Bool(false), "accepted")
        } catch {
            #expect(error.unsupported && error.id == 9)
        }
    }

    @Test("Garbage of any kind is refused and never traps")
    func garbage() {
        var generator = SplitMix(state: 42)
        for _ in 0..<2000 {
            let length = Int(generator.next() % 80)
            var bytes = (0..<length).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            if generator.next() % 2 == 0 { bytes = Array(#"{"type":"claim","#.utf8) + bytes }
            #expect(throws: MalformedPacket.self) { try Packet.decoded(bytes) }
        }
    }
}


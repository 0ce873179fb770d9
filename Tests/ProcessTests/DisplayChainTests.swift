import ControlProtocol
import EmulatorProtocol
import Glibc
import Host
import LocalHost
import Platform
import SeededNumbers
import Specification
import TestTools
import Testing

@testable import Coordinator

extension Built {
    static func realDisplay() -> EmulatorSpecification {
        EmulatorSpecification(
            name: "display", program: program("demux-display"), options: ["rom": "no", "memory": "\(1 << 20)"], readyWithinMilliseconds: 60_000)
    }
    static func realExporter() -> VNCSpecification {
        VNCSpecification(program: program("demux-vnc"), listen: [.tcp(host: "127.0.0.1", first: 0, last: 0)], readyWithinMilliseconds: 60_000)
    }
    static func realKeyboard() -> EmulatorSpecification {
        EmulatorSpecification(name: "keyboard", program: program("demux-keyboard"), readyWithinMilliseconds: 60_000)
    }
}

/// What guest code does with a display, played by a vCPU, and what has to be seen of it.
final class Painter: @unchecked Sendable {
    // Sendable: one thread paints, the others look while it does not.
    private let vcpu: LocalVCPU
    static let frameBuffer: UInt64 = 0xe000_0000
    private(set) var width = 0
    private(set) var height = 0
    private(set) var pixels: [UInt32] = []

    init(_ vcpu: LocalVCPU) throws {
        self.vcpu = vcpu
        let function = try #require((UInt8(0)..<32).lazy.compactMap { PCIAddress(device: $0) }.first { try vcpu.configRead($0, register: 0, size: 4) == 0x1111_1234 })
        for (register, value) in [(UInt8(0x10), Self.frameBuffer), (0x18, 0xf000_0000)] { try vcpu.configWrite(function, register: register, size: 4, value: value) }
        try vcpu.configWrite(function, register: 4, size: 2, value: 3)
        try vcpu.write(port: 0x3c2, size: 1, value: 0x67)
        _ = try vcpu.read(port: 0x3da, size: 1)
        try vcpu.write(port: 0x3c0, size: 1, value: 0x20)
    }

    private func dispi(_ index: UInt64, _ value: UInt64) throws {
        try vcpu.write(port: 0x1ce, size: 2, value: index)
        try vcpu.write(port: 0x1cf, size: 2, value: value)
    }

    func setMode(_ width: Int, _ height: Int) throws {
        try dispi(4, 0)
        for (index, value) in [(UInt64(1), width), (2, height), (3, 32)] { try dispi(index, UInt64(value)) }
        try dispi(4, 0x41)
        (self.width, self.height) = (width, height)
        pixels = [UInt32](repeating: 0, count: width * height)
    }

    func rectangle(_ x: Int, _ y: Int, _ width: Int, _ height: Int, _ colour: UInt32) throws {
        for line in y..<y + height {
            let place = line * self.width + x
            try vcpu.fill(GuestAddress(Self.frameBuffer + UInt64(place * 4)), value: UInt64(colour), size: 4, count: UInt32(width))
            for column in place..<place + width { pixels[column] = colour }
        }
    }

    func randomRectangle(_ random: inout SplitMix) throws {
        let (x, y) = (Int.random(in: 0..<width, using: &random), Int.random(in: 0..<height, using: &random))
        try rectangle(
            x, y, Int.random(in: 1...min(60, width - x), using: &random), Int.random(in: 1...min(40, height - y), using: &random),
            UInt32.random(in: 0...0xff_ffff, using: &random))
    }

    /// What video memory holds is what was painted.
    func memoryIsRight() throws -> Bool {
        for pair in 0..<pixels.count / 2 {
            let word = try vcpu.readMemory(GuestAddress(Self.frameBuffer + UInt64(pair * 8)), size: 8)
            if word != UInt64(pixels[pair * 2]) | UInt64(pixels[pair * 2 + 1]) << 32 { return false }
        }
        return true
    }

    func isShown(by viewer: RFBClient) -> Bool { viewer.width == width && viewer.height == height && viewer.pixels == pixels }

    /// The size that the EDID prefers, where drivers read it.
    func preferred() throws -> [Int] {
        let bytes = try [56, 58, 59, 61].map { Int(try vcpu.readMemory(GuestAddress(0xf000_0000 + UInt64($0)), size: 1)) }
        return [bytes[0] | (bytes[1] & 0xf0) << 4, bytes[2] | (bytes[3] & 0xf0) << 4]
    }
}

extension Guest {
    func viewer() throws -> RFBClient {
        let port = try #require(try onLoop { $0.vncInformation }).service
        return try RFBClient(tcp(port))
    }

    /// Kills a process and waits for its successor. Its former deaths are forgotten.
    func killAndAwait(_ name: String) throws {
        try onLoop { (try? $0.context.holdings(of: name))?.backoff = RestartBackoff() }
        let before = try emulator(name)
        try crash(name)
        try eventually("another \(name) serves") {
            let now = try emulator(name)
            return now.pid != before.pid && now.pid > 0 && now.state == "serving"
        }
    }
}

@Suite("The guest's display, as viewers see it")
struct DisplayChainTests {
    private func withChain(_ body: (Guest, Painter) throws -> Void) throws {
        try withGuest([Built.realKeyboard()], display: Built.realDisplay(), vnc: Built.realExporter()) { (guest: Guest) throws in
            #expect(try guest.start() == [])
            try body(guest, Painter(guest.vcpu()))
        }
    }

    @Test("what a viewer sees is what is in video memory, pixel by pixel, mode after mode")
    func picture() throws {
        try withChain { guest, painter in
            var random = SplitMix(state: 1)
            try painter.setMode(320, 200)
            for _ in 0..<40 { try painter.randomRectangle(&random) }
            let viewer = try guest.viewer()
            try viewer.shows("the picture") { painter.isShown(by: viewer) }
            #expect(try painter.memoryIsRight())
            for (width, height) in [(400, 300), (64, 480), (320, 240)] {
                try painter.setMode(width, height)
                for _ in 0..<20 { try painter.randomRectangle(&random) }
                try viewer.shows("\(width)×\(height)") { painter.isShown(by: viewer) }
            }
            let second = try guest.viewer()
            try second.shows("the second viewer's picture") { painter.isShown(by: second) }
        }
    }

    @Test("keys and the pointer arrive at the keyboard controller")
    func input() throws {
        try withChain { guest, painter in
            try painter.setMode(320, 200)
            let vcpu = try guest.vcpu()
            func next(_ what: String) throws -> (byte: UInt8, isMouse: Bool) {
                var status: UInt64 = 0
                try eventually(what) {
                    status = try vcpu.read(port: 0x64, size: 1)
                    return status & 1 != 0
                }
                return (UInt8(truncatingIfNeeded: try vcpu.read(port: 0x60, size: 1)), status & 0x20 != 0)
            }
            func out(_ port: UInt16, _ values: UInt64...) throws { for value in values { try vcpu.write(port: port, size: 1, value: value) } }
            // Translated, both devices on, the mouse reports.
            try out(0x64, 0x60)
            try out(0x60, 0x40)
            try out(0x64, 0xd4)
            try out(0x60, 0xf4)
            #expect(try next("the mouse's answer").byte == 0xfa)
            let viewer = try guest.viewer()
            try viewer.key(0x61, down: true)
            try viewer.key(0x61, down: false)
            #expect(try [next("a down").byte, next("a up").byte] == [0x1e, 0x9e])
            try viewer.pointer(0, 100, 100)
            try viewer.pointer(1, 132, 90)
            var bytes: [UInt8] = []
            while bytes.count % 3 != 0 || bytes.isEmpty || bytes[bytes.count - 3] & 1 == 0 {
                let (byte, isMouse) = try next("the mouse's packet, after \(bytes)")
                if isMouse { bytes.append(byte) }
            }
            #expect(bytes.count >= 3)
        }
    }

    @Test("a size asked for by a viewer, or by the command, becomes what the EDID prefers")
    func sizes() throws {
        try withChain { guest, painter in
            try painter.setMode(320, 200)
            let viewer = try guest.viewer()
            try viewer.shows("a picture") { painter.isShown(by: viewer) }
            try viewer.setDesktopSize(504, 300)
            try eventually("the viewer's wish") { try painter.preferred() == [504, 300] }
            guard case .done = try guest.ask(.displayMode(width: 400, height: 304)) else {
                Issue.record("it was refused")
                return
            }
            try eventually("the command's wish") { try painter.preferred() == [400, 304] }
            try viewer.shows("the same picture: the guest decides") { painter.isShown(by: viewer) }
        }
    }

    @Test("the exporter killed: the guest draws on, and viewers that come again on the same port see its picture")
    func exporterKilled() throws {
        try withChain { guest, painter in
            var random = SplitMix(state: 2)
            try painter.setMode(320, 200)
            for _ in 0..<20 { try painter.randomRectangle(&random) }
            let viewer = try guest.viewer()
            try viewer.shows("the picture") { painter.isShown(by: viewer) }
            let port = try #require(try guest.onLoop { $0.vncInformation }).service
            let display = try guest.emulator("display").pid
            try guest.killAndAwait("vnc")
            #expect(throws: (any Error).self) { try viewer.shows("the end of its connection") { false } }
            for _ in 0..<5 { try painter.randomRectangle(&random) }
            let again = try guest.viewer()
            try again.shows("the picture") { painter.isShown(by: again) }
            #expect(try guest.onLoop { $0.vncInformation }?.service == port)
            #expect(try guest.emulator("display").pid == display)
        }
    }

    @Test("the display killed: viewers stay, see the same picture from its successor, and what the guest draws then")
    func displayKilled() throws {
        try withChain { guest, painter in
            var random = SplitMix(state: 3)
            try painter.setMode(320, 200)
            for _ in 0..<20 { try painter.randomRectangle(&random) }
            let viewer = try guest.viewer()
            try viewer.shows("the picture") { painter.isShown(by: viewer) }
            for round in 0..<3 {
                try guest.killAndAwait("display")
                try viewer.request(incremental: false)
                try viewer.shows("the same picture, round \(round)") { painter.isShown(by: viewer) }
                try painter.randomRectangle(&random)
                try viewer.shows("what the guest draws on, round \(round)") { painter.isShown(by: viewer) }
            }
            try painter.setMode(400, 300)
            for _ in 0..<5 { try painter.randomRectangle(&random) }
            try viewer.shows("another mode") { painter.isShown(by: viewer) }
        }
    }

    @Test("the display replaced: viewers stay, see the same picture, and what the guest draws then")
    func displayReplaced() throws {
        try withChain { guest, painter in
            var random = SplitMix(state: 6)
            try painter.setMode(320, 200)
            for _ in 0..<20 { try painter.randomRectangle(&random) }
            let viewer = try guest.viewer()
            try viewer.shows("the picture") { painter.isShown(by: viewer) }
            for round in 0..<3 {
                let change = ProgramChange(program: Built.realDisplay().program, successorWithinMilliseconds: 60_000)
                guard case .done = try guest.ask(.replace(name: "display", change: change)) else {
                    Issue.record("it is not replaced in round \(round)")
                    return
                }
                try viewer.request(incremental: false)
                try viewer.shows("the same picture, round \(round)") { painter.isShown(by: viewer) }
                try painter.randomRectangle(&random)
                try viewer.shows("what the guest draws on, round \(round)") { painter.isShown(by: viewer) }
            }
        }
    }

    @Test("both killed again and again while the guest draws: in the end every pixel is right")
    func bothKilled() throws {
        try withChain { guest, painter in
            try painter.setMode(320, 200)
            let flag = Flag()
            // Into memory alone: what it writes into registers while there is no display is lost, as with any emulator.
            let artist = onThread { () -> String? in
                var random = SplitMix(state: 4)
                do {
                    while !flag.raised {
                        try painter.randomRectangle(&random)
                        RandomMoment.pass(upTo: 1000, &random)
                    }
                    return nil
                } catch { return "\(error)" }
            }
            var random = SplitMix(state: 5)
            var viewer: RFBClient? = try guest.viewer()
            for _ in 0..<10 * thorough {
                for name in Bool.random(using: &random) ? ["vnc", "display"] : ["display", "vnc"] {
                    RandomMoment.pass(upTo: 60_000, &random)
                    try guest.killAndAwait(name)
                    if name == "vnc" { viewer = try guest.viewer() } else { try viewer?.request(incremental: false) }
                }
            }
            flag.raise()
            #expect(try artist.get("the guest") == nil)
            #expect(try painter.memoryIsRight())
            let last = try #require(viewer)
            try last.shows("the picture at the end") { painter.isShown(by: last) }
            let fresh = try guest.viewer()
            try fresh.shows("the same to somebody new") { painter.isShown(by: fresh) }
        }
    }
}
